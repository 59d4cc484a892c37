/* The processes of the workers; see arbiter/children.h. */
#include "fermata/arbiter/children.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fermata/util/err.h"
#include "fermata/util/log.h"

#define PLACES (sizeof((struct fm_children *)0)->all / sizeof *((struct fm_children *)0)->all)

void fm_children_init(struct fm_children *c, unsigned threads)
{
    memset(c->all, 0, sizeof c->all);
    memset(&c->ended, 0, sizeof c->ended);
    c->blocks = threads + 1; /* and the shared one */
}

static size_t area(const struct fm_children *c) { return c->blocks * sizeof(struct fm_counters); }

static struct fm_child *find(struct fm_children *c, pid_t pid)
{
    for (size_t i = 0; i < PLACES; i++)
        if (c->all[i].pid == pid)
            return &c->all[i];
    return NULL;
}

/* ---- the pipe ---- */

static void close_pipe(struct fm_child *child) FM_ON_LOOP
{
    if (child->ready_event)
        event_free(child->ready_event);
    child->ready_event = NULL;
    if (child->ready_fd >= 0)
        close(child->ready_fd);
    child->ready_fd = -1;
}

static void read_pipe(struct fm_child *child) FM_ON_LOOP
{
    struct fm_children *c = child->of;
    char byte;
    ssize_t n = child->ready_fd >= 0 ? read(child->ready_fd, &byte, 1) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    close_pipe(child);
    if (n == 1)
        c->on_ready(c->ctx, child->pid);
}

static void on_pipe(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    fm_assert_on_loop();
    read_pipe(arg);
}

/* ---- starting ---- */

/* In the child: becomes a worker.  It has a process group of its own, so that a key on the terminal is the arbiter's,
 * and is told to end if the arbiter is not there any more.  Signals stay blocked, as they are here, until it has
 * handlers for them (fm_handed_take): one that came before would kill it. */
static _Noreturn void become_worker(const struct fm_children *c, const struct fm_handed *h, char **environment,
                                    pid_t arbiter)
{
    static const char failed[] = "fermata: cannot start a worker\n";
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != arbiter)
        _exit(1);
    fm_handed_give(h);
    if (fchdir(c->directory) == 0) {
        execve("/proc/self/exe", c->argv, environment);
        execve(c->argv[0], c->argv, environment); /* there is no /proc */
    }
    (void)!write(STDERR_FILENO, failed, sizeof failed - 1);
    _exit(1);
}

static int map(struct fm_child *child, size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, child->counters_fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    child->counters = memory;
    child->size = size;
    return 0;
}

static unsigned blocks_of(const struct fm_child *child) { return (unsigned)(child->size / sizeof *child->counters); }

static int watch(struct fm_child *child)
{
    child->ready_event = event_new(child->of->loop->base, child->ready_fd, EV_READ | EV_PERSIST, on_pipe, child);
    return child->ready_event && event_add(child->ready_event, NULL) == 0 ? 0 : -ENOMEM;
}

/* The parent's end of what the child is handed.  0 or a negated errno. */
static int prepare(const struct fm_children *c, struct fm_child *child, struct fm_handed *h)
{
    int ends[2];
    h->counters_fd = memfd_create("fermata-counters", MFD_CLOEXEC);
    if (h->counters_fd < 0 || ftruncate(h->counters_fd, (off_t)area(c)) != 0)
        return -errno;
    child->counters_fd = fcntl(h->counters_fd, F_DUPFD_CLOEXEC, 0);
    if (child->counters_fd < 0)
        return -errno;
    int err = map(child, area(c));
    if (err != 0)
        return err;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return -errno;
    child->ready_fd = ends[0];
    h->ready_fd = ends[1];
    return watch(child);
}

static void forget(struct fm_child *child) FM_ON_LOOP
{
    close_pipe(child);
    if (child->counters)
        munmap(child->counters, child->size);
    if (child->counters_fd >= 0)
        close(child->counters_fd);
    *child = (struct fm_child){.ready_fd = -1, .counters_fd = -1};
}

int fm_children_adopt(struct fm_children *c, pid_t pid, int ready_fd, int counters_fd)
{
    struct fm_child *child = find(c, 0);
    struct stat st;
    int err = child ? 0 : -ENOSPC;
    if (!child)
        return err;
    *child = (struct fm_child){.pid = pid, .ready_fd = ready_fd, .counters_fd = counters_fd, .of = c};
    if (fcntl(counters_fd, F_SETFD, FD_CLOEXEC) != 0 || fstat(counters_fd, &st) != 0)
        return -errno;
    if (c->same_counters)
        err = map(child, (size_t)st.st_size);
    if (err == 0 && ready_fd >= 0)
        err = fcntl(ready_fd, F_SETFD, FD_CLOEXEC) == 0 ? watch(child) : -errno;
    return err;
}

pid_t fm_children_start(struct fm_children *c, unsigned slot)
{
    struct fm_handed h = c->handed;
    struct fm_child *child = find(c, 0);
    if (!child)
        return -1; /* the roster has no more places than there are here */
    *child = (struct fm_child){.ready_fd = -1, .counters_fd = -1, .of = c};
    h.slot = slot;
    h.ready_fd = h.counters_fd = -1;
    int err = prepare(c, child, &h);
    pid_t pid = -1, arbiter = getpid();
    struct fm_handed_environment environment;
    fm_handed_write(&h, &environment);
    if (err == 0) {
        pid = fork();
        err = -errno;
    }
    if (pid == 0)
        become_worker(c, &h, environment.all, arbiter);
    free(environment.all);
    if (h.ready_fd >= 0)
        close(h.ready_fd);
    if (h.counters_fd >= 0)
        close(h.counters_fd);
    if (pid < 0) {
        fm_error("cannot start worker %u: %s", slot, fm_strerror(err));
        forget(child);
        return -1;
    }
    child->pid = pid;
    return pid;
}

/* ---- ends ---- */

static void end(struct fm_children *c, struct fm_child *child, int status) FM_ON_LOOP
{
    pid_t pid = child->pid;
    read_pipe(child); /* it may have been ready for a moment */
    struct fm_roster_exit how = {.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                                 .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0};
    fm_counters_add_ended(&c->ended, child->counters, blocks_of(child));
    forget(child);
    c->on_exit(c->ctx, pid, how);
}

void fm_children_reap(struct fm_children *c)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        struct fm_child *child = find(c, pid);
        if (child)
            end(c, child, status);
        else if (c->on_other)
            c->on_other(c->ctx, pid, status);
    }
}

/* ---- counters ---- */

void fm_children_count(struct fm_children *c, struct fm_counters_sum *sum)
{
    *sum = c->ended;
    for (size_t i = 0; i < PLACES; i++)
        if (c->all[i].pid > 0)
            fm_counters_add(sum, c->all[i].counters, blocks_of(&c->all[i]));
}

void fm_children_count_one(struct fm_children *c, pid_t pid, struct fm_counters_sum *sum)
{
    struct fm_child *child = pid > 0 ? find(c, pid) : NULL;
    memset(sum, 0, sizeof *sum);
    if (child)
        fm_counters_add(sum, child->counters, blocks_of(child));
}

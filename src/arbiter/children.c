/* The processes of the workers; see arbiter/children.h. */
#include "fermata/arbiter/children.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fermata/util/err.h"
#include "fermata/util/log.h"

#define PLACES (sizeof((struct fm_children *)0)->all / sizeof *((struct fm_children *)0)->all)

void fm_children_init(struct fm_children *c, unsigned threads)
{
    memset(c->all, 0, sizeof c->all);
    memset(&c->ended, 0, sizeof c->ended);
    memset(c->ended_requests, 0, sizeof c->ended_requests);
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

/* ---- the control socket ---- */

static void close_control(struct fm_child *child) FM_ON_LOOP
{
    if (child->control_event)
        event_free(child->control_event);
    child->control_event = NULL;
    if (child->control_fd >= 0)
        close(child->control_fd);
    child->control_fd = -1;
}

/* All that it has said. */
static void hear(struct fm_child *child) FM_ON_LOOP
{
    struct fm_children *c = child->of;
    char byte;
    ssize_t n = 1;
    while (child->control_fd >= 0 && (n = recv(child->control_fd, &byte, 1, 0)) > 0)
        c->on_told(c->ctx, child->pid, (enum fm_tell)byte);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        close_control(child); /* it ends, or has closed it */
}

static void on_told(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    fm_assert_on_loop();
    hear(arg);
}

void fm_children_ping(struct fm_children *c, pid_t pid)
{
    struct fm_child *child = find(c, pid);
    if (child && child->control_fd >= 0)
        (void)!send(child->control_fd, FM_HANDED_PING, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
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

/* The parent's end of what the child is handed.  0 or a negated errno. */
static int prepare(const struct fm_children *c, struct fm_child *child, struct fm_handed *h)
{
    int ends[2];
    h->counters_fd = memfd_create("fermata-counters", MFD_CLOEXEC);
    if (h->counters_fd < 0 || ftruncate(h->counters_fd, (off_t)area(c)) != 0)
        return -errno;
    void *memory = mmap(NULL, area(c), PROT_READ | PROT_WRITE, MAP_SHARED, h->counters_fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    child->counters = memory;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return -errno;
    child->control_fd = ends[0];
    h->control_fd = ends[1];
    child->control_event = event_new(c->loop->base, child->control_fd, EV_READ | EV_PERSIST, on_told, child);
    return child->control_event && event_add(child->control_event, NULL) == 0 ? 0 : -ENOMEM;
}

static void forget(struct fm_children *c, struct fm_child *child) FM_ON_LOOP
{
    close_control(child);
    if (child->counters)
        munmap(child->counters, area(c));
    *child = (struct fm_child){.control_fd = -1};
}

pid_t fm_children_start(struct fm_children *c, unsigned slot)
{
    struct fm_handed h = c->handed;
    struct fm_child *child = find(c, 0);
    if (!child)
        return -1; /* the roster has no more places than there are here */
    *child = (struct fm_child){.control_fd = -1, .slot = slot, .of = c};
    h.slot = slot;
    h.control_fd = h.counters_fd = -1;
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
    if (h.control_fd >= 0)
        close(h.control_fd);
    if (h.counters_fd >= 0)
        close(h.counters_fd);
    if (pid < 0) {
        fm_error("cannot start worker %u: %s", slot, fm_strerror(err));
        forget(c, child);
        return -1;
    }
    child->pid = pid;
    return pid;
}

/* ---- ends ---- */

static void end(struct fm_children *c, struct fm_child *child, int status) FM_ON_LOOP
{
    pid_t pid = child->pid;
    hear(child); /* it may have been ready for a moment */
    struct fm_roster_exit how = {.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                                 .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0};
    c->ended_requests[child->slot] += fm_children_requests(c, pid);
    fm_counters_add_ended(&c->ended, child->counters, c->blocks);
    forget(c, child);
    c->on_exit(c->ctx, pid, how);
}

void fm_children_reap(struct fm_children *c)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        struct fm_child *child = find(c, pid);
        if (child)
            end(c, child, status);
    }
}

/* ---- counters ---- */

void fm_children_count(struct fm_children *c, struct fm_counters_sum *sum)
{
    *sum = c->ended;
    for (size_t i = 0; i < PLACES; i++)
        if (c->all[i].pid > 0)
            fm_counters_add(sum, c->all[i].counters, c->blocks);
}

void fm_children_count_one(struct fm_children *c, pid_t pid, struct fm_counters_sum *sum)
{
    struct fm_child *child = pid > 0 ? find(c, pid) : NULL;
    memset(sum, 0, sizeof *sum);
    if (child)
        fm_counters_add(sum, child->counters, c->blocks);
}

uint64_t fm_children_requests(struct fm_children *c, pid_t pid)
{
    struct fm_counters_sum sum;
    uint64_t n = 0;
    fm_children_count_one(c, pid, &sum);
    for (unsigned i = FM_C_REQ_1XX; i <= FM_C_REQ_NONE; i++)
        n += sum.cell[i];
    return n;
}

void fm_children_count_slot(struct fm_children *c, unsigned slot, struct fm_slot_sum *sum)
{
    *sum = (struct fm_slot_sum){.requests = c->ended_requests[slot]};
    for (size_t i = 0; i < PLACES; i++) {
        struct fm_counters_sum one;
        if (c->all[i].pid <= 0 || c->all[i].slot != slot)
            continue;
        fm_children_count_one(c, c->all[i].pid, &one);
        sum->requests += fm_children_requests(c, c->all[i].pid);
        sum->connections += (int64_t)one.cell[FM_C_CONNS];
    }
}

/* The processes of the workers; see arbiter/children.h. */
#include "fermata/arbiter/children.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"

#define NO_CHILD                                                                                                       \
    (struct fm_child) { .control_fd = -1, .report_fd = -1, .counters_fd = -1 }
#define PLACES (sizeof((struct fm_children *)0)->all / sizeof *((struct fm_children *)0)->all)

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

#define LONGEST_REPORT (4 << 20)

static void read_report(struct fm_child *child)
{
    struct fm_children *c = child->of;
    struct stat st;
    if (child->report_fd < 0 || fstat(child->report_fd, &st) != 0 || st.st_size <= 0 || st.st_size > LONGEST_REPORT)
        return;
    char *text = fm_malloc((size_t)st.st_size);
    ssize_t n = pread(child->report_fd, text, (size_t)st.st_size, 0);
    if (n > 0)
        c->on_report(c->ctx, text, (size_t)n, &child->since);
    free(text);
}

static void close_report(struct fm_child *child)
{
    if (child->report_fd >= 0)
        close(child->report_fd);
    child->report_fd = -1;
}

/* All that it has said. */
static void hear(struct fm_child *child) FM_ON_LOOP
{
    struct fm_children *c = child->of;
    char byte;
    ssize_t n = 1;
    while (child->control_fd >= 0 && (n = recv(child->control_fd, &byte, 1, 0)) > 0) {
        if (byte == FM_TELL_READY)
            read_report(child);
        if (byte == FM_TELL_SHOWS)
            child->shows = true;
        else
            c->on_told(c->ctx, child->pid, (enum fm_tell)byte);
    }
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        close_control(child); /* it ends, or has closed it */
}

static void on_told(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    fm_assert_on_loop();
    hear(arg);
}

/* Before it is sent something.  False: it has not read what it was sent before, for too long. */
static bool reads(struct fm_child *child, uint64_t now)
{
    int unread = 0;
    if (ioctl(child->control_fd, SIOCOUTQ, &unread) != 0 || unread == 0)
        child->said_at = now;
    return now - child->said_at < FM_CHILDREN_PATIENCE;
}

void fm_children_ping(struct fm_children *c, pid_t pid)
{
    struct fm_child *child = find(c, pid);
    if (!child || child->control_fd < 0)
        return;
    reads(child, fm_now());
    (void)!send(child->control_fd, FM_HANDED_PING, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int fm_children_give(struct fm_children *c, pid_t pid, int fd, const char *head, size_t len)
{
    struct fm_child *child = pid > 0 ? find(c, pid) : NULL;
    if (!child || child->control_fd < 0)
        return -EPIPE;
    if (!child->shows)
        return FM_EINVAL;
    return reads(child, fm_now()) ? fm_handed_give_client(child->control_fd, fd, head, len) : FM_EBUSY;
}

/* ---- starting ---- */

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
    child->control_event = event_new(child->of->loop->base, child->control_fd, EV_READ | EV_PERSIST, on_told, child);
    return child->control_event && event_add(child->control_event, NULL) == 0 ? 0 : -ENOMEM;
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
    h->report_fd = c->reports ? memfd_create("fermata-report", MFD_CLOEXEC) : -1;
    if (c->reports && h->report_fd < 0)
        return -errno;
    child->report_fd = h->report_fd; /* closed when it is ready */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return -errno;
    child->control_fd = ends[0];
    h->control_fd = ends[1];
    return watch(child);
}

static void forget(struct fm_child *child) FM_ON_LOOP
{
    close_control(child);
    close_report(child);
    if (child->counters)
        munmap(child->counters, child->size);
    if (child->counters_fd >= 0)
        close(child->counters_fd);
    *child = NO_CHILD;
}

int fm_children_adopt(struct fm_children *c, pid_t pid, unsigned slot, int control_fd, int counters_fd, bool shows)
{
    struct fm_child *child = find(c, 0);
    struct stat st;
    int err = child && slot < FM_WORKERS_MAX ? 0 : -ENOSPC;
    if (err != 0)
        return err;
    *child = NO_CHILD;
    child->pid = pid;
    child->slot = slot;
    child->control_fd = control_fd;
    child->counters_fd = counters_fd;
    child->shows = shows;
    child->of = c;
    clock_gettime(CLOCK_REALTIME, &child->since);
    if (fcntl(counters_fd, F_SETFD, FD_CLOEXEC) != 0 || fstat(counters_fd, &st) != 0)
        return -errno;
    if (c->same_counters)
        err = map(child, (size_t)st.st_size);
    if (err == 0 && control_fd >= 0)
        err = fcntl(control_fd, F_SETFD, FD_CLOEXEC) == 0 ? watch(child) : -errno;
    return err;
}

static void close_handed(const struct fm_handed *h)
{
    if (h->control_fd >= 0)
        close(h->control_fd);
    if (h->counters_fd >= 0)
        close(h->counters_fd);
}

/* 0 or a negated errno. */
static int start_alone(struct fm_children *c, const struct fm_handed *h, struct fm_child *child)
{
    pid_t pid = fm_launch(&c->launch, h);
    child->pid = pid > 0 ? pid : 0;
    return pid > 0 ? 0 : (int)pid;
}

static int start_by_zygote(struct fm_children *c, const struct fm_handed *h, struct fm_child *child) FM_ON_LOOP
{
    int err = fm_zygotes_ask(&c->zygotes, h, child, &child->zygote);
    child->pid = err == 0 ? child->zygote->pid : 0;
    if (err == 0)
        child->since = child->zygote->since;
    return err;
}

static int start(struct fm_children *c, struct fm_child *child, unsigned slot, bool alone) FM_ON_LOOP
{
    struct fm_handed h = c->handed;
    *child = NO_CHILD;
    child->slot = slot;
    child->of = c;
    clock_gettime(CLOCK_REALTIME, &child->since);
    h.slot = slot;
    h.control_fd = h.counters_fd = h.report_fd = h.zygote_fd = -1;
    int err = prepare(c, child, &h);
    if (err == 0)
        err = alone ? start_alone(c, &h, child) : start_by_zygote(c, &h, child);
    close_handed(&h);
    if (err != 0)
        forget(child);
    return err;
}

pid_t fm_children_start(struct fm_children *c, unsigned slot)
{
    bool alone = !c->preload || fm_zygotes_alone(&c->zygotes);
    struct fm_child *child = find(c, 0);
    if (!child)
        return -1; /* the roster has no more places than there are here */
    if (!alone && !fm_zygotes_can(&c->zygotes))
        return 0;
    int err = start(c, child, slot, alone);
    if (err == 0)
        return child->pid;
    if (err == -EAGAIN && !alone)
        return 0;
    fm_error("cannot start worker %u: %s", slot, fm_strerror(err));
    return -1;
}

/* ---- with zygotes ---- */

static void take_pid(struct fm_child *child, pid_t pid)
{
    struct fm_children *c = child->of;
    pid_t before = child->pid;
    child->zygote = NULL;
    child->pid = pid;
    c->on_pid(c->ctx, before, pid);
    if (child->pending)
        kill(pid, child->pending);
    child->pending = 0;
}

static void on_born(void *ctx, void *worker, pid_t pid)
{
    (void)ctx;
    take_pid(worker, pid);
}

/* It goes by the pid of a zygote, and may have been told to end. */
static void on_alone(void *ctx, void *worker)
{
    struct fm_children *c = ctx;
    struct fm_child *child = worker, before = *child;
    fm_assert_on_loop();
    child->pid = 0;
    forget(child);
    int err = start(c, child, before.slot, true);
    pid_t pid = child->pid;
    child->pid = before.pid;
    child->pending = before.pending;
    if (err == 0) {
        take_pid(child, pid);
        return;
    }
    fm_error("cannot start worker %u: %s", before.slot, fm_strerror(err));
    child->pid = 0;
    c->on_exit(c->ctx, before.pid, (struct fm_roster_exit){.code = 1});
}

static void end(struct fm_children *c, struct fm_child *child, int status) FM_ON_LOOP;

static void on_failed(void *ctx, void *worker, int status)
{
    fm_assert_on_loop();
    end(ctx, worker, status);
}

static const struct fm_zygotes_ops zygotes_ops = {on_born, on_alone, on_failed};

void fm_children_signal(struct fm_children *c, pid_t pid, int number)
{
    struct fm_child *child = find(c, pid);
    if (!child || !child->zygote) {
        kill(pid, number);
        return;
    }
    child->pending = number;
    fm_zygotes_interrupt(child->zygote, number == SIGKILL);
}

/* One that is not there yet opens them anew by itself. */
void fm_children_reopen(struct fm_children *c)
{
    for (size_t i = 0; i < PLACES; i++)
        if (c->all[i].pid > 0 && !c->all[i].zygote)
            kill(c->all[i].pid, SIGUSR1);
}

bool fm_children_expects(const struct fm_children *c)
{
    for (size_t i = 0; i < PLACES; i++)
        if (c->all[i].pid > 0 && c->all[i].zygote)
            return true;
    return false;
}

void fm_children_reload(struct fm_children *c) { fm_zygotes_reload(&c->zygotes); }
void fm_children_keep(struct fm_children *c) { fm_zygotes_keep(&c->zygotes); }
void fm_children_drop(struct fm_children *c) { fm_zygotes_drop(&c->zygotes); }
void fm_children_end(struct fm_children *c) { fm_zygotes_end(&c->zygotes); }

void fm_children_init(struct fm_children *c, unsigned threads)
{
    memset(c->all, 0, sizeof c->all);
    memset(&c->ended, 0, sizeof c->ended);
    memset(c->ended_requests, 0, sizeof c->ended_requests);
    c->blocks = threads + 1; /* and the shared one */
    c->zygotes.loop = c->loop;
    c->zygotes.launch = c->launch;
    c->zygotes.ops = &zygotes_ops;
    c->zygotes.ctx = c;
    if (c->preload)
        fm_zygotes_init(&c->zygotes);
}

/* ---- ends ---- */

static void end(struct fm_children *c, struct fm_child *child, int status) FM_ON_LOOP
{
    pid_t pid = child->pid;
    hear(child); /* it may have been ready for a moment */
    struct fm_roster_exit how = {.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                                 .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0};
    c->ended_requests[child->slot] += fm_children_requests(c, pid);
    fm_counters_add_ended(&c->ended, child->counters, blocks_of(child));
    forget(child);
    c->on_exit(c->ctx, pid, how);
}

void fm_children_reap(struct fm_children *c)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (c->preload && fm_zygotes_reaped(&c->zygotes, pid, status))
            continue;
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

void fm_children_ages(struct fm_children *c, struct fm_ages_sum *ages)
{
    memset(ages, 0, sizeof *ages);
    for (size_t i = 0; i < PLACES; i++)
        if (c->all[i].pid > 0)
            fm_counters_add_ages(ages, c->all[i].counters, blocks_of(&c->all[i]));
}

void fm_children_count_one(struct fm_children *c, pid_t pid, struct fm_counters_sum *sum)
{
    struct fm_child *child = pid > 0 ? find(c, pid) : NULL;
    memset(sum, 0, sizeof *sum);
    if (child)
        fm_counters_add(sum, child->counters, blocks_of(child));
}

bool fm_children_is_counted(const struct fm_children *c, pid_t pid)
{
    const struct fm_child *child = pid > 0 ? find((struct fm_children *)(uintptr_t)c, pid) : NULL;
    return child && child->counters;
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

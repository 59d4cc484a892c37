/* The arbiter's loop: signals, workers, the admin port; see arbiter/arbiter.h. */
#include "fermata/arbiter/arbiter.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "fermata/admin/admin.h"
#include "fermata/arbiter/children.h"
#include "fermata/arbiter/notices.h"
#include "fermata/arbiter/roster.h"
#include "fermata/server/timeouts.h"
#include "fermata/util/buf.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/util/statsd.h"
#include "fermata/util/version.h"
#include "fermata/worker/end.h"
#include "fermata/worker/listen.h"
#include "fermata/worker/logs.h"
#include "fermata/worker/pidfile.h"
#include "fermata/worker/title.h"

#define SLACK (3 * FM_SEC) /* a worker that does as it is told has ended by itself before it is killed */

enum { EXIT_KILLED = 4 };

static struct arbiter {
    const struct fm_options *options;
    struct fm_loop loop;
    struct fm_service service; /* of the sockets: whether they are to be closed */
    struct fm_conns conns;     /* the listening sockets; no connection is ever accepted here */
    struct fm_children children;
    struct fm_roster roster;
    struct fm_notices notices;
    struct fm_admin *admin; /* or NULL */
    struct fm_resumed resumed;
    struct fm_state state; /* for a program that takes over */
    struct fm_upgrade upgrade;
    int signal_fd;
    unsigned gauged; /* workers, as statsd was told last */
    struct event *signal_event, *tick_event;
} arbiter = {.signal_fd = -1};

/* ---- the roster's operations ---- */

static pid_t start(void *ctx, unsigned slot) FM_UNCHECKED
{
    return fm_children_start(&((struct arbiter *)ctx)->children, slot);
}

static void send_signal(void *ctx, pid_t pid, int number)
{
    (void)ctx;
    kill(pid, number);
}

static void say(void *ctx, int level, const char *text)
{
    (void)ctx;
    fm_log((enum fm_log_level)level, "%s", text);
}

static const struct fm_roster_ops roster_ops = {start, send_signal, say};

/* ---- what happens to workers ---- */

static void on_ready(void *ctx, pid_t pid)
{
    struct arbiter *a = ctx;
    fm_roster_ready(&a->roster, pid, fm_now());
}

static void on_ended(void *ctx, pid_t pid, struct fm_roster_exit how)
{
    struct arbiter *a = ctx;
    fm_roster_exited(&a->roster, pid, how, fm_now());
}

static void on_other(void *ctx, pid_t pid, int status) FM_UNCHECKED
{
    fm_upgrade_reaped(&((struct arbiter *)ctx)->upgrade, pid, status);
}

/* ---- signals ---- */

/* The last process that has a listening socket open must be a worker, which accepts what waits for it before it closes:
 * so this one closes its own first. */
static void stop(struct arbiter *a, int number) FM_ON_LOOP
{
    bool again = a->roster.stopping && number == SIGINT;
    if (!a->roster.stopping)
        fm_info("Stopping: the workers are told to end");
    atomic_store(&a->service.leaving, true);
    atomic_store(&a->service.draining, true);
    for (unsigned i = 0; i < a->conns.nbound; i++)
        fm_listener_leave(&a->conns.bound[i].listener);
    /* SIGINT tells a worker that others go on. */
    fm_roster_stop(&a->roster, number == SIGQUIT || again ? SIGQUIT : SIGTERM, fm_now());
}

static void resize(struct arbiter *a, int by)
{
    unsigned before = a->roster.wanted;
    fm_roster_resize(&a->roster, by);
    fm_info("%u workers are wanted, %u were", a->roster.wanted, before);
}

static void reopen(struct arbiter *a)
{
    fm_log_reopen();
    for (size_t i = 0; i < sizeof a->children.all / sizeof *a->children.all; i++)
        if (a->children.all[i].pid > 0)
            kill(a->children.all[i].pid, SIGUSR1);
    fm_info("SIGUSR1: the log files are opened anew");
}

static void reload(struct arbiter *a)
{
    bool can = a->roster.ever_ready && !a->roster.stopping;
    fm_info(can ? "SIGHUP: reloading: a worker of the new generation is started" : "SIGHUP: nothing serves yet");
    fm_roster_reload(&a->roster, fm_now());
}

static void upgrade(struct arbiter *a) FM_ON_LOOP
{
    if (a->roster.stopping || !a->roster.ever_ready) {
        fm_info("SIGUSR2: %s", a->roster.stopping ? "all is being stopped" : "nothing serves yet");
        return;
    }
    a->state.admin_fd = a->admin ? fm_admin_fd(a->admin) : -1;
    fm_upgrade_begin(&a->upgrade, fm_now());
}

static void take_signal(struct arbiter *a, int number) FM_ON_LOOP
{
    switch (number) {
    case SIGCHLD: fm_children_reap(&a->children); break;
    case SIGTERM:
    case SIGINT:
    case SIGQUIT: stop(a, number); break;
    case SIGHUP: reload(a); break;
    case SIGUSR1: reopen(a); break;
    case SIGTTIN: resize(a, 1); break;
    case SIGTTOU: resize(a, -1); break;
    case SIGUSR2: upgrade(a); break;
    default: break; /* SIGWINCH */
    }
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    struct signalfd_siginfo info;
    (void)what;
    fm_assert_on_loop();
    while (read(fd, &info, sizeof info) == (ssize_t)sizeof info)
        take_signal(arg, (int)info.ssi_signo);
}

static const int taken[] = {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGWINCH};

/* From now on they wait to be read; a worker begins with none of them blocked.  nohup's SIGHUP stays ignored. */
static int take_signals(struct arbiter *a)
{
    sigset_t set;
    struct sigaction action;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        bool ignored = sigaction(taken[i], NULL, &action) == 0 && action.sa_handler == SIG_IGN;
        if (ignored && taken[i] == SIGHUP)
            continue;
        signal(taken[i], SIG_DFL);
        sigaddset(&set, taken[i]);
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
    a->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (a->signal_fd < 0)
        return -errno;
    a->signal_event = event_new(a->loop.base, a->signal_fd, EV_READ | EV_PERSIST, on_signal, a);
    return a->signal_event && event_add(a->signal_event, NULL) == 0 ? 0 : -ENOMEM;
}

/* ---- the admin port ---- */

static bool is_ready(void *ctx)
{
    struct arbiter *a = ctx;
    return !a->roster.stopping && fm_roster_count(&a->roster, FM_WORKER_READY) > 0;
}

static void count(void *ctx, struct fm_counters_sum *sum) FM_UNCHECKED
{
    fm_children_count(&((struct arbiter *)ctx)->children, sum);
}

static void count_threads(void *ctx, unsigned *busy, unsigned *idle) FM_UNCHECKED
{
    struct arbiter *a = ctx;
    struct fm_counters_sum sum;
    fm_children_count(&a->children, &sum);
    unsigned all = a->options->threads *
                   (fm_roster_count(&a->roster, FM_WORKER_READY) + fm_roster_count(&a->roster, FM_WORKER_DRAINING));
    unsigned running = (unsigned)sum.cell[FM_C_IN_RUNNING];
    *busy = running < all ? running : all;
    *idle = all - *busy;
}

static void put_metrics(void *ctx, struct fm_buf *to)
{
    const struct arbiter *a = ctx;
    fm_buf_puts(to, "# HELP fermata_workers Workers, by what they do.\n# TYPE fermata_workers gauge\n");
    for (unsigned i = 0; i < FM_WORKER_STATE_COUNT; i++)
        fm_buf_printf(to, "fermata_workers{state=\"%s\"} %u\n", fm_worker_state_name((enum fm_worker_state)i),
                      fm_roster_count(&a->roster, (enum fm_worker_state)i));
    fm_buf_printf(to,
                  "# HELP fermata_workers_wanted Workers that there ought to be.\n# TYPE fermata_workers_wanted gauge\n"
                  "fermata_workers_wanted %u\n",
                  a->roster.wanted);
}

/* One object for each worker, as it is now. */
static void put_workers(void *ctx, struct fm_buf *to) FM_UNCHECKED
{
    struct arbiter *a = ctx;
    const char *comma = "";
    uint64_t now = fm_now();
    fm_buf_printf(to, "{\"wanted\": %u, \"generation\": %u, \"workers\": [", a->roster.wanted, a->roster.generation);
    for (size_t i = 0; i < sizeof a->roster.workers / sizeof *a->roster.workers; i++) {
        const struct fm_roster_worker *w = &a->roster.workers[i];
        struct fm_counters_sum sum;
        if (w->pid <= 0)
            continue;
        fm_children_count_one(&a->children, w->pid, &sum);
        uint64_t ms = (now - w->since) / FM_MS, requests = 0;
        for (unsigned c = FM_C_REQ_1XX; c <= FM_C_REQ_NONE; c++)
            requests += sum.cell[c];
        fm_buf_printf(to,
                      "%s\n{\"slot\": %u, \"pid\": %ld, \"generation\": %u, \"state\": \"%s\", \"since\": %llu.%03llu, "
                      "\"requests\": %llu, \"connections\": %lld, \"parked\": %lld}",
                      comma, w->slot, (long)w->pid, w->generation, fm_worker_state_name((enum fm_worker_state)w->state),
                      (unsigned long long)(ms / 1000), (unsigned long long)(ms % 1000), (unsigned long long)requests,
                      (long long)sum.cell[FM_C_CONNS],
                      (long long)sum.cell[FM_C_IN_PARKED_FUTURE] + (long long)sum.cell[FM_C_IN_PARKED_CLIENT]);
        comma = ",";
    }
    fm_buf_puts(to, "]}\n");
}

static int start_admin(struct arbiter *a) FM_ON_LOOP
{
    const struct fm_options *o = a->options;
    struct fm_admin_source source = {.ready = is_ready,
                                     .threads = count_threads,
                                     .ctx = a,
                                     .counters = count,
                                     .more_metrics = put_metrics,
                                     .workers = put_workers};
    char url[FM_ADDR_TEXT];
    if (!o->has_admin)
        return 0;
    fm_timers_define(&a->loop.timers, FM_T_ACCEPT, FM_SEC / 4, fm_listener_retry);
    fm_timers_define(&a->loop.timers, FM_T_ADMIN, o->keep_alive ? o->keep_alive : 5 * FM_SEC, fm_admin_timeout);
    a->admin = a->state.admin_fd >= 0 ? fm_admin_adopt(a->state.admin_fd, &source)
                                      : fm_admin_new(&o->admin, fm_listen_only_ipv6(o, &o->admin), &source);
    if (!a->admin)
        return FM_EINVAL;
    int err = fm_admin_start(a->admin, &a->loop, FM_T_ADMIN, FM_T_ACCEPT);
    if (err != 0) {
        fm_log(FM_LOG_CRITICAL, "--admin-bind: %s", fm_strerror(err));
        return err;
    }
    fm_admin_url(a->admin, url);
    fm_info("Admin at: %s", url);
    return 0;
}

/* ---- life ---- */

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg; /* every turn ticks */
}

/* As gunicorn counts: all that there are. */
static void gauge_workers(struct arbiter *a)
{
    unsigned n = 0;
    for (size_t i = 0; i < sizeof a->roster.workers / sizeof *a->roster.workers; i++)
        n += a->roster.workers[i].pid > 0;
    if (n != a->gauged && fm_logs_statsd())
        fm_statsd_workers(fm_logs_statsd(), n);
    a->gauged = n;
}

static void arm(struct arbiter *a, uint64_t next)
{
    uint64_t now = fm_now(), in = next > now ? next - now : 0;
    struct timeval tv = {.tv_sec = (time_t)(in / FM_SEC), .tv_usec = (suseconds_t)(in % FM_SEC / 1000 + 1)};
    if (next == UINT64_MAX)
        evtimer_del(a->tick_event);
    else
        evtimer_add(a->tick_event, &tv);
}

static void prepare(struct arbiter *a, char **argv, int directory)
{
    a->children.loop = &a->loop;
    a->children.argv = argv;
    a->children.directory = directory;
    a->children.on_ready = on_ready;
    a->children.on_exit = on_ended;
    a->children.on_other = on_other;
    a->children.ctx = a;
    fm_children_init(&a->children, a->options->threads + 1);
    a->state = (struct fm_state){&a->roster, &a->children, &a->conns, -1};
    a->upgrade = (struct fm_upgrade){.state = &a->state, .argv = argv, .directory = directory};
}

static int set_up(struct arbiter *a, char **argv, int directory) FM_ON_LOOP
{
    const struct fm_options *o = a->options;
    int err = fm_loop_init(&a->loop);
    if (err != 0) {
        fm_log(FM_LOG_CRITICAL, "cannot set up the event loop: %s", fm_strerror(err));
        return err;
    }
    a->service = (struct fm_service){.loop = &a->loop, .options = o};
    fm_conns_init(&a->conns, &a->service, 0, NULL);
    a->tick_event = evtimer_new(a->loop.base, on_tick, a);
    err = a->tick_event ? take_signals(a) : -ENOMEM;
    if (err != 0) {
        fm_log(FM_LOG_CRITICAL, "cannot take signals: %s", fm_strerror(err));
        return err;
    }
    err = fm_logs_start(o); /* signals are blocked in their threads, too */
    if (err != 0)
        return err;
    prepare(a, argv, directory);
    err = a->resumed.any ? fm_state_read(&a->state, a->resumed.state_fd, o) : fm_listen_open(&a->conns, o);
    if (err == 0 && a->resumed.check)
        fm_resumed_say_good(&a->resumed);
    if (err == 0)
        err = start_admin(a);
    if (err == 0 && o->pidfile)
        err = fm_pidfile_write(o->pidfile);
    for (unsigned i = 0; i < a->conns.nbound; i++)
        a->children.handed.listeners[a->children.handed.nlisteners++] = a->conns.bound[i].listener.fd;
    return err;
}

/* The workers that there are serve on; what has happened meanwhile is seen now, and then they are replaced. */
static void resume(struct arbiter *a) FM_ON_LOOP
{
    fm_info("SIGUSR2: this is fermata %s now; the workers are replaced", FM_VERSION);
    a->notices = (struct fm_notices){.ready = true, .generation = a->roster.generation};
    fm_children_reap(&a->children);
    fm_roster_reload(&a->roster, fm_now());
}

static void tear_down(struct arbiter *a) FM_ON_LOOP
{
    fm_admin_free(a->admin);
    fm_loop_reap(&a->loop);
    fm_listen_close(&a->conns);
    if (a->signal_event)
        event_free(a->signal_event);
    if (a->tick_event)
        event_free(a->tick_event);
    if (a->signal_fd >= 0)
        close(a->signal_fd);
    fm_loop_fini(&a->loop);
}

int fm_arbiter_run(const struct fm_options *o, char **argv, int directory,
                   const struct fm_resumed *resumed) FM_UNCHECKED
{
    struct arbiter *a = &arbiter;
    uint64_t patience = o->drain_delay + o->graceful_timeout + FM_END_TIME + FM_END_PYTHON + SLACK;
    a->options = o;
    a->resumed = *resumed;
    fm_title_set("arbiter", o->name);
    fm_role_take_loop();
    fm_roster_init(&a->roster, &roster_ops, a, o->workers, patience);
    int code = FM_EXIT_OTHER;
    if (set_up(a, argv, directory) == 0) {
        fm_listen_announce(&a->conns, o);
        if (resumed->any)
            resume(a);
        while (!fm_roster_is_over(&a->roster)) {
            uint64_t now = fm_now(), due = fm_roster_tick(&a->roster, now);
            uint64_t notice = fm_notices_tick(&a->notices, &a->roster, now);
            uint64_t check = fm_upgrade_tick(&a->upgrade, now);
            due = due < notice ? due : notice;
            arm(a, due < check ? due : check);
            gauge_workers(a);
            fm_loop_turn(&a->loop, true);
        }
        gauge_workers(a);
        code = a->roster.killed ? EXIT_KILLED : a->roster.code;
        fm_info("All workers have ended");
    } else if (resumed->check) {
        fm_logs_flush(fm_now() + FM_SEC);
        _exit(FM_EXIT_OTHER); /* the sockets and their paths are the arbiter's, which goes on */
    }
    tear_down(a);
    fm_pidfile_remove();
    fm_role_drop_loop();
    fm_logs_flush(fm_now() + FM_SEC);
    return code;
}

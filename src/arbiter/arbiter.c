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
#include "fermata/arbiter/hooks.h"
#include "fermata/arbiter/notices.h"
#include "fermata/arbiter/pages.h"
#include "fermata/arbiter/port.h"
#include "fermata/arbiter/reconfigure.h"
#include "fermata/arbiter/roster.h"
#include "fermata/arbiter/supervise.h"
#include "fermata/arbiter/usage.h"
#include "fermata/arbiter/watch.h"
#include "fermata/util/buf.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/util/statsd.h"
#include "fermata/util/version.h"
#include "fermata/worker/configure.h"
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
    struct fm_resumed resumed;
    struct fm_state state; /* for a program that takes over */
    struct fm_upgrade upgrade;
    struct fm_reconfigure reconfigure;
    struct fm_hook_process hooks;
    struct fm_supervisor supervisor;
    struct fm_oom oom;
    struct fm_pages pages;
    struct fm_admin *admin; /* or NULL */
    struct fm_watch *watch; /* with --reload, or NULL */
    int signal_fd, oom_fd;  /* or -1 */
    unsigned gauged;        /* workers, as statsd was told last */
    struct event *signal_event, *tick_event, *oom_event;
} arbiter = {.signal_fd = -1, .oom_fd = -1};

/* ---- the roster's operations ---- */

static pid_t start(void *ctx, unsigned slot) FM_UNCHECKED
{
    struct arbiter *a = ctx;
    fm_hook_process_tell(&a->hooks, FM_HOOK_pre_fork, 0, slot);
    return fm_children_start(&a->children, slot);
}

static void send_signal(void *ctx, pid_t pid, int number)
{
    fm_children_signal(&((struct arbiter *)ctx)->children, pid, number);
}

static void say(void *ctx, int level, const char *text)
{
    (void)ctx;
    fm_log((enum fm_log_level)level, "%s", text);
}

static const struct fm_roster_ops roster_ops = {start, send_signal, say};

/* ---- what happens to workers ---- */

/* A worker of a new generation decides about it: what others are forked from, with --preload, is kept or dropped. */
static void on_ready(struct arbiter *a, pid_t pid, uint64_t now) FM_ON_LOOP
{
    bool proven = a->roster.proven;
    fm_roster_ready(&a->roster, pid, now);
    if (a->roster.proven)
        fm_reconfigure_keep(&a->reconfigure);
    if (!proven && a->roster.proven)
        fm_children_keep(&a->children);
}

static long slot_of(const struct arbiter *a, pid_t pid)
{
    for (size_t i = 0; i < sizeof a->roster.workers / sizeof *a->roster.workers; i++)
        if (a->roster.workers[i].pid == pid)
            return a->roster.workers[i].slot;
    return 0;
}

static void on_told(void *ctx, pid_t pid, enum fm_tell what)
{
    struct arbiter *a = ctx;
    uint64_t now = fm_now();
    fm_assert_on_loop();
    switch (what) {
    case FM_TELL_READY: on_ready(a, pid, now); break;
    case FM_TELL_CLIENT: fm_supervise_client(&a->supervisor); break;
    case FM_TELL_REQUESTS: fm_roster_mark(&a->roster, pid, FM_WHY_REQUESTS, now); break;
    case FM_TELL_EXHAUSTED: fm_roster_mark(&a->roster, pid, FM_WHY_EXHAUSTED, now); break;
    case FM_TELL_SHOWS: break; /* of its process: children.c */
    case FM_TELL_GIL: fm_roster_mark(&a->roster, pid, FM_WHY_GIL, now); break;
    }
}

static void on_ended(void *ctx, pid_t pid, struct fm_roster_exit how)
{
    struct arbiter *a = ctx;
    bool proven = a->roster.proven;
    long slot = slot_of(a, pid);
    uint64_t now = fm_now();
    fm_assert_on_loop();
    how.out_of_memory = how.signal == SIGKILL && fm_oom_has_killed(&a->oom, now);
    fm_roster_exited(&a->roster, pid, how, now);
    if (!proven && a->roster.proven) { /* not by a worker that was ready: the reload has failed */
        fm_reconfigure_back(&a->reconfigure);
        fm_children_drop(&a->children);
    }
    fm_hook_process_tell(&a->hooks, FM_HOOK_child_exit, pid, slot);
}

static void on_pid(void *ctx, pid_t before, pid_t now)
{
    struct arbiter *a = ctx;
    fm_roster_renamed(&a->roster, before, now);
}

static void on_oom(evutil_socket_t fd, short what, void *arg)
{
    struct arbiter *a = arg;
    (void)fd, (void)what;
    fm_assert_on_loop();
    fm_oom_changed(&a->oom, fm_now());
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
    fm_supervise_stop(&a->supervisor);
    for (unsigned i = 0; i < a->conns.nbound; i++)
        fm_listener_leave(&a->conns.bound[i].listener);
    /* SIGINT tells a worker that others go on. */
    fm_roster_stop(&a->roster, number == SIGQUIT || again ? SIGQUIT : SIGTERM, fm_now());
}

static void resize(struct arbiter *a, int by) FM_ON_LOOP
{
    unsigned before = a->roster.wanted;
    fm_roster_resize(&a->roster, by);
    fm_info("%u workers are wanted, %u were", a->roster.wanted, before);
    fm_hook_process_tell(&a->hooks, FM_HOOK_nworkers_changed, (long)a->roster.wanted, (long)before);
}

static void reopen(struct arbiter *a)
{
    fm_log_reopen();
    fm_children_reopen(&a->children);
    fm_info("SIGUSR1: the log files are opened anew");
}

static bool can_reload(const struct arbiter *a)
{
    return !a->roster.stopping && (a->roster.ever_ready || a->roster.old_first);
}

static struct fm_roster_limits limits(const struct fm_options *o)
{
    uint64_t quick = FM_END_TIME + FM_END_PYTHON + SLACK;
    return (struct fm_roster_limits){
        .stop = o->drain_delay + o->graceful_timeout + quick,
        .replaced = o->drain_timeout + quick,
        .quick = quick,
        .lifetime = o->worker_lifetime,
        .draining = o->drain_workers ? o->drain_workers
                    : o->workers > 2 ? o->workers
                                     : 2,
        .patience = o->graceful_timeout,
    };
}

static void start_generation(struct arbiter *a) FM_ON_LOOP
{
    fm_children_reload(&a->children); /* first: those that load are told to end by what follows */
    fm_roster_reload(&a->roster, fm_now());
    fm_hook_process_tell(&a->hooks, FM_HOOK_on_reload, 0, 0);
}

static void on_options(void *ctx, const struct fm_options *to)
{
    struct arbiter *a = ctx;
    unsigned before = a->roster.wanted;
    fm_assert_on_loop();
    if (to->workers > 0)
        fm_roster_resize(&a->roster, (int)to->workers - (int)before);
    a->roster.limits = limits(to);
    a->options = a->service.options = a->supervisor.options = a->pages.options = to;
    fm_hook_process_renew(&a->hooks, to->hooks);
    if (a->roster.wanted != before)
        fm_hook_process_tell(&a->hooks, FM_HOOK_nworkers_changed, (long)a->roster.wanted, (long)before);
}

static void on_config(void *ctx)
{
    struct arbiter *a = ctx;
    fm_assert_on_loop();
    if (!can_reload(a))
        return;
    fm_info("Reloading: a worker of the new generation is started");
    start_generation(a);
}

static void on_config_failed(void *ctx, const char *why)
{
    (void)ctx;
    fm_error("Reload failed: %s; the workers go on", why);
}

/* What workers are to be started with is read first, where there is a file that says it. */
static void reload(struct arbiter *a, const char *why) FM_ON_LOOP
{
    if (a->options->config) {
        fm_info("%s; %s is read again", why, a->options->config);
        fm_reconfigure_start(&a->reconfigure);
    } else {
        fm_info("%s; a worker of the new generation is started", why);
        start_generation(a);
    }
}

static void take_reload(struct arbiter *a) FM_ON_LOOP
{
    if (can_reload(a))
        reload(a, "SIGHUP: reloading");
    else
        fm_info("SIGHUP: nothing serves yet");
}

static void on_changed(void *ctx, const char *path)
{
    char why[FM_PATH_SIZE + 32];
    fm_assert_on_loop();
    snprintf(why, sizeof why, "%s has changed", path);
    if (can_reload(ctx))
        reload(ctx, why);
}

static void on_report(void *ctx, const char *directories, size_t size, const struct timespec *since)
{
    struct arbiter *a = ctx;
    fm_assert_on_loop();
    if (a->watch)
        fm_watch_add(a->watch, directories, size, since);
}

static void upgrade(struct arbiter *a) FM_ON_LOOP
{
    if (a->roster.stopping || !a->roster.ever_ready) {
        fm_info("SIGUSR2: %s", a->roster.stopping ? "all is being stopped" : "nothing serves yet");
        return;
    }
    a->state.admin = a->admin ? fm_admin_listener(a->admin) : NULL;
    a->state.admin_fd = a->state.admin ? a->state.admin->fd : -1;
    a->upgrade.admin = a->admin;
    if (fm_children_expects(&a->children)) {
        fm_info("SIGUSR2: a worker is just about to be forked; try again");
        return;
    }
    fm_upgrade_begin(&a->upgrade, fm_now());
}

static void take_signal(struct arbiter *a, int number) FM_ON_LOOP
{
    switch (number) {
    case SIGCHLD: fm_children_reap(&a->children); break;
    case SIGTERM:
    case SIGINT:
    case SIGQUIT: stop(a, number); break;
    case SIGHUP: take_reload(a); break;
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

static uint64_t sooner(uint64_t one, uint64_t other) { return one < other ? one : other; }

static void arm(struct arbiter *a, uint64_t next)
{
    uint64_t now = fm_now(), in = next > now ? next - now : 0;
    struct timeval tv = {.tv_sec = (time_t)(in / FM_SEC), .tv_usec = (suseconds_t)(in % FM_SEC / 1000 + 1)};
    if (next == UINT64_MAX)
        evtimer_del(a->tick_event);
    else
        evtimer_add(a->tick_event, &tv);
}

/* Where the application is looked for is known before it has been found: it may hang, or not be there. */
static int start_watch(struct arbiter *a) FM_ON_LOOP
{
    char here[FM_PATH_SIZE];
    struct timespec now;
    int err;
    clock_gettime(CLOCK_REALTIME, &now);
    a->watch = fm_watch_start(a->options, &a->loop, on_changed, a, &err);
    if (!a->watch)
        fm_log(FM_LOG_CRITICAL, "--reload: cannot watch files: %s", fm_strerror(err));
    else if (getcwd(here, sizeof here))
        fm_watch_add(a->watch, here, strlen(here) + 1, &now);
    return err;
}

static void prepare_reload(struct arbiter *a, char **argv, int directory)
{
    a->reconfigure = (struct fm_reconfigure){.loop = &a->loop,
                                             .argv = argv,
                                             .directory = directory,
                                             .first = a->options,
                                             .on_options = on_options,
                                             .on_read = on_config,
                                             .on_failed = on_config_failed,
                                             .ctx = a};
    fm_reconfigure_init(&a->reconfigure);
    a->hooks =
        (struct fm_hook_process){.loop = &a->loop, .argv = argv, .directory = directory, .hooks = a->options->hooks};
    fm_hook_process_init(&a->hooks);
}

/* Where the kernel tells of kills.  Without it they are told when a worker has ended. */
static void watch_memory(struct arbiter *a) FM_ON_LOOP
{
    fm_oom_init(&a->oom);
    a->oom_fd = fm_oom_watch(&a->oom);
    a->oom_event = a->oom_fd >= 0 ? event_new(a->loop.base, a->oom_fd, EV_READ | EV_PERSIST, on_oom, a) : NULL;
    if (a->oom_event)
        event_add(a->oom_event, NULL);
}

static void prepare(struct arbiter *a, char **argv, int directory) FM_ON_LOOP
{
    a->children.loop = &a->loop;
    a->children.launch = (struct fm_launch){argv, directory, a->options->reload};
    a->children.preload = a->options->preload;
    a->children.reports = a->options->reload;
    a->children.on_report = on_report;
    a->children.on_told = on_told;
    a->children.on_exit = on_ended;
    a->children.on_other = on_other;
    a->children.on_pid = on_pid;
    a->children.ctx = a;
    fm_children_init(&a->children, a->options->threads + 1);
    a->state = (struct fm_state){.roster = &a->roster,
                                 .children = &a->children,
                                 .conns = &a->conns,
                                 .admin_fd = -1,
                                 .admin_before = {.pinned = -1}};
    a->upgrade = (struct fm_upgrade){.state = &a->state, .argv = argv, .directory = directory};
}

/* A program that has taken over has workers that serve: it does not end them for what it can go on without. */
static int or_without(const struct arbiter *a, int err, const char *what)
{
    if (err == 0 || !a->resumed.any || a->resumed.check)
        return err;
    fm_error("SIGUSR2: going on without %s", what);
    return 0;
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
    a->pages = (struct fm_pages){o, &a->roster, &a->children, fm_now()};
    if (err == 0)
        err = or_without(a, fm_port_start(&a->admin, &a->pages, &a->loop, &a->state), "an admin port");
    if (err == 0 && o->pidfile)
        err = or_without(a, fm_pidfile_write(o->pidfile), "a pid file");
    if (err == 0 && o->reload)
        err = or_without(a, start_watch(a), "--reload");
    for (unsigned i = 0; i < a->conns.nbound; i++)
        a->children.handed.listeners[a->children.handed.nlisteners++] = a->conns.bound[i].listener.fd;
    prepare_reload(a, argv, directory);
    watch_memory(a);
    return err == 0 ? fm_supervise_start(&a->supervisor, o, &a->children, &a->roster, &a->conns, &a->loop) : err;
}

/* The workers that there are serve on; what has happened meanwhile is seen now, and then they are replaced. */
static void resume(struct arbiter *a) FM_ON_LOOP
{
    fm_info("SIGUSR2: this is fermata %s now; the workers are replaced", FM_VERSION);
    fm_listen_warn_of_others(&a->conns, a->options);
    a->notices = (struct fm_notices){.ready = true, .generation = a->roster.generation};
    fm_children_reap(&a->children);
    start_generation(a);
}

static void tear_down(struct arbiter *a) FM_ON_LOOP
{
    fm_watch_stop(a->watch);
    if (a->reconfigure.first) {
        fm_hook_process_fini(&a->hooks);
        fm_reconfigure_fini(&a->reconfigure);
    }
    fm_admin_free(a->admin);
    fm_supervise_stop(&a->supervisor);
    fm_loop_reap(&a->loop);
    fm_listen_close(&a->conns);
    if (a->signal_event)
        event_free(a->signal_event);
    if (a->tick_event)
        event_free(a->tick_event);
    if (a->oom_event)
        event_free(a->oom_event);
    if (a->signal_fd >= 0)
        close(a->signal_fd);
    if (a->oom_fd >= 0)
        close(a->oom_fd);
    fm_loop_fini(&a->loop);
}

int fm_arbiter_run(const struct fm_options *o, char **argv, int directory,
                   const struct fm_resumed *resumed) FM_UNCHECKED
{
    struct arbiter *a = &arbiter;
    struct fm_roster_limits first = limits(o);
    a->options = o;
    a->resumed = *resumed;
    fm_title_set("arbiter", o->name);
    fm_role_take_loop();
    fm_roster_init(&a->roster, &roster_ops, a, o->workers, &first);
    a->roster.old_first = o->reload;
    int code = FM_EXIT_OTHER;
    if (set_up(a, argv, directory) == 0) {
        fm_hook_process_tell(&a->hooks, FM_HOOK_on_starting, 0, 0);
        fm_hook_process_wait(&a->hooks, a->signal_fd); /* it may make what workers need */
        fm_listen_announce(&a->conns, o);
        fm_hook_process_tell(&a->hooks, FM_HOOK_when_ready, 0, 0);
        if (resumed->any)
            resume(a);
        while (!fm_roster_is_over(&a->roster)) {
            uint64_t now = fm_now(), next = fm_supervise_tick(&a->supervisor, now);
            next = sooner(next, fm_roster_tick(&a->roster, now));
            next = sooner(next, fm_notices_tick(&a->notices, &a->roster, now));
            arm(a, sooner(next, fm_upgrade_tick(&a->upgrade, now)));
            gauge_workers(a);
            fm_loop_turn(&a->loop, true);
        }
        gauge_workers(a);
        fm_children_end(&a->children);
        code = a->roster.killed ? EXIT_KILLED : a->roster.code;
        fm_info("All workers have ended");
        fm_hook_process_tell(&a->hooks, FM_HOOK_on_exit, 0, 0);
        fm_hook_process_wait(&a->hooks, -1);
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

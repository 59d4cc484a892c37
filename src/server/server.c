/* A worker process: start, serve, drain.  The main thread starts everything, then is the monitor, and takes signals. */
#include "fermata/server/server.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fermata/admin/admin.h"
#include "fermata/py/interp.h"
#include "fermata/sched/monitor.h"
#include "fermata/server/access.h"
#include "fermata/server/conn.h"
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/files.h"
#include "fermata/util/log.h"
#include "fermata/util/trim.h"
#include "fermata/wsgi/gateway.h"
#include "fermata/wsgi/report.h"

#ifndef FM_VERSION
#define FM_VERSION "0"
#endif

#define EXIT_OK 0
#define EXIT_OTHER 1
#define EXIT_USAGE 2
#define EXIT_APP 3

#define LINGER_TIME (5 * FM_SEC)
#define LAST_TIME (2 * FM_SEC) /* for close() of requests cut off at the graceful timeout */
#define LOG_TIME FM_SEC        /* for the last lines of a log */
#define ACCEPT_PAUSE (FM_SEC / 4)
#define ADMIN_IDLE (5 * FM_SEC) /* where --keep-alive is off */
#define FINALIZE_SECONDS 10     /* for atexit handlers and the application's own threads */

/* ---- signals: noted in a handler, taken by the main thread ---- */

static pid_t server_pid;
static int signal_fd = -1;                  /* eventfd; also written when the loop has drained */
static int app_signal_fd = -1;              /* see fm_wsgi_signal_fd */
static atomic_int interrupts, terminations; /* lock-free, so a handler may use them */

static void on_signal(int number)
{
    int saved = errno;
    if (getpid() != server_pid) { /* a child that the application has forked: it ends as any process does */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    if (number == SIGINT && atomic_fetch_add(&interrupts, 1) > 0)
        _exit(EXIT_OTHER); /* the second one: at once */
    atomic_fetch_add(&terminations, 1);
    (void)!eventfd_write(signal_fd, 1);
    errno = saved;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    server_pid = getpid();
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    /* Command line programs like to set it back to the default, which is to end: sendfile, and a log that is a pipe,
     * have no MSG_NOSIGNAL. */
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

static int alarm_code = EXIT_OTHER;

static void on_alarm(int number)
{
    static const char text[] =
        "fermata: the application's threads or atexit handlers do not end; exiting without them\n";
    (void)number;
    (void)!write(2, text, sizeof text - 1);
    _exit(alarm_code);
}

/* Whatever the application has done to signals. */
static void set_last_alarm(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    signal(SIGALRM, on_alarm);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    alarm(FINALIZE_SECONDS);
}

/* ---- the crew's work ---- */

static void poll_loop(void *ctx, bool block) FM_UNCHECKED { fm_loop_turn(&((struct fm_server *)ctx)->loop, block); }

static void wake_loop(void *ctx) { fm_loop_wake(&((struct fm_server *)ctx)->loop); }

static void take_gil(void *ctx, struct fm_hand *hand) FM_UNCHECKED
{
    (void)ctx;
    fm_gil_take(hand->user);
}

static void drop_gil(void *ctx, struct fm_hand *hand) FM_UNCHECKED
{
    (void)ctx;
    fm_gil_drop(hand->user);
}

static void step(void *ctx, struct fm_hand *hand, struct fm_task *task) FM_UNCHECKED
{
    (void)ctx;
    fm_wsgi_step(FM_LIST_ENTRY(task, struct fm_call, task), hand);
}

static bool flush_held(void *ctx, struct fm_task *task, uint64_t since)
{
    (void)ctx;
    return fm_writer_flush(&FM_LIST_ENTRY(task, struct fm_call, task)->writer, since);
}

static const struct fm_crew_ops crew_ops = {poll_loop, wake_loop, take_gil, drop_gil, step, flush_held};

static void crew_thread(void *arg, unsigned index) FM_UNCHECKED
{
    struct fm_server *s = arg;
    s->crew.hands[index].user = fm_interp_thread_state();
    fm_crew_run(&s->crew, index);
}

static bool crew_ready(void *ctx) { return fm_crew_has_work(&((struct fm_server *)ctx)->crew); }

static void flush_access(void *ctx) FM_UNCHECKED
{
    struct fm_server *s = ctx;
    if (s->access)
        fm_access_log_flush(s->access);
}

/* ---- on the loop: open, drain, end ---- */

static void close_listeners(struct fm_server *s)
{
    for (unsigned i = 0; i < s->nlisteners; i++)
        fm_listener_close(&s->listeners[i]);
}

static void on_open(struct fm_note *note)
{
    struct fm_server *s = FM_LIST_ENTRY(note, struct fm_server, open);
    fm_assert_on_loop();
    for (unsigned i = 0; i < s->nlisteners; i++)
        if (fm_listener_start(&s->listeners[i], &s->loop, FM_T_ACCEPT, fm_conn_accept, s) != 0)
            fm_die("cannot watch a listening socket");
}

static void all_done(struct fm_server *s)
{
    fm_crew_stop(&s->crew);
    (void)!eventfd_write(signal_fd, 1);
}

static void end_connections(struct fm_server *s) FM_ON_LOOP
{
    if (s->nconns == 0)
        return;
    fm_warn("the graceful timeout has passed with %u connections open; ending them", s->nconns);
    fm_timer_start(&s->loop.timers, &s->last, FM_T_LAST, fm_loop_now(&s->loop));
    for (struct fm_list *node = s->conns.next, *next; node != &s->conns; node = next) {
        next = node->next; /* expiring a connection frees that one at most */
        fm_conn_expire(FM_LIST_ENTRY(node, struct fm_conn, node));
    }
}

static void on_graceful(struct fm_timer *t)
{
    fm_assert_on_loop();
    end_connections(FM_LIST_ENTRY(t, struct fm_server, graceful));
}

static void on_last(struct fm_timer *t)
{
    fm_assert_on_loop();
    all_done(FM_LIST_ENTRY(t, struct fm_server, last));
}

static void on_drain(struct fm_note *note)
{
    struct fm_server *s = FM_LIST_ENTRY(note, struct fm_server, drain);
    fm_assert_on_loop();
    close_listeners(s);
    fm_timer_start(&s->loop.timers, &s->graceful, FM_T_GRACEFUL, fm_loop_now(&s->loop));
    for (struct fm_list *node = s->conns.next, *next; node != &s->conns; node = next) {
        next = node->next;
        fm_conn_drain(FM_LIST_ENTRY(node, struct fm_conn, node));
    }
    if (s->nconns == 0)
        all_done(s);
    else if (s->options->graceful_timeout == 0)
        end_connections(s);
}

void fm_server_conn_gone(struct fm_server *s)
{
    fm_count_add(FM_C_CONNS, (uint64_t)-1);
    s->nconns--;
    if (atomic_load(&s->draining)) {
        if (s->nconns == 0)
            all_done(s);
    } else if (s->nconns + 1 == s->max_conns) {
        for (unsigned i = 0; i < s->nlisteners; i++)
            fm_listener_want(&s->listeners[i], true);
    }
}

/* ---- start ---- */

static int open_listeners(struct fm_server *s)
{
    const struct fm_options *o = s->options;
    const struct fm_listener_options how = {
        .backlog = (int)o->backlog,
        .keepalive = (unsigned)((o->tcp_keepalive + FM_SEC - 1) / FM_SEC),
        .user_timeout = (unsigned)(o->tcp_user_timeout / FM_MS),
    };
    for (unsigned i = 0; i < o->nbinds; i++) {
        const char *what;
        char url[FM_ADDR_TEXT];
        int err = fm_listener_open(&s->listeners[i], &o->bind[i], &how, &what);
        if (err != 0) {
            fm_addr_url(&o->bind[i], url);
            fm_log(FM_LOG_CRITICAL, "--bind %s: %s: %s", url, what, fm_strerror(err));
            close_listeners(s); /* paths of unix sockets must not stay behind */
            return err;
        }
        s->nlisteners++;
        unsigned port = fm_addr_host(&s->listeners[i].addr.u, s->names[i]);
        if (o->bind[i].u.sa.sa_family == AF_UNIX) { /* PEP 3333: neither may be empty */
            memcpy(s->names[i], "localhost", sizeof "localhost");
            port = 80;
        }
        snprintf(s->ports[i], sizeof s->ports[i], "%u", port & 0xffff);
    }
    return 0;
}

/* Do we still listen everywhere?  Until we drain only the application could have changed it. */
static bool is_healthy(void *ctx) FM_UNCHECKED
{
    static bool said;
    struct fm_server *s = ctx;
    for (unsigned i = 0; i < s->nlisteners && !atomic_load(&s->draining); i++) {
        if (fm_listener_is_open(&s->listeners[i]))
            continue;
        char url[FM_ADDR_TEXT];
        fm_addr_url(&s->listeners[i].addr, url);
        if (!said)
            fm_log(FM_LOG_CRITICAL, "the listening socket of %s was closed by somebody else in the process", url);
        said = true;
        return false;
    }
    return true;
}

static bool is_ready(void *ctx)
{
    struct fm_server *s = ctx;
    return atomic_load(&s->ready) && !atomic_load(&s->draining) && is_healthy(s);
}

static bool lost_descriptor(void *ctx, int fd) FM_UNCHECKED
{
    struct fm_server *s = ctx;
    for (unsigned i = 0; i < s->nlisteners; i++) {
        if (s->listeners[i].fd != fd)
            continue;
        fm_listener_lost(&s->listeners[i]);
        is_healthy(s); /* says what has happened */
        return true;
    }
    for (struct fm_list *node = s->conns.next; node != &s->conns; node = node->next) {
        struct fm_conn *c = FM_LIST_ENTRY(node, struct fm_conn, node);
        if (c->stream.fd != fd)
            continue;
        fm_error("descriptor %d of a connection was closed by somebody else in the process; its client is lost", fd);
        fm_stream_lost(&c->stream);
        return true;
    }
    return s->admin && fm_admin_lost(s->admin, fd);
}

static void count_threads(void *ctx, unsigned *busy, unsigned *idle)
{
    fm_crew_threads(&((struct fm_server *)ctx)->crew, busy, idle);
}

/* Everything that needs no Python. */
static int set_up(struct fm_server *s) FM_UNCHECKED
{
    const struct fm_options *o = s->options;
    struct fm_timers *ts = &s->loop.timers;
    int err = fm_loop_init(&s->loop);
    if (err == 0)
        err = fm_crew_init(&s->crew, o->threads, &crew_ops, s);
    signal_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (err != 0 || signal_fd < 0) {
        fm_log(FM_LOG_CRITICAL, "cannot set up the event loop: %s", fm_strerror(err ? err : -errno));
        return FM_EINVAL;
    }
    s->loop.ready = crew_ready;
    s->loop.ready_ctx = s;
    s->loop.lost = lost_descriptor;
    s->loop.lost_ctx = s;
    s->loop.flush = flush_access;
    s->loop.flush_ctx = s;
    fm_fds_own(signal_fd);
    fm_files_start();
    fm_spools_start(&s->loop);
    fm_body_limit(s->max_body_files, o->limit_body_disk);
    fm_list_init(&s->conns);
    fm_timer_init(&s->graceful);
    fm_timer_init(&s->last);
    fm_note_init(&s->open, on_open);
    fm_note_init(&s->drain, on_drain);
    fm_timers_define(ts, FM_T_KEEP_ALIVE, o->keep_alive, fm_conn_timeout_idle);
    fm_timers_define(ts, FM_T_HEADER, o->header_timeout, fm_conn_timeout_header);
    fm_timers_define(ts, FM_T_BODY, o->body_timeout, fm_conn_timeout_body);
    fm_timers_define(ts, FM_T_SEND, o->send_timeout, fm_conn_timeout_send);
    fm_timers_define(ts, FM_T_REQUEST, o->request_timeout, fm_conn_timeout_request);
    fm_timers_define(ts, FM_T_QUEUE, o->queue_timeout, fm_conn_timeout_queue);
    fm_timers_define(ts, FM_T_LINGER, LINGER_TIME, fm_conn_timeout_linger);
    fm_timers_define(ts, FM_T_GRACEFUL, o->graceful_timeout, on_graceful);
    fm_timers_define(ts, FM_T_LAST, LAST_TIME, on_last);
    fm_timers_define(ts, FM_T_ACCEPT, ACCEPT_PAUSE, fm_listener_retry);
    fm_timers_define(ts, FM_T_ADMIN, o->keep_alive ? o->keep_alive : ADMIN_IDLE, fm_admin_timeout);
    if (o->access_logfile && !(s->access = fm_access_log_open(o->access_logfile, o->log_buffer, &err))) {
        fm_log(FM_LOG_CRITICAL, "--access-logfile %s: %s", o->access_logfile, fm_strerror(err));
        return FM_EINVAL;
    }
    err = fm_log_start(o->log_buffer);
    if (err != 0) {
        fm_log(FM_LOG_CRITICAL, "cannot start the thread of the log: %s", fm_strerror(err));
        return err;
    }
    struct fm_admin_source source = {is_ready, count_threads, s, is_healthy};
    if (o->has_admin) {
        s->admin = fm_admin_new(&o->admin, &source);
        err = s->admin ? fm_admin_start(s->admin, &s->loop, FM_T_ADMIN, FM_T_ACCEPT) : FM_EINVAL;
        if (s->admin && err != 0)
            fm_log(FM_LOG_CRITICAL, "--admin-bind: %s", fm_strerror(err));
        if (err != 0)
            return err;
        char url[FM_ADDR_TEXT];
        fm_admin_url(s->admin, url);
        fm_info("Admin at: %s", url);
    }
    return open_listeners(s);
}

static int start_threads(struct fm_server *s) FM_NEEDS_GIL
{
    for (unsigned i = 0; i <= s->options->threads; i++) {
        char name[32];
        snprintf(name, sizeof name, "fermata-%u", i + 1);
        if (fm_interp_spawn(name, crew_thread, s, i) != 0) {
            fm_log(FM_LOG_CRITICAL, "cannot start thread %s", name);
            return -1;
        }
    }
    return 0;
}

static void announce(struct fm_server *s)
{
    char urls[FM_MAX_BINDS * (FM_ADDR_TEXT + 2)] = "";
    for (size_t i = 0, at = 0; i < s->nlisteners; i++) {
        char url[FM_ADDR_TEXT];
        fm_addr_url(&s->listeners[i].addr, url);
        at += (size_t)snprintf(urls + at, sizeof urls - at, "%s%s", i ? ", " : "", url);
    }
    fm_info("Listening at: %s (%s, %u threads, Python %s, fermata " FM_VERSION ")", urls, s->options->app,
            s->options->threads, fm_interp_version());
}

/* ---- the main thread's loop ---- */

static void begin_drain(struct fm_server *s)
{
    if (atomic_exchange(&s->draining, true))
        return;
    fm_info("Draining: no new connections; requests have %llu s to end",
            (unsigned long long)(s->options->graceful_timeout / FM_SEC));
    fm_loop_post(&s->loop, &s->drain, 0, NULL);
}

/* False if somebody else has closed it: then the application's handlers run when the main thread happens to wake. */
static bool take_app_signals(void)
{
    char bytes[64];
    ssize_t n;
    do
        n = read(app_signal_fd, bytes, sizeof bytes);
    while (n == (ssize_t)sizeof bytes);
    if (n > 0 || errno == EAGAIN || errno == EINTR)
        return true;
    app_signal_fd = -1;
    return false;
}

/* Monitors the crew and takes signals until the loop has drained. */
static void watch(struct fm_server *s)
{
    struct fm_monitor monitor;
    fm_monitor_init(&monitor, &s->crew);
    for (;;) {
        uint64_t pause = fm_monitor_tick(&monitor);
        if (pause == UINT64_MAX)
            fm_trim(); /* nobody is in a hurry */
        struct pollfd fds[3] = {{s->crew.monitor_fd, POLLIN, 0}, {signal_fd, POLLIN, 0}, {app_signal_fd, POLLIN, 0}};
        struct timespec until = {(time_t)(pause / FM_SEC), (long)(pause % FM_SEC)};
        int n = ppoll(fds, 3, pause == UINT64_MAX ? NULL : &until, NULL);
        if (n > 0 && ((fds[0].revents | fds[1].revents) & POLLNVAL))
            fm_fds_lost("an eventfd");
        bool handle = n < 0 && errno == EINTR;
        if (n > 0 && fds[2].revents)
            handle = take_app_signals();
        if (handle && atomic_load(&terminations) == 0)
            fm_wsgi_check_signals(); /* a handler that the application installed */
        if (n > 0 && fds[0].revents)
            fm_monitor_woken(&monitor);
        if (n > 0 && fds[1].revents) {
            eventfd_t count;
            (void)!eventfd_read(signal_fd, &count);
        }
        if (atomic_load(&terminations) > 0)
            begin_drain(s);
        if (fm_crew_has_stopped(&s->crew))
            return;
    }
}

/* ---- end ---- */

/* After the crew has left: nobody else touches the loop.  Where threads were busy to the very end, requests that were
 * cut off may still wait for their last step. */
static void tear_down(struct fm_server *s) FM_UNCHECKED
{
    fm_crew_run_rest(&s->crew);
    fm_role_take_loop();
    while (!fm_list_empty(&s->conns))
        fm_conn_close(FM_LIST_ENTRY(s->conns.next, struct fm_conn, node));
    while (fm_loop_visit(&s->loop))
        ; /* parts of files and bodies that were over when their connections had ended */
    fm_admin_free(s->admin);
    close_listeners(s);
    fm_access_log_close(s->access, fm_now() + LOG_TIME);
    s->access = NULL;
    fm_role_drop_loop();
}

/* Ends the process with threads that do not end; what was logged is written first.  Paths of unix sockets must not stay
 * behind. */
static _Noreturn void leave(struct fm_server *s, int code) FM_UNCHECKED
{
    fm_role_take_loop();
    close_listeners(s);
    fm_access_log_close(s->access, fm_now() + LOG_TIME);
    fm_log_flush(fm_now() + LOG_TIME);
    _exit(code);
}

/* Stops the threads and ends Python.  The GIL is not held.  The exit code, given what it would be if all goes well. */
static int finish(struct fm_server *s, int code) FM_UNCHECKED
{
    fm_crew_stop(&s->crew);
    uint64_t until = fm_now() + LAST_TIME;
    unsigned left = fm_crew_join(&s->crew, until);
    if (left == 0 && !fm_files_stop(until)) {
        fm_error("files are still being read or written, and their storage does not answer; exiting without them");
        leave(s, EXIT_OTHER);
    }
    if (left > 0) {
        fm_error("%u steps are still running and cannot be interrupted; exiting without them", left);
        leave(s, EXIT_OTHER);
    }
    fm_report_wait(1);
    set_last_alarm();
    fm_interp_acquire();
    fm_interp_join();
    tear_down(s);
    fm_wsgi_fini();
    fm_interp_stop();
    if (atomic_load(&fm_forked)) /* in an atexit handler */
        _exit(code);
    alarm(0);
    fm_crew_fini(&s->crew);
    fm_loop_fini(&s->loop);
    fm_fds_close(signal_fd);
    return code;
}

/* The application could not be loaded, and that is the exit code: also where its import has started threads, which
 * nothing could end.  The GIL is held to the last, so that the crew's threads do not come back to Python: the import
 * may have changed what threads are there. */
static _Noreturn void abandon(struct fm_server *s) FM_UNCHECKED
{
    alarm_code = EXIT_APP;
    set_last_alarm();
    fm_interp_abandon();
    fm_crew_stop(&s->crew);
    fm_crew_join(&s->crew, fm_now() + LAST_TIME);
    tear_down(s);
    fm_log_flush(fm_now() + LOG_TIME);
    _exit(EXIT_APP);
}

/* What went wrong has been said.  Paths of unix sockets must not stay behind. */
static int not_started(struct fm_server *s, int code)
{
    close_listeners(s);
    return code;
}

int fm_server_run(const struct fm_options *o, const char *program) FM_UNCHECKED
{
    static struct fm_server server; /* zeroed; used by threads to the very end */
    struct fm_server *s = &server;
    s->options = o;
    signal(SIGPIPE, SIG_IGN);
    /* One malloc arena: the lookout role wanders from thread to thread, and each thread's own arena would keep what a
     * wave of connections needed (5,000 parked twice: 26.2 and 36.3 MB, with one arena 26.2 and 26.4). */
    mallopt(M_ARENA_MAX, 1);
    fm_fds_guard_fork();
    fm_server_share_descriptors(s);
    if (set_up(s) != 0)
        return not_started(s, EXIT_OTHER);
    struct fm_interp_config config = {o->venv, o->pythonpath, program, o->args, o->nargs};
    if (fm_interp_start(&config) != 0)
        return not_started(s, o->venv ? EXIT_USAGE : EXIT_OTHER);
    if (fm_wsgi_init(s->options->threads > 1) != 0 || start_threads(s) != 0) {
        fm_interp_print_error();
        return not_started(s, EXIT_OTHER);
    }
    if (fm_wsgi_load(o->app) != 0)
        abandon(s);
    app_signal_fd = fm_wsgi_signal_fd();
    fm_interp_release();
    catch_signals();
    atomic_store(&s->ready, true);
    fm_loop_post(&s->loop, &s->open, 0, NULL);
    announce(s);
    watch(s);
    int code = finish(s, EXIT_OK);
    if (code == EXIT_OK)
        fm_info("Drained");
    return code;
}

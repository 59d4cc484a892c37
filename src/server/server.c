/* A worker process: start, serve, end.  The main thread starts everything, then is the monitor, then ends everything;
 * the guard takes the signals. */
#include "fermata/server/server.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fermata/admin/admin.h"
#include "fermata/http/body.h"
#include "fermata/py/interp.h"
#include "fermata/sched/monitor.h"
#include "fermata/server/access.h"
#include "fermata/server/conn.h"
#include "fermata/server/drain.h"
#include "fermata/server/guard.h"
#include "fermata/server/signals.h"
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/files.h"
#include "fermata/util/log.h"
#include "fermata/util/trim.h"
#include "fermata/util/version.h"
#include "fermata/wsgi/gateway.h"
#include "fermata/wsgi/report.h"

#define LINGER_TIME (5 * FM_SEC)
#define DRAIN_READ_TIME FM_SEC
#define LOG_TIME FM_SEC /* for the last lines of a log */
#define ACCEPT_PAUSE (FM_SEC / 4)
#define ADMIN_IDLE (5 * FM_SEC) /* where --keep-alive is off */

static int app_signal_fd = -1; /* see fm_wsgi_signal_fd */
static bool app_signals;       /* the application has handlers */

/* ---- the scheduler's work ---- */

static void poll_loop(void *ctx, bool block) FM_UNCHECKED { fm_loop_turn(&((struct fm_server *)ctx)->loop, block); }

static void wake_loop(void *ctx) { fm_loop_wake(&((struct fm_server *)ctx)->loop); }

static void take_gil(void *ctx, struct fm_thread *thread) FM_UNCHECKED
{
    (void)ctx, (void)thread;
    fm_gil_take(fm_interp_thread_state());
}

static void drop_gil(void *ctx, struct fm_thread *thread) FM_UNCHECKED
{
    (void)ctx, (void)thread;
    fm_gil_drop(fm_interp_thread_state());
}

static void step(void *ctx, struct fm_thread *thread, struct fm_task *task) FM_UNCHECKED
{
    (void)ctx;
    fm_wsgi_step(FM_LIST_ENTRY(task, struct fm_call, task), thread);
}

static bool flush_held(void *ctx, struct fm_task *task, uint64_t since)
{
    (void)ctx;
    return fm_writer_flush(&FM_LIST_ENTRY(task, struct fm_call, task)->writer, since);
}

static const struct fm_sched_ops sched_ops = {poll_loop, wake_loop, take_gil, drop_gil, step, flush_held};

static void pool_thread(void *arg, unsigned index) FM_UNCHECKED
{
    struct fm_server *s = arg;
    s->sched.threads[index].user = fm_wsgi_thread_new();
    fm_sched_run(&s->sched, index);
}

static bool sched_ready(void *ctx) { return fm_sched_has_work(&((struct fm_server *)ctx)->sched); }

static void flush_access(void *access) FM_UNCHECKED { fm_access_log_flush(access); }

/* ---- on the loop ---- */

static void on_open(struct fm_event *event)
{
    struct fm_server *s = FM_LIST_ENTRY(event, struct fm_server, open);
    fm_assert_on_loop();
    for (unsigned i = 0; i < s->nlisteners; i++)
        if (fm_listener_start(&s->listeners[i], &s->loop, FM_T_ACCEPT, fm_conn_accept, s) != 0)
            fm_die("cannot watch a listening socket");
}

void fm_server_conn_gone(struct fm_server *s)
{
    fm_count_add(FM_C_CONNS, (uint64_t)-1);
    s->nconns--;
    if (atomic_load(&s->draining)) {
        fm_drain_conn_gone(s);
    } else if (s->nconns + 1 == s->max_conns) {
        for (unsigned i = 0; i < s->nlisteners; i++)
            fm_listener_want(&s->listeners[i], true);
    }
}

/* ---- start ---- */

static bool is_healthy(void *ctx) FM_UNCHECKED { return fm_server_is_listening(ctx); }

static bool is_ready(void *ctx)
{
    struct fm_server *s = ctx;
    return atomic_load(&s->ready) && !atomic_load(&s->leaving) && is_healthy(s);
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
        fm_error("the application closed descriptor %d, a connection of ours; its client is lost", fd);
        fm_stream_lost(&c->stream);
        return true;
    }
    return s->admin && fm_admin_lost(s->admin, fd);
}

static void count_threads(void *ctx, unsigned *busy, unsigned *idle)
{
    fm_sched_threads(&((struct fm_server *)ctx)->sched, busy, idle);
}

static void define_timers(struct fm_server *s)
{
    const struct fm_options *o = s->options;
    struct fm_timers *ts = &s->loop.timers;
    fm_timers_define(ts, FM_T_KEEP_ALIVE, o->keep_alive, fm_conn_timeout_idle);
    fm_timers_define(ts, FM_T_HEADER, o->header_timeout, fm_conn_timeout_header);
    fm_timers_define(ts, FM_T_BODY, o->body_timeout, fm_conn_timeout_body);
    fm_timers_define(ts, FM_T_SEND, o->send_timeout, fm_conn_timeout_send);
    fm_timers_define(ts, FM_T_REQUEST, o->request_timeout, fm_conn_timeout_request);
    fm_timers_define(ts, FM_T_QUEUE, o->queue_timeout, fm_conn_timeout_queue);
    fm_timers_define(ts, FM_T_LINGER, LINGER_TIME, fm_conn_timeout_linger);
    fm_timers_define(ts, FM_T_DRAIN, DRAIN_READ_TIME, fm_conn_timeout_drain);
    fm_timers_define(ts, FM_T_ACCEPT, ACCEPT_PAUSE, fm_listener_retry);
    fm_timers_define(ts, FM_T_ADMIN, o->keep_alive ? o->keep_alive : ADMIN_IDLE, fm_admin_timeout);
}

static int set_up_loop(struct fm_server *s)
{
    int err = fm_loop_init(&s->loop);
    if (err == 0)
        err = fm_sched_init(&s->sched, s->options->threads, &sched_ops, s);
    if (err != 0) {
        fm_log(FM_LOG_CRITICAL, "cannot set up the event loop: %s", fm_strerror(err));
        return err;
    }
    s->loop.ready = sched_ready;
    s->loop.ready_ctx = s;
    s->loop.lost = lost_descriptor;
    s->loop.lost_ctx = s;
    fm_list_init(&s->conns);
    fm_event_init(&s->open, on_open);
    define_timers(s);
    fm_drain_init(s);
    return 0;
}

/* The threads that know no Python. */
static int start_helpers(struct fm_server *s)
{
    const struct fm_options *o = s->options;
    int err;
    fm_files_start();
    fm_spools_start(&s->loop);
    fm_body_limit(s->max_body_files, o->limit_body_disk);
    if (o->access_logfile && !(s->access = fm_access_log_open(o->access_logfile, o->log_buffer, &err))) {
        fm_log(FM_LOG_CRITICAL, "--access-logfile %s: %s", o->access_logfile, fm_strerror(err));
        return err;
    }
    if (s->access) {
        s->loop.flush = flush_access;
        s->loop.flush_ctx = s->access;
    }
    err = fm_log_start(o->log_buffer);
    if (err != 0) {
        fm_log(FM_LOG_CRITICAL, "cannot start the thread of the log: %s", fm_strerror(err));
        return err;
    }
    err = fm_guard_start(s);
    if (err != 0)
        fm_log(FM_LOG_CRITICAL, "cannot start the thread that takes signals: %s", fm_strerror(err));
    return err;
}

/* It may wait for a disk; the guard is there already. */
static void check_tmpdir(void)
{
    int err = fm_body_try_dir();
    if (err != 0)
        fm_warn("%s: %s; request bodies that need a file there will be answered 503 (set TMPDIR to another directory)",
                fm_body_dir(), fm_strerror(err));
}

static int start_admin(struct fm_server *s) FM_UNCHECKED
{
    const struct fm_options *o = s->options;
    struct fm_admin_source source = {is_ready, count_threads, s, is_healthy};
    if (!o->has_admin)
        return 0;
    s->admin = fm_admin_new(&o->admin, fm_server_only_ipv6(o, &o->admin), &source);
    int err = s->admin ? fm_admin_start(s->admin, &s->loop, FM_T_ADMIN, FM_T_ACCEPT) : FM_EINVAL;
    if (s->admin && err != 0)
        fm_log(FM_LOG_CRITICAL, "--admin-bind: %s", fm_strerror(err));
    if (err != 0)
        return err;
    char url[FM_ADDR_TEXT];
    fm_admin_url(s->admin, url);
    fm_info("Admin at: %s", url);
    return 0;
}

/* Everything that needs no Python. */
static int set_up(struct fm_server *s)
{
    int err = set_up_loop(s);
    if (err == 0)
        err = start_helpers(s);
    if (err != 0)
        return err;
    check_tmpdir();
    err = start_admin(s);
    return err == 0 ? fm_server_listen(s) : err;
}

static int start_threads(struct fm_server *s) FM_NEEDS_GIL
{
    for (unsigned i = 0; i <= s->options->threads; i++) {
        char name[32];
        snprintf(name, sizeof name, "fermata-%u", i + 1);
        if (fm_interp_spawn(name, pool_thread, s, i) != 0) {
            fm_log(FM_LOG_CRITICAL, "cannot start thread %s", name);
            return -1;
        }
    }
    return 0;
}

/* ---- the main thread's loop ---- */

/* False if the application has closed it: then the application's handlers run when the main thread happens to wake. */
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

/* Monitors the scheduler until it has stopped. */
static void watch(struct fm_server *s)
{
    struct fm_monitor monitor;
    fm_monitor_init(&monitor, &s->sched);
    for (;;) {
        uint64_t pause = fm_monitor_tick(&monitor);
        if (pause == UINT64_MAX)
            fm_trim(); /* nobody is in a hurry */
        struct pollfd fds[2] = {{s->sched.monitor_fd, POLLIN, 0}, {app_signal_fd, POLLIN, 0}};
        struct timespec until = {(time_t)(pause / FM_SEC), (long)(pause % FM_SEC)};
        int n = ppoll(fds, 2, pause == UINT64_MAX ? NULL : &until, NULL);
        if (n > 0 && (fds[0].revents & POLLNVAL))
            fm_fds_lost("a timerfd");
        bool handle = n < 0 && errno == EINTR && app_signals && app_signal_fd < 0;
        if (n > 0 && fds[1].revents)
            handle = take_app_signals();
        if (handle && !fm_signals_end_noted())
            fm_wsgi_check_signals(); /* it waits for the GIL, perhaps for ever */
        if (n > 0 && fds[0].revents)
            fm_monitor_woken(&monitor);
        if (fm_sched_has_stopped(&s->sched))
            return;
    }
}

/* ---- end ---- */

/* After the scheduler has left: nobody else touches the loop.  Where threads were busy to the very end, requests that
 * were cut off may still wait for their last step. */
static void tear_down(struct fm_server *s) FM_UNCHECKED
{
    fm_wsgi_settle();
    fm_sched_run_rest(&s->sched);
    fm_role_take_loop();
    while (!fm_list_empty(&s->conns))
        fm_conn_close(FM_LIST_ENTRY(s->conns.next, struct fm_conn, node));
    while (fm_loop_visit(&s->loop))
        ; /* parts of files and bodies that were over when their connections had ended */
    fm_admin_free(s->admin);
    fm_server_unlisten(s);
    s->loop.flush = NULL;
    fm_access_log_close(s->access, fm_now() + LOG_TIME);
    s->access = NULL;
    fm_role_drop_loop();
}

/* Stops the threads and ends Python.  The GIL is not held. */
static void finish(struct fm_server *s) FM_UNCHECKED
{
    uint64_t until = fm_guard_end();
    fm_sched_stop(&s->sched);
    if (fm_sched_join(&s->sched, until) > 0)
        fm_end_leave(s, FM_LEFT_STEPS, FM_EXIT_OTHER);
    if (!fm_files_stop(until))
        fm_end_leave(s, FM_LEFT_FILES, FM_EXIT_OTHER);
    fm_guard_deadline(fm_now() + FM_END_PYTHON - FM_END_LEAVE, FM_LEFT_PYTHON, FM_EXIT_OTHER);
    fm_report_wait(1);
    fm_interp_acquire();
    fm_interp_join();
    tear_down(s);
    fm_wsgi_fini();
    fm_interp_stop();
    if (atomic_load(&fm_forked)) /* in an atexit handler */
        _exit(FM_EXIT_OK);
    fm_guard_stop();
    fm_sched_fini(&s->sched);
    fm_loop_fini(&s->loop);
}

/* The application could not be loaded, and that is the exit code, or was not to be: also where its import has started
 * threads, which nothing could end.  The GIL is held to the last, so that the scheduler's threads do not come back to
 * Python: the import may have changed what threads are there. */
static _Noreturn void abandon(struct fm_server *s) FM_UNCHECKED
{
    int code = fm_signals_end_noted() ? FM_EXIT_OK : FM_EXIT_APP;
    fm_guard_end();
    fm_guard_deadline(fm_now() + FM_END_PYTHON - FM_END_LEAVE, FM_LEFT_PYTHON, code);
    fm_interp_abandon();
    fm_sched_stop(&s->sched);
    fm_sched_join(&s->sched, fm_now() + FM_END_TIME);
    tear_down(s);
    fm_log_flush(fm_now() + LOG_TIME);
    _exit(code);
}

/* What went wrong has been said.  Paths of unix sockets must not stay behind. */
static int not_started(struct fm_server *s, int code) FM_UNCHECKED
{
    fm_server_unlisten(s);
    return code;
}

/* A signal to end interrupts it: the process ends then. */
static void load(struct fm_server *s) FM_NEEDS_GIL
{
    bool ready = fm_wsgi_prepare() == 0;
    if (!ready)
        fm_interp_print_error();
    fm_signals_again(false); /* Python has taken SIGINT */
    fm_signals_interrupt(true);
    if (!ready || fm_signals_end_noted() || fm_wsgi_load(s->options->app) != 0)
        abandon(s);
    fm_signals_interrupt(false);
    fm_signals_again(true);
    app_signal_fd = fm_wsgi_signal_fd(&app_signals);
}

int fm_server_run(const struct fm_options *o, const char *program) FM_UNCHECKED
{
    static struct fm_server server; /* zeroed; used by threads to the very end */
    struct fm_server *s = &server;
    s->options = o;
    /* One malloc arena: the leader role wanders from thread to thread, and each thread's own arena would keep what a
     * wave of connections needed (5,000 parked twice: 26.2 and 36.3 MB, with one arena 26.2 and 26.4). */
    mallopt(M_ARENA_MAX, 1);
    fm_fds_guard_fork();
    fm_server_share_descriptors(s);
    if (set_up(s) != 0)
        return not_started(s, FM_EXIT_OTHER);
    struct fm_interp_config config = {o->venv, o->pythonpath, program, o->args, o->nargs};
    if (fm_interp_start(&config) != 0)
        return not_started(s, o->venv ? FM_EXIT_USAGE : FM_EXIT_OTHER);
    if (fm_wsgi_init(s->options->threads > 1, _exit) != 0 || start_threads(s) != 0) {
        fm_interp_print_error();
        return not_started(s, FM_EXIT_OTHER);
    }
    load(s);
    fm_interp_release();
    atomic_store(&s->ready, true);
    fm_loop_post(&s->loop, &s->open, 0, NULL);
    fm_server_announce(s, FM_VERSION);
    fm_guard_serve();
    watch(s);
    finish(s);
    fm_info("Drained");
    return FM_EXIT_OK;
}

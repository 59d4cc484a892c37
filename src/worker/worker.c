/* A worker process: start, serve, end.  The main thread starts everything, then is the monitor, then ends everything;
 * the guard takes the signals. */
#include "fermata/worker/worker.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fermata/admin/admin.h"
#include "fermata/http/body.h"
#include "fermata/http/quota.h"
#include "fermata/py/debug.h"
#include "fermata/py/interp.h"
#include "fermata/sched/monitor.h"
#include "fermata/server/access.h"
#include "fermata/server/http1.h"
#include "fermata/server/spools.h"
#include "fermata/server/timeouts.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/files.h"
#include "fermata/util/log.h"
#include "fermata/util/statsd.h"
#include "fermata/util/trim.h"
#include "fermata/util/vital.h"
#include "fermata/worker/control.h"
#include "fermata/worker/hooks.h"
#include "fermata/worker/debug.h"
#include "fermata/worker/descriptors.h"
#include "fermata/worker/gil.h"
#include "fermata/worker/guard.h"
#include "fermata/worker/listen.h"
#include "fermata/worker/load.h"
#include "fermata/worker/logs.h"
#include "fermata/worker/notify.h"
#include "fermata/worker/pidfile.h"
#include "fermata/worker/privileges.h"
#include "fermata/worker/signals.h"
#include "fermata/worker/title.h"
#include "fermata/worker/wiring.h"
#include "fermata/wsgi/gateway.h"
#include "fermata/wsgi/reload.h"
#include "fermata/wsgi/report.h"
#include "fermata/wsgi/stacks.h"
#include "fermata/wsgi/steps.h"

#define LOG_TIME FM_SEC /* for the last lines of a log */

static int app_signal_fd = -1; /* see fm_wsgi_signal_fd */
static bool app_signals;       /* the application has handlers */

/* ---- start ---- */

static void on_open(struct fm_event *event)
{
    struct fm_worker *w = FM_LIST_ENTRY(event, struct fm_worker, open);
    fm_assert_on_loop();
    if (fm_conns_start(&w->conns) != 0)
        fm_die("cannot watch a listening socket");
    fm_control_start(w);
    if (w->admin)
        fm_handed_tell(&w->handed, FM_TELL_SHOWS);
    fm_handed_say_ready(&w->handed);
    if (atomic_load(&w->service.leaving))
        return; /* told to end meanwhile */
    fm_notify("READY=1\nSTATUS=Ready");
    fm_worker_timeout_watchdog(&w->watchdog);
}

void fm_worker_timeout_watchdog(struct fm_timer *t)
{
    struct fm_worker *w = FM_LIST_ENTRY(t, struct fm_worker, watchdog);
    fm_assert_on_loop();
    if (fm_notify_watchdog() == 0)
        return;
    if (fm_listen_is_open(&w->conns))
        fm_notify("WATCHDOG=1");
    fm_timer_start(&w->loop.timers, t, FM_T_WATCHDOG, fm_loop_now(&w->loop));
}

static void stored(void *connection) FM_UNCHECKED { fm_http1_stored(connection); }

/* The threads that know no Python. */
static int start_helpers(struct fm_worker *w)
{
    const struct fm_options *o = w->options;
    int err;
    fm_files_start();
    fm_spools_start(&w->loop, stored);
    fm_quota_limit_files(w->max_body_files, o->limit_body_disk);
    struct fm_access_log *access = NULL;
    err = fm_logs_open_access(o, &access);
    atomic_store(&w->service.access, access);
    if (err == 0)
        err = fm_logs_start(o);
    if (err != 0)
        return err;
    err = fm_guard_start(w);
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

/* What only an arbiter can do.  Such options come along in what people have written for gunicorn, which has one always.
 */
static void say_what_is_for_workers(const struct fm_options *o)
{
    static const char text[] = "without --workers there is no other process that could take over: %s has no effect";
    if (o->max_requests > 0)
        fm_warn(text, "--max-requests");
    if (o->max_worker_memory > 0)
        fm_warn(text, "--max-worker-memory");
    if (o->worker_lifetime > 0)
        fm_warn(text, "--worker-lifetime");
}

static int open_sockets(struct fm_worker *w)
{
    int err;
    if (w->handed.any) { /* the admin port is the arbiter's, who hands its clients over */
        err = fm_handed_use_counters(&w->handed);
        if (err != 0)
            fm_log(FM_LOG_CRITICAL, "cannot share counters with the arbiter: %s", fm_strerror(err));
        if (err == 0)
            err = fm_wiring_admin(w);
        return err == 0 ? fm_listen_adopt(&w->conns, w->options, w->handed.listeners, w->handed.nlisteners) : err;
    }
    say_what_is_for_workers(w->options);
    err = fm_wiring_admin(w);
    if (err == 0)
        err = fm_listen_open(&w->conns, w->options);
    return err == 0 && w->options->pidfile ? fm_pidfile_write(w->options->pidfile) : err;
}

/* Everything that needs no Python.  What needs more rights than the application is to have comes before they are
 * dropped: logs, and ports below 1024. */
static int set_up(struct fm_worker *w)
{
    int err = fm_wiring_make(w);
    if (err == 0)
        err = start_helpers(w);
    if (err == 0)
        err = open_sockets(w);
    fm_count_add(FM_C_CONNS_LIMIT, w->max_conns);
    fm_count_add(FM_C_QUEUE_LIMIT, w->options->limit_queue);
    if (err == 0)
        err = fm_privileges_drop(&w->options->identity);
    if (err != 0)
        return err;
    fm_event_init(&w->open, on_open);
    fm_timer_init(&w->watchdog);
    check_tmpdir();
    return 0;
}

static int start_threads(struct fm_worker *w) FM_NEEDS_GIL
{
    for (unsigned i = 0; i <= w->options->threads; i++) {
        char name[32];
        snprintf(name, sizeof name, "fermata-%u", i + 1);
        if (fm_interp_spawn(name, fm_wiring_pool_thread, w, i) != 0) {
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
static void watch(struct fm_worker *w)
{
    struct fm_monitor monitor;
    fm_monitor_init(&monitor, &w->sched);
    for (;;) {
        uint64_t pause = fm_monitor_tick(&monitor);
        if (pause == UINT64_MAX)
            fm_trim(); /* no request is in a hurry */
        struct pollfd fds[2] = {{w->sched.monitor_fd, POLLIN, 0}, {app_signal_fd, POLLIN, 0}};
        struct timespec until = {(time_t)(pause / FM_SEC), (long)(pause % FM_SEC)};
        int n = ppoll(fds, 2, pause == UINT64_MAX ? NULL : &until, NULL);
        if (n > 0 && (fds[0].revents & POLLNVAL))
            fm_vital_lost("a timerfd");
        bool handle = n < 0 && errno == EINTR && app_signals && app_signal_fd < 0;
        if (n > 0 && fds[1].revents)
            handle = take_app_signals();
        if (handle && !fm_signals_end_noted())
            fm_wsgi_check_signals(); /* it waits for the GIL, perhaps for ever */
        if (n > 0 && fds[0].revents)
            fm_monitor_woken(&monitor);
        if (fm_debugger_waits() && !fm_signals_end_noted())
            fm_debug_run(&monitor);
        if (fm_sched_has_stopped(&w->sched))
            return;
    }
}

/* ---- end ---- */

/* After the scheduler has left: no other thread touches the loop.  Where threads were busy to the very end, requests
 * that were cut off may still wait for their last step. */
static void tear_down(struct fm_worker *w) FM_UNCHECKED
{
    fm_wsgi_settle();
    fm_sched_run_rest(&w->sched);
    fm_role_take_loop();
    fm_conns_close(&w->conns);
    while (fm_loop_visit(&w->loop))
        ; /* parts of files and bodies that were over when their connections had ended */
    fm_admin_free(w->admin);
    fm_control_stop(w);
    fm_loop_reap(&w->loop);
    fm_listen_close(&w->conns);
    /* fm_end_leave may have it, on the guard's thread: then it was leaving before it looked, which is seen here. */
    struct fm_access_log *access = atomic_exchange(&w->service.access, NULL);
    if (!fm_end_is_leaving())
        fm_access_log_close(access, fm_now() + LOG_TIME);
    fm_role_drop_loop();
}

/* Stops the threads and ends Python.  The GIL is not held. */
static void finish(struct fm_worker *w) FM_UNCHECKED
{
    uint64_t until = fm_guard_end();
    fm_sched_stop(&w->sched);
    if (fm_sched_join(&w->sched, until) > 0)
        fm_end_leave(w, FM_LEFT_STEPS, FM_EXIT_OTHER);
    if (!fm_files_stop(until))
        fm_end_leave(w, FM_LEFT_FILES, FM_EXIT_OTHER);
    fm_guard_deadline(fm_now() + FM_END_PYTHON - FM_END_LEAVE, FM_LEFT_PYTHON, FM_EXIT_OTHER);
    fm_steps_stop();
    fm_report_wait(1);
    fm_interp_acquire();
    fm_interp_join();
    fm_steps_fini();
    tear_down(w);
    fm_hooks_end(w);
    fm_wsgi_fini();
    if (fm_interp_ends_later())
        return; /* the deadline stays for Python's end, and the loop for those who wake it in vain until then */
    fm_interp_stop();
    if (atomic_load(&fm_forked)) /* in an atexit handler */
        _exit(FM_EXIT_OK);
    fm_guard_stop();
    fm_sched_fini(&w->sched);
    fm_loop_fini(&w->loop);
}

/* The application could not be loaded, and that is the exit code, or was not to be: also where its import has started
 * threads, which nothing could end.  The GIL is held to the last, so that the scheduler's threads do not come back to
 * Python: the import may have changed what threads are there. */
static _Noreturn void abandon(struct fm_worker *w, int code) FM_UNCHECKED
{
    code = fm_signals_end_noted() ? FM_EXIT_OK : code;
    fm_guard_end();
    fm_guard_deadline(fm_now() + FM_END_PYTHON - FM_END_LEAVE, FM_LEFT_PYTHON, code);
    fm_interp_abandon();
    fm_sched_stop(&w->sched);
    fm_sched_join(&w->sched, fm_now() + FM_END_TIME);
    tear_down(w);
    fm_pidfile_remove();
    fm_logs_flush(fm_now() + LOG_TIME);
    _exit(code);
}

/* What went wrong has been said.  Paths of unix sockets must not stay behind. */
static int not_started(struct fm_worker *w, int code) FM_UNCHECKED
{
    fm_listen_close(&w->conns);
    fm_pidfile_remove();
    return code;
}

/* A signal to end interrupts it: the process ends then. */
static void load(struct fm_worker *w) FM_NEEDS_GIL
{
    bool ready = fm_load_prepare();
    fm_signals_interrupt(true);
    const struct fm_options *o = w->options;
    int code = ready && !fm_signals_end_noted()
                   ? fm_load_logging(o, o->capture_output && strcmp(o->error_logfile, "-") != 0)
                   : FM_EXIT_APP;
    if (code == FM_EXIT_OK && !fm_hooks_begin(w))
        code = FM_EXIT_APP;
    if (code == FM_EXIT_OK)
        code = fm_load_app(o);
    if (code == FM_EXIT_OK && !fm_hooks_loaded(w))
        code = FM_EXIT_APP;
    if (code != FM_EXIT_OK)
        abandon(w, code);
    fm_signals_interrupt(false);
}

/* Where a thread waits for the GIL for too long, or the arbiter finds that the loop does not turn. */
static bool logs_stacks(const struct fm_worker *w)
{
    return w->options->gil_timeout > 0 || (w->handed.any && w->options->timeout > 0);
}

/* Python, the pool threads, the application.  One that a zygote has forked has the first and the last of them; threads
 * are not copied by a fork.  FM_EXIT_OK with the GIL held, or the exit code after a message. */
static int start_python(struct fm_worker *w, const char *program) FM_UNCHECKED
{
    int code = w->handed.loaded ? FM_EXIT_OK : fm_load_start(w->options, program);
    if (code != FM_EXIT_OK)
        return code;
    if ((logs_stacks(w) && fm_stacks_prepare() != 0) || (w->admin && fm_steps_prepare() != 0) ||
        start_threads(w) != 0) {
        fm_interp_print_error();
        return FM_EXIT_OTHER;
    }
    if (!w->handed.loaded)
        load(w);
    else if (!fm_hooks_begin(w) || fm_wsgi_take_hooks() != 0 || !fm_hooks_loaded(w))
        abandon(w, FM_EXIT_APP);
    if (w->handed.report_fd >= 0) {
        fm_wsgi_report(w->handed.report_fd);
        fm_fds_close(w->handed.report_fd);
        w->handed.report_fd = -1;
    }
    fm_gil_begin(w);
    fm_signals_again(true);
    app_signal_fd = fm_wsgi_signal_fd(&app_signals);
    return FM_EXIT_OK;
}

/* A server by itself keeps the command line that it was started with, unless it was given a name. */
static void set_title(const struct fm_worker *w)
{
    char what[32] = "server";
    if (w->handed.any)
        snprintf(what, sizeof what, "worker %u", w->handed.slot);
    if (w->handed.any || w->options->name)
        fm_title_set(what, w->options->name);
}

int fm_worker_run(const struct fm_options *o, const char *program, const struct fm_handed *handed) FM_UNCHECKED
{
    static struct fm_worker worker; /* zeroed; used by threads to the very end */
    struct fm_worker *w = &worker;
    w->options = o;
    w->handed = *handed;
    set_title(w);
    /* One malloc arena: the leader role wanders from thread to thread, and each thread's own arena would keep what a
     * wave of connections needed (5,000 parked twice: 26.2 and 36.3 MB, with one arena 26.2 and 26.4). */
#ifdef M_ARENA_MAX /* of glibc */
    mallopt(M_ARENA_MAX, 1);
#endif
    pthread_atfork(NULL, NULL, fm_fds_in_child);
    fm_descriptors_share(o, &w->max_conns, &w->max_body_files);
    if (set_up(w) != 0)
        return not_started(w, FM_EXIT_OTHER);
    int code = start_python(w, program);
    if (code != FM_EXIT_OK)
        return not_started(w, code);
    fm_interp_release();
    atomic_store(&w->ready, true);
    fm_loop_post(&w->loop, &w->open, 0, NULL);
    if (!handed->any) {
        fm_listen_announce(&w->conns, o);
        if (w->service.statsd)
            fm_statsd_workers(w->service.statsd, 1);
    }
    fm_guard_serve();
    watch(w);
    finish(w);
    fm_pidfile_remove();
    fm_info("Drained");
    return FM_EXIT_OK;
}

int fm_worker_check(const struct fm_options *o, const char *program) FM_UNCHECKED
{
    struct fm_interp_config config = {o->venv, o->venv_is_active, o->pythonpath, program, o->args, o->nargs};
    struct fm_wsgi_config wsgi = {o->threads > 1, o->workers > 1, !o->no_places, false, o->root_path, _exit};
    int code = FM_EXIT_OK;
    if (fm_interp_start(&config) != 0)
        return o->venv ? FM_EXIT_USAGE : FM_EXIT_OTHER;
    if (fm_wsgi_init(&wsgi) != 0 || fm_wsgi_prepare() != 0) {
        fm_interp_print_error();
        return FM_EXIT_OTHER;
    }
    fm_signals_again(false); /* Python has taken SIGINT */
    struct fm_wsgi_logging logging = {o->log_config, o->log_config_json, o->log_config_dict, false};
    if (fm_wsgi_set_up_logging(&logging) != 0)
        code = FM_EXIT_USAGE;
    else if (fm_wsgi_load(o->app) != 0)
        code = FM_EXIT_APP;
    fm_interp_abandon();
    fflush(NULL);
    _exit(code); /* threads that the import has started are not waited for */
}

/* What ties the parts of a worker together; see worker/wiring.h. */
#include "fermata/worker/wiring.h"

#include <sys/random.h>
#include <unistd.h>

#include "fermata/admin/admin.h"
#include "fermata/py/debug.h"
#include "fermata/py/interp.h"
#include "fermata/server/access.h"
#include "fermata/server/http1.h"
#include "fermata/server/timeouts.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/util/places.h"
#include "fermata/worker/control.h"
#include "fermata/worker/drain.h"
#include "fermata/worker/end.h"
#include "fermata/worker/gil.h"
#include "fermata/worker/health.h"
#include "fermata/worker/listen.h"
#include "fermata/worker/logs.h"
#include "fermata/worker/notify.h"
#include "fermata/worker/survey.h"
#include "fermata/worker/title.h"
#include "fermata/wsgi/gateway.h"
#include "fermata/wsgi/inquiries.h"
#include "fermata/wsgi/report.h"

/* ---- the scheduler's work ---- */

static void poll_loop(void *ctx, bool block) FM_UNCHECKED
{
    struct fm_worker *w = ctx;
    fm_loop_turn(&w->loop, block);
    if (fm_debugger_waits())
        fm_sched_look_after(&w->sched, 1); /* the main thread does, in its own time */
}

static void wake_loop(void *ctx) { fm_loop_wake(&((struct fm_worker *)ctx)->loop); }

static void take_gil(void *ctx, struct fm_thread *thread) FM_UNCHECKED
{
    (void)ctx, (void)thread;
    fm_gil_take(fm_interp_thread_state());
}

static void take_gil_and_watch(void *ctx, struct fm_thread *thread) FM_UNCHECKED
{
    take_gil(ctx, thread);
    fm_gil_watch(ctx);
}

/* Requests are parked, and go on, in steps.  Two threads may be at it at once: who comes last has to have seen what
 * both have counted. */
static void show_parked(void)
{
    uint64_t n;
    do {
        n = fm_counters_parked();
        fm_title_parked(n);
    } while (fm_counters_parked() != n);
}

static void drop_gil(void *ctx, struct fm_thread *thread) FM_UNCHECKED
{
    (void)ctx, (void)thread;
    fm_gil_drop(fm_interp_thread_state());
    if (fm_title_is_set())
        show_parked();
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

static void be_busy(void *ctx, bool busy) FM_UNCHECKED { fm_health_busy(ctx, busy); }

static const struct fm_sched_ops sched_ops = {poll_loop, wake_loop, take_gil, drop_gil, step, flush_held, be_busy};

/* Of a Python that has no GIL as long as no library turns it on. */
static const struct fm_sched_ops sched_ops_watching = {poll_loop,  wake_loop, take_gil_and_watch, drop_gil, step,
                                                       flush_held, be_busy};

void fm_wiring_pool_thread(void *worker, unsigned index) FM_UNCHECKED
{
    struct fm_worker *w = worker;
    w->sched.threads[index].user = fm_wsgi_thread_new();
    fm_sched_run(&w->sched, index);
}

/* ---- the loop's ---- */

static bool sched_ready(void *ctx) { return fm_sched_has_work(&((struct fm_worker *)ctx)->sched); }

static void flush_access(void *ctx) FM_UNCHECKED
{
    struct fm_worker *w = ctx;
    if (w->service.access) /* it is closed before the loop ends */
        fm_access_log_flush(w->service.access);
}

static bool lost_descriptor(void *ctx, int fd) FM_UNCHECKED
{
    struct fm_worker *w = ctx;
    return fm_listen_lost(&w->conns, fd) || fm_conns_lost(&w->conns, fd) || (w->admin && fm_admin_lost(w->admin, fd)) ||
           fm_control_lost(w, fd);
}

static void define_timeouts(struct fm_timers *ts, const struct fm_options *o)
{
#define X(name, ns, handler) fm_timers_define(ts, FM_T_##name, ns, handler);
    FM_TIMEOUTS(X)
#undef X
}

/* ---- admin's ---- */

/* NULL, or why it is not. */
static const char *why_ill(void *ctx) FM_UNCHECKED
{
    struct fm_worker *w = ctx;
    return w->exhausted                    ? "all threads are busy for longer than --timeout, and requests wait"
           : w->no_gil                     ? "the GIL is not to be had"
           : !fm_listen_is_open(&w->conns) ? "not listening"
                                           : NULL;
}

static bool is_ready(void *ctx)
{
    struct fm_worker *w = ctx;
    return atomic_load(&w->ready) && !atomic_load(&w->service.leaving) && !why_ill(w);
}

static void count_threads(void *ctx, unsigned *busy, unsigned *idle)
{
    fm_sched_threads(&((struct fm_worker *)ctx)->sched, busy, idle);
}

/* ---- recycling ---- */

static void be_enough(struct fm_service *service) FM_UNCHECKED
{
    fm_handed_tell(&FM_LIST_ENTRY(service, struct fm_worker, service)->handed, FM_TELL_REQUESTS);
}

/* Workers that were started together do not serve the same number. */
static uint64_t enough(const struct fm_options *o)
{
    uint64_t random = 0;
    if (o->max_requests > 0 && getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random = fm_now() ^ (uint64_t)getpid();
    return o->max_requests > 0 ? o->max_requests + random % ((uint64_t)o->max_requests_jitter + 1) : 0;
}

/* ---- the arbiter's ---- */

/* So that it looks whether the loop turns; it goes on looking for as long as this is not said again. */
static void have_client(struct fm_service *service) FM_UNCHECKED
{
    struct fm_worker *w = FM_LIST_ENTRY(service, struct fm_worker, service);
    uint64_t now = fm_loop_now(&w->loop);
    if (w->told_at != 0 && now - w->told_at < FM_HANDED_PAUSE(w->options->timeout))
        return;
    w->told_at = now;
    fm_handed_tell(&w->handed, FM_TELL_CLIENT);
}

/* ---- making it ---- */

int fm_wiring_make(struct fm_worker *w)
{
    const struct fm_sched_ops *ops = fm_interp_is_free_threaded() ? &sched_ops_watching : &sched_ops;
    int err = fm_loop_init(&w->loop);
    if (err == 0)
        err = fm_sched_init(&w->sched, w->options->threads, ops, w);
    if (err != 0) {
        fm_log(FM_LOG_CRITICAL, "cannot set up the event loop: %s", fm_strerror(err));
        return err;
    }
    w->started = fm_now();
    w->loop.ready = sched_ready;
    w->loop.flush = fm_logs_has_access(w->options) ? flush_access : NULL;
    w->loop.lost = lost_descriptor;
    w->loop.ready_ctx = w->loop.flush_ctx = w->loop.lost_ctx = w;
    w->service.loop = &w->loop;
    w->service.sched = &w->sched;
    w->service.options = w->options;
    w->service.statsd = fm_logs_statsd();
    w->service.report_stack = fm_report_stack;
    w->service.on_enough = be_enough;
    w->service.on_client = w->handed.any && w->options->timeout > 0 ? have_client : NULL;
    w->service.enough = enough(w->options);
    fm_conns_init(&w->conns, &w->service, w->max_conns, fm_drain_none);
    define_timeouts(&w->loop.timers, w->options);
    fm_drain_init(w);
    fm_health_init(w);
    return 0;
}

int fm_wiring_admin(struct fm_worker *w) FM_UNCHECKED
{
    const struct fm_options *o = w->options;
    struct fm_admin_source source = {.ready = is_ready,
                                     .threads = count_threads,
                                     .ctx = w,
                                     .why_ill = why_ill,
                                     .python = o->python,
                                     .walk = fm_survey_walk,
                                     .about = fm_survey_about,
                                     .ask_stacks = fm_survey_ask_stacks,
                                     .app_metrics = fm_inquiry_of_metrics(),
                                     .metrics_kind = FM_T_APP_METRICS,
                                     .futures = o->no_places ? NULL : fm_inquiry_of_futures(),
                                     .futures_kind = FM_T_FUTURES,
                                     .rules = {o->admin_hosts, o->nadmin_hosts, o->admin_status}};
    if (!o->has_admin)
        return 0;
    if (o->metrics_places)
        fm_places_watch();
    if (w->handed.any) {
        w->admin = fm_admin_portless(&w->loop, FM_T_ADMIN, &source);
        return 0;
    }
    w->admin = fm_admin_new(&o->admin, fm_listen_only_ipv6(o, &o->admin), &source);
    int err = w->admin ? fm_admin_start(w->admin, &w->loop, FM_T_ADMIN, FM_T_ACCEPT) : FM_EINVAL;
    if (w->admin && err != 0)
        fm_log(FM_LOG_CRITICAL, "--admin-bind: %s", fm_strerror(err));
    if (err != 0)
        return err;
    char url[FM_ADDR_TEXT];
    fm_admin_url(w->admin, url);
    fm_info("Admin at: %s", url);
    return 0;
}

/* What ties the parts of a worker together; see worker/wiring.h. */
#include "fermata/worker/wiring.h"

#include "fermata/admin/admin.h"
#include "fermata/py/interp.h"
#include "fermata/server/access.h"
#include "fermata/server/http1.h"
#include "fermata/server/timeouts.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/worker/drain.h"
#include "fermata/worker/end.h"
#include "fermata/worker/listen.h"
#include "fermata/worker/logs.h"
#include "fermata/worker/notify.h"
#include "fermata/worker/title.h"
#include "fermata/wsgi/gateway.h"
#include "fermata/wsgi/report.h"

/* ---- the scheduler's work ---- */

static void poll_loop(void *ctx, bool block) FM_UNCHECKED { fm_loop_turn(&((struct fm_worker *)ctx)->loop, block); }

static void wake_loop(void *ctx) { fm_loop_wake(&((struct fm_worker *)ctx)->loop); }

static void take_gil(void *ctx, struct fm_thread *thread) FM_UNCHECKED
{
    (void)ctx, (void)thread;
    fm_gil_take(fm_interp_thread_state());
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

static const struct fm_sched_ops sched_ops = {poll_loop, wake_loop, take_gil, drop_gil, step, flush_held};

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
    return fm_listen_lost(&w->conns, fd) || fm_conns_lost(&w->conns, fd) || (w->admin && fm_admin_lost(w->admin, fd));
}

static void define_timeouts(struct fm_timers *ts, const struct fm_options *o)
{
#define X(name, ns, handler) fm_timers_define(ts, FM_T_##name, ns, handler);
    FM_TIMEOUTS(X)
#undef X
}

/* ---- admin's ---- */

static bool is_healthy(void *ctx) FM_UNCHECKED { return fm_listen_is_open(&((struct fm_worker *)ctx)->conns); }

static bool is_ready(void *ctx)
{
    struct fm_worker *w = ctx;
    return atomic_load(&w->ready) && !atomic_load(&w->service.leaving) && is_healthy(w);
}

static void count_threads(void *ctx, unsigned *busy, unsigned *idle)
{
    fm_sched_threads(&((struct fm_worker *)ctx)->sched, busy, idle);
}

/* ---- making it ---- */

int fm_wiring_make(struct fm_worker *w)
{
    int err = fm_loop_init(&w->loop);
    if (err == 0)
        err = fm_sched_init(&w->sched, w->options->threads, &sched_ops, w);
    if (err != 0) {
        fm_log(FM_LOG_CRITICAL, "cannot set up the event loop: %s", fm_strerror(err));
        return err;
    }
    w->loop.ready = sched_ready;
    w->loop.flush = fm_logs_has_access(w->options) ? flush_access : NULL;
    w->loop.lost = lost_descriptor;
    w->loop.ready_ctx = w->loop.flush_ctx = w->loop.lost_ctx = w;
    w->service.loop = &w->loop;
    w->service.sched = &w->sched;
    w->service.options = w->options;
    w->service.statsd = fm_logs_statsd();
    w->service.report_stack = fm_report_stack;
    fm_conns_init(&w->conns, &w->service, w->max_conns, fm_drain_none);
    define_timeouts(&w->loop.timers, w->options);
    fm_drain_init(w);
    return 0;
}

int fm_wiring_admin(struct fm_worker *w) FM_UNCHECKED
{
    const struct fm_options *o = w->options;
    struct fm_admin_source source = {.ready = is_ready, .threads = count_threads, .ctx = w, .healthy = is_healthy};
    if (!o->has_admin)
        return 0;
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

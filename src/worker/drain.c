/* The drain; see worker/drain.h. */
#include "fermata/worker/drain.h"

#include "fermata/server/timeouts.h"
#include "fermata/util/clock.h"
#include "fermata/util/log.h"
#include "fermata/worker/end.h"
#include "fermata/worker/listen.h"
#include "fermata/worker/notify.h"

/* ---- on the loop ---- */

static void be_over(struct fm_worker *w) FM_ON_LOOP
{
    fm_sched_stop(&w->sched);
    fm_sched_look_after(&w->sched, 1); /* the main thread looks at once, and finds that the scheduler has stopped */
}

void fm_drain_none(struct fm_conns *conns) { be_over(FM_LIST_ENTRY(conns, struct fm_worker, conns)); }

static void start(struct fm_worker *w, struct fm_timer *t, enum fm_timeout kind) FM_ON_LOOP
{
    fm_timer_start(&w->loop.timers, t, kind, fm_loop_now(&w->loop));
}

static void end_connections(struct fm_worker *w) FM_ON_LOOP
{
    fm_timer_stop(&w->graceful);
    if (w->conns.count == 0 || w->ending)
        return;
    w->ending = true;
    fm_listen_close(&w->conns); /* there is no time for those who wait still */
    if (!w->quick)
        fm_warn("the graceful timeout has passed with %u connections open; ending them", w->conns.count);
    start(w, &w->last, FM_T_LAST);
    fm_conns_expire(&w->conns);
}

/* How long requests have: where others go on that may be long. */
static uint64_t allowed(struct fm_worker *w)
{
    return atomic_load(&w->replaced) ? w->options->drain_timeout : w->options->graceful_timeout;
}

static void say_drain(struct fm_worker *w)
{
    fm_info("Draining: no new connections; requests have %g s to end", (double)allowed(w) / FM_SEC);
}

/* ---- the last part of a long drain ---- */

/* Responses that are under way, as those of server-sent events may be for hours, do not end at once when the time is
 * over, or their clients would come back as one: they end one after another in the last part of it. */
#define SPREAD_PART 5
#define SPREAD_STEPS 50

static void start_spread(struct fm_worker *w, uint64_t in) FM_ON_LOOP
{
    fm_timers_define(&w->loop.timers, FM_T_SPREAD, in, fm_drain_timeout_spread); /* none of the kind runs */
    start(w, &w->spread, FM_T_SPREAD);
}

void fm_drain_timeout_spread(struct fm_timer *t)
{
    struct fm_worker *w = FM_LIST_ENTRY(t, struct fm_worker, spread);
    fm_assert_on_loop();
    if (w->ending)
        return;
    unsigned left = SPREAD_STEPS - w->spread_steps++, streams = fm_conns_streams(&w->conns, 0);
    if (left == 0)
        return;
    fm_conns_streams(&w->conns, (streams + left - 1) / left);
    start_spread(w, w->options->drain_timeout / SPREAD_PART / SPREAD_STEPS);
}

/* What has arrived is served: connections that are not accepted yet, and requests that are not read yet. */
static void drain(struct fm_worker *w) FM_ON_LOOP
{
    fm_timer_stop(&w->delay);
    if (atomic_exchange(&w->service.draining, true))
        return;
    fm_timers_define(&w->loop.timers, FM_T_GRACEFUL, allowed(w), fm_drain_timeout_graceful);
    start(w, &w->graceful, FM_T_GRACEFUL);
    if (atomic_load(&w->replaced) && allowed(w) > 0)
        start_spread(w, allowed(w) - allowed(w) / SPREAD_PART);
    atomic_store(&w->service.others_serve, w->handed.any && !w->quick && !w->options->reload);
    if (atomic_load(&w->replaced))
        fm_listen_close(&w->conns);
    fm_conns_drain(&w->conns);
    if (allowed(w) == 0)
        end_connections(w);
}

static void on_leave(struct fm_event *event)
{
    struct fm_worker *w = FM_LIST_ENTRY(event, struct fm_worker, leave_event);
    fm_assert_on_loop();
    if (!atomic_load(&w->service.draining))
        start(w, &w->delay, FM_T_DELAY);
}

static void on_drain(struct fm_event *event)
{
    fm_assert_on_loop();
    drain(FM_LIST_ENTRY(event, struct fm_worker, drain_event));
}

/* All are to stop, and this one has been draining because it was replaced: there is less time now. */
static void on_hurry(struct fm_event *event)
{
    struct fm_worker *w = FM_LIST_ENTRY(event, struct fm_worker, hurry_event);
    uint64_t graceful = w->options->graceful_timeout;
    fm_assert_on_loop();
    if (w->ending)
        return;
    fm_timer_stop(&w->spread);
    fm_timer_stop(&w->graceful);
    fm_timers_define(&w->loop.timers, FM_T_GRACEFUL, graceful, fm_drain_timeout_graceful);
    start(w, &w->graceful, FM_T_GRACEFUL);
    if (graceful == 0)
        end_connections(w);
}

static void on_quick(struct fm_event *event)
{
    struct fm_worker *w = FM_LIST_ENTRY(event, struct fm_worker, quick_event);
    fm_assert_on_loop();
    w->quick = true;
    drain(w);
    end_connections(w);
}

void fm_drain_timeout_delay(struct fm_timer *t)
{
    struct fm_worker *w = FM_LIST_ENTRY(t, struct fm_worker, delay);
    fm_assert_on_loop();
    say_drain(w);
    drain(w);
}

void fm_drain_timeout_graceful(struct fm_timer *t)
{
    fm_assert_on_loop();
    end_connections(FM_LIST_ENTRY(t, struct fm_worker, graceful));
}

void fm_drain_timeout_last(struct fm_timer *t)
{
    fm_assert_on_loop();
    be_over(FM_LIST_ENTRY(t, struct fm_worker, last));
}

void fm_drain_init(struct fm_worker *w)
{
    fm_timer_init(&w->delay);
    fm_timer_init(&w->graceful);
    fm_timer_init(&w->last);
    fm_timer_init(&w->spread);
    fm_event_init(&w->leave_event, on_leave);
    fm_event_init(&w->drain_event, on_drain);
    fm_event_init(&w->quick_event, on_quick);
    fm_event_init(&w->hurry_event, on_hurry);
}

/* ---- from outside ---- */

/* Each event is posted once in the life of the process. */
uint64_t fm_drain_ask(struct fm_worker *w, enum fm_drain how)
{
    static enum stage { SERVING, LEAVING, DRAINING, QUICK } stage;
    enum stage before = stage;
    static uint64_t end;
    static bool hurried;
    uint64_t now = fm_now(), graceful = w->options->graceful_timeout, delay = w->options->drain_delay;
    if (stage == LEAVING && now + graceful + FM_END_TIME >= end)
        stage = DRAINING; /* the delay has passed */
    atomic_store(&w->service.leaving, true);
    if (how == FM_DRAIN_NOW && w->handed.any && stage < DRAINING)
        atomic_store(&w->replaced, true);
    if (how == FM_DRAIN_QUICKLY && stage < QUICK) {
        fm_info("Draining quickly: no new connections; what waits is answered 503");
        stage = QUICK;
        end = now + FM_END_TIME;
        fm_loop_post(&w->loop, &w->quick_event, 0, NULL);
    } else if (how == FM_DRAIN_POLITELY && stage == SERVING && delay > 0) {
        fm_info("Leaving: not ready any more; the drain begins in %g s", (double)delay / FM_SEC);
        stage = LEAVING;
        end = now + delay + graceful + FM_END_TIME;
        fm_loop_post(&w->loop, &w->leave_event, 0, NULL);
    } else if (stage < DRAINING) {
        say_drain(w);
        stage = DRAINING;
        end = now + allowed(w) + FM_END_TIME;
        fm_loop_post(&w->loop, &w->drain_event, 0, NULL);
    } else if (how == FM_DRAIN_POLITELY && stage == DRAINING && !hurried && now + graceful + FM_END_TIME < end) {
        hurried = true;
        end = now + graceful + FM_END_TIME;
        fm_loop_post(&w->loop, &w->hurry_event, 0, NULL);
    }
    if (stage != before)
        fm_notify_stopping(end - now + FM_END_PYTHON);
    return end;
}

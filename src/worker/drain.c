/* The drain; see worker/drain.h. */
#include "fermata/worker/drain.h"

#include "fermata/server/conn.h"
#include "fermata/worker/end.h"
#include "fermata/util/clock.h"
#include "fermata/util/log.h"

/* ---- on the loop ---- */

static void be_over(struct fm_server *s) FM_ON_LOOP
{
    fm_sched_stop(&s->sched);
    fm_sched_look_after(&s->sched, 1); /* the main thread looks at once, and finds that the scheduler has stopped */
}

/* Accepts what waits to be, as far as there is room for it.  There may be more than descriptors for it. */
static void accept_rest(struct fm_server *s) FM_ON_LOOP
{
    for (unsigned i = 0; i < s->nlisteners && !s->ending; i++)
        fm_listener_finish(&s->listeners[i], s->nconns < s->max_conns ? s->max_conns - s->nconns : 0);
}

void fm_drain_conn_gone(struct fm_server *s)
{
    accept_rest(s);
    if (s->nconns == 0)
        be_over(s);
}

static void end_connections(struct fm_server *s) FM_ON_LOOP
{
    fm_timer_stop(&s->graceful);
    if (s->nconns == 0 || s->ending)
        return;
    s->ending = true;
    fm_server_unlisten(s); /* there is no time for who waits still */
    if (!s->quick)
        fm_warn("the graceful timeout has passed with %u connections open; ending them", s->nconns);
    fm_timer_start(&s->loop.timers, &s->last, FM_T_LAST, fm_loop_now(&s->loop));
    for (struct fm_list *node = s->conns.next, *next; node != &s->conns; node = next) {
        next = node->next; /* expiring a connection frees that one at most */
        fm_conn_expire(FM_LIST_ENTRY(node, struct fm_conn, node));
    }
}

static void say_drain(const struct fm_server *s)
{
    fm_info("Draining: no new connections; requests have %g s to end", (double)s->options->graceful_timeout / FM_SEC);
}

/* What has arrived is served: connections that nobody has accepted, and requests that nobody has read. */
static void drain(struct fm_server *s) FM_ON_LOOP
{
    fm_timer_stop(&s->delay);
    if (atomic_exchange(&s->draining, true))
        return;
    accept_rest(s);
    fm_timer_start(&s->loop.timers, &s->graceful, FM_T_GRACEFUL, fm_loop_now(&s->loop));
    for (struct fm_list *node = s->conns.next, *next; node != &s->conns; node = next) {
        next = node->next;
        fm_conn_drain(FM_LIST_ENTRY(node, struct fm_conn, node));
    }
    if (s->nconns == 0)
        be_over(s);
    else if (s->options->graceful_timeout == 0)
        end_connections(s);
}

static void on_leave(struct fm_event *event)
{
    struct fm_server *s = FM_LIST_ENTRY(event, struct fm_server, leave_event);
    fm_assert_on_loop();
    if (!atomic_load(&s->draining))
        fm_timer_start(&s->loop.timers, &s->delay, FM_T_DELAY, fm_loop_now(&s->loop));
}

static void on_delay(struct fm_timer *t)
{
    fm_assert_on_loop();
    say_drain(FM_LIST_ENTRY(t, struct fm_server, delay));
    drain(FM_LIST_ENTRY(t, struct fm_server, delay));
}

static void on_drain(struct fm_event *event)
{
    fm_assert_on_loop();
    drain(FM_LIST_ENTRY(event, struct fm_server, drain_event));
}

static void on_quick(struct fm_event *event)
{
    struct fm_server *s = FM_LIST_ENTRY(event, struct fm_server, quick_event);
    fm_assert_on_loop();
    s->quick = true;
    drain(s);
    end_connections(s);
}

static void on_graceful(struct fm_timer *t)
{
    fm_assert_on_loop();
    end_connections(FM_LIST_ENTRY(t, struct fm_server, graceful));
}

static void on_last(struct fm_timer *t)
{
    fm_assert_on_loop();
    be_over(FM_LIST_ENTRY(t, struct fm_server, last));
}

void fm_drain_init(struct fm_server *s)
{
    struct fm_timers *ts = &s->loop.timers;
    fm_timer_init(&s->delay);
    fm_timer_init(&s->graceful);
    fm_timer_init(&s->last);
    fm_event_init(&s->leave_event, on_leave);
    fm_event_init(&s->drain_event, on_drain);
    fm_event_init(&s->quick_event, on_quick);
    fm_timers_define(ts, FM_T_DELAY, s->options->drain_delay, on_delay);
    fm_timers_define(ts, FM_T_GRACEFUL, s->options->graceful_timeout, on_graceful);
    fm_timers_define(ts, FM_T_LAST, FM_END_LOOP, on_last);
}

/* ---- from outside ---- */

/* Each event is posted once in the life of the process. */
uint64_t fm_drain_ask(struct fm_server *s, enum fm_drain how)
{
    static enum { SERVING, LEAVING, DRAINING, QUICK } stage;
    static uint64_t end;
    uint64_t now = fm_now(), graceful = s->options->graceful_timeout, delay = s->options->drain_delay;
    if (stage == LEAVING && now + graceful + FM_END_TIME >= end)
        stage = DRAINING; /* the delay has passed */
    atomic_store(&s->leaving, true);
    if (how == FM_DRAIN_QUICKLY && stage < QUICK) {
        fm_info("Draining quickly: no new connections; what waits is answered 503");
        stage = QUICK;
        end = now + FM_END_TIME;
        fm_loop_post(&s->loop, &s->quick_event, 0, NULL);
    } else if (how == FM_DRAIN_POLITELY && stage == SERVING && delay > 0) {
        fm_info("Leaving: not ready any more; the drain begins in %g s", (double)delay / FM_SEC);
        stage = LEAVING;
        end = now + delay + graceful + FM_END_TIME;
        fm_loop_post(&s->loop, &s->leave_event, 0, NULL);
    } else if (stage < DRAINING) {
        say_drain(s);
        stage = DRAINING;
        end = now + graceful + FM_END_TIME;
        fm_loop_post(&s->loop, &s->drain_event, 0, NULL);
    }
    return end;
}

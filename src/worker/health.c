/* Whether the threads get on; see worker/health.h. */
#include "fermata/worker/health.h"

#include <stdio.h>

#include "fermata/server/timeouts.h"
#include "fermata/util/clock.h"
#include "fermata/util/log.h"
#include "fermata/wsgi/report.h"
#include "fermata/wsgi/stacks.h"

#define LOOKS 4 /* in the shorter of the two times: so much later it may be noticed */

uint64_t fm_health_pause(const struct fm_options *o)
{
    uint64_t shorter = o->timeout == 0                                      ? o->gil_timeout
                       : o->gil_timeout == 0 || o->timeout < o->gil_timeout ? o->timeout
                                                                            : o->gil_timeout;
    return shorter / LOOKS;
}

void fm_health_init(struct fm_worker *w)
{
    const struct fm_options *o = w->options;
    fm_timer_init(&w->look);
    if (fm_health_pause(o) > 0)
        fm_sched_watch_from(&w->sched, o->gil_timeout > 0 ? 1 : o->threads);
}

/* With others beside it a client is better off where it waits to be accepted. */
static void accept_no_more(struct fm_worker *w, bool no_more) FM_ON_LOOP
{
    if (w->handed.any)
        fm_conns_pause(&w->conns, no_more);
}

static void recover(struct fm_worker *w) FM_ON_LOOP
{
    w->exhausted = w->no_gil = false;
    fm_info("The threads get on again");
    accept_no_more(w, false);
}

static void be_exhausted(struct fm_worker *w, unsigned waiting) FM_ON_LOOP
{
    char what[160];
    w->exhausted = true;
    snprintf(what, sizeof what, "All threads have been in one step each for %g s or longer, and %u requests wait",
             (double)w->options->timeout / FM_SEC, waiting);
    fm_error("%s (--timeout)", what);
    fm_report_stacks(what);
    fm_handed_tell(&w->handed, FM_TELL_EXHAUSTED);
    accept_no_more(w, true);
}

static void lose_gil(struct fm_worker *w) FM_ON_LOOP
{
    char what[160];
    w->no_gil = true;
    snprintf(what, sizeof what, "The GIL was not to be had for %g s", (double)w->options->gil_timeout / FM_SEC);
    fm_error("%s (--gil-timeout)", what);
    fm_stacks_log(what);
    fm_handed_tell(&w->handed, FM_TELL_GIL);
    accept_no_more(w, true);
}

void fm_health_busy(struct fm_worker *w, bool busy)
{
    if (busy)
        fm_timer_start(&w->loop.timers, &w->look, FM_T_LOOK, fm_loop_now(&w->loop));
    else
        fm_timer_stop(&w->look);
    if (!busy && (w->exhausted || w->no_gil))
        recover(w);
}

void fm_health_timeout(struct fm_timer *t)
{
    struct fm_worker *w = FM_LIST_ENTRY(t, struct fm_worker, look);
    const struct fm_options *o = w->options;
    uint64_t now = fm_loop_now(&w->loop);
    struct fm_sched_ages ages;
    fm_assert_on_loop();
    fm_timer_start(&w->loop.timers, t, FM_T_LOOK, now); /* until fewer are in a step */
    fm_sched_ages(&w->sched, now - o->timeout, &ages);
    bool exhausted = o->timeout > 0 && ages.old >= o->threads && ages.waiting > 0;
    bool no_gil = o->gil_timeout > 0 && ages.gil_since <= now - o->gil_timeout;
    if (atomic_load(&w->service.draining))
        return; /* it has a deadline already */
    if (no_gil && !w->no_gil)
        lose_gil(w);
    if (exhausted && !w->exhausted && !w->no_gil)
        be_exhausted(w, ages.waiting);
    if (!exhausted && !no_gil && (w->exhausted || w->no_gil))
        recover(w);
}

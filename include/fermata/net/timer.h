/* Timeouts of fixed durations, in one list per kind: starting, restarting and stopping cost a few pointer writes,
 * because the entries of one kind expire in the order in which they were started.  Loop only. */
#ifndef FERMATA_NET_TIMER_H
#define FERMATA_NET_TIMER_H

#include <stdint.h>

#include "fermata/util/annotate.h"
#include "fermata/util/list.h"

#define FM_TIMER_KINDS 20 /* room; only those that are defined are looked at */
#define FM_NEVER UINT64_MAX

struct fm_timer {
    struct fm_list node;
    uint64_t due; /* nanoseconds of fm_now */
};

typedef void fm_timer_fn(struct fm_timer *);

struct fm_timers {
    unsigned kinds; /* one more than the highest that is defined */
    struct {
        struct fm_list list;
        uint64_t duration; /* nanoseconds; 0: this kind is off */
        fm_timer_fn *expired;
    } kind[FM_TIMER_KINDS];
};

void fm_timers_init(struct fm_timers *ts);

/* Declares a kind (0 .. FM_TIMER_KINDS-1): how long, and whom to call.  The timer is stopped when it is called. */
void fm_timers_define(struct fm_timers *ts, unsigned kind, uint64_t duration, fm_timer_fn *expired);

static inline void fm_timer_init(struct fm_timer *t) { fm_list_init(&t->node); }

/* Starts (or starts over, of whichever kind it was) from `now`, which may lie a little in the past: then it takes as
 * many steps as timers of the kind have started since.  A kind that is off just stops it. */
void fm_timer_start(struct fm_timers *ts, struct fm_timer *t, unsigned kind, uint64_t now) FM_ON_LOOP;
static inline void fm_timer_stop(struct fm_timer *t) { fm_list_remove(&t->node); }

/* When the next timer expires, or FM_NEVER. */
uint64_t fm_timers_next(const struct fm_timers *ts) FM_ON_LOOP;

/* Calls the timers that are due, and answers as fm_timers_next does then. */
uint64_t fm_timers_run(struct fm_timers *ts, uint64_t now) FM_ON_LOOP;

#endif

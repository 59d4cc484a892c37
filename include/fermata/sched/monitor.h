/* The monitor: a thread that looks whether the leader is held up, and sends what steps hold back too long.
 *
 * The leader is held up, and replaced, if its step
 *
 *   waits     has run for a millisecond (a quarter of one, for a while after a stall), is not runnable, and has used
 *             less than half of the time since the monitor last looked
 *   computes  has used 5 ms of processor time since the monitor first saw it: others may go on, and another thread
 * polls
 *
 * or if it has waited 10 ms for the GIL before a step: then others use it, so nothing is handed off, but another thread
 * polls.  A thread that is runnable and has no processor is not held up by its step, and another would not get one
 * sooner.
 *
 * The monitor sleeps while no step runs inline and none holds output back.  The thread that begins that calls
 * fm_sched_watch, which sets the timer that wakes the monitor when the step may be late, and not before; most steps are
 * over by then. While steps follow one another, the leader puts the timer off (may_postpone), unless output is held
 * back: so the monitor sleeps while all goes well. The monitor sets monitor_asleep first and then looks once more; a
 * thread that gives it something to watch does so first and then reads monitor_asleep: one of the two sees the other
 * (both sequentially consistent). */
#ifndef FERMATA_SCHED_MONITOR_H
#define FERMATA_SCHED_MONITOR_H

#include <stdint.h>

#include "fermata/sched/sched.h"

struct fm_monitor {
    struct fm_sched *sched;
    struct fm_thread *thread; /* the leader that was seen inline last, or NULL */
    uint64_t since;           /* its inline_since then */
    uint64_t seen;            /* when that was first seen */
    uint64_t first_used;      /* processor time of the thread then */
    uint64_t looked;          /* when it was last seen */
    uint64_t used;            /* processor time then */
    uint64_t fast_until;      /* steps are late sooner */
};

void fm_monitor_init(struct fm_monitor *m, struct fm_sched *c);

/* One look.  Returns how long to sleep before the next one in nanoseconds, unless sched->monitor_fd becomes readable
 * before; UINT64_MAX: nothing has happened since the last look, so there is no need for another until it does.  Always
 * called by the same thread; takes leaf locks only, never the GIL. */
uint64_t fm_monitor_tick(struct fm_monitor *m) FM_NO_GIL;

/* Empties sched->monitor_fd. */
void fm_monitor_woken(struct fm_monitor *m);

#endif

/* The monitor: a thread that looks whether the lookout is held up, and sends what steps hold back too long.
 *
 * It ticks (FM_TICK apart, faster after a stall) only while the lookout runs steps or output is held back, and for a
 * short while after; otherwise it sleeps until fm_crew_watch wakes it.  It sets monitor_asleep first and then looks
 * once more; whoever gives it something to watch does so first and then reads monitor_asleep: one of the two sees the
 * other (both sequentially consistent). */
#ifndef FERMATA_SCHED_MONITOR_H
#define FERMATA_SCHED_MONITOR_H

#include <stdint.h>

#include "fermata/sched/crew.h"

struct fm_monitor {
    struct fm_crew *crew;
    uint64_t seen;        /* the beat at the last tick */
    uint64_t beat;        /* the beat at which the lookout may be stuck */
    uint64_t stuck_since; /* when that beat was first seen with the lookout inline; 0: it was not */
    unsigned calm;        /* ticks without anything to watch */
    unsigned fast;        /* ticks left at the faster pace */
};

void fm_monitor_init(struct fm_monitor *m, struct fm_crew *c);

/* One look.  Returns how long to sleep before the next one in nanoseconds, UINT64_MAX for until crew->monitor_fd is
 * readable.  Always called by the same thread; takes leaf locks only, never the GIL. */
uint64_t fm_monitor_tick(struct fm_monitor *m) FM_NO_GIL;

/* Empties crew->monitor_fd. */
void fm_monitor_woken(struct fm_monitor *m);

#endif

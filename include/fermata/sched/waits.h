/* Do the steps that the leader runs inline spend their time waiting?
 *
 * A step that waits for long is seen by the monitor.  Many that wait for a fifth of a millisecond each are not: none of
 * them is late, all of them together are.  So the leader itself compares the time its steps take with the processor
 * time that it has used meanwhile.  That is free of charge while steps are short: only after one that took 0.1 ms the
 * clock of the thread is read, and then once a millisecond.  Only if little was used is the time looked at that the
 * thread was runnable without a processor, in a second window: what a busy machine takes away is no waiting.
 *
 * What other threads of the scheduler do to the GIL looks like waiting too, so a window counts only if none of them has
 * begun or ended a step in it.
 *
 * Where there is no GIL it pays to run steps side by side whether they wait or compute, if they only last: then all of
 * their time counts but that without a processor. */
#ifndef FERMATA_SCHED_WAITS_H
#define FERMATA_SCHED_WAITS_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/annotate.h"

enum fm_waits_phase { FM_WAITS_OFF, FM_WAITS_CLOCK, FM_WAITS_SURE };

struct fm_waits { /* of one thread, which alone uses it; all zero but for tid at first */
    enum fm_waits_phase phase;
    int tid;
    unsigned others;      /* fm_sched.pool_turns when the window began */
    unsigned steps;       /* in the window */
    unsigned wanted;      /* so many of them kept others waiting that a thread was free for */
    uint64_t began, used; /* since when this part of the window lasts, and the processor time then */
    uint64_t wall, cpu;   /* in the parts before it, which polling has separated */
    uint64_t delayed;     /* where phase is SURE: when the window began */
    uint64_t left;        /* when polling began */
    uint64_t rest_until;  /* no window before that */
    bool expected;        /* the last window was one of waiting: the next begins at once, in phase SURE */
    bool parallel;        /* computing counts as waiting does; set by the thread before fm_waits_enter */
    bool at_once;         /* polling ended without a pause, so there was more to do */
};

/* The leader begins to run steps, at `now`, and goes polling.  others: fm_sched.pool_turns. */
void fm_waits_enter(struct fm_waits *w, uint64_t now, unsigned others) FM_ANY_THREAD;
void fm_waits_leave(struct fm_waits *w, uint64_t now) FM_ANY_THREAD;

/* A step that took so many nanoseconds is over, at `now`.  wanted: it kept others waiting that a thread was free for.
 * others: fm_sched.pool_turns when it began.  True if the steps of a whole window have waited, and so much that it pays
 * to run them side by side; where w->parallel is set, also if they have computed for so long. */
bool fm_waits_step(struct fm_waits *w, uint64_t took, uint64_t now, bool wanted, unsigned others) FM_ANY_THREAD;

#endif

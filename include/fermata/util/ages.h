/* How long the oldest request has been in a state, without a list of them: counts by when each has entered it.
 *
 * Each state has wheels of 64 cells.  A cell of the first wheel stands for an eighth of a second (2^27 ns), one of the
 * next for eight times as much, and so on: a request that enters is added to one cell of each wheel, by the time, and
 * is taken away from the same ones when it leaves.  A wheel tells the cell of the oldest one as long as that has been
 * there for less than a round of it, which the next coarser wheel knows.  So an age is told rounded up by a sixth of
 * itself at most, or by an eighth of a second; after 26 days it begins anew.
 *
 * Where each thread has cells of its own, a request may enter in one thread and leave in another: the sums are right,
 * and a sum below zero, while both are at it, is none. */
#ifndef FERMATA_UTIL_AGES_H
#define FERMATA_UTIL_AGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/annotate.h"

/* X(ID): the states whose requests are counted so.  Of others there are few, or a line in which they wait. */
#define FM_AGES(X)                                                                                                     \
    X(PARKED_FUTURE)                                                                                                   \
    X(PARKED_CLIENT)                                                                                                   \
    X(SENDING)

enum fm_age {
#define X(id) FM_AGE_##id,
    FM_AGES(X)
#undef X
        FM_AGE_COUNT,
};

#define FM_WHEELS 7
#define FM_WHEEL_CELLS 64

struct fm_ages { /* of a thread, or shared by several */
    _Atomic uint32_t cell[FM_AGE_COUNT][FM_WHEELS][FM_WHEEL_CELLS];
    _Atomic uint64_t step_since;   /* of a thread: when its step has begun; 0: it is in none */
    _Atomic uint64_t queued_since; /* of a process, in the shared one: since when the first one waits for a thread; 0 */
};

struct fm_ages_sum {
    uint32_t cell[FM_AGE_COUNT][FM_WHEELS][FM_WHEEL_CELLS];
    uint64_t step_since, queued_since; /* the first; 0: none */
    uint64_t steps, steps_since;       /* how many are under way, and the sum of when they have begun */
};

/* Adds `by` (1, or -1 modulo 2^32) for a request that has entered the state at `since`.  own: the calling thread is the
 * only one that writes to *a. */
static inline void fm_ages_add(struct fm_ages *a, enum fm_age state, uint64_t since, uint32_t by, bool own)
{
    since >>= 27;
    for (unsigned w = 0; w < FM_WHEELS; w++, since >>= 3) {
        _Atomic uint32_t *cell = &a->cell[state][w][since % FM_WHEEL_CELLS];
        if (own)
            atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + by, memory_order_relaxed);
        else
            atomic_fetch_add_explicit(cell, by, memory_order_relaxed);
    }
}

/* Adds what is in *from.  Any thread. */
void fm_ages_sum(struct fm_ages_sum *sum, const struct fm_ages *from);

/* The age of the oldest in the state, in ns: rounded up, see above; 0: there is none.  now: fm_now(), taken after the
 * sum was. */
uint64_t fm_ages_oldest(const struct fm_ages_sum *sum, enum fm_age state, uint64_t now);

#endif

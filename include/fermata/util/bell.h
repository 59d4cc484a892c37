/* A bell: handlers of signals and any thread ring it, one thread waits for it.  One that rings while no thread waits is
 * heard by the next wait, and several rings are one.
 *
 * It is a word in memory that the kernel waits on: a descriptor could be closed by the application, a condition
 * variable is not for handlers of signals, and a semaphore has no timeout by the monotonic clock in musl nor in glibc
 * before 2.30, which wheels are built with. */
#ifndef FERMATA_UTIL_BELL_H
#define FERMATA_UTIL_BELL_H

#include <stdatomic.h>
#include <stdint.h>

#include "fermata/util/annotate.h"

/* All zeros is a bell.  `rung` is written by all, and is sequentially consistent: what was stored before a ring is seen
 * by the thread that hears it. */
struct fm_bell {
    atomic_uint rung;
};

/* Any thread, also in a handler of a signal; errno may change. */
void fm_bell_ring(struct fm_bell *b) FM_ANY_THREAD;

/* Returns when it rings, at `until` (fm_now; UINT64_MAX for never), or when a handler of a signal has run in this
 * thread. It does not say which, and no ring is left when it returns.  One thread at a time, without the GIL or with
 * it. */
void fm_bell_wait(struct fm_bell *b, uint64_t until) FM_ANY_THREAD;

#endif

/* What the kernel says of a thread: the processor time it has had, how long it waited for a processor, and whether it
 * waits for something else.  Any thread asks, about any thread of the process by its kernel id (gettid).
 *
 * Both times grow from the thread's start and are to be compared with an earlier answer.  The clock is a system call;
 * the other two are read from /proc, some microseconds each, so they are asked for only where the clock leaves doubt,
 * and where there is no /proc they are not known. */
#ifndef FERMATA_UTIL_THREAD_TIME_H
#define FERMATA_UTIL_THREAD_TIME_H

#include <stdint.h>

#include "fermata/util/annotate.h"

enum fm_tid_state {
    FM_TID_UNKNOWN,
    FM_TID_RUNNABLE, /* on a processor, or waiting for one */
    FM_TID_BLOCKED,  /* waiting for anything else */
};

/* Nanoseconds on a processor; 0 if that cannot be told. */
uint64_t fm_tid_used(int tid) FM_ANY_THREAD;

/* Nanoseconds runnable without a processor, up to the last time that it was given one; 0 if that cannot be told. */
uint64_t fm_tid_delayed(int tid) FM_ANY_THREAD;

enum fm_tid_state fm_tid_state(int tid) FM_ANY_THREAD;

#endif

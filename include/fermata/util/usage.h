/* What a process uses, as the kernel tells it. */
#ifndef FERMATA_UTIL_USAGE_H
#define FERMATA_UTIL_USAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fermata/util/annotate.h"

struct fm_usage {
    uint64_t cpu;          /* nanoseconds of processor time, in user and kernel */
    uint64_t started;      /* milliseconds since 1970 */
    uint64_t memory, size; /* bytes: resident, and of the address space */
    uint64_t open, most;   /* descriptors, and how many there may be */
};

/* Of the process; 0: the calling one.  False, with all zero: /proc does not tell.  Some 20 us, and before Linux 6.2 a
 * tenth of a microsecond more for each open descriptor.  Any thread. */
bool fm_usage_read(pid_t pid, struct fm_usage *u) FM_ANY_THREAD;

/* Another process of the same service: processor time and memory are sums, descriptors those of the process with the
 * largest part of what it may have open, and the start is that of *u. */
void fm_usage_add(struct fm_usage *u, const struct fm_usage *other);

/* The processor time of children that have ended. */
uint64_t fm_usage_ended(void);

#endif

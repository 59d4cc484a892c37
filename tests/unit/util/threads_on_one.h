/* Two threads for one processor: one of them is kept from it by the other, as on a busy machine. */
#ifndef FERMATA_TESTS_THREADS_ON_ONE_H
#define FERMATA_TESTS_THREADS_ON_ONE_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "threads.h"

struct neighbour {
    pthread_t thread;
    atomic_int tid;
    atomic_bool stop;
};

static inline void *burn(void *arg)
{
    struct neighbour *n = arg;
    atomic_store(&n->tid, (int)syscall(SYS_gettid));
    while (!atomic_load(&n->stop))
        ;
    return NULL;
}

/* Pins the thread `tid` (0: the caller) to one processor, where a neighbour computes from now on. */
static inline void give_neighbour(struct neighbour *n, int tid)
{
    cpu_set_t all, one;
    atomic_store(&n->tid, 0);
    atomic_store(&n->stop, false);
    CHECK(sched_getaffinity(tid, sizeof all, &all) == 0);
    CPU_ZERO(&one);
    for (int cpu = 0; CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    n->thread = spawn(burn, n);
    WAIT_FOR(atomic_load(&n->tid));
    CHECK(sched_setaffinity(atomic_load(&n->tid), sizeof one, &one) == 0);
    CHECK(sched_setaffinity(tid, sizeof one, &one) == 0);
}

static inline void end_neighbour(struct neighbour *n)
{
    atomic_store(&n->stop, true);
    join(n->thread);
}

#endif

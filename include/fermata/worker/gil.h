/* Whether there is a GIL, which what the scheduler does depends on.  In a free-threaded Python it comes and goes:
 * CPython turns it on while it imports a library in C, and off again if that declares that it can do without, or else
 * leaves it on for good. */
#ifndef FERMATA_WORKER_GIL_H
#define FERMATA_WORKER_GIL_H

#include "fermata/util/annotate.h"
#include "fermata/worker/worker.h"

/* When the application is loaded, before the first request. */
void fm_gil_begin(struct fm_worker *w) FM_NEEDS_GIL;

/* Looks, at most ten times a second, and says it where it stays on.  A load where it cannot change. */
void fm_gil_watch_now(struct fm_worker *w) FM_NEEDS_GIL;
static inline void fm_gil_watch(struct fm_worker *w) FM_NEEDS_GIL
{
    if (atomic_load_explicit(&w->gil_may_change, memory_order_relaxed))
        fm_gil_watch_now(w);
}

#endif

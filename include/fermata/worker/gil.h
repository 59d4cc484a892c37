/* Whether there is a GIL: what the scheduler does depends on it, and a library may turn it on at any time. */
#ifndef FERMATA_WORKER_GIL_H
#define FERMATA_WORKER_GIL_H

#include "fermata/util/annotate.h"
#include "fermata/worker/worker.h"

/* When the application is loaded, before the first request. */
void fm_gil_begin(struct fm_worker *w) FM_NEEDS_GIL;

/* Looks, at most ten times a second, and says it once where a library has turned it on.  A load where it is on. */
void fm_gil_watch_now(struct fm_worker *w) FM_NEEDS_GIL;
static inline void fm_gil_watch(struct fm_worker *w) FM_NEEDS_GIL
{
    if (atomic_load_explicit(&w->gil_is_off, memory_order_relaxed))
        fm_gil_watch_now(w);
}

#endif

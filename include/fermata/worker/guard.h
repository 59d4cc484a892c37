/* The guard: a thread that takes signals and keeps the deadline of a process that was told to end.
 *
 * It needs nothing that an application, a disk or a client could hold: neither the loop nor the main thread, neither
 * the GIL nor a descriptor.  The main thread tells it how far the process has come:
 *
 *   STARTING  the application is being loaded: a signal to end interrupts that, and ends the process soon in any case;
 *             ten times a second the guard takes back SIGTERM and SIGINT, for which the import may set handlers
 *   SERVING   it drains (worker/drain.h)
 *   ENDING    the scheduler has stopped; the main thread sets the deadlines */
#ifndef FERMATA_WORKER_GUARD_H
#define FERMATA_WORKER_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/worker/end.h"

/* Starts it, in STARTING.  0 or a negated errno.  Main thread, as all of these. */
int fm_guard_start(struct fm_worker *w);

/* SERVING; drains at once if the process has been told to end meanwhile. */
void fm_guard_serve(void);

/* ENDING: from now on signals mean nothing more, but a second SIGINT.  When the threads have to have left. */
uint64_t fm_guard_end(void);

/* The process exits with `code`, for want of `what`, unless the main thread sets another deadline before. */
void fm_guard_deadline(uint64_t until, enum fm_left what, int code);

/* Ends the thread, if there is one. */
void fm_guard_stop(void);

#endif

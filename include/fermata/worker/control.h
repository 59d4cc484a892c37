/* The worker's end of the control socket (worker/handed.h): what the arbiter says wakes the loop, and that is all it is
 * to do, but that a client of the admin port may come along, which is answered here; and when the arbiter is gone, the
 * worker is told to end.  A worker that nothing watches has none, and each of these does nothing. */
#ifndef FERMATA_WORKER_CONTROL_H
#define FERMATA_WORKER_CONTROL_H

#include "fermata/worker/worker.h"

/* Listens.  A worker that cannot is one that does not answer. */
void fm_control_start(struct fm_worker *w) FM_ON_LOOP;

/* The application has closed the descriptor, and its number is another's now.  False if it was not this one. */
bool fm_control_lost(struct fm_worker *w, int fd) FM_ON_LOOP;

void fm_control_stop(struct fm_worker *w) FM_ON_LOOP;

#endif

/* What ties the parts together: the scheduler's calls to the loop, the GIL and the WSGI layer, the loop's to the
 * scheduler, the logs and the sets of sockets, admin's to all of them, and the handlers of the timeouts. */
#ifndef FERMATA_WORKER_WIRING_H
#define FERMATA_WORKER_WIRING_H

#include "fermata/worker/worker.h"

/* Makes loop, scheduler, service and connections, before any thread starts.  0, or a negated errno after a message. */
int fm_wiring_make(struct fm_worker *w);

/* Where --admin-bind asks for it, a worker's without a socket.  0, or a negative number after a message. */
int fm_wiring_admin(struct fm_worker *w);

/* The body of pool thread number `index` (fm_interp_spawn). */
void fm_wiring_pool_thread(void *worker, unsigned index);

#endif

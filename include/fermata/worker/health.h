/* Whether the threads of a worker get on, judged on the loop, while enough of them are in a step:
 *
 *   exhausted   each thread has been in one step, or has waited for the GIL for one, for --timeout, and requests wait
 *   no GIL      a thread has waited for the GIL for --gil-timeout
 *
 * Then the stacks of all threads go to the log.  With an arbiter it is told, which starts another worker and then tells
 * this one to end; meanwhile this one accepts nothing, so that clients wait for one that answers.  Without one /healthz
 * and /readyz say 503.  When the threads get on again all of that is taken back, but for what the arbiter has decided.
 *
 * Nothing is looked at while fewer threads are in a step than can matter: an idle worker does not wake up. */
#ifndef FERMATA_WORKER_HEALTH_H
#define FERMATA_WORKER_HEALTH_H

#include "fermata/worker/worker.h"

/* Before any thread starts. */
void fm_health_init(struct fm_worker *w);

/* How often it looks, for the loop's timeouts; 0: never. */
uint64_t fm_health_pause(const struct fm_options *o);

/* The scheduler's: enough threads are in a step, or not any more. */
void fm_health_busy(struct fm_worker *w, bool busy) FM_ON_LOOP;

fm_timer_fn fm_health_timeout;

#endif

/* Draining: from the signal to the last connection.
 *
 *   --drain-delay     /readyz says 503 and responses say Connection: close, while accepting goes on: a proxy
 *                     that sends requests here learns that it shall not
 *   then the drain    what has arrived is accepted, no more at a time than ever, read and answered; idle connections
 *                     end; nothing new begins
 *   graceful timeout  what is left is answered 503 or broken off, and has FM_END_LOOP for its last steps
 *
 * A worker that is replaced has --drain-timeout instead of the last, and its responses that are under way end one after
 * another in the last part of it. */
#ifndef FERMATA_WORKER_DRAIN_H
#define FERMATA_WORKER_DRAIN_H

#include <stdint.h>

#include "fermata/util/annotate.h"
#include "fermata/worker/worker.h"

enum fm_drain {
    FM_DRAIN_POLITELY, /* after the delay; asked again: without the rest of it */
    FM_DRAIN_NOW,
    FM_DRAIN_QUICKLY, /* and without waiting for requests: as if the graceful timeout had passed */
};

/* Has the loop do it.  When the process has to have ended (fm_now).  One thread at a time. */
uint64_t fm_drain_ask(struct fm_worker *w, enum fm_drain how) FM_ANY_THREAD;

/* Timers and events, before any thread starts. */
void fm_drain_init(struct fm_worker *w);

/* fm_conns.on_none: the last connection is gone while it drains, which is the end. */
void fm_drain_none(struct fm_conns *conns) FM_ON_LOOP;

fm_timer_fn fm_drain_timeout_delay, fm_drain_timeout_graceful, fm_drain_timeout_last, fm_drain_timeout_spread;

#endif

/* What the service manager is told of the workers (worker/notify.h): ready when the first one is, reloading and ready
 * again, stopping, and in one line how many there are.  One thread. */
#ifndef FERMATA_ARBITER_NOTICES_H
#define FERMATA_ARBITER_NOTICES_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/arbiter/roster.h"

struct fm_notices {
    bool ready, reloading, stopping; /* as was told last */
    unsigned generation;
    char status[120];
    uint64_t ping_at; /* WATCHDOG=1 */
};

/* Tells what has changed.  When it wants to be called at the latest: UINT64_MAX when something changes. */
uint64_t fm_notices_tick(struct fm_notices *n, const struct fm_roster *r, uint64_t now);

#endif

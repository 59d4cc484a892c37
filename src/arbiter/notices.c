/* Notices to the service manager; see arbiter/notices.h. */
#include "fermata/arbiter/notices.h"

#include <stdio.h>
#include <string.h>

#include "fermata/util/clock.h"
#include "fermata/worker/notify.h"

#define RELOAD_TIME (90 * FM_SEC) /* for the next worker of a reload to be ready; what systemd allows by itself */

static void describe(const struct fm_roster *r, bool reloading, char *text, size_t size)
{
    unsigned ready = fm_roster_count(r, FM_WORKER_READY), draining = fm_roster_count(r, FM_WORKER_DRAINING);
    if (r->stopping)
        snprintf(text, size, "Stopping: %u workers have not ended", ready + draining);
    else
        snprintf(text, size, "%u of %u workers are ready%s", ready, r->wanted,
                 reloading                       ? "; reloading"
                 : r->reload == FM_RELOAD_FAILED ? "; the last reload has failed, and the workers of before go on"
                                                 : "");
}

static void tell_changes(struct fm_notices *n, const struct fm_roster *r, bool reloading, uint64_t now)
{
    if (r->stopping && !n->stopping)
        fm_notify_stopping(r->limits.stop);
    else if (r->ever_ready && !n->ready && !r->stopping)
        fm_notify("READY=1");
    else if (reloading && (!n->reloading || r->generation != n->generation))
        fm_notify("RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(now / 1000));
    else if (!reloading && n->reloading && !r->stopping)
        fm_notify("READY=1");
    n->ready = r->ever_ready;
    n->stopping = r->stopping;
    n->reloading = reloading;
    n->generation = r->generation;
}

uint64_t fm_notices_tick(struct fm_notices *n, const struct fm_roster *r, uint64_t now)
{
    char status[sizeof n->status];
    bool reloading = fm_roster_is_reloading(r);
    uint64_t every = fm_notify_watchdog();
    tell_changes(n, r, reloading, now);
    describe(r, reloading, status, sizeof status);
    if (strcmp(status, n->status) != 0) {
        snprintf(n->status, sizeof n->status, "%s", status);
        if (reloading)
            fm_notify("STATUS=%s\nEXTEND_TIMEOUT_USEC=%llu", status, (unsigned long long)(RELOAD_TIME / 1000));
        else
            fm_notify("STATUS=%s", status);
    }
    if (every == 0)
        return UINT64_MAX;
    if (now >= n->ping_at) {
        fm_notify("WATCHDOG=1");
        n->ping_at = now + every;
    }
    return n->ping_at;
}

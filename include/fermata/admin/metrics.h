/* The metrics page in Prometheus text format, version 0.0.4. */
#ifndef FERMATA_ADMIN_METRICS_H
#define FERMATA_ADMIN_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/ages.h"
#include "fermata/util/buf.h"
#include "fermata/util/counter.h"
#include "fermata/util/usage.h"

struct fm_metrics { /* what the page says */
    struct fm_counters_sum sum;
    struct fm_ages_sum ages;
    uint64_t now;        /* fm_now, after the ages were read */
    unsigned busy, idle; /* threads */
    bool ready;
    bool has_usage; /* else nothing is said of the process */
    struct fm_usage usage;
    const char *python; /* its version */
};

/* Figures that are sums of what changes while they are read, and may seem to go back; a counter does not.  What was
 * shown of them last; 0 at first. */
struct fm_metrics_shown {
    uint64_t busy, cpu; /* nanoseconds */
};

/* How long the oldest request has been in each state, in ns, by enum fm_status_state (admin/status.h). */
void fm_metrics_oldest(const struct fm_ages_sum *ages, uint64_t now, uint64_t oldest[5]);

/* Appends how many requests are parked at which places, where that is counted (util/places.h): the 20 with the most,
 * and all the others as one.  Any thread. */
void fm_metrics_places(struct fm_buf *out);

/* Appends the page.  Any thread; *shown is the caller's. */
void fm_metrics_page(struct fm_buf *out, const struct fm_metrics *m, struct fm_metrics_shown *shown);

#endif

/* The metrics page in Prometheus text format, version 0.0.4. */
#ifndef FERMATA_ADMIN_METRICS_H
#define FERMATA_ADMIN_METRICS_H

#include <stdbool.h>

#include "fermata/util/buf.h"

struct fm_counters_sum;

/* Appends the page.  Any thread. */
void fm_metrics_page(struct fm_buf *out, const struct fm_counters_sum *sum, unsigned busy, unsigned idle, bool ready);

#endif

/* Metrics to a statsd, with gunicorn's names and meanings, so that dashboards need not change.
 *
 * A thread that has something to count does so under a leaf lock and goes on; a thread of this file sends what has come
 * together in a tenth of a second, several values a datagram, and may wait for it.  While nothing happens it sleeps. */
#ifndef FERMATA_UTIL_STATSD_H
#define FERMATA_UTIL_STATSD_H

#include <stdint.h>

#include "fermata/util/annotate.h"
#include "fermata/util/dial.h"

struct fm_statsd_config {
    struct fm_dial_to to;
    const char *prefix; /* or NULL; a dot is put behind it */
    const char *tags;   /* of DogStatsD, "name:value,..."; or NULL */
    /* As fm_syslog_config.trouble. */
    void (*trouble)(int err, unsigned long long values);
};

/* HOST, HOST:PORT, unix:PATH or unix://PATH.  NULL, or what it takes. */
const char *fm_statsd_parse_to(struct fm_dial_to *to, const char *text);

/* Text that may stand in a value: visible characters of ASCII, without those that end a part of it. */
const char *fm_statsd_parse_text(const char **to, const char *text);

struct fm_statsd;

/* config is kept. */
struct fm_statsd *fm_statsd_new(const struct fm_statsd_config *config);

/* Starts the thread.  0 or a negated errno. */
int fm_statsd_start(struct fm_statsd *s);

/* A request has been answered with this status, so many ns after it was complete; 0: it has not been. */
void fm_statsd_request(struct fm_statsd *s, unsigned status, uint64_t took) FM_ANY_THREAD;

/* A record of the error log. */
enum fm_statsd_log { FM_STATSD_WARNING, FM_STATSD_ERROR, FM_STATSD_EXCEPTION, FM_STATSD_CRITICAL, FM_STATSD_LOGS };
void fm_statsd_log(struct fm_statsd *s, enum fm_statsd_log what) FM_ANY_THREAD;

/* So many workers there are now. */
void fm_statsd_workers(struct fm_statsd *s, unsigned n) FM_ANY_THREAD;

/* Waits until all is sent; false if it is not by `until` (fm_now). */
bool fm_statsd_flush(struct fm_statsd *s, uint64_t until);

#endif

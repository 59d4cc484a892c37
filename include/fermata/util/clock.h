/* Time: monotonic nanoseconds for everything that is measured, wall time for headers and logs. */
#ifndef FERMATA_UTIL_CLOCK_H
#define FERMATA_UTIL_CLOCK_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define FM_MS 1000000ull
#define FM_SEC 1000000000ull

/* CLOCK_MONOTONIC in nanoseconds.  Any thread. */
static inline uint64_t fm_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * FM_SEC + (uint64_t)ts.tv_nsec;
}

#define FM_HTTP_DATE_LEN 29

/* The IMF-fixdate of now (RFC 9110, 5.6.7), made once a second per thread.  FM_HTTP_DATE_LEN bytes plus NUL, valid
 * until the calling thread calls again.  Any thread. */
const char *fm_http_date(void);

/* "2026-11-21T10:00:00.123Z" (RFC 3339), to the millisecond or some of them; same rules as fm_http_date. */
const char *fm_iso_date(void);

/* "[21/Nov/2026:10:00:00 +0000]"-style time of the access log, without brackets; same rules as fm_http_date. */
const char *fm_clf_date(void);

#endif

/* Dates for headers and logs, made once a second and thread. */
#include "fermata/util/clock.h"

#include <stdio.h>
#include <string.h>

static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

const char *fm_http_date(void)
{
    static __thread time_t made;
    static __thread char text[FM_HTTP_DATE_LEN + 35]; /* room for any int, so that the compiler sees no truncation */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != made) {
        struct tm tm;
        gmtime_r(&now.tv_sec, &tm);
        snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday,
                 months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
        made = now.tv_sec;
    }
    return text;
}

const char *fm_iso_date(void)
{
    static __thread time_t made;
    static __thread char text[80];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != made) {
        struct tm tm;
        gmtime_r(&now.tv_sec, &tm);
        snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.000Z", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                 tm.tm_hour, tm.tm_min, tm.tm_sec);
        made = now.tv_sec;
    }
    size_t end = strlen(text);
    for (long ms = now.tv_nsec / 1000000, i = 2; i < 5; i++, ms /= 10)
        text[end - (size_t)i] = (char)('0' + ms % 10);
    return text;
}

const char *fm_clf_date(void)
{
    static __thread time_t made;
    static __thread char text[80];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != made) {
        struct tm tm;
        localtime_r(&now.tv_sec, &tm);
        int off = (int)(tm.tm_gmtoff / 60);
        snprintf(text, sizeof text, "%02d/%s/%04d:%02d:%02d:%02d %c%02d%02d", tm.tm_mday, months[tm.tm_mon],
                 tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec, off < 0 ? '-' : '+', (off < 0 ? -off : off) / 60,
                 (off < 0 ? -off : off) % 60);
        made = now.tv_sec;
    }
    return text;
}

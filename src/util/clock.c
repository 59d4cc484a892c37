/* Dates for headers and logs, made once a second and thread. */
#include "fermata/util/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

enum { HTTP, ISO, CLF, KINDS };

struct date {
    time_t made;
    char text[80]; /* room for any int, so that the compiler sees no truncation */
};

/* On the heap: an extension module that is loaded into a program has little room for what is a thread's own (the static
 * TLS that the loader keeps for such), and shares it with others. */
static __thread struct date *own;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* For threads that begin when there is no memory; a slot is its thread's from then on. */
#define SPARE 64
static struct date spare[SPARE][KINDS];
static atomic_uint spares_taken;

static bool is_spare(const struct date *dates) { return dates >= spare[0] && dates <= spare[SPARE - 1]; }

static void forget(void *dates)
{
    if (!is_spare(dates))
        free(dates);
    own = NULL;
}

static void make_key(void) { pthread_key_create(&key, forget); }

static struct date *make_own(void)
{
    pthread_once(&once, make_key);
    own = calloc(KINDS, sizeof *own);
    if (!own) {
        unsigned slot = atomic_fetch_add(&spares_taken, 1);
        if (slot >= SPARE)
            abort(); /* fm_die needs a date */
        own = spare[slot];
    }
    pthread_setspecific(key, own);
    return own;
}

static struct date *own_date(int kind) { return (own ? own : make_own()) + kind; }

const char *fm_http_date(void)
{
    struct date *date = own_date(HTTP);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != date->made) {
        struct tm tm;
        gmtime_r(&now.tv_sec, &tm);
        snprintf(date->text, sizeof date->text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday,
                 months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
        date->made = now.tv_sec;
    }
    return date->text;
}

const char *fm_iso_date(void)
{
    struct date *date = own_date(ISO);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != date->made) {
        struct tm tm;
        gmtime_r(&now.tv_sec, &tm);
        snprintf(date->text, sizeof date->text, "%04d-%02d-%02dT%02d:%02d:%02d.000Z", tm.tm_year + 1900, tm.tm_mon + 1,
                 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        date->made = now.tv_sec;
    }
    size_t end = strlen(date->text);
    for (long ms = now.tv_nsec / 1000000, i = 2; i < 5; i++, ms /= 10)
        date->text[end - (size_t)i] = (char)('0' + ms % 10);
    return date->text;
}

const char *fm_clf_date(void)
{
    struct date *date = own_date(CLF);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != date->made) {
        struct tm tm;
        localtime_r(&now.tv_sec, &tm);
        int off = (int)(tm.tm_gmtoff / 60);
        snprintf(date->text, sizeof date->text, "%02d/%s/%04d:%02d:%02d:%02d %c%02d%02d", tm.tm_mday, months[tm.tm_mon],
                 tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec, off < 0 ? '-' : '+', (off < 0 ? -off : off) / 60,
                 (off < 0 ? -off : off) % 60);
        date->made = now.tv_sec;
    }
    return date->text;
}

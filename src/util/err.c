/* Error texts, and allocation that does not come back empty-handed. */
#include "fermata/util/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/util/clock.h"
#include "fermata/util/log.h"

const char *fm_strerror(int err)
{
    switch (err) {
    case FM_OK: return "no error";
    case FM_EAGAIN: return "not ready";
    case FM_EINVAL: return "invalid input";
    case FM_ELIMIT: return "over a limit";
    case FM_ECLOSED: return "connection closed";
    case FM_EBUSY: return "another thread is at it";
    default: return strerror(-err); /* a text of its own for each number that there is, in any libc */
    }
}

void fm_die(const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fm_log(FM_LOG_CRITICAL, "%s", text);
    fm_log_flush(fm_now() + FM_SEC);
    abort();
}

static void *checked(void *p, size_t size)
{
    if (!p)
        fm_die("out of memory (%zu bytes)", size);
    return p;
}

void *fm_malloc(size_t size) { return checked(malloc(size ? size : 1), size); }

void *fm_calloc(size_t n, size_t size) { return checked(calloc(n ? n : 1, size ? size : 1), n * size); }

void *fm_realloc(void *p, size_t size) { return checked(realloc(p, size ? size : 1), size); }

char *fm_strdup(const char *s) { return fm_strndup(s, strlen(s)); }

char *fm_strndup(const char *s, size_t n)
{
    char *copy = fm_malloc(n + 1);
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

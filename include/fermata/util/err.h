/* Error numbers: 0 or a negative fm_err, as in libuv.  System errors are negated errno values, ours lie below. */
#ifndef FERMATA_UTIL_ERR_H
#define FERMATA_UTIL_ERR_H

#include <stddef.h>

enum fm_err {
    FM_OK = 0,
    FM_EAGAIN = -4001,  /* nothing done now, the loop will tell when it makes sense again */
    FM_EINVAL = -4002,  /* the input breaks a rule */
    FM_ELIMIT = -4003,  /* the input is over a limit */
    FM_ECLOSED = -4004, /* the peer is gone, or the connection was ended */
    FM_EBUSY = -4005,   /* another thread is at it, and says when it is done */
};

/* A text for err: one of ours or a negated errno.  Any thread; the text is static. */
const char *fm_strerror(int err);

/* Ends the process with a message: out of memory, or a broken invariant in what is not worth recovering. */
_Noreturn void fm_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Allocation that does not return NULL: small, bounded sizes only.  Free with free(). */
void *fm_malloc(size_t size) __attribute__((malloc, returns_nonnull));
void *fm_calloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *fm_realloc(void *p, size_t size) __attribute__((returns_nonnull));
char *fm_strdup(const char *s) __attribute__((malloc, returns_nonnull));
char *fm_strndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));

#endif

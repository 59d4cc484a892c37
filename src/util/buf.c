/* Growing byte buffer. */
#include "fermata/util/buf.h"

#include <stdio.h>
#include <stdlib.h>

/* Four times this is less than glibc's malloc keeps for each thread, with the 16 bytes that it may add: as 4 * 256 a
 * block of that size costs five times as much whenever it was added to. */
#define SMALLEST 240

char *fm_buf_reserve(struct fm_buf *b, size_t n)
{
    if (b->data && b->cap - b->len >= n)
        return b->data + b->len;
    if (b->data && b->off > 0) { /* what was consumed makes room */
        memmove(b->data, b->data + b->off, b->len - b->off);
        b->len -= b->off;
        b->off = 0;
        if (b->cap - b->len >= n)
            return b->data + b->len;
    }
    size_t cap = b->cap ? b->cap * 2 : SMALLEST;
    while (cap < b->len + n)
        cap *= 2;
    char *data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return NULL;
    }
    b->data = data;
    b->cap = cap;
    return b->data + b->len;
}

void fm_buf_append(struct fm_buf *b, const void *p, size_t n)
{
    char *to = n > 0 ? fm_buf_reserve(b, n) : NULL;
    if (!to)
        return;
    memcpy(to, p, n);
    b->len += n;
}

void fm_buf_puts(struct fm_buf *b, const char *s) { fm_buf_append(b, s, strlen(s)); }

void fm_buf_printf(struct fm_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n <= 0)
        return;
    char *to = fm_buf_reserve(b, (size_t)n + 1);
    if (!to)
        return;
    va_start(ap, fmt);
    vsnprintf(to, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

void fm_buf_consume(struct fm_buf *b, size_t n)
{
    b->off += n;
    if (b->off == b->len)
        fm_buf_clear(b);
}

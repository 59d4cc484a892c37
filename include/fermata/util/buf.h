/* A growing byte buffer: bytes [off, len) of data are live.  Not thread-safe; its owner says who may touch it.
 *
 * Where memory is out, what was to be appended is dropped and `failed` is set: the caller that fills a buffer looks at
 * it once, before the content is used.  Callers bound what they append: limits come first. */
#ifndef FERMATA_UTIL_BUF_H
#define FERMATA_UTIL_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct fm_buf {
    char *data;
    size_t off; /* consumed from the front */
    size_t len; /* end of the live bytes */
    size_t cap;
    bool failed; /* something is missing; until fini or clear */
};

#define FM_BUF_INIT                                                                                                    \
    {                                                                                                                  \
        NULL, 0, 0, 0, false                                                                                           \
    }

static inline size_t fm_buf_size(const struct fm_buf *b) { return b->len - b->off; }
static inline char *fm_buf_head(const struct fm_buf *b) { return b->off ? b->data + b->off : b->data; }

/* Frees the memory; the buffer is empty and usable afterwards. */
static inline void fm_buf_fini(struct fm_buf *b)
{
    if (b->data)
        free(b->data);
    *b = (struct fm_buf)FM_BUF_INIT;
}

/* Makes room for n more bytes and returns where to write them; the caller adds to b->len what it wrote.  NULL: there is
 * no memory, and b->failed is set. */
char *fm_buf_reserve(struct fm_buf *b, size_t n);
void fm_buf_append(struct fm_buf *b, const void *p, size_t n);
void fm_buf_puts(struct fm_buf *b, const char *s);
void fm_buf_printf(struct fm_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Drops n live bytes from the front; n <= fm_buf_size(b). */
void fm_buf_consume(struct fm_buf *b, size_t n);

/* Drops all live bytes and keeps the memory. */
static inline void fm_buf_clear(struct fm_buf *b)
{
    b->off = b->len = 0;
    b->failed = false;
}

#endif

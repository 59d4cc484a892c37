/* Character classes of RFC 9110, as tables: a class is a question asked for every byte of every request. */
#ifndef FERMATA_HTTP_CHARS_H
#define FERMATA_HTTP_CHARS_H

#include <stdbool.h>
#include <stddef.h>

extern const bool fm_char_token[256];          /* tchar (5.6.2) */
extern const bool fm_char_text[256];           /* HTAB, SP, VCHAR, obs-text: everything but control characters */
extern const bool fm_char_target[256];         /* in a target: VCHAR but for '#', obs-text */
extern const unsigned char fm_char_lower[256]; /* ASCII letters in lower case, all else as it is */

/* How many of the first len bytes are tchar. */
static inline size_t fm_token_run(const char *p, size_t len)
{
    size_t n = 0;
    while (n < len && fm_char_token[(unsigned char)p[n]])
        n++;
    return n;
}

/* The first byte in [s, end) that is no text, or end. */
const char *fm_text_end(const char *s, const char *end);

static inline bool fm_char_blank(char c) { return c == ' ' || c == '\t'; }

#endif

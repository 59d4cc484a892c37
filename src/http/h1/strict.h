/* What HTTP/1.x allows in a line, as pure functions over bytes: no state, no allocation, no http-parser.
 *
 * fm_strict_line finds a line and refuses control characters in it; all other functions rely on that and look at the
 * line without its CRLF.  They answer FM_REFUSE_NOTHING or the rule that is broken. */
#ifndef FERMATA_HTTP_H1_STRICT_H
#define FERMATA_HTTP_H1_STRICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/http/refusal.h"
#include "fermata/http/request.h"

/* Looks for the end of a line of which len bytes are there and *seen bytes were looked at before, so that a line which
 * comes byte by byte is read once.  1: whole, *seen is its length without CRLF; 0: no CRLF yet; FM_ELIMIT: longer than
 * limit; FM_EINVAL: a bare LF or CR, or a control character but HTAB, told by *why. */
int fm_strict_line(const char *line, size_t len, size_t limit, size_t *seen, enum fm_refusal *why);

/* A request line (RFC 9112, 3), taken apart; offsets count from its beginning. */
struct fm_request_line {
    struct fm_span method, target, path, query;
    struct fm_span authority; /* of an absolute-form, else len 0 */
    uint8_t minor;
};
enum fm_refusal fm_strict_request_line(const char *line, size_t len, struct fm_request_line *out);

/* A field line of a head or of trailers (5): is its name a token, followed by the colon?  Offsets in *f count from the
 * beginning of the line. */
enum fm_refusal fm_strict_field(const char *line, size_t len, struct fm_field *f);

/* A chunk's first line: its size in hexadecimal, below 2^63, and its extensions (7.1, 7.1.1). */
enum fm_refusal fm_strict_chunk(const char *line, size_t len, uint64_t *size);

/* The digits of a Content-Length; false if there is anything else or the number is 2^63 or more. */
bool fm_strict_length(const char *p, size_t len, int64_t *length);

/* Items of a comma-separated list (RFC 9110, 5.6.1), without the white space around them; empty ones too. */
struct fm_items {
    const char *next, *end; /* next is NULL when there are no more */
    const char *item;
    size_t len;
};
static inline struct fm_items fm_items_of(const char *p, size_t len) { return (struct fm_items){p, p + len, NULL, 0}; }
bool fm_items_next(struct fm_items *it);

#endif

/* Responses in HTTP/1.x; see http/h1/framer.h. */
#include "fermata/http/h1/framer.h"

#include <stdio.h>
#include <string.h>

#include "fermata/util/clock.h"
#include "fermata/util/text.h"

/* ---- the head ---- */

/* How the end of the body is told (RFC 9112, 6.3), and whether the connection goes on after it.  The length that the
 * head says if the application has said none, or -1. */
static int64_t decide(struct fm_framer *f, struct fm_response *r, int64_t total)
{
    f->framing = FM_FRAME_NONE;
    f->keep = f->keep && !r->close;
    if (r->status == 205) { /* it has to be said here (RFC 9110, 15.3.6) */
        r->length = -1;
        return 0;
    }
    if (!fm_status_has_body(r->status))
        return -1;
    if (f->is_head)
        return total > 0 ? total : -1; /* nothing yielded for HEAD says nothing about GET */
    if (r->length >= 0 || total >= 0) {
        f->framing = FM_FRAME_LENGTH;
        return total;
    }
    if (f->minor >= 1) {
        f->framing = FM_FRAME_BLOCKS;
    } else {
        f->framing = FM_FRAME_CLOSE;
        f->keep = false;
    }
    return -1;
}

#define VERSION "HTTP/1.1 " /* of ours, whatever the client's is (RFC 9110, 6.2) */
#define VERSION_LEN (sizeof VERSION - 1)
_Static_assert(FM_RESPONSE_FRONT >= VERSION_LEN, "there is no place in front of the status");

/* Makes a status line of the status. */
static void put_version(struct fm_buf *b)
{
    if (b->off < VERSION_LEN) { /* the place in front was used up when the buffer had to grow */
        if (!fm_buf_reserve(b, VERSION_LEN))
            return;
        memmove(fm_buf_head(b) + VERSION_LEN, fm_buf_head(b), fm_buf_size(b));
        b->len += VERSION_LEN;
    } else {
        b->off -= VERSION_LEN;
    }
    memcpy(fm_buf_head(b), VERSION, VERSION_LEN);
}

#define PUT(to, literal) ((char *)memcpy((to), (literal), sizeof(literal) - 1) + sizeof(literal) - 1)

/* What only HTTP/1.x says, and the empty line. */
static void put_own_fields(const struct fm_framer *f, struct fm_buf *b)
{
    if (b->failed)
        return;
    char *begin = b->data + b->len, *to = begin; /* FM_RESPONSE_BACK is more than all of this together */
    if (f->framing == FM_FRAME_BLOCKS)
        to = PUT(to, "Transfer-Encoding: chunked\r\n");
    if (!f->keep)
        to = PUT(to, "Connection: close\r\n");
    else if (f->minor == 0)
        to = PUT(to, "Connection: keep-alive\r\n");
    to = PUT(to, "\r\n");
    b->len += (size_t)(to - begin);
}

static void head(struct fm_framer *f, struct fm_response *r, int64_t total, struct fm_buf *out)
{
    fm_response_complete(r, decide(f, r, total));
    put_own_fields(f, &r->lines);
    put_version(&r->lines);
    *out = r->lines;
    r->lines = (struct fm_buf)FM_BUF_INIT;
}

/* ---- chunks (RFC 9112, 7.1) ---- */

static void before_block(const struct fm_framer *f, uint64_t n, struct fm_buf *out)
{
    char text[18], *p = text + sizeof text;
    (void)f;
    *--p = '\n';
    *--p = '\r';
    do
        *--p = FM_HEX_DIGITS[n & 15];
    while ((n >>= 4) > 0);
    fm_buf_append(out, p, (size_t)(text + sizeof text - p));
}

static struct iovec after_block(const struct fm_framer *f)
{
    (void)f;
    return (struct iovec){(void *)(uintptr_t) "\r\n", 2};
}

static void end(const struct fm_framer *f, struct fm_buf *out)
{
    (void)f;
    fm_buf_append(out, "0\r\n\r\n", 5);
}

const struct fm_framer_ops fm_h1_framer = {head, before_block, after_block, end};

/* ---- answers of the server itself ---- */

size_t fm_h1_plain(char text[FM_H1_PLAIN_SIZE], int status, bool is_head)
{
    const char *reason = fm_status_reason(status);
    int n =
        snprintf(text, FM_H1_PLAIN_SIZE,
                 VERSION "%d %s\r\n" FM_SERVER_FIELD "Date: %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
                         "%sConnection: close\r\n\r\n%s%s",
                 status, reason, fm_http_date(), strlen(reason) + 1, status == 503 ? "Retry-After: 1\r\n" : "",
                 is_head ? "" : reason, is_head ? "" : "\n");
    return n > 0 && n < FM_H1_PLAIN_SIZE ? (size_t)n : 0;
}

size_t fm_h1_plain_body(int status, bool is_head) { return is_head ? 0 : strlen(fm_status_reason(status)) + 1; }

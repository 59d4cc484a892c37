/* A request as it arrives, in any pieces.
 *
 * head.c and strict.c read every byte of a head and refuse what is not strictly HTTP; where the request ends is read a
 * second time, by http-parser (framing.h), and the two readings are compared at each step.
 *
 * States follow the framing; each has a function in `steps` that takes bytes from the input and either wants more or
 * moves on:
 *
 *   HEAD -> DONE                                      no body
 *        -> LENGTH -> DONE                            Content-Length
 *        -> CHUNK_LINE -> CHUNK_DATA -> CHUNK_END     chunked; the last chunk leads to TRAILER -> DONE
 *             ^---------------------------'
 *   any  -> REFUSED                                   for good */
#include "fermata/http/h1/parser.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../chars.h"
#include "fermata/http/quota.h"
#include "fermata/http/headers.h"
#include "fermata/util/buf.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "framing.h"
#include "head.h"

#define CHUNK_LINE_MAX 256 /* a chunk's size and extensions without CRLF; AWS's signatures take 90 */
#define CHUNK_LINE_USUAL 8 /* what is longer counts as overhead, which may be as much as the body and this: */
#define CHUNK_OVERHEAD 4096
#define EMPTY_LINES 8 /* before a request line */
#define SLICE 4096    /* how much is buffered at a time while a head comes in parts */
#define DESCRIBE_MAX 256

enum state { HEAD, LENGTH, CHUNK_LINE, CHUNK_DATA, CHUNK_END, TRAILER, DONE, REFUSED };

struct fm_parser {
    const struct fm_http_limits *limits;
    struct fm_request *request; /* once its head is whole */
    struct fm_request *spare;   /* a used one, whose memory the next may take */
    const struct fm_http_error *error;
    struct fm_buf buf; /* a head in parts, then a chunk line or trailer in parts; empty if it came in one piece */
    struct fm_head_scan scan;
    size_t charged;      /* bytes of buf that are in the quota */
    uint64_t overhead;   /* of chunk lines */
    uint64_t left;       /* body bytes to come, of the whole body or of the chunk */
    size_t seen;         /* bytes of a chunk line or trailer in buf that were looked at */
    uint32_t trailers;   /* trailer lines so far */
    uint8_t empty_lines; /* bytes of empty lines before the request line, two each */
    uint8_t state;       /* enum state */
    bool reported;       /* FM_PARSE_HEAD was */
    enum fm_refusal why; /* what it is refused for */
    struct fm_framing framing;
    struct fm_good_host host;
};

struct input {
    const char *s, *end;
};

static inline size_t input_len(const struct input *in) { return (size_t)(in->end - in->s); }

static enum fm_parse refuse(struct fm_parser *p, enum fm_refusal why)
{
    if (why == FM_REFUSE_NO_MEMORY)
        fm_error_ratelimited("request: %s; it is refused", fm_strerror(-ENOMEM));
    p->state = REFUSED;
    p->error = fm_refusal_error(why);
    return FM_PARSE_ERROR;
}

static int result(const struct fm_parser *p) { return p->why == FM_REFUSE_NOTHING ? 0 : FM_EINVAL; }

/* Shows the other reader what we have read: 0, or FM_EINVAL with p->why. */
static int compare(struct fm_parser *p, const char *data, size_t len, size_t body, bool last)
{
    p->framing.chunk = p->left;
    p->why = fm_framing_read(&p->framing, data, len, body, last);
    return result(p);
}

/* ---- the head ---- */

static void drop_buf(struct fm_parser *p)
{
    fm_quota_move(FM_QUOTA_HEADS, p->charged, 0);
    p->charged = 0;
    fm_buf_fini(&p->buf);
}

/* Keeps a part of a head.  False if there is no memory for it. */
static bool keep(struct fm_parser *p, const char *data, size_t n)
{
    fm_buf_append(&p->buf, data, n);
    if (p->buf.failed || !fm_quota_move(FM_QUOTA_HEADS, p->charged, p->buf.cap))
        return false;
    p->charged = p->buf.cap;
    return true;
}

/* A whole head: makes the request of it. */
static enum fm_parse begin_request(struct fm_parser *p, const char *head, size_t len)
{
    struct fm_request *r = p->request = fm_request_new(p->spare, head, (uint32_t)len, p->scan.fields, p->scan.nfields);
    p->spare = NULL;
    drop_buf(p); /* head may have been in there */
    if (!r)
        return refuse(p, FM_REFUSE_NO_MEMORY);
    p->why = fm_head_judge(r, &p->scan.line, p->limits, &p->host);
    bool framed = r->chunked || r->content_length >= 0; /* else it has no body (RFC 9112, 6.3) */
    if (!p->why && framed)
        p->why = fm_framing_head(&p->framing, r);
    if (p->why)
        return refuse(p, p->why);
    p->left = r->content_length > 0 ? (uint64_t)r->content_length : 0;
    p->state = r->chunked ? CHUNK_LINE : p->left > 0 ? LENGTH : DONE;
    p->reported = true;
    return FM_PARSE_HEAD;
}

/* RFC 9112, 2.2: at least one empty line before the request line is skipped.  False: refused by p->why. */
static bool skip_empty_lines(struct fm_parser *p, struct input *in)
{
    for (; in->s < in->end && (*in->s == '\r' || *in->s == '\n' || p->empty_lines % 2 == 1); in->s++) {
        bool lf = *in->s == '\n', within = p->empty_lines % 2 == 1;
        if (lf != within)
            p->why = lf ? FM_REFUSE_BARE_LF : FM_REFUSE_BARE_CR;
        else if (p->empty_lines == 2 * EMPTY_LINES)
            p->why = FM_REFUSE_EMPTY_LINES;
        if (p->why)
            return false;
        p->empty_lines++;
    }
    return true;
}

/* A head that comes in parts: buffered, slice by slice so that what follows the head is not copied. */
static enum fm_parse resume_head(struct fm_parser *p, struct input *in)
{
    while (in->s < in->end) {
        size_t had = fm_buf_size(&p->buf), n = input_len(in) < SLICE ? input_len(in) : SLICE;
        if (!keep(p, in->s, n))
            return refuse(p, FM_REFUSE_NO_MEMORY);
        int rc = fm_head_scan(&p->scan, p->limits, fm_buf_head(&p->buf), had + n, &p->why);
        if (rc < 0)
            return refuse(p, p->why);
        in->s += rc > 0 ? p->scan.start - had : n;
        if (rc > 0)
            return begin_request(p, fm_buf_head(&p->buf), p->scan.start);
    }
    return FM_PARSE_MORE;
}

static enum fm_parse step_head(struct fm_parser *p, struct input *in)
{
    if (fm_buf_size(&p->buf) > 0)
        return resume_head(p, in);
    if (!skip_empty_lines(p, in))
        return refuse(p, p->why);
    size_t len = input_len(in);
    int rc = fm_head_scan(&p->scan, p->limits, in->s, len, &p->why);
    if (rc > 0) {
        const char *head = in->s;
        in->s += p->scan.start;
        return begin_request(p, head, p->scan.start);
    }
    bool kept = keep(p, in->s, rc < 0 && len > DESCRIBE_MAX ? DESCRIBE_MAX : len); /* fm_parser_describe reads it */
    in->s = in->end;
    if (rc == 0 && !kept)
        return refuse(p, FM_REFUSE_NO_MEMORY);
    return rc < 0 ? refuse(p, p->why) : FM_PARSE_MORE;
}

/* ---- the body ---- */

static enum fm_parse finish(struct fm_parser *p)
{
    p->state = DONE;
    int err = fm_body_end(&p->request->body);
    return err == 0 || err == FM_EBUSY ? FM_PARSE_DONE : refuse(p, fm_framing_not_stored(err));
}

/* Takes body bytes, up to p->left; `last` if the request ends with the last of them. */
static int read_body(struct fm_parser *p, struct input *in, bool last)
{
    size_t n = input_len(in) < p->left ? input_len(in) : (size_t)p->left;
    const char *s = in->s;
    in->s += n;
    p->left -= n;
    return n > 0 ? compare(p, s, n, n, last && p->left == 0) : 0;
}

#define BUFFER_MIN 16384        /* less is not worth a copy saved */
#define BUFFER_MAX (256 * 1024) /* so that one connection does not hold up the rest */

char *fm_parser_buffer(struct fm_parser *p, size_t *len)
{
    struct fm_body *b = p->state == LENGTH ? &p->request->body : NULL;
    if (!b || !b->data || b->cap - b->size < BUFFER_MIN || p->left < BUFFER_MIN)
        return NULL;
    size_t left = b->cap - b->size < p->left ? (size_t)(b->cap - b->size) : (size_t)p->left;
    *len = left < BUFFER_MAX ? left : BUFFER_MAX;
    return b->data + b->size;
}

static enum fm_parse step_length(struct fm_parser *p, struct input *in)
{
    if (in->s < in->end)
        fm_body_expect(&p->request->body, p->left);
    if (read_body(p, in, true) < 0)
        return refuse(p, p->why);
    return p->left > 0 ? FM_PARSE_MORE : finish(p);
}

/* Takes a line with its CRLF, which lies at *line until the next call; *len is without CRLF.  Results as of
 * fm_strict_line. */
static int read_line(struct fm_parser *p, struct input *in, size_t limit, const char **line, size_t *len)
{
    size_t had = fm_buf_size(&p->buf), n = input_len(in);
    *line = in->s;
    if (had > 0) {
        n = n < limit + 2 - had ? n : limit + 2 - had;
        fm_buf_append(&p->buf, in->s, n);
        *line = fm_buf_head(&p->buf);
    }
    int rc = p->buf.failed ? 0 : fm_strict_line(*line, had + n, limit, &p->seen, &p->why);
    if (rc < 0)
        return rc;
    if (rc == 0) {
        if (had == 0)
            fm_buf_append(&p->buf, in->s, n);
        in->s += n;
        if (p->buf.failed)
            p->why = FM_REFUSE_NO_MEMORY;
        return result(p);
    }
    *len = p->seen;
    p->seen = 0;
    in->s += *len + 2 - had;
    fm_buf_clear(&p->buf); /* *line stays where it is until something is appended */
    return 1;
}

static enum fm_parse step_chunk_line(struct fm_parser *p, struct input *in)
{
    const char *line;
    size_t len;
    int rc = read_line(p, in, CHUNK_LINE_MAX, &line, &len);
    if (rc <= 0)
        return rc == 0 ? FM_PARSE_MORE : refuse(p, rc == FM_ELIMIT ? FM_REFUSE_CHUNK_LINE_TOO_LONG : p->why);
    enum fm_refusal why = fm_strict_chunk(line, len, &p->left);
    if (why)
        return refuse(p, why);
    p->overhead += len > CHUNK_LINE_USUAL ? len - CHUNK_LINE_USUAL : 0;
    if (p->overhead > p->request->body.size + CHUNK_OVERHEAD)
        return refuse(p, FM_REFUSE_CHUNK_LINE_TOO_LONG);
    if (p->left > p->limits->body - p->request->body.size)
        return refuse(p, FM_REFUSE_BODY_TOO_LARGE);
    if (compare(p, line, len + 2, 0, false) < 0)
        return refuse(p, p->why);
    p->state = p->left > 0 ? CHUNK_DATA : TRAILER;
    return FM_PARSE_MORE;
}

static enum fm_parse step_chunk_data(struct fm_parser *p, struct input *in)
{
    if (read_body(p, in, false) < 0)
        return refuse(p, p->why);
    if (p->left == 0)
        p->state = CHUNK_END;
    return FM_PARSE_MORE;
}

/* The CRLF after a chunk's data. */
static enum fm_parse step_chunk_end(struct fm_parser *p, struct input *in)
{
    const char *line;
    size_t len;
    int rc = read_line(p, in, 0, &line, &len);
    if (rc == 0)
        return FM_PARSE_MORE;
    if (rc < 0)
        return refuse(p, rc == FM_ELIMIT ? FM_REFUSE_BAD_CHUNK : p->why);
    if (compare(p, line, 2, 0, false) < 0)
        return refuse(p, p->why);
    p->state = CHUNK_LINE;
    return FM_PARSE_MORE;
}

/* RFC 9110, 6.5.1: fields that frame or route a request must not come so late, even if we drop them. */
static enum fm_refusal validate_trailer(const struct fm_parser *p, const char *line, size_t len)
{
    struct fm_field f;
    enum fm_refusal why = fm_strict_field(line, len, &f);
    if (why)
        return why;
    if (p->trailers >= p->limits->fields)
        return FM_REFUSE_TRAILERS_TOO_LARGE;
    bool late = f.id == FM_H_TRANSFER_ENCODING || f.id == FM_H_CONTENT_LENGTH || f.id == FM_H_HOST;
    return late ? FM_REFUSE_BAD_TRAILER : FM_REFUSE_NOTHING;
}

static enum fm_parse step_trailer(struct fm_parser *p, struct input *in)
{
    const char *line;
    size_t len;
    int rc = read_line(p, in, p->limits->field_size, &line, &len);
    if (rc <= 0)
        return rc == 0 ? FM_PARSE_MORE : refuse(p, rc == FM_ELIMIT ? FM_REFUSE_TRAILERS_TOO_LARGE : p->why);
    enum fm_refusal why = len > 0 ? validate_trailer(p, line, len) : FM_REFUSE_NOTHING;
    if (why)
        return refuse(p, why);
    if (compare(p, line, len + 2, 0, len == 0) < 0)
        return refuse(p, p->why);
    p->trailers++;
    return len > 0 ? FM_PARSE_MORE : finish(p);
}

static enum fm_parse step_done(struct fm_parser *p, struct input *in)
{
    (void)p, (void)in;
    return FM_PARSE_DONE;
}

static enum fm_parse step_refused(struct fm_parser *p, struct input *in)
{
    (void)p, (void)in;
    return FM_PARSE_ERROR;
}

static enum fm_parse (*const steps[])(struct fm_parser *p, struct input *in) = {
    [HEAD] = step_head,
    [LENGTH] = step_length,
    [CHUNK_LINE] = step_chunk_line,
    [CHUNK_DATA] = step_chunk_data,
    [CHUNK_END] = step_chunk_end,
    [TRAILER] = step_trailer,
    [DONE] = step_done,
    [REFUSED] = step_refused,
};

enum fm_parse fm_parser_feed(struct fm_parser *p, const char *data, size_t len, size_t *used)
{
    const char *begin = len > 0 ? data : "";
    struct input in = {begin, begin + len};
    enum fm_parse got;
    do
        got = steps[p->state](p, &in);
    while (got == FM_PARSE_MORE && in.s < in.end);
    *used = (size_t)(in.s - begin);
    return got;
}

/* ---- life ---- */

/* Ready for the next request: of the last one only memory is kept. */
static void reset(struct fm_parser *p)
{
    drop_buf(p);
    fm_head_scan_reset(&p->scan);
    p->request = NULL;
    p->overhead = p->left = 0;
    p->seen = 0;
    p->trailers = 0;
    p->empty_lines = 0;
    p->state = HEAD;
    p->reported = false;
    p->framing.request = NULL;
    p->framing.head = p->framing.done = false;
    p->framing.fields = p->framing.shown = 0;
    p->framing.why = FM_REFUSE_NOTHING;
    p->why = FM_REFUSE_NOTHING;
}

struct fm_parser *fm_parser_new(const struct fm_http_limits *limits)
{
    fm_framing_init();
    struct fm_parser *p = calloc(1, sizeof *p);
    if (p)
        p->limits = limits;
    return p;
}

void fm_parser_free(struct fm_parser *p)
{
    if (!p)
        return;
    fm_request_free(p->request);
    fm_request_free(p->spare);
    fm_head_scan_fini(&p->scan);
    drop_buf(p);
    free(p);
}

int fm_parser_started(const struct fm_parser *p) { return p->request || fm_buf_size(&p->buf) > 0; }

struct fm_request *fm_parser_request(const struct fm_parser *p) { return p->reported ? p->request : NULL; }

struct fm_spool *fm_parser_spool(const struct fm_parser *p) { return p->request ? p->request->body.spool : NULL; }

enum fm_parse fm_parser_stored(struct fm_parser *p)
{
    if (p->state == REFUSED)
        return FM_PARSE_ERROR;
    if (p->state == DONE)
        finish(p);
    return p->state == REFUSED                       ? FM_PARSE_ERROR
           : p->state == DONE && !fm_parser_spool(p) ? FM_PARSE_DONE
                                                     : FM_PARSE_MORE;
}

struct fm_request *fm_parser_take(struct fm_parser *p)
{
    if (p->state != DONE || p->request->body.spool)
        return NULL;
    struct fm_request *r = p->request;
    reset(p);
    return r;
}

void fm_parser_give_back(struct fm_parser *p, struct fm_request *r)
{
    fm_request_free(p->spare);
    p->spare = fm_request_spare(r);
}

const struct fm_http_error *fm_parser_error(const struct fm_parser *p) { return p->error; }

void fm_parser_drop_body(struct fm_parser *p)
{
    p->state = REFUSED;
    if (p->request)
        fm_body_fini(&p->request->body);
}

bool fm_parser_is_head(const struct fm_parser *p)
{
    const struct fm_request *r = p->request;
    size_t len = r ? r->head_len : fm_buf_size(&p->buf);
    return len >= 5 && memcmp(r ? r->head : fm_buf_head(&p->buf), "HEAD ", 5) == 0;
}

const char *fm_parser_line(const struct fm_parser *p, size_t *len)
{
    const char *text = p->request ? p->request->head : fm_buf_size(&p->buf) > 0 ? fm_buf_head(&p->buf) : "";
    size_t n = p->request ? p->request->head_len : fm_buf_size(&p->buf), end = 0;
    while (end < n && end < DESCRIBE_MAX && text[end] != '\r' && text[end] != '\n')
        end++;
    *len = end;
    return text;
}

/* Method and target up to its query: a query may hold secrets, and error logs have other readers than access logs. */
void fm_parser_describe(const struct fm_parser *p, char *buf, size_t size)
{
    size_t len, n = 0;
    const char *text = fm_parser_line(p, &len);
    unsigned spaces = 0;
    for (; n < len && n + 1 < size; n++) {
        spaces += text[n] == ' ';
        if (text[n] == '?' || text[n] == '#' || spaces == 2)
            break;
        buf[n] = text[n];
    }
    if (size > 0)
        buf[n] = '\0';
}

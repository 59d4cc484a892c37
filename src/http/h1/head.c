/* A request head as a whole.
 *
 * fm_head_scan reads lines until the empty one, remembering where it stopped.  fm_head_judge comes when all fields are
 * in the table: every field that frames, routes or gates the request has a rule, found by its id; the rules gather in
 * struct validation what only the sum of all fields decides. */
#include "head.h"

#include <stdlib.h>
#include <string.h>

#include "fermata/http/headers.h"
#include "fermata/http/host.h"
#include "fermata/util/err.h"

/* The field table has 16 bits for a name and for the count, and 32 for offsets: the limits never exceed that. */
#define FIELDS_MAX UINT16_MAX
#define HEAD_MAX (UINT32_MAX / 2)
#define FIELDS_FIRST 16

void fm_head_scan_reset(struct fm_head_scan *scan)
{
    if (scan->cap > FIELDS_FIRST)
        fm_head_scan_fini(scan);
    scan->start = scan->seen = 0;
    scan->nfields = scan->lines = 0;
}

void fm_head_scan_fini(struct fm_head_scan *scan)
{
    free(scan->fields);
    scan->fields = NULL;
    scan->nfields = scan->cap = 0;
}

static enum fm_refusal add_field(struct fm_head_scan *scan, const struct fm_http_limits *limits, const char *line,
                                 size_t len)
{
    if (scan->lines >= limits->fields || scan->lines >= FIELDS_MAX)
        return FM_REFUSE_TOO_MANY_FIELDS;
    scan->lines++;
    if (scan->nfields == scan->cap) {
        unsigned cap = scan->cap ? scan->cap * 2u : FIELDS_FIRST;
        cap = cap < FIELDS_MAX ? cap : FIELDS_MAX;
        struct fm_field *fields = realloc(scan->fields, cap * sizeof *fields);
        if (!fields)
            return FM_REFUSE_NO_MEMORY;
        scan->fields = fields;
        scan->cap = (uint16_t)cap;
    }
    struct fm_field *f = &scan->fields[scan->nfields];
    enum fm_refusal why = fm_strict_field(line, len, f);
    if (why)
        return why;
    f->name_off = (uint32_t)scan->start;
    f->value_off += (uint32_t)scan->start;
    if (f->id != FM_H_OTHER || !memchr(line, '_', f->name_len))
        scan->nfields++;
    return FM_REFUSE_NOTHING;
}

int fm_head_scan(struct fm_head_scan *scan, const struct fm_http_limits *limits, const char *head, size_t len,
                 enum fm_refusal *why)
{
    for (;;) {
        bool first = scan->start == 0;
        const char *line = head + scan->start;
        int rc = fm_strict_line(line, len - scan->start, first ? limits->request_line : limits->field_size, &scan->seen,
                                why);
        size_t n = scan->seen;
        if (rc == FM_ELIMIT || scan->start + n > HEAD_MAX) {
            *why = first ? FM_REFUSE_REQUEST_LINE_TOO_LONG : FM_REFUSE_FIELD_TOO_LONG;
            return FM_EINVAL;
        }
        if (rc <= 0)
            return rc;
        *why = first   ? fm_strict_request_line(line, n, &scan->line)
               : n > 0 ? add_field(scan, limits, line, n)
                       : FM_REFUSE_NOTHING;
        if (*why)
            return FM_EINVAL;
        scan->start += n + 2;
        scan->seen = 0;
        if (n == 0 && !first)
            return 1;
    }
}

/* ---- what the fields mean ---- */

struct validation {
    struct fm_request *r;
    struct fm_good_host *good;
    unsigned hosts, lengths, codings;
    unsigned ncodings, chunked; /* items of all Transfer-Encoding fields, and how many of them are "chunked" */
    bool chunked_last;
    bool close, keep_alive; /* options of Connection */
};

static enum fm_refusal validate_host(struct validation *v, const char *value, const struct fm_field *f)
{
    if (v->hosts++)
        return FM_REFUSE_HOST_REPEATED;
    if (v->r->host.len == 0) /* else the target's authority stands there (RFC 9112, 3.2.2) */
        v->r->host = (struct fm_span){f->value_off, f->value_len};
    if (f->value_len == 0 || (f->value_len == v->good->len && memcmp(value, v->good->text, v->good->len) == 0))
        return FM_REFUSE_NOTHING;
    if (!fm_is_host(value, f->value_len))
        return FM_REFUSE_BAD_HOST;
    if (f->value_len <= sizeof v->good->text) {
        v->good->len = (uint8_t)f->value_len;
        memcpy(v->good->text, value, f->value_len);
    }
    return FM_REFUSE_NOTHING;
}

static enum fm_refusal validate_length(struct validation *v, const char *value, const struct fm_field *f)
{
    if (v->lengths++)
        return FM_REFUSE_LENGTH_REPEATED;
    return fm_strict_length(value, f->value_len, &v->r->content_length) ? FM_REFUSE_NOTHING
                                                                        : FM_REFUSE_BAD_CONTENT_LENGTH;
}

/* Several fields mean the same as one with their lists in a row (RFC 9110, 5.3): validate_together looks at the whole.
 */
static enum fm_refusal validate_coding(struct validation *v, const char *value, const struct fm_field *f)
{
    v->codings++;
    for (struct fm_items it = fm_items_of(value, f->value_len); fm_items_next(&it); v->ncodings++) {
        if (!fm_is_token(it.item, it.len))
            return FM_REFUSE_BAD_CODING;
        v->chunked_last = fm_ascii_ieq(it.item, it.len, "chunked", 7);
        v->chunked += v->chunked_last;
    }
    v->r->chunked = true;
    return FM_REFUSE_NOTHING;
}

/* RFC 9112, 6.1: chunked once, and last. */
static bool are_codings_good(const struct validation *v)
{
    return v->codings == 0 || (v->chunked_last && v->chunked == 1);
}

static enum fm_refusal validate_connection(struct validation *v, const char *value, const struct fm_field *f)
{
    for (struct fm_items it = fm_items_of(value, f->value_len); fm_items_next(&it);) {
        v->close |= fm_ascii_ieq(it.item, it.len, "close", 5);
        v->keep_alive |= fm_ascii_ieq(it.item, it.len, "keep-alive", 10);
    }
    return FM_REFUSE_NOTHING;
}

/* RFC 9110, 10.1.1: HTTP/1.0 knows no expectations. */
static enum fm_refusal validate_expect(struct validation *v, const char *value, const struct fm_field *f)
{
    if (v->r->minor == 0)
        return FM_REFUSE_NOTHING;
    v->r->expect_continue = fm_ascii_ieq(value, f->value_len, "100-continue", 12);
    return v->r->expect_continue ? FM_REFUSE_NOTHING : FM_REFUSE_EXPECTATION;
}

/* What proxies say is looked at where it is there (http/forwarded.h). */
static enum fm_refusal note_proxy(struct validation *v, const char *value, const struct fm_field *f)
{
    (void)value, (void)f;
    v->r->from_proxy = true;
    return FM_REFUSE_NOTHING;
}

/* It is read where ids are wanted (http/request_id.h). */
static enum fm_refusal note_id(struct validation *v, const char *value, const struct fm_field *f)
{
    (void)value, (void)f;
    v->r->sends_id = true;
    return FM_REFUSE_NOTHING;
}

/* It is read when the head is judged (http/traceparent.h). */
static enum fm_refusal note_trace(struct validation *v, const char *value, const struct fm_field *f)
{
    (void)value, (void)f;
    v->r->sends_trace = true;
    return FM_REFUSE_NOTHING;
}

typedef enum fm_refusal rule(struct validation *v, const char *value, const struct fm_field *f);

static rule *const rules[FM_H_OTHER + 1] = {
    [FM_H_HOST] = validate_host,
    [FM_H_CONTENT_LENGTH] = validate_length,
    [FM_H_TRANSFER_ENCODING] = validate_coding,
    [FM_H_CONNECTION] = validate_connection,
    [FM_H_EXPECT] = validate_expect,
    [FM_H_FORWARDED] = note_proxy,
    [FM_H_X_FORWARDED_FOR] = note_proxy,
    [FM_H_X_FORWARDED_HOST] = note_proxy,
    [FM_H_X_FORWARDED_PORT] = note_proxy,
    [FM_H_X_FORWARDED_PREFIX] = note_proxy,
    [FM_H_X_FORWARDED_PROTO] = note_proxy,
    [FM_H_X_FORWARDED_PROTOCOL] = note_proxy,
    [FM_H_X_FORWARDED_SSL] = note_proxy,
    [FM_H_X_REQUEST_ID] = note_id,
    [FM_H_TRACEPARENT] = note_trace,
};

static enum fm_refusal validate_together(const struct validation *v, const struct fm_http_limits *limits)
{
    const struct fm_request *r = v->r;
    if (!are_codings_good(v))
        return FM_REFUSE_BAD_CODING;
    if (r->minor > 0 && v->hosts == 0)
        return FM_REFUSE_HOST_MISSING;
    if (v->codings > 0 && v->lengths > 0)
        return FM_REFUSE_LENGTH_AND_CODING;
    if (v->codings > 0 && r->minor == 0)
        return FM_REFUSE_CODING_IN_1_0;
    if (v->ncodings > 1) /* well formed, but not ours */
        return FM_REFUSE_CODING_UNKNOWN;
    if (r->content_length > 0 && (uint64_t)r->content_length > limits->body)
        return FM_REFUSE_BODY_TOO_LARGE;
    return FM_REFUSE_NOTHING;
}

enum fm_refusal fm_head_judge(struct fm_request *r, const struct fm_request_line *line,
                              const struct fm_http_limits *limits, struct fm_good_host *good)
{
    struct validation v = {.r = r, .good = good};
    r->method = line->method;
    r->target = line->target;
    r->path = line->path;
    r->query = line->query;
    r->host = line->authority;
    r->minor = line->minor;
    r->is_head = line->method.len == 4 && memcmp(r->head, "HEAD", 4) == 0;
    r->content_length = -1;
    for (unsigned i = 0; i < r->nfields; i++) {
        const struct fm_field *f = &r->fields[i];
        enum fm_refusal why = rules[f->id] ? rules[f->id](&v, r->head + f->value_off, f) : FM_REFUSE_NOTHING;
        if (why)
            return why;
    }
    r->keep_alive = !v.close && (r->minor > 0 || v.keep_alive);
    return validate_together(&v, limits);
}

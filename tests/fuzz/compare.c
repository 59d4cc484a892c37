/* See compare.h. */
#include "compare.h"

#include <stdarg.h>
#include <stdio.h>

#include "fermata/http/headers.h"
#include "fermata/http/traceparent.h"
#include "recogniser.h"

const struct fm_http_limits fuzz_limits = {.request_line = 8190, .fields = 100, .field_size = 8190, .body = 1 << 20};
const struct fm_http_limits fuzz_small_limits = {.request_line = FUZZ_LINE_MAX,
                                                 .fields = 4,
                                                 .field_size = 40,
                                                 .body = 24};

_Noreturn void fuzz_fail(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fputs("fuzz: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}

struct fuzz_stream fuzz_case(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *line;
    if (size < 5 || memcmp(text, "rfc: ", 5) != 0 || !(line = memmem(text, size, "\n---\n", 5)))
        return (struct fuzz_stream){NULL, 0};
    return (struct fuzz_stream){line + 5, size - (size_t)(line + 5 - text)};
}

/* ---- a request, read twice ---- */

static bool same_text(struct rec_text want, const struct fm_request *r, struct fm_span got)
{
    return want.len == got.len && (got.len == 0 || memcmp(want.at, fm_request_text(r, got), got.len) == 0);
}

static void compare_text(const char *what, struct rec_text want, const struct fm_request *r, struct fm_span got)
{
    if (!same_text(want, r, got))
        fuzz_fail("%s is '%.*s', but the grammar says '%.*s'", what, (int)got.len, fm_request_text(r, got),
                  (int)want.len, want.at ? want.at : "");
}

/* Names with an underscore are dropped; they could shadow others in environ. */
static void compare_fields(const struct rec_request *want, const struct fm_request *r)
{
    unsigned n = 0;
    for (size_t i = 0; i < want->nfields; i++) {
        const struct rec_field *f = &want->fields[i];
        if (memchr(f->name.at, '_', f->name.len))
            continue;
        if (n == r->nfields)
            fuzz_fail("a field is missing");
        const struct fm_field *got = &r->fields[n++];
        compare_text("a field's name", f->name, r, (struct fm_span){got->name_off, got->name_len});
        compare_text("a field's value", f->value, r, (struct fm_span){got->value_off, got->value_len});
        if (got->id != fm_header_lookup(f->name.at, f->name.len))
            fuzz_fail("a field is known by another name");
        if (got->id == FM_H_TRACEPARENT &&
            fm_traceparent_is_good(fm_request_text(r, (struct fm_span){got->value_off, 0}), got->value_len) !=
                rec_traceparent(f->value))
            fuzz_fail("traceparent is '%.*s'", (int)f->value.len, f->value.at);
    }
    if (n != r->nfields)
        fuzz_fail("there are more fields than the grammar finds");
}

static void compare_head(const struct rec_request *want, const struct fm_request *r)
{
    static const struct rec_text slash = {"/", 1};
    compare_text("the method", want->method, r, r->method);
    compare_text("the target", want->target, r, r->target);
    compare_text("the path", want->path.len ? want->path : slash, r, r->path);
    compare_text("the query", want->query, r, r->query);
    compare_text("the host", want->host, r, r->host);
    if (want->minor != r->minor || want->persists != r->keep_alive)
        fuzz_fail("HTTP/1.%d keep_alive=%d, but the grammar says HTTP/1.%d %d", r->minor, r->keep_alive, want->minor,
                  want->persists);
    if (want->chunked != r->chunked || (want->has_length ? (int64_t)want->length : -1) != r->content_length)
        fuzz_fail("chunked=%d length=%lld, but the grammar says chunked=%d length=%lld", r->chunked,
                  (long long)r->content_length, want->chunked, want->has_length ? (long long)want->length : -1);
    compare_fields(want, r);
}

static void compare_body(const struct rec_request *want, const struct fm_request *r)
{
    char *body = replay_body(r);
    if (r->body.size != want->body_len || (want->body_len && memcmp(body, want->body, want->body_len) != 0))
        fuzz_fail("the body has %llu bytes, but the grammar says %zu, or other bytes", (unsigned long long)r->body.size,
                  want->body_len);
    free(body);
}

/* ---- refusals that need no broken rule ---- */

static bool head_over_limits(const struct rec_request *q, const struct fm_http_limits *l)
{
    return q->line_len > l->request_line || q->nfields > l->fields || q->longest_field > l->field_size ||
           (!q->chunked && q->has_length && q->length > l->body);
}

static bool over_limits(const struct rec_request *q, const struct fm_http_limits *l)
{
    return head_over_limits(q, l) || q->body_len > l->body || q->longest_chunk_line > 256 || q->ntrailers > l->fields ||
           q->longest_trailer > l->field_size;
}

static bool is_over(const struct rec_request *q, const struct fm_http_limits *l, enum fm_refusal why)
{
    switch (why) {
    case FM_REFUSE_REQUEST_LINE_TOO_LONG: return q->line_len > l->request_line;
    case FM_REFUSE_TOO_MANY_FIELDS: return q->nfields > l->fields;
    case FM_REFUSE_FIELD_TOO_LONG: return q->longest_field > l->field_size;
    case FM_REFUSE_BODY_TOO_LARGE: return (q->chunked ? q->body_len : q->length) > l->body;
    case FM_REFUSE_TRAILERS_TOO_LARGE: return q->ntrailers > l->fields || q->longest_trailer > l->field_size;
    case FM_REFUSE_CHUNK_LINE_TOO_LONG: return q->longest_chunk_line > 8; /* many of them are too long together */
    default: return false;
    }
}

static const char *const slugs[] = {
#define X(id, slug, what) slug,
    REC_DIFFERENCES(X)
#undef X
};

/* Is this one of the documented differences, which the request has? */
static bool is_different(const struct rec_request *q, const char *slug)
{
    for (unsigned i = 0; i < REC_DIFFERENCES_END; i++)
        if ((q->different >> i & 1) && slugs[i] && strcmp(slugs[i], slug) == 0)
            return true;
    return false;
}

static bool should_be_refused(const struct rec_request *q)
{
    for (unsigned i = 0; i < REC_DIFFERENCES_END; i++)
        if ((q->different >> i & 1) && slugs[i])
            return true;
    return false;
}

/* ---- the stream ---- */

/* What comes behind the last whole request; v is the grammar's word on it. */
static void compare_rest(const struct replay *got, const struct fm_http_limits *limits, enum rec_verdict v,
                         const struct rec_request *want)
{
    const struct fm_request *head = fm_parser_request(got->parser);
    const struct fm_http_error *e = got->error;
    if (head && !want->has_head)
        fuzz_fail("a head was accepted, but the grammar says: %s", want->why ? want->why : "it is not whole");
    if (head)
        compare_head(want, head);
    if (!e) {
        if (v != REC_MORE)
            fuzz_fail("more is wanted, but by the grammar it is %s", v == REC_ACCEPT ? "a request" : want->why);
        if (!head && want->has_head)
            fuzz_fail("the head is whole, but was not reported");
        return;
    }
    if (v == REC_REFUSE || (v == REC_MORE && (head ? want->chunked : !want->has_head)))
        return; /* what is not all there may be wrong already */
    if (!is_different(want, e->slug) && !is_over(want, limits, e->id))
        fuzz_fail("refused as %s, but by the grammar it is a request", e->slug);
}

void fuzz_compare(struct replay *whole, const struct fm_http_limits *limits, const char *s, size_t len)
{
    static struct rec_request want;
    size_t at = 0;
    replay(whole, limits, s, len, NULL);
    for (size_t i = 0; i < whole->nrequests; i++) {
        enum rec_verdict v = rec_read(s + at, len - at, &want);
        if (v != REC_ACCEPT)
            fuzz_fail("request %zu was accepted, but by the grammar it is %s", i,
                      v == REC_MORE ? "not whole" : want.why);
        if (should_be_refused(&want) || over_limits(&want, limits))
            fuzz_fail("request %zu was accepted, but recogniser.h or the limits say that it is refused", i);
        compare_head(&want, whole->requests[i]);
        compare_body(&want, whole->requests[i]);
        at += want.end;
        rec_fini(&want);
    }
    enum rec_verdict v = rec_read(s + at, len - at, &want);
    compare_rest(whole, limits, v, &want);
    rec_fini(&want);
}

void fuzz_same_when_cut(const struct replay *whole, const struct fm_http_limits *limits, const char *s, size_t len,
                        const unsigned char *cut, const char *how)
{
    struct replay got;
    replay_as(&got, limits, s, len, cut, true);
    if (!replay_same(whole, &got))
        fuzz_fail("%s gives\n%.*s\ninstead of\n%.*s", how, (int)got.transcript.len, got.transcript.data,
                  (int)whole->transcript.len, whole->transcript.data);
    replay_fini(&got);
}

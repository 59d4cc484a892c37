/* Feeds a stream to a parser, cut as the test likes, and writes down all that comes out.  Two ways of cutting are the
 * same if their transcripts are. */
#ifndef FERMATA_TESTS_REPLAY_H
#define FERMATA_TESTS_REPLAY_H

#undef NDEBUG /* the asserts here are the test */
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/http/h1/parser.h"
#include "fermata/util/buf.h"

#ifndef REPLAY_REQUESTS
#define REPLAY_REQUESTS 16
#endif

struct replay {
    struct fm_parser *parser;
    bool give_back; /* a request is written down and given back, as the server does */
    size_t nrequests;
    const struct fm_http_error *error; /* what ended the stream, or NULL */
    size_t heads;                      /* reported, also of the request that was refused in its body */
    int started;                       /* of the next request, at the end */
    struct fm_buf transcript;
    struct fm_request *requests[REPLAY_REQUESTS]; /* those that are complete, unless they are given back */
};

static inline void replay_fini(struct replay *r)
{
    for (size_t i = 0; i < r->nrequests; i++)
        fm_request_free(r->requests[i]);
    fm_parser_free(r->parser);
    fm_buf_fini(&r->transcript);
}

static inline char *replay_body(const struct fm_request *r)
{
    char *text = calloc(1, r->body.size + 1);
    long n = fm_body_read(&r->body, 0, text, r->body.size);
    assert(n == (long)r->body.size);
    (void)n;
    return text;
}

static inline void replay_span(struct fm_buf *to, const char *name, const struct fm_request *r, struct fm_span s)
{
    fm_buf_printf(to, "%s[%u]=", name, (unsigned)s.len);
    fm_buf_append(to, fm_request_text(r, s), s.len);
    fm_buf_puts(to, "\n");
}

static inline void replay_write_head(struct fm_buf *to, const struct fm_request *r)
{
    replay_span(to, "method", r, r->method);
    replay_span(to, "target", r, r->target);
    replay_span(to, "path", r, r->path);
    replay_span(to, "query", r, r->query);
    replay_span(to, "host", r, r->host);
    fm_buf_printf(to, "1.%d keep=%d expect=%d chunked=%d head=%d length=%lld head_len=%u\n", r->minor, r->keep_alive,
                  r->expect_continue, r->chunked, r->is_head, (long long)r->content_length, (unsigned)r->head_len);
    for (unsigned i = 0; i < r->nfields; i++) {
        const struct fm_field *f = &r->fields[i];
        replay_span(to, "name", r, (struct fm_span){f->name_off, f->name_len});
        replay_span(to, "value", r, (struct fm_span){f->value_off, f->value_len});
    }
}

static inline void replay_write(struct fm_buf *to, const struct fm_request *r)
{
    replay_write_head(to, r);
    char *body = replay_body(r);
    fm_buf_printf(to, "body[%llu]=", (unsigned long long)r->body.size);
    fm_buf_append(to, body, r->body.size);
    fm_buf_puts(to, "\n");
    free(body);
}

/* Takes one piece; false after a refusal.  Each piece lies in memory of its own, so that a sanitizer sees every byte
 * that is read outside it. */
static inline bool replay_piece(struct replay *r, struct fm_parser *p, const char *data, size_t len)
{
    char *piece = malloc(len ? len : 1), *s = piece;
    memcpy(piece, data, len);
    enum fm_parse got;
    do {
        size_t used = len + 1;
        got = fm_parser_feed(p, s, len, &used);
        assert(used <= len);
        assert(got != FM_PARSE_MORE || used == len);
        s += used;
        len -= used;
        if (got == FM_PARSE_HEAD) {
            r->heads++;
            assert(fm_parser_request(p));
        } else if (got == FM_PARSE_DONE) {
            assert(r->nrequests < REPLAY_REQUESTS);
            struct fm_request *request = fm_parser_take(p);
            replay_write(&r->transcript, request);
            r->requests[r->nrequests++] = r->give_back ? NULL : request;
            if (r->give_back)
                fm_parser_give_back(p, request);
            assert(r->heads == r->nrequests && !fm_parser_request(p));
        }
    } while (got != FM_PARSE_MORE && got != FM_PARSE_ERROR);
    free(piece);
    return got != FM_PARSE_ERROR;
}

static inline void replay_end(struct replay *r, struct fm_parser *p)
{
    char what[256];
    r->error = fm_parser_error(p);
    r->started = fm_parser_started(p);
    fm_parser_describe(p, what, sizeof what);
    fm_buf_printf(&r->transcript, "heads=%zu started=%d error=%s\n", r->heads, r->error ? 0 : r->started,
                  r->error ? r->error->slug : "");
    if (r->heads > r->nrequests) {
        fm_buf_printf(&r->transcript, "unfinished %s\n", what);
        replay_write_head(&r->transcript, fm_parser_request(p));
    }
}

/* Feeds data in pieces; cut[i] is 1 if a piece ends before byte i, else 0 (NULL: all in one). */
static inline void replay_as(struct replay *r, const struct fm_http_limits *limits, const char *data, size_t len,
                             const unsigned char *cut, bool give_back)
{
    memset(r, 0, offsetof(struct replay, requests));
    r->parser = fm_parser_new(limits);
    r->give_back = give_back;
    bool ok = true;
    for (size_t from = 0; ok && from < len;) {
        const unsigned char *next = cut ? memchr(cut + from + 1, 1, len - from - 1) : NULL;
        size_t to = next ? (size_t)(next - cut) : len;
        ok = replay_piece(r, r->parser, data + from, to - from);
        from = to;
    }
    replay_end(r, r->parser);
}

static inline void replay(struct replay *r, const struct fm_http_limits *limits, const char *data, size_t len,
                          const unsigned char *cut)
{
    replay_as(r, limits, data, len, cut, false);
}

static inline bool replay_same(const struct replay *a, const struct replay *b)
{
    return a->transcript.len == b->transcript.len &&
           memcmp(a->transcript.data, b->transcript.data, a->transcript.len) == 0;
}

#endif

/* See check_response.h. */
#include "check_response.h"

#include <string.h>
#include <strings.h>

#include "compare.h"
#include "fermata/http/h1/framer.h"

struct head { /* what the field lines said */
    unsigned lengths, codings, connections, dates, servers;
    unsigned long long length;
    bool close;
};

static bool is_text(unsigned char c) { return c == '\t' || (c >= ' ' && c != 0x7f); }
static bool is_tchar(unsigned char c)
{
    return c &&
           (strchr("!#$%&'*+-.^_`|~", c) || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'));
}

/* The next line, which holds no control character; *at goes behind its CRLF. */
static size_t line(const char **at, const char *end)
{
    const char *s = *at;
    while (s < end && is_text((unsigned char)*s))
        s++;
    if (end - s < 2 || s[0] != '\r' || s[1] != '\n')
        fuzz_fail("a line of the head has byte %d at %td", s < end ? (unsigned char)*s : -1, s - *at);
    size_t n = (size_t)(s - *at);
    *at = s + 2;
    return n;
}

static bool is_name(const char *s, size_t n, const char *name) { return n == strlen(name) && !strncasecmp(s, name, n); }

static void check_status(const struct check_response *c, const char *s, size_t n)
{
    if (n < 13 || memcmp(s, "HTTP/1.1 ", 9) != 0 || s[12] != ' ' ||
        (s[9] - '0') * 100 + (s[10] - '0') * 10 + s[11] - '0' != c->status)
        fuzz_fail("the status line is %.*s", (int)n, s);
}

static unsigned long long number(const char *s, size_t n)
{
    unsigned long long value = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9' || n > 19)
            fuzz_fail("Content-Length: %.*s", (int)n, s);
        value = value * 10 + (unsigned)(s[i] - '0');
    }
    if (n == 0)
        fuzz_fail("an empty Content-Length");
    return value;
}

/* field-name ":" OWS field-value OWS; own: the server has added it. */
static void read_field(struct head *h, const char *s, size_t n, bool own)
{
    size_t name = 0;
    while (name < n && is_tchar((unsigned char)s[name]))
        name++;
    if (name == 0 || n - name < 2 || s[name] != ':' || s[name + 1] != ' ')
        fuzz_fail("a field line is %.*s", (int)n, s);
    const char *value = s + name + 2;
    size_t len = n - name - 2;
    if (is_name(s, name, "Content-Length")) {
        h->lengths++;
        h->length = number(value, len);
    } else if (is_name(s, name, "Transfer-Encoding")) {
        if (h->codings++ || !own || !is_name(value, len, "chunked"))
            fuzz_fail("Transfer-Encoding: %.*s", (int)len, value);
    } else if (is_name(s, name, "Connection")) {
        h->close = is_name(value, len, "close");
        if (h->connections++ || !own || (!h->close && !is_name(value, len, "keep-alive")))
            fuzz_fail("Connection: %.*s", (int)len, value);
    } else if (is_name(s, name, "Date")) {
        if (h->dates++ && own)
            fuzz_fail("the server adds a Date to the application's");
    } else if (is_name(s, name, "Server")) {
        if (h->servers++ && own)
            fuzz_fail("the server adds a Server to the application's");
    } else if (own) {
        fuzz_fail("the application did not give %.*s", (int)n, s);
    }
}

static void same_bytes(const char *what, const char *got, size_t got_len, const char *want, size_t want_len)
{
    if (got_len != want_len || (want_len > 0 && memcmp(got, want, want_len) != 0))
        fuzz_fail("%s: %zu bytes, but %zu, or others, were given:\n%.*s\n--\n%.*s", what, got_len, want_len,
                  (int)got_len, got, (int)want_len, want);
}

/* *chunk last-chunk CRLF, as the server writes it: without extensions or trailers. */
static void read_chunks(const char *at, const char *end, struct fm_buf *body)
{
    for (;;) {
        size_t size = 0, n = 0;
        for (; at < end && strchr("0123456789abcdef", *at) && *at; at++, n++)
            size = size << 4 | (size_t)(*at <= '9' ? *at - '0' : *at - 'a' + 10);
        if (n == 0 || n > 15 || end - at < 2 || memcmp(at, "\r\n", 2) != 0 || size > (size_t)(end - at - 2))
            fuzz_fail("a chunk's size is malformed");
        at += 2;
        fm_buf_append(body, at, size);
        at += size;
        if (end - at < 2 || memcmp(at, "\r\n", 2) != 0)
            fuzz_fail("a chunk does not end");
        at += 2;
        if (size == 0)
            break;
    }
    if (at != end)
        fuzz_fail("%td bytes behind the last chunk", end - at);
}

static void check_framing(const struct check_response *c, const struct head *h)
{
    bool bodiless = c->status == 204 || c->status == 304;
    if (h->lengths > 1 || h->codings > 1 || h->lengths + h->codings > 1)
        fuzz_fail("%u Content-Length, %u Transfer-Encoding", h->lengths, h->codings);
    if (h->codings && (c->minor == 0 || c->is_head || bodiless))
        fuzz_fail("chunked for HTTP/1.%d, HEAD %d, status %d", c->minor, c->is_head, c->status);
    if (c->status == 204 && h->lengths)
        fuzz_fail("a Content-Length with 204 (RFC 9110, 8.6)");
    /* A connection that is broken off, because the body is too short, had not been announced to close. */
    if ((h->close == c->keep && !c->is_short) || (c->minor == 0 && c->keep && h->connections == 0))
        fuzz_fail("%u Connection, close %d, but the connection goes on: %d", h->connections, h->close, c->keep);
    if (h->dates == 0 || h->servers == 0)
        fuzz_fail("no Date or no Server");
    if (c->keep && !c->is_head && !bodiless && h->lengths + h->codings == 0)
        fuzz_fail("the connection goes on, but nothing says where the body ends");
}

static void check_body(const struct check_response *c, const struct head *h, const char *at, const char *end)
{
    struct fm_buf decoded = FM_BUF_INIT;
    const char *given = fm_buf_head(c->body);
    size_t n = fm_buf_size(c->body);
    if (c->is_head || c->status == 204 || c->status == 304)
        n = 0;
    else if (h->lengths && n > h->length)
        n = (size_t)h->length;
    if (h->codings) {
        read_chunks(at, end, &decoded);
        same_bytes("the chunks", decoded.data, decoded.len, given, n);
    } else {
        same_bytes("the body", at, (size_t)(end - at), given, n);
    }
    if (h->lengths && !c->is_head && c->status != 304 && (n < h->length) != c->is_short)
        fuzz_fail("%zu of %llu bytes, but the server says that it is %s", n, h->length, c->is_short ? "short" : "all");
    fm_buf_fini(&decoded);
}

void check_response(const struct check_response *c)
{
    const char *at = fm_buf_head(c->out), *end = at + fm_buf_size(c->out), *s = at;
    struct head h = {0};
    check_status(c, s, line(&at, end));
    size_t n = fm_buf_size(c->fields), left = (size_t)(end - at);
    const char *given_end = at + n;
    same_bytes("the application's fields", at, n < left ? n : left, fm_buf_head(c->fields), n);
    for (s = at; (n = line(&at, end)) > 0; s = at)
        read_field(&h, s, n, s >= given_end);
    check_framing(c, &h);
    check_body(c, &h, at, end);
}

static enum fm_sent sink_send(void *sink, const struct iovec *pieces, int n, bool borrow)
{
    struct check_sink *s = sink;
    (void)borrow;
    for (int i = 0; i < n; i++)
        if (pieces[i].iov_len > 0)
            fm_buf_append(&s->out, pieces[i].iov_base, pieces[i].iov_len);
    return FM_SENT_ALL;
}

static enum fm_sent sink_send_file(void *sink, const struct iovec *head, int fd, int64_t pos, int64_t len)
{
    (void)sink, (void)head, (void)fd, (void)pos, (void)len;
    abort(); /* no target sends files */
}

static bool sink_may_keep(void *sink) { return ((struct check_sink *)sink)->may_keep; }

const struct fm_sink_ops check_sink_ops = {.framer = &fm_h1_framer,
                                           .send = sink_send,
                                           .send_file = sink_send_file,
                                           .may_keep = sink_may_keep};

/* Whatever status, fields and blocks an application gives: what leaves is one response by the grammar, with what the
 * application said and nothing else, and it ends where its framing says (check_response.h).  A status or field is
 * refused if, and only if, it may not be sent.
 *
 * Input: a byte of flags; the status; then steps: a byte that says which, and what it takes.  Texts have a byte for
 * their length in front.
 *
 * Covers: src/http/response.c src/http/writer.c src/http/h1/framer.c */
#include <ctype.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "check_response.h"
#include "compare.h"
#include "fermata/util/err.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MINOR_1 = 1, IS_HEAD = 2, KEEP = 4, MAY_KEEP = 8 }; /* flags */

static const char *const names[] = {
    "Content-Length", "Transfer-Encoding", "Connection", "Date",         "Server",
    "Keep-Alive",     "Trailer",           "Upgrade",    "TE",           "Proxy-Connection",
    "Set-Cookie",     "X-Thing",           "Via",        "Content-Type", "Trailers",
};
static const char *const hop_by_hop[] = {
    "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
    "trailer",    "trailers",           "transfer-encoding",   "upgrade"};

static bool is(struct input_text t, const char *word)
{
    return t.len == strlen(word) && !strncasecmp(t.at, word, t.len);
}

static bool is_value(struct input_text t)
{
    for (size_t i = 0; i < t.len; i++)
        if ((unsigned char)t.at[i] < ' ' ? t.at[i] != '\t' : t.at[i] == 0x7f)
            return false;
    return true;
}

static bool is_token(struct input_text t)
{
    for (size_t i = 0; i < t.len; i++)
        if (!isalnum((unsigned char)t.at[i]) && (!t.at[i] || !strchr("!#$%&'*+-.^_`|~", t.at[i])))
            return false;
    return t.len > 0;
}

static bool asks_to_close(struct input_text value)
{
    char copy[256], *rest = copy, *word;
    memcpy(copy, value.at, value.len);
    copy[value.len] = '\0';
    while ((word = strsep(&rest, ", \t")))
        if (strcasecmp(word, "close") == 0)
            return true;
    return false;
}

/* A Content-Length: a number, which may be said again. */
static int judge_length(struct input_text *value, struct check_response *c, bool *sent)
{
    char digits[20] = "";
    for (; value->len > 0 && strchr(" \t", value->at[0]); value->len--)
        value->at++;
    while (value->len > 0 && strchr(" \t", value->at[value->len - 1]))
        value->len--;
    if (value->len == 0 || value->len > 18)
        return FM_EINVAL;
    memcpy(digits, value->at, value->len);
    long long length = strtoll(digits, NULL, 10);
    if (strspn(digits, "0123456789") != value->len || (c->length >= 0 && c->length != length))
        return FM_EINVAL;
    *sent = c->length < 0 && c->status != 204;
    c->length = length;
    return 0;
}

/* What fm_response_add must answer, whether the field is to be sent, and with which value. */
static int judge(struct input_text name, struct input_text *value, struct check_response *c, bool *sent)
{
    *sent = false;
    if (!is_token(name) || !is_value(*value))
        return FM_EINVAL;
    for (size_t i = 0; i < sizeof hop_by_hop / sizeof *hop_by_hop; i++)
        if (is(name, hop_by_hop[i]))
            return 1;
    if (is(name, "connection"))
        return !asks_to_close(*value);
    if (is(name, "content-length"))
        return judge_length(value, c, sent);
    *sent = true;
    return 0;
}

static void add_field(struct fm_response *r, struct input_text name, struct input_text value, struct check_response *c,
                      struct fm_buf *fields)
{
    const char *why = NULL;
    bool sent;
    int got = fm_response_add(r, name.at, name.len, value.at, value.len, &why), want = judge(name, &value, c, &sent);
    if (got != want || (got < 0) != (why != NULL))
        fuzz_fail("fm_response_add(%.*s, %.*s) is %d (%s) instead of %d", (int)name.len, name.at, (int)value.len,
                  value.at, got, why ? why : "", want);
    if (sent) {
        fm_buf_append(fields, name.at, name.len);
        fm_buf_puts(fields, ": ");
        fm_buf_append(fields, value.at, value.len);
        fm_buf_puts(fields, "\r\n");
    }
}

static bool start(struct fm_response *r, struct input_text status, struct check_response *c)
{
    const char *why = NULL, *s = status.at;
    bool good = status.len >= 3 && s[0] >= '2' && s[0] <= '9' && isdigit((unsigned char)s[1]) &&
                isdigit((unsigned char)s[2]) && (status.len == 3 || s[3] == ' ') && is_value(status);
    if ((fm_response_start(r, s, status.len, &why) == 0) != good || good == (why != NULL))
        fuzz_fail("fm_response_start('%.*s') should be %s", (int)status.len, s, good ? "accepted" : "refused");
    c->status = good ? (s[0] - '0') * 100 + (s[1] - '0') * 10 + s[2] - '0' : 0;
    return good;
}

static void give(struct fm_writer *w, struct fm_buf *body, struct input *in, bool whole)
{
    size_t n = input_byte(in) * (size_t)(1 + 64 * (input_byte(in) & 1)) + 1;
    char *p = malloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = "body\r\n\r\n0"[i % 9];
    fm_buf_append(body, p, n);
    (whole ? fm_writer_whole : fm_writer_block)(w, p, n, false);
    free(p);
}

/* Names and values, as a framer finds them that does not take lines, are those that were given. */
static void check_fields(const struct fm_response *r, const struct fm_buf *fields)
{
    struct fm_buf found = FM_BUF_INIT;
    for (struct fm_response_fields it = fm_response_fields(r); fm_response_next(&it);) {
        fm_buf_append(&found, it.name, it.name_len);
        fm_buf_puts(&found, ": ");
        fm_buf_append(&found, it.value, it.value_len);
        fm_buf_puts(&found, "\r\n");
    }
    size_t n = fm_buf_size(fields);
    if (fm_buf_size(&found) != n || (n > 0 && memcmp(fm_buf_head(&found), fm_buf_head(fields), n) != 0))
        fuzz_fail("the fields are found to be '%.*s'", (int)fm_buf_size(&found), fm_buf_head(&found));
    fm_buf_fini(&found);
}

/* The fields, and then the body. */
static void respond(struct input *in, struct fm_response *r, struct check_response *c, struct check_sink *sink)
{
    struct fm_buf fields = FM_BUF_INIT, body = FM_BUF_INIT;
    struct fm_writer w;
    unsigned step;
    while ((step = input_byte(in)) & 3) {
        const char *known = names[(step >> 2) % (sizeof names / sizeof *names)];
        struct input_text name = {known, strlen(known)};
        if ((step & 3) == 1)
            name = input_text(in);
        add_field(r, name, input_text(in), c, &fields);
    }
    check_fields(r, &fields);
    fm_writer_init(&w, &check_sink_ops, sink);
    fm_writer_reset(&w, c->minor, c->is_head, c->keep);
    if (fm_writer_set_response(&w, r) != 0)
        fuzz_fail("the response cannot be set");
    bool whole = step & 4, complete = false;
    if (whole) {
        give(&w, &body, in, true);
        complete = fm_writer_is_complete(&w);
    }
    while (!whole && (step = input_byte(in)) & 3) {
        if ((step & 3) == 1)
            fm_writer_flush(&w, UINT64_MAX);
        else
            give(&w, &body, in, false);
    }
    if (!complete)
        fm_writer_end(&w);
    c->is_short = fm_writer_is_short(&w);
    c->keep = w.framer.keep;
    c->out = &sink->out;
    c->fields = &fields;
    c->body = &body;
    check_response(c);
    fm_writer_fini(&w);
    fm_buf_fini(&fields);
    fm_buf_fini(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {(const char *)data, (const char *)data + size};
    unsigned flags = input_byte(&in);
    struct check_response c = {.minor = flags & MINOR_1 ? 1 : 0,
                               .is_head = flags & IS_HEAD,
                               .keep = flags & KEEP,
                               .length = -1};
    struct check_sink sink = {.may_keep = flags & MAY_KEEP};
    struct fm_response r = {.length = -1};
    if (start(&r, input_text(&in), &c))
        respond(&in, &r, &c, &sink);
    fm_response_fini(&r);
    fm_buf_fini(&sink.out);
    return 0;
}

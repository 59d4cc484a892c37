/* See recogniser.h.  Each function is a rule of the grammar, named as there: it takes what it recognises from the front
 * of `in` and is true, or is false. */
#include "recogniser.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct in {
    const char *at, *end;
};

static bool at_end(const struct in *in) { return in->at == in->end; }
static bool next_is(const struct in *in, char c) { return in->at < in->end && *in->at == c; }
static bool take(struct in *in, char c) { return next_is(in, c) && in->at++; }

static bool take_text(struct in *in, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(in->end - in->at) < n || memcmp(in->at, text, n) != 0)
        return false;
    in->at += n;
    return true;
}

static bool equal_nocase(struct rec_text t, const char *text)
{
    return t.len == strlen(text) && strncasecmp(t.at, text, t.len) == 0;
}

/* ---- characters (RFC 5234, B.1; RFC 9110, 5.6.2; RFC 3986, 2) ---- */

typedef bool char_class(unsigned char c);

static bool is_alpha(unsigned char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }
static bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }
static bool is_hexdig(unsigned char c) { return is_digit(c) || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f'); }
static bool is_one_of(unsigned char c, const char *set) { return c && strchr(set, c); }
static bool is_blank(unsigned char c) { return c == ' ' || c == '\t'; } /* OWS and BWS are made of these */
static bool is_tchar(unsigned char c) { return is_alpha(c) || is_digit(c) || is_one_of(c, "!#$%&'*+-.^_`|~"); }
static bool is_vchar(unsigned char c) { return c >= 0x21 && c <= 0x7e; }
static bool is_obs_text(unsigned char c) { return c >= 0x80; }
static bool is_unreserved(unsigned char c) { return is_alpha(c) || is_digit(c) || is_one_of(c, "-._~"); }
static bool is_sub_delim(unsigned char c) { return is_one_of(c, "!$&'()*+,;="); }
static bool is_future(unsigned char c) { return is_unreserved(c) || is_sub_delim(c) || c == ':'; }

static bool is_qdtext(unsigned char c)
{
    return is_blank(c) || c == 0x21 || (c >= 0x23 && c <= 0x5b) || (c >= 0x5d && c <= 0x7e) || is_obs_text(c);
}

/* What field values and quoted pairs may have. */
static bool is_text(unsigned char c) { return is_blank(c) || is_vchar(c) || is_obs_text(c); }

/* Takes as many as there are. */
static size_t run(struct in *in, char_class *is)
{
    const char *from = in->at;
    while (!at_end(in) && is((unsigned char)*in->at))
        in->at++;
    return (size_t)(in->at - from);
}

static bool token(struct in *in, struct rec_text *t)
{
    t->at = in->at;
    t->len = run(in, is_tchar);
    return t->len > 0;
}

/* ---- hosts (RFC 3986, 3.2.2 and 3.2.3; RFC 9110, 4.2 and 7.2) ---- */

static bool pct_encoded(struct in *in)
{
    if (in->end - in->at < 3 || *in->at != '%' || !is_hexdig((unsigned char)in->at[1]) ||
        !is_hexdig((unsigned char)in->at[2]))
        return false;
    in->at += 3;
    return true;
}

static bool dec_octet(struct in *in)
{
    const char *from = in->at;
    unsigned value = 0;
    while (!at_end(in) && is_digit((unsigned char)*in->at) && in->at - from < 3)
        value = value * 10 + (unsigned)(*in->at++ - '0');
    return in->at > from && value <= 255 && (*from != '0' || in->at - from == 1);
}

static bool ipv4_address(struct in *in)
{
    return dec_octet(in) && take(in, '.') && dec_octet(in) && take(in, '.') && dec_octet(in) && take(in, '.') &&
           dec_octet(in);
}

/* Up to eight groups, the last two perhaps as an IPv4 address; "::" once, for one or more groups that are missing. */
static bool ipv6_address(struct in *in)
{
    int groups = 0;
    bool gap = false;
    if (take_text(in, "::"))
        gap = true;
    while (!next_is(in, ']')) {
        struct in ahead = *in;
        if (ipv4_address(&ahead) && next_is(&ahead, ']')) {
            *in = ahead;
            groups += 2;
            break;
        }
        size_t digits = run(in, is_hexdig);
        if (digits == 0 || digits > 4)
            return false;
        groups++;
        if (next_is(in, ']'))
            break;
        if (take_text(in, "::")) {
            if (gap)
                return false;
            gap = true;
        } else if (!take(in, ':') || next_is(in, ']')) {
            return false;
        }
    }
    return gap ? groups <= 7 : groups == 8;
}

static bool ip_literal(struct in *in, unsigned *different)
{
    if (!take(in, '['))
        return false;
    if (take(in, 'v') || take(in, 'V')) {
        *different |= REC_IP_FUTURE;
        return run(in, is_hexdig) > 0 && take(in, '.') && run(in, is_future) > 0 && take(in, ']');
    }
    return ipv6_address(in) && take(in, ']');
}

static void reg_name(struct in *in) /* also what an IPv4address looks like */
{
    while (!at_end(in) &&
           (is_unreserved((unsigned char)*in->at) || is_sub_delim((unsigned char)*in->at) ? in->at++ != NULL
                                                                                          : pct_encoded(in)))
        ;
}

/* uri-host [ ":" port ]: a Host field, and an http URI's authority, which has no userinfo (RFC 9110, 4.2.4). */
static bool host_and_port(struct in *in, bool may_be_empty, unsigned *different)
{
    const char *from = in->at;
    if (next_is(in, '[')) {
        if (!ip_literal(in, different))
            return false;
    } else {
        reg_name(in);
    }
    bool empty = in->at == from;
    if (take(in, ':')) {
        unsigned long port = 0;
        for (; !at_end(in) && is_digit((unsigned char)*in->at); in->at++)
            port = port > 65535 ? port : port * 10 + (unsigned long)(*in->at - '0');
        if (port > 65535)
            *different |= REC_PORT_RANGE;
        if (empty)
            *different |= REC_PORT_WITHOUT_HOST;
    }
    return !empty || may_be_empty;
}

/* ---- the request line (RFC 9112, 3) ---- */

/* pchar, and those of `more`.  What should have been percent-encoded is noted; controls, blanks and '#' are refused. */
static void pchars(struct in *in, const char *more, unsigned *different)
{
    while (!at_end(in)) {
        unsigned char c = (unsigned char)*in->at;
        if (pct_encoded(in))
            continue;
        if (!is_unreserved(c) && !is_sub_delim(c) && !is_one_of(c, ":@") && !is_one_of(c, more)) {
            if (!(is_vchar(c) || is_obs_text(c)) || c == '#' || c == '?')
                return;
            *different |= REC_TARGET_CHAR;
        }
        in->at++;
    }
}

static void path_and_query(struct in *in, struct rec_request *r)
{
    r->path.at = in->at;
    pchars(in, "/", &r->different);
    r->path.len = (size_t)(in->at - r->path.at);
    if (take(in, '?')) {
        r->query.at = in->at;
        pchars(in, "/?", &r->different);
        r->query.len = (size_t)(in->at - r->query.at);
    }
}

static bool origin_form(struct in *in, struct rec_request *r)
{
    if (!next_is(in, '/'))
        return false;
    path_and_query(in, r);
    return at_end(in);
}

/* Of the absolute URIs only http and https: the server is no proxy. */
static bool absolute_form(struct in *in, struct rec_request *r)
{
    struct rec_text scheme = {in->at, run(in, is_alpha)};
    if (!(equal_nocase(scheme, "http") || equal_nocase(scheme, "https")) || !take_text(in, "://"))
        return false;
    r->host.at = in->at;
    if (!host_and_port(in, false, &r->different))
        return false;
    r->host.len = (size_t)(in->at - r->host.at);
    if (!at_end(in) && !next_is(in, '/') && !next_is(in, '?'))
        return false;
    path_and_query(in, r);
    return at_end(in);
}

static bool asterisk_form(struct in *in, struct rec_request *r)
{
    r->path = (struct rec_text){in->at, 1};
    return r->method.len == 7 && memcmp(r->method.at, "OPTIONS", 7) == 0 && take(in, '*') && at_end(in);
}

static bool request_target(struct rec_request *r)
{
    struct in origin = {r->target.at, r->target.at + r->target.len}, absolute = origin, asterisk = origin;
    if (next_is(&origin, '/'))
        return origin_form(&origin, r);
    return next_is(&asterisk, '*') ? asterisk_form(&asterisk, r) : absolute_form(&absolute, r);
}

static bool http_version(struct in *in, struct rec_request *r)
{
    if (!take_text(in, "HTTP/1.") || at_end(in) || !is_digit((unsigned char)*in->at))
        return false;
    r->minor = *in->at++ > '0'; /* a higher minor version is processed as the highest one known (RFC 9110, 2.5) */
    return true;
}

static bool request_line(struct in line, struct rec_request *r)
{
    r->line_len = (size_t)(line.end - line.at);
    if (!token(&line, &r->method) || !take(&line, ' '))
        return false;
    if (r->method.len == 7 && memcmp(r->method.at, "CONNECT", 7) == 0) /* this is no proxy (RFC 9110, 9.3.6) */
        return false;
    r->target.at = line.at;
    while (!at_end(&line) && !next_is(&line, ' '))
        line.at++;
    r->target.len = (size_t)(line.at - r->target.at);
    return request_target(r) && take(&line, ' ') && http_version(&line, r) && at_end(&line);
}

/* ---- fields (RFC 9112, 5; RFC 9110, 5) ---- */

static struct rec_text trimmed(const char *at, const char *end)
{
    while (at < end && is_blank((unsigned char)*at))
        at++;
    while (at < end && is_blank((unsigned char)end[-1]))
        end--;
    return (struct rec_text){at, (size_t)(end - at)};
}

static bool field_line(struct in line, struct rec_field *f)
{
    if (!token(&line, &f->name) || !take(&line, ':'))
        return false;
    f->value = trimmed(line.at, line.end);
    run(&line, is_text);
    return at_end(&line);
}

/* The line that begins at in->at, without its CRLF; false if its end has not come. */
static bool take_line(struct in *in, struct in *line)
{
    const char *crlf = memmem(in->at, (size_t)(in->end - in->at), "\r\n", 2);
    if (!crlf)
        return false;
    *line = (struct in){in->at, crlf};
    in->at = crlf + 2;
    return true;
}

/* The next element of a list, perhaps empty; false at the end (RFC 9110, 5.6.1). */
static bool element(struct in *in, struct rec_text *e)
{
    if (!in->at)
        return false;
    const char *comma = memchr(in->at, ',', (size_t)(in->end - in->at));
    *e = trimmed(in->at, comma ? comma : in->end);
    in->at = comma ? comma + 1 : NULL;
    return true;
}

static struct in list_of(struct rec_text value) { return (struct in){value.at, value.at + value.len}; }

/* ---- W3C Trace Context, 3.2.2 and 4.3 ---- */

static bool is_hexdiglc(unsigned char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

/* n HEXDIGLC; *zero: all of them are 0. */
static bool hexdiglc(struct in *in, size_t n, bool *zero)
{
    for (*zero = true; n > 0; n--) {
        if (at_end(in) || !is_hexdiglc((unsigned char)*in->at))
            return false;
        *zero &= *in->at++ == '0';
    }
    return true;
}

bool rec_traceparent(struct rec_text value)
{
    struct in in = list_of(value);
    bool version_zero, trace_zero, parent_zero, no_flag;
    if (!hexdiglc(&in, 2, &version_zero) || memcmp(value.at, "ff", 2) == 0 || !take(&in, '-') ||
        !hexdiglc(&in, 32, &trace_zero) || trace_zero || !take(&in, '-') || !hexdiglc(&in, 16, &parent_zero) ||
        parent_zero || !take(&in, '-') || !hexdiglc(&in, 2, &no_flag))
        return false;
    return at_end(&in) || (!version_zero && *in.at == '-');
}

/* ---- what the fields say ---- */

struct said { /* by the fields together */
    unsigned hosts, lengths, codings;
    bool coding_fields;
    bool close, keep_alive;
};

static bool host_field(struct rec_text value, struct rec_request *r)
{
    struct in in = list_of(value);
    if (!host_and_port(&in, true, &r->different) || !at_end(&in))
        return false;
    if (!r->host.at) /* an absolute-form target wins (RFC 9112, 3.2.2) */
        r->host = value;
    return true;
}

/* Content-Length = 1*DIGIT (RFC 9110, 8.6) */
static bool length_field(struct rec_text value, struct rec_request *r)
{
    r->has_length = true;
    for (size_t i = 0; i < value.len; i++) {
        if (!is_digit((unsigned char)value.at[i]))
            return false;
        uint64_t digit = (uint64_t)(value.at[i] - '0');
        r->length = r->length > (UINT64_MAX - digit) / 10 ? UINT64_MAX : r->length * 10 + digit;
    }
    if (r->length > INT64_MAX)
        r->different |= REC_HUGE_LENGTH;
    return value.len > 0;
}

/* The one coding there is here is chunked (RFC 9112, 6.1 and 7). */
static bool coding_field(struct rec_text value, struct said *said, struct rec_request *r)
{
    struct in in = list_of(value);
    struct rec_text coding;
    said->coding_fields = true;
    while (element(&in, &coding)) {
        if (coding.len == 0)
            r->different |= REC_EMPTY_ELEMENT;
        else if (equal_nocase(coding, "chunked"))
            said->codings++;
        else
            return false;
    }
    return true;
}

static void connection_field(struct rec_text value, struct said *said)
{
    struct in in = list_of(value);
    struct rec_text option;
    while (element(&in, &option)) {
        said->close |= equal_nocase(option, "close");
        said->keep_alive |= equal_nocase(option, "keep-alive");
    }
}

static bool field(const struct rec_field *f, struct said *said, struct rec_request *r)
{
    if (equal_nocase(f->name, "host"))
        return ++said->hosts == 1 && host_field(f->value, r);
    if (equal_nocase(f->name, "content-length"))
        return ++said->lengths == 1 && length_field(f->value, r);
    if (equal_nocase(f->name, "transfer-encoding"))
        return coding_field(f->value, said, r);
    if (equal_nocase(f->name, "connection"))
        connection_field(f->value, said);
    if (equal_nocase(f->name, "expect") && r->minor > 0 && !equal_nocase(f->value, "100-continue"))
        r->different |= REC_EXPECTATION;
    return true;
}

static const char *all_fields(struct rec_request *r)
{
    struct said said = {0};
    for (size_t i = 0; i < r->nfields; i++)
        if (!field(&r->fields[i], &said, r))
            return "a field that frames or routes is repeated or malformed";
    if (r->minor > 0 && said.hosts == 0)
        return "no Host (RFC 9112, 3.2)";
    if (said.coding_fields && (said.lengths > 0 || r->minor == 0 || said.codings != 1))
        return "Transfer-Encoding with Content-Length, in HTTP/1.0, or not one chunked (RFC 9112, 6.1 and 6.3)";
    r->chunked = said.coding_fields;
    r->persists = !said.close && (r->minor > 0 || said.keep_alive);
    return NULL;
}

static enum rec_verdict refuse(struct rec_request *r, const char *why)
{
    r->why = why;
    return REC_REFUSE;
}

static size_t max(size_t a, size_t b) { return a > b ? a : b; }

/* start-line CRLF *( field-line CRLF ) CRLF */
static enum rec_verdict head(struct in *in, struct rec_request *r)
{
    struct in line;
    unsigned empty = 0;
    while (take_text(in, "\r\n")) /* at least one empty line is ignored (RFC 9112, 2.2) */
        if (++empty > REC_EMPTY_LINES)
            return refuse(r, "too many empty lines");
    const char *end = memmem(in->at, (size_t)(in->end - in->at), "\r\n\r\n", 4);
    if (!end)
        return REC_MORE;
    if (!take_line(in, &line) || !request_line(line, r))
        return refuse(r, "request line");
    while (take_line(in, &line) && !at_end(&line)) {
        if (r->nfields == REC_FIELDS || !field_line(line, &r->fields[r->nfields++]))
            return refuse(r, "field line");
        r->longest_field = max(r->longest_field, (size_t)(line.end - line.at));
    }
    const char *why = all_fields(r);
    return why ? refuse(r, why) : REC_ACCEPT;
}

/* ---- bodies (RFC 9112, 6 and 7) ---- */

static bool quoted_string(struct in *in)
{
    if (!take(in, '"'))
        return false;
    for (;;) {
        run(in, is_qdtext);
        if (take(in, '"'))
            return true;
        if (!take(in, '\\') || at_end(in) || !is_text((unsigned char)*in->at++))
            return false;
    }
}

/* *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ), and nothing behind it */
static bool chunk_ext(struct in *in)
{
    struct rec_text t;
    while (!at_end(in)) {
        run(in, is_blank);
        if (!take(in, ';'))
            return false;
        run(in, is_blank);
        if (!token(in, &t))
            return false;
        struct in ahead = *in;
        run(&ahead, is_blank);
        if (!take(&ahead, '='))
            continue;
        run(&ahead, is_blank);
        if (!(next_is(&ahead, '"') ? quoted_string(&ahead) : token(&ahead, &t)))
            return false;
        *in = ahead;
    }
    return true;
}

static bool chunk_size(struct in *in, uint64_t *size, unsigned *different)
{
    const char *from = in->at;
    for (*size = 0; !at_end(in) && is_hexdig((unsigned char)*in->at); in->at++) {
        unsigned char c = (unsigned char)*in->at;
        unsigned digit = is_digit(c) ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
        *size = *size >> 60 ? UINT64_MAX : *size << 4 | digit;
    }
    if (*size > INT64_MAX)
        *different |= REC_HUGE_CHUNK;
    return in->at > from;
}

static void add_body(struct rec_request *r, const char *p, size_t n)
{
    if (n == 0)
        return;
    r->body = realloc(r->body, r->body_len + n);
    memcpy(r->body + r->body_len, p, n);
    r->body_len += n;
}

static enum rec_verdict trailer_section(struct in *in, struct rec_request *r)
{
    struct in line;
    struct rec_field f;
    while (take_line(in, &line)) {
        if (at_end(&line))
            return REC_ACCEPT;
        if (!field_line(line, &f))
            return refuse(r, "trailer");
        if (equal_nocase(f.name, "content-length") || equal_nocase(f.name, "transfer-encoding") ||
            equal_nocase(f.name, "host"))
            r->different |= REC_TRAILER;
        r->ntrailers++;
        r->longest_trailer = max(r->longest_trailer, (size_t)(line.end - line.at));
    }
    return REC_MORE;
}

/* *chunk last-chunk trailer-section CRLF */
static enum rec_verdict chunked_body(struct in *in, struct rec_request *r)
{
    struct in line;
    while (take_line(in, &line)) {
        uint64_t size, have;
        r->longest_chunk_line = max(r->longest_chunk_line, (size_t)(line.end - line.at));
        if (!chunk_size(&line, &size, &r->different) || !chunk_ext(&line))
            return refuse(r, "chunk");
        if (size == 0)
            return trailer_section(in, r);
        have = (uint64_t)(in->end - in->at);
        add_body(r, in->at, (size_t)(size < have ? size : have));
        if (size >= have)
            return REC_MORE;
        in->at += size;
        if (in->end - in->at < 2)
            return next_is(in, '\r') ? REC_MORE : refuse(r, "chunk's end");
        if (!take_text(in, "\r\n"))
            return refuse(r, "chunk's end");
    }
    return REC_MORE;
}

static enum rec_verdict known_length(struct in *in, struct rec_request *r)
{
    uint64_t have = (uint64_t)(in->end - in->at), want = r->has_length ? r->length : 0;
    add_body(r, in->at, (size_t)(want < have ? want : have));
    if (want > have)
        return REC_MORE;
    in->at += want;
    return REC_ACCEPT;
}

enum rec_verdict rec_read_chunked(const char *s, size_t len, struct rec_request *r)
{
    struct in in = {s, s + len};
    memset(r, 0, offsetof(struct rec_request, fields));
    enum rec_verdict v = chunked_body(&in, r);
    r->end = (size_t)(in.at - s);
    return v;
}

enum rec_verdict rec_read(const char *s, size_t len, struct rec_request *r)
{
    struct in in = {s, s + len};
    memset(r, 0, offsetof(struct rec_request, fields));
    enum rec_verdict v = head(&in, r);
    if (v != REC_ACCEPT)
        return v;
    r->has_head = true;
    v = r->chunked ? chunked_body(&in, r) : known_length(&in, r);
    r->end = (size_t)(in.at - s);
    return v;
}

void rec_fini(struct rec_request *r)
{
    free(r->body);
    r->body = NULL;
}

/* A response's status and fields, checked as they come; see http/response.h. */
#include "fermata/http/response.h"

#include <string.h>

#include "fermata/http/headers.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/text.h"

/* X(name, what to do): names that are not simply passed on. */
enum special { PLAIN, HOP_BY_HOP, CONNECTION, CONTENT_LENGTH, DATE, SERVER };

#define SPECIAL_FIELDS(X)                                                                                              \
    X("connection", CONNECTION)                                                                                        \
    X("content-length", CONTENT_LENGTH)                                                                                \
    X("date", DATE)                                                                                                    \
    X("keep-alive", HOP_BY_HOP)                                                                                        \
    X("proxy-authenticate", HOP_BY_HOP)                                                                                \
    X("proxy-authorization", HOP_BY_HOP)                                                                               \
    X("proxy-connection", HOP_BY_HOP)                                                                                  \
    X("server", SERVER)                                                                                                \
    X("te", HOP_BY_HOP)                                                                                                \
    X("trailer", HOP_BY_HOP)                                                                                           \
    X("trailers", HOP_BY_HOP)                                                                                          \
    X("transfer-encoding", HOP_BY_HOP)                                                                                 \
    X("upgrade", HOP_BY_HOP)

static enum special classify(const char *name, size_t len)
{
    static const struct {
        const char *name;
        uint8_t len, what;
    } table[] = {
#define X(name, what) {name, sizeof name - 1, what},
        SPECIAL_FIELDS(X)
#undef X
    };
    static const uint32_t lengths = 0 /* a bit for each length in the table: most names end here */
#define X(name, what) | 1u << (sizeof name - 1)
        SPECIAL_FIELDS(X)
#undef X
        ;
    if (len > 31 || !(lengths >> len & 1))
        return PLAIN;
    unsigned first = (unsigned char)name[0] | 0x20;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].len == len && (unsigned char)table[i].name[0] == first &&
            fm_ascii_ieq(name, len, table[i].name, len))
            return (enum special)table[i].what;
    }
    return PLAIN;
}

/* The three digits that a status begins with, with nothing or a space behind them; 0: it does not. */
static uint16_t status_code(const char *status, size_t len)
{
    if (len < 3 || (len > 3 && status[3] != ' '))
        return 0;
    for (size_t i = 0; i < 3; i++)
        if (!fm_is_digit(status[i]))
            return 0;
    return (uint16_t)((status[0] - '0') * 100 + (status[1] - '0') * 10 + (status[2] - '0'));
}

int fm_response_start(struct fm_response *r, const char *status, size_t len, const char **why)
{
    uint16_t code = status_code(status, len);
    if (code < 200) {
        *why = "it takes three digits from 200 on, a space and a reason";
        return FM_EINVAL;
    }
    if (!fm_is_field_value(status, len)) {
        *why = "status has control characters";
        return FM_EINVAL;
    }
    fm_buf_clear(&r->lines);
    r->status = code;
    r->length = -1;
    r->has_date = r->has_server = r->close = false;
    char *to = fm_buf_reserve(&r->lines, FM_RESPONSE_FRONT + len + 512); /* most heads fit: one allocation */
    if (!to)
        return 0;
    to += FM_RESPONSE_FRONT;
    memcpy(to, status, len);
    to[len] = ' '; /* RFC 9112, 4: the space stays where there is no reason */
    len += len == 3;
    memcpy(to + len, "\r\n", 2);
    r->lines.off = FM_RESPONSE_FRONT;
    r->lines.len = FM_RESPONSE_FRONT + len + 2;
    return 0;
}

static bool has_token(const char *value, size_t len, const char *token)
{
    size_t tlen = strlen(token);
    for (size_t i = 0; i < len;) {
        while (i < len && (value[i] == ',' || value[i] == ' ' || value[i] == '\t'))
            i++;
        size_t start = i;
        while (i < len && value[i] != ',' && value[i] != ' ' && value[i] != '\t')
            i++;
        if (i > start && fm_ascii_ieq(value + start, i - start, token, tlen))
            return true;
    }
    return false;
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* Without the blanks around, which are no part of a value (RFC 9110, 5.5). */
static void strip(const char **value, size_t *len)
{
    for (; *len > 0 && is_blank(**value); (*len)--)
        ++*value;
    while (*len > 0 && is_blank((*value)[*len - 1]))
        --*len;
}

/* 0; 1 if the field says again what is known already; FM_EINVAL. */
static int set_length(struct fm_response *r, const char *value, size_t len, const char **why)
{
    int64_t n = 0;
    bool ok = len > 0 && len <= 18;
    for (size_t i = 0; ok && i < len; i++) {
        ok = value[i] >= '0' && value[i] <= '9';
        n = n * 10 + (value[i] - '0');
    }
    if (!ok || (r->length >= 0 && r->length != n)) {
        *why = ok ? "Content-Length is given twice, with different values" : "Content-Length is not a number";
        return FM_EINVAL;
    }
    int again = r->length >= 0;
    r->length = n;
    return again;
}

int fm_response_name(const char *name, size_t len)
{
    return fm_is_token(name, len) ? (int)classify(name, len) : FM_EINVAL;
}

int fm_response_add(struct fm_response *r, const char *name, size_t nlen, const char *value, size_t vlen,
                    const char **why)
{
    int what = fm_response_name(name, nlen);
    if (what < 0)
        *why = "the name is not a token";
    return what < 0 ? what : fm_response_add_as(r, what, name, nlen, value, vlen, why);
}

int fm_response_add_as(struct fm_response *r, int what, const char *name, size_t nlen, const char *value, size_t vlen,
                       const char **why)
{
    if (!fm_is_field_value(value, vlen)) {
        *why = "the value has control characters";
        return FM_EINVAL;
    }
    switch ((enum special)what) {
    case HOP_BY_HOP: return 1;
    case CONNECTION:
        if (!has_token(value, vlen, "close"))
            return 1;
        r->close = true;
        return 0; /* the framer says it, where its version of HTTP has it */
    case CONTENT_LENGTH:
        strip(&value, &vlen);
        int again = set_length(r, value, vlen, why);
        if (again != 0 || r->status == 204 || r->status == 205) /* sent once, not with 204 (RFC 9110, 8.6) */
            return again < 0 ? again : 0;
        break;
    case DATE: r->has_date = true; break;
    case SERVER: r->has_server = true; break;
    case PLAIN: break;
    }
    char *to = fm_buf_reserve(&r->lines, nlen + vlen + 4);
    if (!to)
        return 0;
    memcpy(to, name, nlen);
    memcpy(to + nlen, ": ", 2);
    memcpy(to + nlen + 2, value, vlen);
    memcpy(to + nlen + 2 + vlen, "\r\n", 2);
    r->lines.len += nlen + vlen + 4;
    return 0;
}

/* Copies text to where it goes, and answers where the next text goes. */
static char *put(char *to, const char *text, size_t n) { return (char *)memcpy(to, text, n) + n; }
#define PUT(to, literal) put(to, literal, sizeof literal - 1)

void fm_response_complete(struct fm_response *r, int64_t length)
{
    char *begin = fm_buf_reserve(&r->lines, 192 + FM_RESPONSE_BACK), *to = begin; /* more than all of this together */
    if (!to)
        return;
    if (!r->has_server)
        to = PUT(to, FM_SERVER_FIELD);
    if (!r->has_date) {
        to = PUT(to, "Date: ");
        to = put(to, fm_http_date(), FM_HTTP_DATE_LEN);
        to = PUT(to, "\r\n");
    }
    if (length >= 0 && r->length < 0) {
        char digits[20], *p = digits + sizeof digits;
        uint64_t n = (uint64_t)length;
        do
            *--p = (char)('0' + n % 10);
        while ((n /= 10) > 0);
        to = PUT(to, "Content-Length: ");
        to = put(to, p, (size_t)(digits + sizeof digits - p));
        to = PUT(to, "\r\n");
    }
    r->lines.len += (size_t)(to - begin);
}

/* A name is a token and a value has no control characters, so that the first colon and the first CRLF are their ends.
 */
struct fm_response_fields fm_response_fields(const struct fm_response *r)
{
    const char *status = fm_buf_head(&r->lines), *end = status + fm_buf_size(&r->lines);
    const char *lf = end > status ? memchr(status, '\n', (size_t)(end - status)) : NULL;
    return (struct fm_response_fields){.next = lf ? lf + 1 : end, .end = end};
}

bool fm_response_next(struct fm_response_fields *it)
{
    if (it->next == it->end)
        return false;
    const char *colon = memchr(it->next, ':', (size_t)(it->end - it->next));
    it->name = it->next;
    it->name_len = (size_t)(colon - it->name);
    it->value = colon + 2;
    const char *lf = memchr(it->value, '\n', (size_t)(it->end - it->value));
    it->value_len = (size_t)(lf - 1 - it->value);
    it->next = lf + 1;
    return true;
}

bool fm_status_has_body(int status) { return status != 204 && status != 205 && status != 304; }

const char *fm_status_reason(int status)
{
    switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "Error";
    }
}

void fm_response_fini(struct fm_response *r) { fm_buf_fini(&r->lines); }

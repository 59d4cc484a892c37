/* The strict reading of lines: what is refused before http-parser sees it. */
#include "strict.h"

#include <string.h>

#include "../chars.h"
#include "fermata/http/headers.h"
#include "fermata/http/host.h"
#include "fermata/util/err.h"
#include "fermata/util/text.h"

int fm_strict_line(const char *line, size_t len, size_t limit, size_t *seen, enum fm_refusal *why)
{
    const char *s = fm_text_end(line + *seen, line + len);
    size_t n = (size_t)(s - line);
    *seen = n;
    if (n > limit)
        return FM_ELIMIT;
    if (n == len || (*s == '\r' && n + 1 == len))
        return 0;
    if (*s == '\r' && s[1] == '\n')
        return 1;
    *why = *s == '\r' ? FM_REFUSE_BARE_CR : *s == '\n' ? FM_REFUSE_BARE_LF : FM_REFUSE_CONTROL_CHAR;
    return FM_EINVAL;
}

/* ---- request line ---- */

static inline struct fm_span span(size_t from, size_t to)
{
    return (struct fm_span){(uint32_t)from, (uint32_t)(to - from)};
}

/* HTTP-version (2.3): case-sensitive, one digit each.  A minor version that is higher than ours is processed as 1.1
 * (RFC 9110, 2.5). */
static enum fm_refusal read_version(const char *p, size_t len, uint8_t *minor)
{
    if (len != 8 || memcmp(p, "HTTP/", 5) != 0 || !fm_is_digit(p[5]) || p[6] != '.' || !fm_is_digit(p[7]))
        return FM_REFUSE_BAD_VERSION;
    if (p[5] != '1')
        return FM_REFUSE_VERSION_NOT_SUPPORTED;
    *minor = p[7] > '0';
    return FM_REFUSE_NOTHING;
}

/* Length of "http://" or "https://" at the beginning of the target, or 0. */
static size_t scheme_len(const char *p, size_t len)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t n = strlen(schemes[i]);
        if (len >= n && fm_ascii_ieq(p, n, schemes[i], n))
            return n;
    }
    return 0;
}

/* absolute-form (3.2.2): the target from..end, its path up to path_end.  A missing path is the slash of "://". */
static enum fm_refusal split_absolute(const char *line, size_t from, size_t path_end, struct fm_request_line *out)
{
    size_t scheme = scheme_len(line + from, path_end - from);
    if (scheme == 0)
        return FM_REFUSE_BAD_TARGET;
    size_t authority = from + scheme;
    const char *slash = memchr(line + authority, '/', path_end - authority);
    size_t path = slash ? (size_t)(slash - line) : path_end;
    if (!fm_is_host(line + authority, path - authority))
        return FM_REFUSE_BAD_HOST;
    out->authority = span(authority, path);
    out->path = slash ? span(path, path_end) : span(authority - 1, authority);
    return FM_REFUSE_NOTHING;
}

/* The forms of a target (3.2); authority-form belongs to CONNECT alone, which never comes here. */
static enum fm_refusal split_target(const char *line, struct fm_request_line *out)
{
    size_t from = out->target.off, end = from + out->target.len;
    const char *question = memchr(line + from, '?', end - from);
    size_t path_end = question ? (size_t)(question - line) : end;
    out->query = question ? span(path_end + 1, end) : span(end, end);
    out->authority = span(end, end);
    out->path = span(from, path_end);
    if (line[from] == '/')
        return FM_REFUSE_NOTHING;
    if (end - from == 1 && line[from] == '*')
        return out->method.len == 7 && memcmp(line, "OPTIONS", 7) == 0 ? FM_REFUSE_NOTHING : FM_REFUSE_BAD_TARGET;
    return split_absolute(line, from, path_end, out);
}

enum fm_refusal fm_strict_request_line(const char *line, size_t len, struct fm_request_line *out)
{
    size_t method = fm_token_run(line, len);
    if (method == 0 || method == len || line[method] != ' ')
        return method == len ? FM_REFUSE_BAD_REQUEST_LINE : FM_REFUSE_BAD_METHOD;
    size_t target = method + 1, end = target;
    while (end < len && fm_char_target[(unsigned char)line[end]])
        end++;
    if (end < len && line[end] != ' ')
        return FM_REFUSE_BAD_TARGET;
    if (end == len || end == target)
        return FM_REFUSE_BAD_REQUEST_LINE;
    enum fm_refusal why = read_version(line + end + 1, len - end - 1, &out->minor);
    if (why)
        return why;
    if (method == 7 && memcmp(line, "CONNECT", 7) == 0)
        return FM_REFUSE_CONNECT;
    out->method = span(0, method);
    out->target = span(target, end);
    return split_target(line, out);
}

/* ---- field lines and what stands in them ---- */

enum fm_refusal fm_strict_field(const char *line, size_t len, struct fm_field *f)
{
    const char *colon = memchr(line, ':', len);
    size_t n = colon ? (size_t)(colon - line) : 0;
    unsigned id = fm_header_lookup(line, n);
    if (id == FM_H_OTHER && (n == 0 || fm_token_run(line, n) < n)) {
        n = fm_token_run(line, len);
        if (n == len || !fm_char_blank(line[n]))
            return FM_REFUSE_BAD_FIELD_NAME;
        return n == 0 ? FM_REFUSE_OBS_FOLD : FM_REFUSE_SPACE_BEFORE_COLON;
    }
    if (n > UINT16_MAX)
        return FM_REFUSE_FIELD_TOO_LONG;
    size_t value = n + 1;
    while (value < len && fm_char_blank(line[value]))
        value++;
    while (value < len && fm_char_blank(line[len - 1]))
        len--;
    *f = (struct fm_field){0, (uint32_t)value, (uint32_t)(len - value), (uint16_t)n, (uint16_t)id};
    return FM_REFUSE_NOTHING;
}

bool fm_strict_length(const char *p, size_t len, int64_t *length)
{
    int64_t v = 0;
    for (size_t i = 0; i < len; i++) {
        int digit = p[i] - '0';
        if (!fm_is_digit(p[i]) || v > (INT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *length = v;
    return len > 0;
}

bool fm_items_next(struct fm_items *it)
{
    const char *s = it->next;
    if (!s)
        return false;
    const char *comma = s < it->end ? memchr(s, ',', (size_t)(it->end - s)) : NULL;
    const char *end = comma ? comma : it->end;
    it->next = comma ? comma + 1 : NULL;
    while (s < end && fm_char_blank(*s))
        s++;
    while (end > s && fm_char_blank(end[-1]))
        end--;
    it->item = s;
    it->len = (size_t)(end - s);
    return true;
}

/* ---- chunks ---- */

static size_t skip_blanks(const char *p, size_t i, size_t len)
{
    while (i < len && fm_char_blank(p[i]))
        i++;
    return i;
}

/* Where the quoted-string (RFC 9110, 5.6.4) that begins at i ends, or i if it does not. */
static size_t skip_quoted(const char *p, size_t i, size_t len)
{
    for (size_t n = i + 1; n < len; n++) {
        if (p[n] == '"')
            return n + 1;
        if (p[n] == '\\')
            n++;
    }
    return i;
}

/* One chunk-ext from its semicolon at i on: its end, or i if it is malformed. */
static size_t skip_extension(const char *p, size_t i, size_t len)
{
    size_t name = skip_blanks(p, i + 1, len);
    size_t end = name + fm_token_run(p + name, len - name);
    if (end == name)
        return i;
    size_t equals = skip_blanks(p, end, len);
    if (equals == len || p[equals] != '=')
        return end;
    size_t value = skip_blanks(p, equals + 1, len);
    if (value < len && p[value] == '"')
        end = skip_quoted(p, value, len);
    else
        end = value + fm_token_run(p + value, len - value);
    return end > value ? end : i;
}

enum fm_refusal fm_strict_chunk(const char *line, size_t len, uint64_t *size)
{
    uint64_t v = 0;
    size_t i = 0;
    for (; i < len && fm_hex_value(line[i]) >= 0; i++) {
        if (v > (uint64_t)INT64_MAX >> 4)
            return FM_REFUSE_BAD_CHUNK;
        v = v << 4 | (unsigned)fm_hex_value(line[i]);
    }
    if (i == 0)
        return FM_REFUSE_BAD_CHUNK;
    enum fm_refusal broken = FM_REFUSE_BAD_CHUNK; /* right after the size; then it is an extension's */
    while (i < len) {
        size_t semicolon = skip_blanks(line, i, len); /* BWS: RFC 9110, 5.6.3 */
        if (semicolon == len || line[semicolon] != ';')
            return broken;
        broken = FM_REFUSE_BAD_CHUNK_EXT;
        i = skip_extension(line, semicolon, len);
        if (i == semicolon)
            return broken;
    }
    *size = v;
    return FM_REFUSE_NOTHING;
}

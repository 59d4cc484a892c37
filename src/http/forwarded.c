/* X-Forwarded-* and Forwarded; see http/forwarded.h for whom to believe. */
#include "fermata/http/forwarded.h"

#include <string.h>

#include "fermata/http/headers.h"
#include "fermata/http/host.h"
#include "fermata/util/text.h"

/* ---- a list, from its end ---- */

/* All fields of one name are one list (RFC 9110, 5.3).  Commas in quotes are no ends where quotes have a meaning; read
 * from the right, a quote that a client has left open on the left swallows nothing of what the proxies appended. */
struct list {
    const struct fm_request *r;
    unsigned id;
    unsigned before; /* fields before this one are still to be read */
    size_t left;     /* bytes of the field's value that are; SIZE_MAX: go to the field before */
};

static struct list list_of(const struct fm_request *r, unsigned id)
{
    return (struct list){r, id, r->nfields, SIZE_MAX};
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

static struct fm_span trim(const char *text, size_t from, size_t to)
{
    while (from < to && is_blank(text[from]))
        from++;
    while (from < to && is_blank(text[to - 1]))
        to--;
    return (struct fm_span){(uint32_t)from, (uint32_t)(to - from)};
}

/* The element before the last one read, without the white space around it; empty ones are passed over. */
static bool previous(struct list *l, struct fm_span *element)
{
    do {
        if (l->left == SIZE_MAX) {
            do {
                if (l->before == 0)
                    return false;
            } while (l->r->fields[--l->before].id != l->id);
            l->left = l->r->fields[l->before].value_len;
        }
        size_t start = l->r->fields[l->before].value_off, end = start + l->left, at = end;
        bool quoted = false;
        while (at > start && (quoted || l->r->head[at - 1] != ','))
            if (l->r->head[--at] == '"' && l->id == FM_H_FORWARDED)
                quoted = !quoted;
        l->left = at > start ? at - 1 - start : SIZE_MAX;
        *element = trim(l->r->head, at, end);
    } while (element->len == 0);
    return true;
}

/* The element that the hop has told, or the one that is furthest left if there are fewer. */
static struct fm_span of_hop(const struct fm_request *r, unsigned id, unsigned hop)
{
    struct list l = list_of(r, id);
    struct fm_span found = {0, 0}, next;
    for (unsigned i = 0; i <= hop && previous(&l, &next); i++)
        found = next;
    return found;
}

/* ---- elements ---- */

/* 1 to 65535, or 0. */
static uint16_t read_port(const char *p, size_t n)
{
    unsigned port = 0;
    if (n == 0 || n > 5)
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (!fm_is_digit(p[i]))
            return 0;
        port = port * 10 + (unsigned)(p[i] - '0');
    }
    return port <= 65535 ? (uint16_t)port : 0;
}

/* ADDRESS, ADDRESS:PORT, [IPv6] or [IPv6]:PORT. */
static bool read_node(const char *p, size_t n, struct fm_ip *ip, uint16_t *port)
{
    const char *bracket = n > 0 && *p == '[' ? memchr(p, ']', n) : NULL, *colon = memchr(p, ':', n);
    *port = 0;
    if (bracket) {
        size_t rest = n - (size_t)(bracket - p) - 1;
        *port = rest > 1 && bracket[1] == ':' ? read_port(bracket + 2, rest - 1) : 0;
        if (rest > 0 && *port == 0)
            return false;
        size_t len = (size_t)(bracket - p) - 1;
        return memchr(p + 1, ':', len) && fm_ip_parse(p + 1, len, ip);
    }
    if (colon && !memchr(colon + 1, ':', n - (size_t)(colon - p) - 1)) { /* one colon: no IPv6 address */
        *port = read_port(colon + 1, n - (size_t)(colon - p) - 1);
        return *port != 0 && fm_ip_parse(p, (size_t)(colon - p), ip);
    }
    return fm_ip_parse(p, n, ip);
}

static bool is_word(const struct fm_request *r, struct fm_span s, const char *word)
{
    return fm_ascii_ieq(fm_request_text(r, s), s.len, word, strlen(word));
}

static uint8_t read_scheme(const struct fm_request *r, struct fm_span s)
{
    return is_word(r, s, "https") ? FM_SCHEME_HTTPS : is_word(r, s, "http") ? FM_SCHEME_HTTP : FM_SCHEME_UNTOLD;
}

/* The value of a parameter of an element of Forwarded (RFC 7239, 4); len 0: not there, there twice, or not as it ought
 * to be. */
static struct fm_span parameter(const struct fm_request *r, struct fm_span element, const char *name)
{
    const char *text = r->head;
    struct fm_span found = {0, 0};
    size_t at = element.off, end = at + element.len;
    unsigned times = 0;
    while (at < end) {
        size_t stop = at;
        for (bool quoted = false; stop < end && (quoted || text[stop] != ';'); stop++)
            quoted ^= text[stop] == '"';
        struct fm_span pair = trim(text, at, stop);
        const char *equals = memchr(text + pair.off, '=', pair.len);
        size_t len = equals ? (size_t)(equals - text) - pair.off : 0;
        at = stop + 1;
        if (!equals || !fm_ascii_ieq(text + pair.off, len, name, strlen(name)))
            continue;
        struct fm_span value = {pair.off + (uint32_t)len + 1, pair.len - (uint32_t)len - 1};
        if (value.len >= 2 && text[value.off] == '"' && text[value.off + value.len - 1] == '"')
            value = (struct fm_span){value.off + 1, value.len - 2};
        found = value;
        times++;
    }
    return times == 1 && !memchr(text + found.off, '"', found.len) ? found : (struct fm_span){0, 0};
}

/* ---- the walk ---- */

/* How many proxies behind the peer are trusted, and the client before the last of them. */
static unsigned walk(const struct fm_proxy_rules *rules, const struct fm_request *r, struct fm_forwarded *out)
{
    struct list l = list_of(r, rules->rfc7239 ? FM_H_FORWARDED : FM_H_X_FORWARDED_FOR);
    struct fm_span element;
    unsigned hop = 0;
    for (unsigned i = 0; i < FM_FORWARDED_HOPS && previous(&l, &element); i++) {
        struct fm_span node = rules->rfc7239 ? parameter(r, element, "for") : element;
        struct fm_ip ip;
        uint16_t port;
        if (!read_node(fm_request_text(r, node), node.len, &ip, &port))
            break;
        hop = i;
        out->client = ip;
        out->client_port = port;
        out->has_client = true;
        if (rules->trusted.any || !fm_peers_has(&rules->trusted, &ip))
            break;
    }
    return hop;
}

/* gunicorn's three fields.  Proxies set one of them and may pass the others on as the client has sent them: where they
 * do not agree none is believed. */
static uint8_t told_scheme(const struct fm_request *r, unsigned hop)
{
    struct fm_span proto = of_hop(r, FM_H_X_FORWARDED_PROTO, hop), ssl = of_hop(r, FM_H_X_FORWARDED_SSL, hop);
    struct fm_span protocol = of_hop(r, FM_H_X_FORWARDED_PROTOCOL, hop);
    unsigned said = 0; /* a bit for each scheme */
    if (proto.len > 0)
        said |= 1u << read_scheme(r, proto);
    if (ssl.len > 0)
        said |= 1u << (is_word(r, ssl, "on") ? FM_SCHEME_HTTPS : FM_SCHEME_HTTP);
    if (protocol.len > 0)
        said |= 1u << (is_word(r, protocol, "ssl") || is_word(r, protocol, "https") ? FM_SCHEME_HTTPS : FM_SCHEME_HTTP);
    return said == 1u << FM_SCHEME_HTTPS  ? FM_SCHEME_HTTPS
           : said == 1u << FM_SCHEME_HTTP ? FM_SCHEME_HTTP
                                          : FM_SCHEME_UNTOLD;
}

/* A quoted quote makes two readings of where an element begins. */
static bool has_backslash(const struct fm_request *r)
{
    for (unsigned i = 0; i < r->nfields; i++)
        if (r->fields[i].id == FM_H_FORWARDED && memchr(r->head + r->fields[i].value_off, '\\', r->fields[i].value_len))
            return true;
    return false;
}

static struct fm_span checked_host(const struct fm_request *r, struct fm_span host)
{
    return fm_is_host(fm_request_text(r, host), host.len) ? host : (struct fm_span){0, 0};
}

/* A path that can stand before every other: "/a/b". */
static struct fm_span checked_prefix(const struct fm_request *r, struct fm_span prefix)
{
    const char *text = fm_request_text(r, prefix);
    while (prefix.len > 0 && text[prefix.len - 1] == '/')
        prefix.len--;
    for (uint32_t i = 0; i < prefix.len; i++)
        if (text[i] <= ' ' || text[i] > '~' || strchr("\"#%<>?\\^`{|}", text[i]) || (i == 0 && text[i] != '/') ||
            (i == 1 && text[i] == '/'))
            return (struct fm_span){0, 0};
    return prefix;
}

bool FM_COLD fm_forwarded_read(const struct fm_proxy_rules *rules, const struct fm_request *r, const char *peer,
                               struct fm_forwarded *out)
{
    if (rules->parts == 0 || !fm_peers_has_text(&rules->trusted, peer))
        return false;
    memset(out, 0, sizeof *out);
    if (rules->rfc7239 && has_backslash(r))
        return false;
    unsigned hop = walk(rules, r, out);
    if (!(rules->parts & FM_FORWARDED_FOR))
        out->has_client = false;
    struct fm_span host, port = {0, 0}, prefix = {0, 0};
    if (rules->rfc7239) {
        struct fm_span element = of_hop(r, FM_H_FORWARDED, hop);
        out->scheme = read_scheme(r, parameter(r, element, "proto"));
        host = parameter(r, element, "host");
    } else {
        out->scheme = told_scheme(r, hop);
        host = of_hop(r, FM_H_X_FORWARDED_HOST, hop);
        port = of_hop(r, FM_H_X_FORWARDED_PORT, hop);
        prefix = of_hop(r, FM_H_X_FORWARDED_PREFIX, hop);
    }
    if (!(rules->parts & FM_FORWARDED_PROTO))
        out->scheme = FM_SCHEME_UNTOLD;
    if (rules->parts & FM_FORWARDED_HOST)
        out->host = checked_host(r, host);
    if (rules->parts & FM_FORWARDED_PORT)
        out->port = read_port(fm_request_text(r, port), port.len);
    if (rules->parts & FM_FORWARDED_PREFIX)
        out->prefix = checked_prefix(r, prefix);
    out->any = out->has_client || out->scheme || out->host.len || out->port || out->prefix.len;
    return out->any;
}

const char *fm_forwarded_parse_parts(unsigned *parts, const char *text)
{
    static const char takes[] = "takes off, or some of proto, for, host, port and prefix, separated by commas";
    static const struct {
        const char *name;
        enum fm_forwarded_part part;
    } names[] = {{"proto", FM_FORWARDED_PROTO},
                 {"for", FM_FORWARDED_FOR},
                 {"host", FM_FORWARDED_HOST},
                 {"port", FM_FORWARDED_PORT},
                 {"prefix", FM_FORWARDED_PREFIX}};
    *parts = 0;
    if (strcmp(text, "off") == 0)
        return NULL;
    for (const char *at = text;; at++) {
        size_t len = strcspn(at, ","), i = 0;
        while (i < sizeof names / sizeof *names &&
               (strlen(names[i].name) != len || memcmp(names[i].name, at, len) != 0))
            i++;
        if (i == sizeof names / sizeof *names)
            return takes;
        *parts |= names[i].part;
        at += len;
        if (!*at)
            return NULL;
    }
}

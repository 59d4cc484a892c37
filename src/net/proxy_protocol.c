/* The PROXY protocol; section numbers are those of its specification. */
#include "fermata/net/proxy_protocol.h"

#include <string.h>

#include "fermata/util/err.h"
#include "fermata/util/text.h"

/* ---- version 1 (2.1): a line of text ---- */

#define LINE_MAX 107 /* with its CRLF */

struct words {
    const char *at, *end;
};

/* The next word: one space before it, but for the first. */
static bool next_word(struct words *w, const char **word, size_t *len)
{
    if (w->at == w->end)
        return false;
    const char *space = memchr(w->at, ' ', (size_t)(w->end - w->at));
    *word = w->at;
    *len = (size_t)((space ? space : w->end) - w->at);
    w->at = space ? space + 1 : w->end;
    return *len > 0;
}

/* 0 to 65535, without a leading zero. */
static bool read_port(const char *p, size_t n, uint16_t *port)
{
    unsigned value = 0;
    if (n == 0 || n > 5 || (n > 1 && *p == '0'))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!fm_is_digit(p[i]))
            return false;
        value = value * 10 + (unsigned)(p[i] - '0');
    }
    *port = (uint16_t)value;
    return value <= UINT16_MAX;
}

static bool read_ip(const char *p, size_t n, bool v6, struct fm_ip *ip)
{
    return (memchr(p, ':', n) != NULL) == v6 && fm_ip_parse(p, n, ip);
}

static bool is_word(const char *p, size_t n, const char *word) { return strlen(word) == n && memcmp(p, word, n) == 0; }

static bool read_words(struct words w, struct fm_proxied *out)
{
    const char *word;
    size_t n;
    if (!next_word(&w, &word, &n) || !is_word(word, n, "PROXY") || !next_word(&w, &word, &n))
        return false;
    if (is_word(word, n, "UNKNOWN"))
        return true; /* the rest of the line is to be ignored */
    bool v6 = is_word(word, n, "TCP6");
    if (!v6 && !is_word(word, n, "TCP4"))
        return false;
    out->told = true;
    return next_word(&w, &word, &n) && read_ip(word, n, v6, &out->client) && next_word(&w, &word, &n) &&
           read_ip(word, n, v6, &out->server) && next_word(&w, &word, &n) && read_port(word, n, &out->client_port) &&
           next_word(&w, &word, &n) && read_port(word, n, &out->server_port) && w.at == w.end && w.at[-1] != ' ';
}

static int read_v1(const char *p, size_t n, struct fm_proxied *out)
{
    size_t most = n < LINE_MAX ? n : LINE_MAX;
    const char *cr = memchr(p, '\r', most);
    if (!cr)
        return n < LINE_MAX && !memchr(p, '\n', most) ? 0 : FM_EINVAL;
    if (cr + 1 == p + n)
        return 0;
    return cr[1] == '\n' && read_words((struct words){p, cr}, out) ? (int)(cr + 2 - p) : FM_EINVAL;
}

/* ---- version 2 (2.2): binary ---- */

static const unsigned char signature[12] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

enum { HEADER = 16, LOCAL = 0x20, PROXY = 0x21, TCP4 = 0x11, TCP6 = 0x21, TLV_SSL = 0x20, CLIENT_SSL = 1 };

static unsigned be16(const unsigned char *p) { return (unsigned)p[0] << 8 | p[1]; }

static struct fm_ip ipv4(const unsigned char *p)
{
    struct fm_ip ip = {.bytes = {[10] = 0xff, [11] = 0xff}};
    memcpy(ip.bytes + 12, p, 4);
    return ip;
}

static struct fm_ip ipv6(const unsigned char *p)
{
    struct fm_ip ip;
    memcpy(ip.bytes, p, sizeof ip.bytes);
    return ip;
}

/* What follows the addresses (2.2.1): did the client come with TLS?  False: a value that is longer than what is there.
 */
static bool read_tlvs(const unsigned char *p, size_t n, bool *tls)
{
    while (n > 0) {
        if (n < 3 || be16(p + 1) > n - 3)
            return false;
        size_t len = be16(p + 1);
        if (p[0] == TLV_SSL && len >= 5)
            *tls = p[3] & CLIENT_SSL;
        p += 3 + len;
        n -= 3 + len;
    }
    return true;
}

static int read_v2(const unsigned char *p, size_t n, struct fm_proxied *out)
{
    if (n < HEADER)
        return 0;
    size_t len = be16(p + 14), addresses = p[13] == TCP4 ? 12 : p[13] == TCP6 ? 36 : 0;
    if ((p[12] != LOCAL && p[12] != PROXY) || HEADER + len > FM_PROXY_HEADER_MAX)
        return FM_EINVAL;
    if (n < HEADER + len)
        return 0;
    if (p[12] == LOCAL || addresses == 0)
        return (int)(HEADER + len);
    if (len < addresses)
        return FM_EINVAL;
    const unsigned char *at = p + HEADER;
    out->told = true;
    out->client = p[13] == TCP4 ? ipv4(at) : ipv6(at);
    out->server = p[13] == TCP4 ? ipv4(at + 4) : ipv6(at + 16);
    out->client_port = (uint16_t)be16(at + addresses - 4);
    out->server_port = (uint16_t)be16(at + addresses - 2);
    return read_tlvs(at + addresses, len - addresses, &out->tls) ? (int)(HEADER + len) : FM_EINVAL;
}

int fm_proxy_header(const void *bytes, size_t n, unsigned versions, struct fm_proxied *out)
{
    static const char word[] = "PROXY ";
    size_t v1 = n < sizeof word - 1 ? n : sizeof word - 1, v2 = n < sizeof signature ? n : sizeof signature;
    *out = (struct fm_proxied){0};
    if (n == 0)
        return 0;
    if ((versions & FM_PROXY_V2) && memcmp(bytes, signature, v2) == 0)
        return read_v2(bytes, n, out);
    return (versions & FM_PROXY_V1) && memcmp(bytes, word, v1) == 0 ? read_v1(bytes, n, out) : FM_EINVAL;
}

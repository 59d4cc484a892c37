/* IP addresses, networks, and sets of them; see util/ip.h. */
#include "fermata/util/ip.h"

#include <arpa/inet.h>
#include <string.h>

#include "fermata/util/text.h"

static const uint8_t v4_mapped[12] = {[10] = 0xff, [11] = 0xff};

static bool is_v4(const struct fm_ip *ip) { return memcmp(ip->bytes, v4_mapped, sizeof v4_mapped) == 0; }

bool fm_ip_parse(const char *text, size_t len, struct fm_ip *out)
{
    char copy[FM_IP_TEXT];
    if (len == 0 || len >= sizeof copy || memchr(text, '\0', len))
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (memchr(copy, ':', len))
        return inet_pton(AF_INET6, copy, out->bytes) == 1;
    memcpy(out->bytes, v4_mapped, sizeof v4_mapped);
    return inet_pton(AF_INET, copy, out->bytes + sizeof v4_mapped) == 1;
}

void fm_ip_text(const struct fm_ip *ip, char *to)
{
    if (is_v4(ip))
        inet_ntop(AF_INET, ip->bytes + sizeof v4_mapped, to, FM_IP_TEXT);
    else
        inet_ntop(AF_INET6, ip->bytes, to, FM_IP_TEXT);
}

/* "ADDRESS" or "ADDRESS/BITS". */
static bool parse_net(const char *text, size_t len, struct fm_ip_net *out)
{
    const char *slash = memchr(text, '/', len);
    size_t host = slash ? (size_t)(slash - text) : len;
    if (!fm_ip_parse(text, host, &out->ip))
        return false;
    unsigned most = memchr(text, ':', host) ? 128 : 32, bits = most;
    if (slash) {
        size_t digits = len - host - 1;
        if (digits == 0 || digits > 3)
            return false;
        bits = 0;
        for (size_t i = 0; i < digits; i++) {
            if (!fm_is_digit(slash[1 + i]))
                return false;
            bits = bits * 10 + (unsigned)(slash[1 + i] - '0');
        }
        if (bits > most)
            return false;
    }
    out->bits = 128 - most + bits;
    return true;
}

static bool is_word(const char *text, size_t len, const char *word)
{
    return strlen(word) == len && memcmp(text, word, len) == 0;
}

const char *fm_peers_parse(struct fm_peers *p, const char *text)
{
    static const char takes[] = "takes addresses, networks (192.0.2.0/24), unix or *, separated by commas";
    *p = (struct fm_peers){0};
    while (*text) {
        size_t len = strcspn(text, ","), blank = strspn(text, " "), word = blank < len ? len - blank : 0;
        const char *at = text + (len - word);
        while (word > 0 && at[word - 1] == ' ')
            word--;
        if (is_word(at, word, "*"))
            p->any = true;
        else if (is_word(at, word, "unix"))
            p->unix_sockets = true;
        else if (p->n == FM_PEERS_MAX)
            return "takes at most 64 addresses and networks";
        else if (parse_net(at, word, &p->nets[p->n]))
            p->n++;
        else
            return takes;
        text += len;
        if (*text == ',' && !*++text)
            return takes; /* a comma, and nothing behind it */
    }
    return NULL;
}

static bool is_in(const struct fm_ip_net *net, const struct fm_ip *ip)
{
    unsigned whole = net->bits / 8, rest = net->bits % 8;
    if (memcmp(net->ip.bytes, ip->bytes, whole) != 0)
        return false;
    return rest == 0 || ((net->ip.bytes[whole] ^ ip->bytes[whole]) >> (8 - rest)) == 0;
}

bool fm_peers_has(const struct fm_peers *p, const struct fm_ip *ip)
{
    if (p->any)
        return true;
    for (unsigned i = 0; i < p->n; i++)
        if (is_in(&p->nets[i], ip))
            return true;
    return false;
}

bool fm_peers_has_text(const struct fm_peers *p, const char *peer)
{
    struct fm_ip ip;
    if (!*peer)
        return p->unix_sockets || p->any;
    return fm_ip_parse(peer, strlen(peer), &ip) && fm_peers_has(p, &ip);
}

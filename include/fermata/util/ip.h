/* IP addresses and networks, read and written; sets of peers that are believed.
 *
 * An IPv4 address is kept as its IPv4-mapped IPv6 one (RFC 4291, 2.5.5.2), so that ::ffff:192.0.2.1 is 192.0.2.1
 * wherever it comes from. */
#ifndef FERMATA_UTIL_IP_H
#define FERMATA_UTIL_IP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/util/annotate.h"

struct fm_ip {
    uint8_t bytes[16];
};

#define FM_IP_TEXT 46 /* room for the text of any address, with its NUL */

/* Reads len bytes: "192.0.2.1" or "2001:db8::1", without brackets, port or zone.  False: it is no such address. */
bool fm_ip_parse(const char *text, size_t len, struct fm_ip *out) FM_ANY_THREAD;

/* "192.0.2.1" or "2001:db8::1" into to[FM_IP_TEXT]. */
void fm_ip_text(const struct fm_ip *ip, char *to) FM_ANY_THREAD;

struct fm_ip_net {
    struct fm_ip ip;
    unsigned bits; /* of the 128 that count */
};

#define FM_PEERS_MAX 64

/* Peers that are believed.  Read-only once threads run. */
struct fm_peers {
    struct fm_ip_net nets[FM_PEERS_MAX];
    unsigned n;
    bool any;          /* "*" */
    bool unix_sockets; /* "unix" */
};

/* Reads a list, separated by commas, of addresses, networks (192.0.2.0/24, 2001:db8::/32), "unix" and "*"; an empty one
 * is no peer.  NULL, or what the list takes, a static text. */
const char *fm_peers_parse(struct fm_peers *p, const char *text);

/* The same for a text; "" is the peer of a unix socket. */
bool fm_peers_has_text(const struct fm_peers *p, const char *peer) FM_ANY_THREAD;

bool fm_peers_has(const struct fm_peers *p, const struct fm_ip *ip) FM_ANY_THREAD;

#endif

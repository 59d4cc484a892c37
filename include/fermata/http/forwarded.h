/* What proxies in front say of a request: who the client is, and by which scheme, host and port it came.
 *
 * Proxies append, so the list is read from its end.  The peer of the connection has to be trusted; then each address
 * that is trusted stands for one more proxy, and the first that is not is the client.  Scheme, host, port and prefix
 * are those that the same hop told.  What a client has written itself stands further left and is never reached.  An
 * entry that is no address ("unknown", "_hidden", anything else) ends the walk at the last good one.
 *
 * Either the X-Forwarded-* fields are read or Forwarded (RFC 7239), as configured, never both: a proxy sets one of them
 * and passes the other on as the client has sent it. */
#ifndef FERMATA_HTTP_FORWARDED_H
#define FERMATA_HTTP_FORWARDED_H

#include "fermata/http/request.h"
#include "fermata/util/annotate.h"
#include "fermata/util/ip.h"

/* What is believed, one bit each. */
enum fm_forwarded_part {
    FM_FORWARDED_PROTO = 1,
    FM_FORWARDED_FOR = 2,
    FM_FORWARDED_HOST = 4,
    FM_FORWARDED_PORT = 8,
    FM_FORWARDED_PREFIX = 16,
};

#define FM_FORWARDED_HOPS 32 /* a longer list is read no further */

struct fm_proxy_rules {
    struct fm_peers trusted;
    unsigned parts; /* enum fm_forwarded_part; 0: nothing is believed */
    bool rfc7239;   /* Forwarded is read, instead of X-Forwarded-* */
};

/* Reads the names of parts, separated by commas: proto, for, host, port, prefix; or "off".  NULL, or what it takes. */
const char *fm_forwarded_parse_parts(unsigned *parts, const char *text);

/* peer is the address at the other end of the connection, "" for a unix socket.  False, and *out is all zero or as it
 * was: it is not trusted, or has told nothing. */
bool fm_forwarded_read(const struct fm_proxy_rules *rules, const struct fm_request *r, const char *peer,
                       struct fm_forwarded *out) FM_ANY_THREAD;

#endif

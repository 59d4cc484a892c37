/* The PROXY protocol, versions 1 and 2 (haproxy's doc/proxy-protocol.txt): what a proxy that passes bytes on says of
 * the client, before the first byte of the connection that it passes on.  A pure function over bytes. */
#ifndef FERMATA_NET_PROXY_PROTOCOL_H
#define FERMATA_NET_PROXY_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/util/annotate.h"
#include "fermata/util/ip.h"

#define FM_PROXY_HEADER_MAX 4096 /* bytes of a header that is read; a longer one is refused */

struct fm_proxied {
    bool told; /* else the connection is the proxy's own (a health check), or of no kind that has addresses */
    bool tls;  /* the client came with TLS (version 2 only) */
    struct fm_ip client, server;
    uint16_t client_port, server_port;
};

enum { FM_PROXY_V1 = 1, FM_PROXY_V2 = 2 };

/* Reads a header of one of these versions at the beginning of n bytes.  Its length; 0: more bytes are needed;
 * FM_EINVAL: it is none. */
int fm_proxy_header(const void *bytes, size_t n, unsigned versions, struct fm_proxied *out) FM_ANY_THREAD;

#endif

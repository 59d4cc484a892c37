/* Addresses as users write them, and as log lines and environ show them. */
#ifndef FERMATA_NET_ADDR_H
#define FERMATA_NET_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

union fm_sockaddr {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
};

struct fm_addr {
    union fm_sockaddr u;
    socklen_t len;
    bool is_localhost; /* written as that name, which has two addresses: see fm_addr_other_localhost */
    bool is_fd;        /* no address, but a socket that is open already; then there is nothing else but */
    int fd;
};

#define FM_ADDR_TEXT 128 /* room for any text made here */

/* Reads HOST:PORT, [IPv6]:PORT, :PORT (all IPv4 interfaces), unix:PATH or unix:@NAME, an abstract socket, or fd://N, a
 * descriptor; a host name
 * is resolved to its first address, localhost and *.localhost to 127.0.0.1 without asking (RFC 6761, 6.3).  0, or
 * FM_EINVAL with *why set to a static text. */
int fm_addr_parse(const char *text, struct fm_addr *out, const char **why);

/* The host ("127.0.0.1", "::1", "" for unix) into host[FM_ADDR_TEXT]; returns the port (0 for unix). */
unsigned fm_addr_host(const union fm_sockaddr *u, char *host);

unsigned fm_addr_port(const struct fm_addr *a);

/* Can only processes of this machine connect to it? */
bool fm_addr_is_local(const struct fm_addr *a);

/* A unix socket with a path, rather than an abstract name? */
bool fm_addr_is_path(const struct fm_addr *a);

/* The IPv6 address of localhost for its IPv4 address, and the reverse. */
void fm_addr_other_localhost(const struct fm_addr *a, unsigned port, struct fm_addr *other);

/* "http://127.0.0.1:8000", "http://[::1]:8000", "unix:/path", "unix:@name" or "fd://3" into text[FM_ADDR_TEXT]. */
void fm_addr_url(const struct fm_addr *a, char *text);

#endif

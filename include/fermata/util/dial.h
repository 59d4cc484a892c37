/* Sending to a daemon that may not be there yet, or any more: a syslog, a statsd.  One thread uses it, which may wait:
 * for a name to be resolved, for a socket that is full. */
#ifndef FERMATA_UTIL_DIAL_H
#define FERMATA_UTIL_DIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The last three are unix sockets; FM_DIAL_EITHER is whichever the daemon has. */
enum fm_dial_kind { FM_DIAL_UDP, FM_DIAL_TCP, FM_DIAL_DATAGRAM, FM_DIAL_STREAM, FM_DIAL_EITHER };

struct fm_dial_to {
    enum fm_dial_kind kind;
    char host[256]; /* or the path */
    char port[8];
};

/* HOST:PORT or [IPv6]:PORT.  False: it is none. */
bool fm_dial_parse_host(struct fm_dial_to *to, const char *text, enum fm_dial_kind kind);

/* A path, absolute or not, of a unix socket.  False: it is empty, or too long for one. */
bool fm_dial_parse_path(struct fm_dial_to *to, const char *path, enum fm_dial_kind kind);

struct fm_dial {
    const struct fm_dial_to *to;
    int fd;      /* -1: not connected */
    bool stream; /* what it is connected to is one */
    dev_t dev;
    ino_t ino; /* of the socket, to notice that its number has become another file's */
};

void fm_dial_init(struct fm_dial *d, const struct fm_dial_to *to);

/* One message, whole: a datagram, or a part of a stream, where a line feed ends it.  Connects where it is not, or no
 * longer, connected; waits as long as it takes.  0 or a negated errno, -EMSGSIZE where it can never be sent; then
 * nothing of it has arrived, or of a stream that ends there. */
int fm_dial_send(struct fm_dial *d, const char *p, size_t n);

void fm_dial_close(struct fm_dial *d);

#endif

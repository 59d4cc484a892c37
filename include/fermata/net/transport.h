/* What carries the bytes of a connection: the operations that a stream works through (net/stream.h).  net/plain.c is a
 * socket as it is; TLS will be another file of this kind, of which the stream knows no more than of this one.
 *
 * A transport knows nothing of queues, pauses and owners.  None of its operations waits, but for send_file.  Who calls
 * them, and under which lock, is the stream's to say: `receive`, `has_unread` and `error` are the loop's alone, `send`
 * is called by one thread at a time. */
#ifndef FERMATA_NET_TRANSPORT_H
#define FERMATA_NET_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct fm_transport_ops;

struct fm_transport { /* part of a stream; what another implementation keeps of its connections goes here */
    const struct fm_transport_ops *ops;
    int fd; /* the connected socket, non-blocking, which the stream has watched; -1 once it is closed */
};

struct fm_transport_ops {
    /* Takes what has come, at most len bytes of it: how many; 0: the peer has ended its direction; FM_EAGAIN: nothing
     * now; or a negated errno: the connection is broken. */
    ssize_t (*receive)(struct fm_transport *t, char *to, size_t len);

    /* Has something come that nothing has received? */
    bool (*has_unread)(const struct fm_transport *t);

    /* What has broken the connection, where the loop was told that it is: 0 or a negated errno.  It is told once. */
    int (*error)(const struct fm_transport *t);

    /* Sends n pieces in their order, as far as they go now: how many bytes; FM_EAGAIN: none; FM_ECLOSED: none ever
     * again.  more: others will follow at once. */
    ssize_t (*send)(struct fm_transport *t, const struct iovec *pieces, int n, bool more);

    /* Sends len bytes of the file fd from *pos, as far as the peer takes them, and adds what has left to *pos and
     * *sent. 0: all; FM_EAGAIN: the peer takes nothing for some milliseconds; FM_ECLOSED; -ENODATA: the file is
     * shorter; or a negated errno: it cannot be read.  On a file thread, as it waits for the file.  NULL: this
     * transport cannot. */
    int (*send_file)(const struct fm_transport *t, int fd, off_t *pos, size_t len, size_t *sent);

    /* Bytes that were sent and that the peer has not acknowledged. */
    uint64_t (*unacknowledged)(const struct fm_transport *t);

    /* The peer may leave what it is sent unacknowledged, or its window closed, for so many ns: the connection must not
     * end by itself before, if it would sooner. */
    void (*be_patient)(struct fm_transport *t, uint64_t ns);

    /* Ends our direction. */
    void (*shutdown)(struct fm_transport *t);

    /* Closes the socket; reset: so that the peer sees an error and not an end. */
    void (*close)(struct fm_transport *t, bool reset);
};

extern const struct fm_transport_ops fm_plain_ops;

/* A connected socket without anything around its bytes. */
static inline struct fm_transport fm_plain(int fd) { return (struct fm_transport){&fm_plain_ops, fd}; }

#endif

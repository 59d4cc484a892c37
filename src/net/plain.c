/* A connected socket as a transport: the only file that reads, writes or sets one.  See net/transport.h. */
#include "fermata/net/transport.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"

#define FULL_FOR 2 /* milliseconds that a file thread waits for the peer to take more */

/* ---- the loop's ---- */

static ssize_t receive(struct fm_transport *t, char *to, size_t len)
{
    ssize_t n = recv(t->fd, to, len, 0);
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EINTR ? FM_EAGAIN : -errno;
}

static bool has_unread(const struct fm_transport *t)
{
    char byte;
    return t->fd >= 0 && recv(t->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static int last_error(const struct fm_transport *t)
{
    int err = 0;
    socklen_t len = sizeof err;
    getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &err, &len);
    return -err;
}

/* ---- sending ---- */

/* Apart, so that what is mostly sent, one piece, costs no message. */
__attribute__((noinline)) static ssize_t send_several(int fd, const struct iovec *pieces, int n, int flags)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)pieces, .msg_iovlen = (size_t)n};
    return sendmsg(fd, &msg, flags);
}

static ssize_t send_pieces(struct fm_transport *t, const struct iovec *pieces, int n, bool more)
{
    int flags = MSG_NOSIGNAL | (more ? MSG_MORE : 0);
    for (;;) {
        ssize_t k =
            n == 1 ? send(t->fd, pieces->iov_base, pieces->iov_len, flags) : send_several(t->fd, pieces, n, flags);
        if (k >= 0)
            return k;
        if (errno != EINTR)
            return errno == EAGAIN || errno == ENOBUFS ? FM_EAGAIN : FM_ECLOSED;
    }
}

/* Does the peer take more at once?  A quick one does: then the file goes on without the loop, which costs two changes
 * of threads each time. */
static bool takes_more_soon(const struct fm_transport *t)
{
    struct pollfd p = {.fd = t->fd, .events = POLLOUT};
    return poll(&p, 1, FULL_FOR) > 0;
}

static int send_file(const struct fm_transport *t, int fd, off_t *pos, size_t len, size_t *sent)
{
    while (len > 0) {
        ssize_t k = sendfile(t->fd, fd, pos, len);
        if (k > 0) {
            *sent += (size_t)k;
            len -= (size_t)k;
            continue;
        }
        if (k == 0)
            return -ENODATA;
        int err = errno;
        if (err == EINTR || (err == EAGAIN && takes_more_soon(t)))
            continue;
        return err == EAGAIN ? FM_EAGAIN : err == EPIPE || err == ECONNRESET ? FM_ECLOSED : -err;
    }
    return 0;
}

/* ---- the peer ---- */

static uint64_t unacknowledged(const struct fm_transport *t)
{
    int n = 0;
    if (t->fd >= 0)
        ioctl(t->fd, SIOCOUTQ, &n);
    return (uint64_t)n;
}

static void be_patient(struct fm_transport *t, uint64_t ns)
{
    int now = 0, ms = ns / FM_MS < INT_MAX ? (int)(ns / FM_MS) : INT_MAX;
    socklen_t len = sizeof now;
    if (getsockopt(t->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &now, &len) == 0 && now != 0 && now < ms)
        setsockopt(t->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

static void end_direction(struct fm_transport *t) { shutdown(t->fd, SHUT_WR); }

static void close_socket(struct fm_transport *t, bool reset)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    if (reset)
        setsockopt(t->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    fm_fds_close(t->fd);
    t->fd = -1;
}

const struct fm_transport_ops fm_plain_ops = {
    .receive = receive,
    .has_unread = has_unread,
    .error = last_error,
    .send = send_pieces,
    .send_file = send_file,
    .unacknowledged = unacknowledged,
    .be_patient = be_patient,
    .shutdown = end_direction,
    .close = close_socket,
};

/* A socket that is connected again and again; see util/dial.h. */
#include "fermata/util/dial.h"

#include <errno.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "fermata/util/text.h"

static bool is_port(const char *text)
{
    unsigned n = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!fm_is_digit(text[i]))
            return false;
        n = n * 10 + (unsigned)(text[i] - '0');
    }
    return n > 0 && n <= 65535;
}

bool fm_dial_parse_host(struct fm_dial_to *to, const char *text, enum fm_dial_kind kind)
{
    const char *colon = strrchr(text, ':'), *host = text;
    size_t len = colon ? (size_t)(colon - text) : 0;
    if (!colon || !is_port(colon + 1))
        return false;
    bool bracket = len > 2 && *host == '[' && host[len - 1] == ']';
    if (bracket) {
        host++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof to->host || (!bracket && (memchr(host, ':', len) || *host == '[')) ||
        strpbrk(text, " /"))
        return false;
    to->kind = kind;
    memcpy(to->host, host, len);
    to->host[len] = '\0';
    memcpy(to->port, colon + 1, strlen(colon + 1) + 1);
    return true;
}

bool fm_dial_parse_path(struct fm_dial_to *to, const char *path, enum fm_dial_kind kind)
{
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof((struct sockaddr_un *)0)->sun_path)
        return false;
    to->kind = kind;
    memcpy(to->host, path, len + 1);
    to->port[0] = '\0';
    return true;
}

void fm_dial_init(struct fm_dial *d, const struct fm_dial_to *to) { *d = (struct fm_dial){.to = to, .fd = -1}; }

/* ---- connecting ---- */

/* The application may have closed our descriptor, by number, and the number is another file's or a client's now. */
static bool is_ours(const struct fm_dial *d)
{
    struct stat st;
    return d->fd >= 0 && fstat(d->fd, &st) == 0 && st.st_dev == d->dev && st.st_ino == d->ino;
}

void fm_dial_close(struct fm_dial *d)
{
    if (is_ours(d))
        close(d->fd);
    d->fd = -1;
}

static int connect_unix(const struct fm_dial_to *to, int type)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    memcpy(addr.sun_path, to->host, strlen(to->host));
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&addr, sizeof addr) == 0)
        return fd;
    int err = -errno;
    if (fd >= 0)
        close(fd);
    return err;
}

static int connect_host(const struct fm_dial_to *to, int type)
{
    struct addrinfo hints = {.ai_socktype = type}, *all = NULL;
    int rc = getaddrinfo(to->host, to->port, &hints, &all), err = rc == EAI_SYSTEM ? -errno : -EHOSTUNREACH, fd = -1;
    for (const struct addrinfo *a = rc == 0 ? all : NULL; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0)
            break;
        err = -errno;
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    if (rc == 0)
        freeaddrinfo(all);
    return fd >= 0 ? fd : err;
}

static int dial(struct fm_dial *d)
{
    struct stat st;
    enum fm_dial_kind kind = d->to->kind;
    bool stream = kind == FM_DIAL_TCP || kind == FM_DIAL_STREAM;
    int type = stream ? SOCK_STREAM : SOCK_DGRAM;
    int fd = kind == FM_DIAL_UDP || kind == FM_DIAL_TCP ? connect_host(d->to, type) : connect_unix(d->to, type);
    if (fd == -EPROTOTYPE && kind == FM_DIAL_EITHER) {
        stream = true;
        fd = connect_unix(d->to, SOCK_STREAM);
    }
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) != 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    d->fd = fd; /* not noted as the server's: it is not vital, and closed in a child by exec */
    d->stream = stream;
    d->dev = st.st_dev;
    d->ino = st.st_ino;
    return 0;
}

/* ---- sending ---- */

static int send_message(const struct fm_dial *d, const char *p, size_t n)
{
    struct iovec pieces[] = {{(void *)(uintptr_t)p, n}, {(void *)(uintptr_t) "\n", 1}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = d->stream ? 2 : 1};
    while (message.msg_iovlen > 0) {
        ssize_t k = sendmsg(d->fd, &message, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -errno;
        while (message.msg_iovlen > 0 && (size_t)k >= message.msg_iov->iov_len) {
            k -= (ssize_t)message.msg_iov->iov_len;
            message.msg_iov++;
            message.msg_iovlen--;
        }
        if (message.msg_iovlen > 0) {
            message.msg_iov->iov_base = (char *)message.msg_iov->iov_base + k;
            message.msg_iov->iov_len -= (size_t)k;
        }
    }
    return 0;
}

/* A socket that has been connected for long may be to a daemon that has ended since, and been started again: one
 * attempt more.  A UDP socket tells of the datagram before that it was refused. */
int fm_dial_send(struct fm_dial *d, const char *p, size_t n)
{
    if (!is_ours(d))
        d->fd = -1;
    bool fresh = d->fd < 0;
    int err = fresh ? dial(d) : 0;
    if (err == 0)
        err = send_message(d, p, n);
    if (err != 0 && err != -EMSGSIZE && !fresh) {
        fm_dial_close(d);
        err = dial(d);
        if (err == 0)
            err = send_message(d, p, n);
    }
    if (err != 0 && err != -EMSGSIZE)
        fm_dial_close(d);
    return err;
}

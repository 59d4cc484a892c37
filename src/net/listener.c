/* Listening sockets. */
#include "fermata/net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/log.h"
#include "fermata/util/owner.h"
#include "fermata/util/vital.h"

#define ACCEPTS_PER_WAKE 64

/* A path left behind by a server that is gone: connecting to it is refused. */
static bool is_stale_socket(const struct fm_addr *addr)
{
    struct stat st;
    if (!fm_addr_is_path(addr) || lstat(addr->u.un.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); /* a full backlog must not block us */
    if (fd < 0)
        return false;
    bool stale = connect(fd, &addr->u.sa, addr->len) != 0 && errno == ECONNREFUSED;
    close(fd);
    return stale;
}

/* What accepted sockets inherit from the listening one, so that it costs no call for each of them. */
static void set_tcp_options(int fd, const struct fm_listener_options *o)
{
    int on = 1, idle = (int)o->keepalive, user = (int)o->user_timeout, probes = FM_KEEPALIVE_PROBES, low = FM_NOT_SENT;
    int interval = idle < FM_KEEPALIVE_INTERVAL ? idle : FM_KEEPALIVE_INTERVAL;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &low, sizeof low);
    if (user > 0)
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user, sizeof user);
    if (idle == 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

void fm_listener_refill(struct fm_listener *l)
{
    while (l->nspares < l->wanted_spares) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return;
        l->spares[l->nspares++] = fd;
    }
}

static bool take_spare(struct fm_listener *l)
{
    if (l->nspares == 0)
        return false;
    close(l->spares[--l->nspares]);
    return true;
}

/* A path that bind takes is short; an absolute one need not be.  It is a path, not a descriptor of its directory, which
 * the application could close.  Where there is none it stays relative. */
static void keep_path(struct fm_listener *l, const char *path)
{
    size_t len = 0;
    if (*path != '/' && getcwd(l->path, sizeof l->path - sizeof l->addr.u.un.sun_path - 1)) {
        len = strlen(l->path);
        l->path[len++] = '/';
    }
    memcpy(l->path + len, path, strlen(path) + 1);
}

/* A path is made as the user that this process is going to be, where the user may make it. */
static int bind_path(int fd, const struct fm_addr *addr)
{
    struct fm_owner before;
    bool entered = fm_owner_enter(&before);
    int err = bind(fd, &addr->u.sa, addr->len) == 0 ? 0 : -errno;
    if (entered)
        fm_owner_leave(&before);
    if (!entered || (err != -EACCES && err != -EPERM))
        return err;
    err = bind(fd, &addr->u.sa, addr->len) == 0 ? 0 : -errno;
    return err == 0 ? fm_owner_give(addr->u.un.sun_path) : err;
}

/* As its owner: the path may be another's by now. */
static int set_mode(const char *path, unsigned mode)
{
    struct fm_owner before;
    bool entered = fm_owner_enter(&before);
    int err = chmod(path, mode) == 0 ? 0 : -errno;
    if (entered)
        fm_owner_leave(&before);
    return err;
}

/* Binds, a path with its mode.  No client can connect before the socket listens, so there is no moment with another
 * one; the umask has it right from the start where the directory has no default ACL.  0 or a negated errno. */
static int bind_to(struct fm_listener *l, const struct fm_addr *addr, unsigned mode)
{
    const char *path = addr->u.un.sun_path;
    struct stat st;
    if (!fm_addr_is_path(addr))
        return bind(l->fd, &addr->u.sa, addr->len) == 0 ? 0 : -errno;
    mode_t before = umask(0777);
    umask(mode ? ~mode & 0777 : before);
    int err = bind_path(l->fd, addr);
    umask(before);
    if (err == 0 && lstat(path, &st) == 0) {
        keep_path(l, path);
        l->device = st.st_dev;
        l->inode = st.st_ino;
        if (mode && (st.st_mode & 0777) != mode)
            err = set_mode(path, mode);
        if (err != 0)
            unlink(path);
    }
    return err;
}

int fm_listener_open(struct fm_listener *l, const struct fm_addr *addr, const struct fm_listener_options *o,
                     const char **what)
{
    int on = 1, only = o->only_ipv6, family = addr->u.sa.sa_family, err;
    *l = (struct fm_listener){
        .addr = *addr, .fd = -1, .pinned = -1, .wanted = true, .wanted_spares = o->spares, .left = o->backlog + 1};
    fm_timer_init(&l->retry);
    *what = "socket";
    l->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        return -errno;
    if (family == AF_UNIX) {
        if (is_stale_socket(addr))
            unlink(addr->u.un.sun_path);
    } else {
        setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        set_tcp_options(l->fd, o);
    }
    if (family == AF_INET6)
        setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only); /* whatever the system's default is */
    fm_fds_own(l->fd);
    *what = "bind";
    err = bind_to(l, addr, o->mode);
    if (err != 0)
        goto fail;
    *what = "listen";
    if (listen(l->fd, o->backlog) != 0) {
        err = -errno;
        fm_listener_unlink(l);
        goto fail;
    }
    if (family != AF_UNIX) {
        l->addr.len = sizeof l->addr.u;
        getsockname(l->fd, &l->addr.u.sa, &l->addr.len);
    }
    return 0;
fail:
    fm_fds_close(l->fd);
    l->fd = -1;
    return err;
}

static int ask(int fd, int name)
{
    int value = 0;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

static bool listens(int fd) { return ask(fd, SO_ACCEPTCONN) == 1; }

int fm_listener_adopt(struct fm_listener *l, int fd, const struct fm_listener_options *o)
{
    *l = (struct fm_listener){
        .fd = fd, .pinned = -1, .wanted = true, .shared = true, .wanted_spares = o->spares, .left = o->backlog + 1};
    fm_timer_init(&l->retry);
    l->addr.len = sizeof l->addr.u;
    if (getsockname(fd, &l->addr.u.sa, &l->addr.len) != 0)
        return -errno;
    fm_fds_own(fd);
    return listens(fd) ? 0 : -ENOTSOCK;
}

/* A standard stream that is a socket stays one of neither: what is printed would go there. */
static int above(int fd)
{
    if (fd > STDERR_FILENO)
        return fd;
    int up = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (up >= 0 && null >= 0)
        dup2(null, fd);
    if (null >= 0)
        close(null);
    return up < 0 ? -errno : up;
}

static int is_usable(int fd)
{
    int domain = ask(fd, SO_DOMAIN), type = ask(fd, SO_TYPE);
    if (domain < 0)
        return -errno;
    bool known = domain == AF_INET || domain == AF_INET6 || domain == AF_UNIX;
    return known && type == SOCK_STREAM ? 0 : -EPROTOTYPE;
}

int fm_listener_take(struct fm_listener *l, int fd, const struct fm_listener_options *o)
{
    if (fm_fds_is_own(fd)) /* it was not open when this process began */
        return -EBADF;
    int err = is_usable(fd);
    if (err != 0)
        return err;
    fd = above(fd);
    if (fd < 0)
        return fd;
    int flags = fcntl(fd, F_GETFL);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return -errno;
    if (ask(fd, SO_DOMAIN) != AF_UNIX)
        set_tcp_options(fd, o);
    if (!listens(fd) && listen(fd, o->backlog) != 0)
        return -errno;
    err = fm_listener_adopt(l, fd, o);
    l->shared = false;
    l->lent = true;
    return err;
}

void fm_listener_leave(struct fm_listener *l)
{
    if (l->fd >= 0 && l->inode != 0)
        l->pinned = open(l->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (l->fd >= 0)
        fm_fds_close(l->fd);
    l->fd = -1;
}

/* Where the application has closed a standard stream, its number is free: it must not become a connection's, or what is
 * printed would go to a client.  The number that the connection has instead, or -1 and errno says why there is none;
 * the stream becomes /dev/null. */
static int above_standard(int conn)
{
    if (conn > STDERR_FILENO)
        return conn;
    int up = fcntl(conn, F_DUPFD_CLOEXEC, STDERR_FILENO + 1), err = errno;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0)
        dup2(null, conn);
    else
        close(conn);
    if (null > STDERR_FILENO)
        close(null);
    errno = err;
    return up;
}

int fm_listener_number(struct fm_loop *loop, int conn)
{
    conn = above_standard(conn);
    if (conn >= 0 && fm_fds_is_own(conn) && !(loop->lost && loop->lost(loop->lost_ctx, conn)))
        fm_vital_lost("a descriptor");
    return conn;
}

/* Errors of that one connection, which accept(2) reports as its own: the next one may be fine. */
static bool is_of_the_network(int err)
{
    switch (err) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case EPERM: return true; /* a firewall's rule */
    default: return false;
    }
}

/* One connection: 0, or a negated errno. */
static int accept_one(struct fm_listener *l) FM_ON_LOOP
{
    union fm_sockaddr peer;
    socklen_t len = sizeof peer;
    memset(&peer.sa, 0, sizeof peer.sa);
    int conn = accept4(l->fd, &peer.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (conn >= 0)
        conn = fm_listener_number(l->loop, conn);
    if (conn < 0) {
        bool again = is_of_the_network(errno) || ((errno == EMFILE || errno == ENFILE) && take_spare(l));
        return again ? 0 : -errno;
    }
    l->complained = false;
    l->on_accept(l, conn, &peer);
    return 0;
}

/* Tries again later if even that fails. */
static void resume(struct fm_listener *l) FM_ON_LOOP
{
    if (event_add(l->event, NULL) == 0)
        return;
    fm_error_ratelimited("accept: %s; trying again", fm_strerror(errno ? -errno : -ENOMEM));
    fm_timer_start(&l->loop->timers, &l->retry, l->retry_kind, fm_loop_now(l->loop));
}

/* Whom the kernel wakes for a connection is who has waited for it longest, or not, as it likes: with four processes one
 * can get ten times what another gets.  Who has accepted puts itself behind the others. */
static void go_to_the_end(struct fm_listener *l) FM_ON_LOOP
{
    event_del(l->event);
    resume(l);
}

/* Accepts what waits, `most` of it.  How many, or -1 if accepting pauses, for want of something. */
static int accept_some(struct fm_listener *l, int most) FM_ON_LOOP
{
    int n = 0;
    while (n < most && l->wanted && l->fd >= 0) {
        int err = accept_one(l);
        n += err == 0;
        if (err == -EAGAIN)
            break;
        if (err == 0)
            continue;
        if (!l->complained) /* near its limit it works now and then */
            fm_error_ratelimited("accept: %s; accepting pauses and tries again", fm_strerror(err));
        l->complained = true;
        event_del(l->event);
        fm_timer_start(&l->loop->timers, &l->retry, l->retry_kind, fm_loop_now(l->loop));
        return -1;
    }
    return n;
}

/* This process had no thread for another request, so the others may have the connection, for as long as it takes to
 * wake up.  What they leave is ours. */
static void yield(struct fm_listener *l) FM_ON_LOOP
{
    event_del(l->event);
    fm_timer_start(&l->loop->timers, &l->retry, l->yield_kind, fm_loop_now(l->loop));
}

static void on_acceptable(evutil_socket_t fd, short events, void *arg)
{
    struct fm_listener *l = arg;
    (void)fd, (void)events;
    fm_assert_on_loop();
    if (l->shared && l->is_busy && l->is_busy(l)) {
        yield(l);
        return;
    }
    if (accept_some(l, l->shared ? 1 : ACCEPTS_PER_WAKE) > 0 && l->shared && l->wanted && l->fd >= 0)
        go_to_the_end(l);
}

void fm_listener_yielded(struct fm_timer *t)
{
    struct fm_listener *l = FM_LIST_ENTRY(t, struct fm_listener, retry);
    fm_assert_on_loop();
    if (accept_some(l, ACCEPTS_PER_WAKE) >= 0 && l->wanted && l->fd >= 0)
        resume(l);
}

void fm_listener_retry(struct fm_timer *t)
{
    struct fm_listener *l = FM_LIST_ENTRY(t, struct fm_listener, retry);
    fm_assert_on_loop();
    if (l->wanted && l->fd >= 0)
        resume(l);
}

int fm_listener_start(struct fm_listener *l, struct fm_loop *loop, unsigned retry_kind, fm_accept_fn *on_accept,
                      void *owner)
{
    l->loop = loop;
    l->retry_kind = retry_kind;
    l->on_accept = on_accept;
    l->owner = owner;
    fm_listener_refill(l);
    l->event = event_new(loop->base, l->fd, EV_READ | EV_PERSIST, on_acceptable, l);
    return l->event && event_add(l->event, NULL) == 0 ? 0 : -ENOMEM;
}

void fm_listener_want(struct fm_listener *l, bool wanted)
{
    if (l->wanted == wanted || !l->event)
        return;
    l->wanted = wanted;
    if (wanted)
        resume(l);
    else
        event_del(l->event);
}

void fm_listener_lost(struct fm_listener *l)
{
    if (l->event)
        event_free(l->event);
    l->event = NULL;
    l->fd = -1;
}

bool fm_listener_is_open(const struct fm_listener *l) { return listens(l->fd); }

/* While the socket or its path is open, and keeps its inode, no other path can have the number. */
void fm_listener_take_path(struct fm_listener *l, const struct fm_listener *before)
{
    l->device = before->device;
    l->inode = before->inode;
    memcpy(l->path, before->path, sizeof l->path);
}

void fm_listener_unlink(struct fm_listener *l)
{
    struct stat st;
    if (l->inode == 0 && l->pinned < 0)
        return; /* what has no path is not written to: this may be called beside the thread that closes it */
    if (l->inode != 0 && lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
        unlink(l->path);
    l->inode = 0;
    if (l->pinned >= 0)
        close(l->pinned);
    l->pinned = -1;
}

/* The first time: from now on it is asked only here. */
static void begin_to_finish(struct fm_listener *l) FM_ON_LOOP
{
    fm_listener_unlink(l); /* no client comes any more */
    event_free(l->event);
    l->event = NULL;
    fm_timer_stop(&l->retry);
}

bool fm_listener_finish(struct fm_listener *l, unsigned most)
{
    bool first = l->event && l->fd >= 0;
    int err = 0;
    if (first)
        begin_to_finish(l);
    for (; most > 0 && l->left > 0 && l->fd >= 0 && err == 0; most--, l->left--)
        err = accept_one(l);
    bool more = l->fd >= 0 && l->left > 0 && err != -EAGAIN;
    if (!more)
        fm_listener_close(l);
    else if (first && !l->shared && !l->lent)
        listen(l->fd, 0); /* clients that wait stay, and hardly one joins them */
    return !more;
}

void fm_listener_close(struct fm_listener *l)
{
    if (l->event)
        event_free(l->event);
    l->event = NULL;
    fm_timer_stop(&l->retry);
    while (take_spare(l))
        ;
    if (l->fd >= 0 || l->pinned >= 0) {
        fm_listener_unlink(l);
        fm_listener_leave(l);
    }
}

/* Many connections, each with at most one request in flight. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* QUEUED_MAX is how many connections the server may have to accept before more are dialled: far less than any
 * server's backlog, because what does not fit there is lost, tried again after seconds, and says nothing about the
 * server but its backlog. */
enum { CONNECTING_MAX = 256, QUEUED_MAX = 512, EVENTS = 256, INPUT = 64 * 1024 };

char *make_request(const struct sockaddr_in *to, const char *path, const char *headers)
{
    char host[INET_ADDRSTRLEN], *text;
    inet_ntop(AF_INET, &to->sin_addr, host, sizeof host);
    if (asprintf(&text,
                 "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUser-Agent: fermata-load/1.0\r\nAccept: */*\r\n"
                 "Accept-Encoding: gzip, deflate\r\nAccept-Language: en-GB,en;q=0.5\r\n%s\r\n",
                 path, host, ntohs(to->sin_port), headers ? headers : "") < 0)
        die("out of memory");
    return text;
}

int dial(const struct target *t, unsigned nth, double seconds)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (seconds > 0 ? 0 : SOCK_NONBLOCK), 0);
    if (fd < 0)
        return -1;
    struct timeval limit = {(time_t)seconds, (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); /* connect() looks at it as well */
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + nth % t->sources);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    /* The port is chosen by connect(), which needs it to be free only towards this server. */
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int)) == 0 &&
        bind(fd, (struct sockaddr *)&source, sizeof source) == 0 &&
        (connect(fd, (const struct sockaddr *)&t->address, sizeof t->address) == 0 ||
         (errno == EINPROGRESS && seconds <= 0)))
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

void swarm_init(struct swarm *s, const struct target *t, unsigned n)
{
    s->target = t;
    s->n = n;
    s->clients = xcalloc(n, sizeof *s->clients);
    s->connecting = s->dialled = s->opened = s->room = 0;
    s->looked = 0;
    STAILQ_INIT(&s->again);
    if ((s->ep = epoll_create1(EPOLL_CLOEXEC)) < 0)
        die("epoll_create1: %s", strerror(errno));
    for (unsigned i = 0; i < n; i++)
        s->clients[i].fd = -1;
}

void swarm_fini(struct swarm *s)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->clients[i].fd >= 0)
            close(s->clients[i].fd);
    close(s->ep);
    free(s->clients);
}

static void hang_up(struct swarm *s, struct client *c)
{
    if (c->state == CLIENT_CONNECTING)
        s->connecting--;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->state = CLIENT_DEAD;
}

static void lose(struct swarm *s, struct client *c, enum loss why)
{
    hang_up(s, c);
    s->on_loss(s, c, why);
}

/* ---- connecting ---- */

static void dial_client(struct swarm *s, struct client *c)
{
    c->fd = dial(s->target, (unsigned)(c - s->clients), 0);
    if (c->fd < 0 && errno == EADDRNOTAVAIL)
        die("no free port is left: --sources must be larger");
    if (c->fd < 0 && (errno == EMFILE || errno == ENFILE))
        die("socket: %s", strerror(errno));
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
    if (c->fd < 0 || epoll_ctl(s->ep, EPOLL_CTL_ADD, c->fd, &e) != 0) {
        lose(s, c, LOST_CONNECT);
        return;
    }
    c->state = CLIENT_CONNECTING;
    s->connecting++;
}

/* How many connections the listener has not accepted yet, or -1 if that is not known.  The kernel lists listeners
 * first, so one page has it, however many connections there are. */
static long accept_queue(in_port_t port)
{
    char page[4096], *save, wanted[16];
    int fd = open("/proc/net/tcp", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, page, sizeof page - 1);
    if (fd >= 0)
        close(fd);
    page[n > 0 ? n : 0] = '\0';
    snprintf(wanted, sizeof wanted, ":%04X", ntohs(port));
    for (char *line = strtok_r(page, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char local[64], peer[64];
        unsigned state;
        unsigned long queued;
        if (sscanf(line, " %*[0-9]: %63s %63s %x %*x:%lx", local, peer, &state, &queued) == 4 && state == 0x0a &&
            strstr(local, wanted))
            return (long)queued;
    }
    return -1;
}

/* Whether one more may be dialled now. */
static bool may_dial(struct swarm *s)
{
    if (s->connecting >= CONNECTING_MAX || (s->dialled == s->n && STAILQ_EMPTY(&s->again)))
        return false;
    if (s->room == 0 && s->now - s->looked >= 1000000) {
        s->looked = s->now;
        long queued = accept_queue(s->target->address.sin_port);
        s->room = queued < QUEUED_MAX ? (unsigned)(QUEUED_MAX - (queued > 0 ? queued : 0)) : 0;
    }
    return s->room > 0;
}

/* Returns whether there is more to do soon. */
static bool dial_some(struct swarm *s)
{
    while (may_dial(s)) {
        struct client *c = STAILQ_FIRST(&s->again);
        if (c)
            STAILQ_REMOVE_HEAD(&s->again, again);
        else
            c = &s->clients[s->dialled++];
        s->room--;
        dial_client(s, c);
    }
    return s->dialled < s->n || !STAILQ_EMPTY(&s->again);
}

void swarm_redial(struct swarm *s, struct client *c)
{
    c->reply.state = REPLY_STATUS;
    STAILQ_INSERT_TAIL(&s->again, c, again);
}

static void on_connected(struct swarm *s, struct client *c)
{
    int error = 0;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (error || epoll_ctl(s->ep, EPOLL_CTL_MOD, c->fd, &e) != 0) {
        lose(s, c, LOST_CONNECT);
        return;
    }
    s->connecting--;
    s->opened++;
    c->state = CLIENT_IDLE;
    s->on_open(s, c);
}

/* ---- requests and replies ---- */

void swarm_request(struct swarm *s, struct client *c)
{
    memset(&c->reply, 0, offsetof(struct reply, line));
    c->sent = s->now;
    c->state = CLIENT_WAITING;
    /* The socket is empty, so a request goes in whole. */
    if (send(c->fd, s->target->request, s->target->nrequest, MSG_NOSIGNAL) != (ssize_t)s->target->nrequest)
        lose(s, c, LOST_BROKEN);
}

static void complete(struct swarm *s, struct client *c)
{
    c->state = CLIENT_IDLE;
    if (c->reply.close)
        hang_up(s, c);
    s->on_reply(s, c);
}

static void on_end(struct swarm *s, struct client *c)
{
    if (c->state == CLIENT_WAITING && reply_ended(&c->reply)) {
        c->reply.close = true;
        complete(s, c);
    } else {
        lose(s, c, LOST_BROKEN);
    }
}

static void on_readable(struct swarm *s, struct client *c)
{
    static char input[INPUT];
    ssize_t n = recv(c->fd, input, sizeof input, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    s->now = now_ns();
    if (n <= 0) {
        on_end(s, c);
        return;
    }
    ssize_t taken = c->state == CLIENT_WAITING ? reply_feed(&c->reply, input, (size_t)n, s->on_body, c) : 0;
    if (taken != n) /* more than was asked for, or not HTTP */
        lose(s, c, LOST_MALFORMED);
    else if (c->reply.state == REPLY_COMPLETE)
        complete(s, c);
}

void swarm_turn(struct swarm *s, int ms)
{
    struct epoll_event events[EVENTS];
    s->now = now_ns();
    bool more = dial_some(s);
    int n = epoll_wait(s->ep, events, EVENTS, more && ms > 1 ? 1 : ms);
    s->now = now_ns();
    for (int i = 0; i < n; i++) {
        struct client *c = events[i].data.ptr;
        if (c->state == CLIENT_CONNECTING)
            on_connected(s, c);
        else
            on_readable(s, c);
    }
}

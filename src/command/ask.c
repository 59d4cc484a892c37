/* A request and its answer; see command/ask.h.  The admin port of any version answers with a length, or closes. */
#include "fermata/command/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "fermata/util/clock.h"
#include "fermata/util/err.h"

#define MOST (16u << 20) /* bytes of an answer */
#define MOST_HEAD 16384
#define A_TIME 65536

struct asking {
    const struct fm_target *target;
    uint64_t until;
    char *why;
    int fd;
    const int *ends;
    struct fm_buf in; /* head and body */
    size_t head;      /* bytes of the former, with the empty line; 0: it is not whole */
    size_t body;      /* bytes of the latter; SIZE_MAX: up to the end */
};

static bool wrong(const struct asking *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool wrong(const struct asking *a, const char *format, ...)
{
    va_list ap;
    int n = snprintf(a->why, FM_SENTENCE, "%s: ", a->target->text);
    va_start(ap, format);
    vsnprintf(a->why + n, FM_SENTENCE - (size_t)n, format, ap);
    va_end(ap);
    return false;
}

static bool wait_for(const struct asking *a, short events)
{
    struct pollfd p[] = {{a->ends[0], POLLIN, 0}, {a->ends[1], POLLIN, 0}, {a->fd, events, 0}};
    for (;;) {
        uint64_t now = fm_now();
        if (now >= a->until)
            return wrong(a, "no answer within %d seconds", FM_ASK_SECONDS);
        int n = poll(p, FM_ASK_ENDS + 1, (int)((a->until - now) / FM_MS) + 1);
        if (n > 0)
            return !p[0].revents && !p[1].revents;
        if (n < 0 && errno != EINTR)
            return wrong(a, "%s", fm_strerror(-errno));
    }
}

/* ---- connecting ---- */

static bool not_connected(const struct asking *a, int err)
{
    bool path = fm_addr_is_path(&a->target->addr);
    if (err == ECONNREFUSED)
        return wrong(a, "nothing listens there");
    if (err == ENOENT && path)
        return wrong(a, "there is no such socket");
    if (err == EACCES && path)
        return wrong(a, "the socket is another user's");
    if (err == ETIMEDOUT)
        return wrong(a, "no connection within %d seconds", FM_ASK_SECONDS);
    return wrong(a, "%s", fm_strerror(-err));
}

/* 0 or an errno.  SO_SNDTIMEO is the one way to wait for a unix socket with so many who wait to be accepted. */
static int connect_to(struct asking *a, const struct fm_addr *addr)
{
    struct timeval most = {.tv_sec = FM_ASK_SECONDS};
    a->fd = socket(addr->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (a->fd < 0)
        return errno;
    setsockopt(a->fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
    if (connect(a->fd, &addr->u.sa, addr->len) == 0 && fcntl(a->fd, F_SETFL, O_NONBLOCK) == 0)
        return 0;
    int err = errno == EINPROGRESS || errno == EAGAIN ? ETIMEDOUT : errno;
    close(a->fd);
    a->fd = -1;
    return err;
}

static bool open_connection(struct asking *a)
{
    struct fm_addr other;
    const struct fm_addr *addr = &a->target->addr;
    int err = connect_to(a, addr);
    if (err == ECONNREFUSED && addr->is_localhost) {
        fm_addr_other_localhost(addr, fm_addr_port(addr), &other);
        err = connect_to(a, &other);
        if (err == EADDRNOTAVAIL || err == EAFNOSUPPORT) /* there is no such address here */
            err = ECONNREFUSED;
    }
    return err == 0 || not_connected(a, err);
}

/* ---- the request ---- */

static bool send_request(const struct asking *a, const char *method, const char *path)
{
    char text[FM_TARGET_TEXT + 256];
    bool post = strcmp(method, "POST") == 0;
    size_t n = (size_t)snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n", method,
                                path, a->target->host, post ? "X-Fermata: 1\r\nContent-Length: 0\r\n" : "");
    for (size_t at = 0; at < n;) {
        if (!wait_for(a, POLLOUT))
            return false;
        ssize_t sent = send(a->fd, text + at, n - at, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return wrong(a, "%s", fm_strerror(-errno));
        at += sent > 0 ? (size_t)sent : 0;
    }
    return true;
}

/* ---- the answer ---- */

/* The value of a field of the head that the buffer has, without white space before it; or NULL. */
static const char *field_of(const struct asking *a, const char *name)
{
    size_t len = strlen(name);
    const char *line = fm_buf_head(&a->in), *end = line + a->head;
    while (line && line < end && (line = memchr(line, '\n', (size_t)(end - line)))) {
        line++;
        if ((size_t)(end - line) > len && line[len] == ':' && strncasecmp(line, name, len) == 0)
            return line + len + 1 + strspn(line + len + 1, " \t");
    }
    return NULL;
}

static bool not_ours(const struct asking *a) { return wrong(a, "what answers there is no admin port of Fermata's"); }

/* Looks at what has come so far.  What is appended later may move the buffer. */
static bool read_head(struct asking *a, int *status)
{
    const char *text = fm_buf_head(&a->in);
    const char *end = fm_buf_size(&a->in) ? memmem(text, fm_buf_size(&a->in), "\r\n\r\n", 4) : NULL;
    if (!end)
        return fm_buf_size(&a->in) < MOST_HEAD || not_ours(a);
    a->head = (size_t)(end - text) + 4;
    if (sscanf(text, "HTTP/1.%*1d %3d", status) != 1)
        return not_ours(a);
    const char *server = field_of(a, "Server"), *length = field_of(a, "Content-Length");
    if (!server || strncmp(server, "fermata\r\n", 9) != 0)
        return not_ours(a);
    a->body = length ? strtoul(length, NULL, 10) : SIZE_MAX;
    return a->body == SIZE_MAX || a->body <= MOST || wrong(a, "the answer is too long");
}

static bool is_whole(const struct asking *a)
{
    return a->head > 0 && a->body != SIZE_MAX && fm_buf_size(&a->in) - a->head >= a->body;
}

static bool read_answer(struct asking *a, int *status)
{
    while (!is_whole(a)) {
        char *to = fm_buf_reserve(&a->in, A_TIME + 1);
        if (!to)
            return wrong(a, "%s", fm_strerror(-ENOMEM));
        if (!wait_for(a, POLLIN))
            return false;
        ssize_t n = recv(a->fd, to, A_TIME, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n < 0)
            return wrong(a, "%s", fm_strerror(-errno));
        if (n == 0)
            return (a->head > 0 && a->body == SIZE_MAX) ||
                   wrong(a, "it has closed the connection before it had answered");
        to[n] = '\0'; /* for what reads the head */
        a->in.len += (size_t)n;
        if (fm_buf_size(&a->in) > MOST + MOST_HEAD)
            return wrong(a, "the answer is too long");
        if (a->head == 0 && !read_head(a, status))
            return false;
    }
    return true;
}

bool fm_ask(const struct fm_target *t, const char *method, const char *path, const int *ends, struct fm_told *told,
            char *why)
{
    struct asking a = {.target = t,
                       .until = fm_now() + FM_ASK_SECONDS * FM_SEC,
                       .why = why,
                       .fd = -1,
                       .ends = ends,
                       .in = FM_BUF_INIT};
    *told = (struct fm_told){.body = FM_BUF_INIT};
    *why = '\0';
    bool good = open_connection(&a) && send_request(&a, method, path) && read_answer(&a, &told->status);
    if (a.fd >= 0)
        close(a.fd);
    if (good && a.body < fm_buf_size(&a.in) - a.head)
        a.in.len = a.in.off + a.head + a.body;
    if (good)
        fm_buf_consume(&a.in, a.head);
    told->body = a.in;
    return good;
}

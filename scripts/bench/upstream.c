/* A slow upstream: answers every request with the same body after the same delay, over any number of connections.
 *
 * The delay is constant, so who waits longest is always first in one list: no heap, and one timeout for epoll.
 */
#include <errno.h>
#include <http_parser.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load_common.h"

enum { INPUT = 64 * 1024, EVENTS = 256 };

struct conn {
    TAILQ_ENTRY(conn) order;
    int fd;
    bool waiting; /* for its answer: in the list */
    bool last;    /* the connection ends after this answer */
    bool blocked; /* the socket did not take all of it */
    uint64_t due;
    size_t sent;
    http_parser parser;
};

static TAILQ_HEAD(, conn) waiting = TAILQ_HEAD_INITIALIZER(waiting);
static int ep;
static uint64_t delay;
static char *answer;
static size_t nanswer;

static void make_answer(unsigned bytes)
{
    answer = xcalloc(1, bytes + 256);
    nanswer = (size_t)snprintf(answer, 256,
                               "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                               "Content-Length: %u\r\n\r\n",
                               bytes);
    memset(answer + nanswer, 'x', bytes);
    nanswer += bytes;
}

static void conn_free(struct conn *c)
{
    if (c->waiting)
        TAILQ_REMOVE(&waiting, c, order);
    close(c->fd);
    free(c);
}

static void watch(struct conn *c, int how, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(ep, how, c->fd, &e) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

/* Sends what is left of the answer.  May free the connection. */
static void transmit(struct conn *c)
{
    ssize_t n = send(c->fd, answer + c->sent, nanswer - c->sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        conn_free(c);
        return;
    }
    c->sent += n > 0 ? (size_t)n : 0;
    bool blocked = c->sent < nanswer;
    if (!blocked && c->last) {
        conn_free(c);
        return;
    }
    if (blocked != c->blocked)
        watch(c, EPOLL_CTL_MOD, blocked ? EPOLLOUT : EPOLLIN);
    c->blocked = blocked;
}

static int on_complete(http_parser *p)
{
    struct conn *c = p->data;
    if (c->waiting)
        return -1; /* pipelined: no client of the benchmark does */
    c->waiting = true;
    c->last = !http_should_keep_alive(p);
    c->due = now_ns() + delay;
    TAILQ_INSERT_TAIL(&waiting, c, order);
    return 0;
}

static const http_parser_settings settings = {.on_message_complete = on_complete};

static void on_readable(struct conn *c)
{
    static char input[INPUT];
    ssize_t n = recv(c->fd, input, sizeof input, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || http_parser_execute(&c->parser, &settings, input, (size_t)n) != (size_t)n)
        conn_free(c);
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct conn *c = xcalloc(1, sizeof *c);
        c->fd = fd;
        http_parser_init(&c->parser, HTTP_REQUEST);
        c->parser.data = c;
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static void answer_due(void)
{
    struct conn *c;
    uint64_t now = now_ns();
    while ((c = TAILQ_FIRST(&waiting)) && c->due <= now) {
        TAILQ_REMOVE(&waiting, c, order);
        c->waiting = false;
        c->sent = 0;
        transmit(c);
    }
}

/* Until the first one is due: exactly, since rounding to milliseconds would add to the delay. */
static int wait_for_events(struct epoll_event *events)
{
    const struct conn *first = TAILQ_FIRST(&waiting);
    if (!first)
        return epoll_wait(ep, events, EVENTS, -1);
    uint64_t now = now_ns(), left = first->due > now ? first->due - now : 0;
    struct timespec t = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
    return epoll_pwait2(ep, events, EVENTS, &t, NULL);
}

static noreturn void serve(int listener)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        int n = wait_for_events(events);
        if (n < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c)
                accept_all(listener);
            else if (events[i].events & EPOLLOUT)
                transmit(c);
            else
                on_readable(c);
        }
        answer_due();
    }
}

int main(int argc, char **argv)
{
    unsigned port = 0, delay_ms = 50, bytes = 10240, connections = 10000;
    const struct option_row rows[] = {
        {"--port", OPTION_PORT, &port, "P", "port on 127.0.0.1"},
        {"--delay-ms", OPTION_COUNT, &delay_ms, "MS", "from a complete request to its answer [50]"},
        {"--bytes", OPTION_COUNT, &bytes, "N", "length of the body [10240]"},
        {"--connections", OPTION_COUNT, &connections, "N", "make room for so many at once [10000]"},
    };
    (void)argc;
    parse_options(argv, "usage: upstream --port P [options]\n\nAnswers every request after a while.", rows,
                  sizeof rows / sizeof rows[0]);
    if (!port)
        usage_error("--port is missing");
    need_descriptors(connections + 20);
    make_answer(bytes);
    delay = delay_ms * UINT64_C(1000000);

    int listener = listen_on(port);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if ((ep = epoll_create1(EPOLL_CLOEXEC)) < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e) != 0)
        die("epoll: %s", strerror(errno));
    serve(listener);
}

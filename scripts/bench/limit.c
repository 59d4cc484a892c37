/* The practical limit: what a C server of Fermata's shape can do on this machine when it has no application.
 *
 * One thread, libevent without locks, a persistent read event per connection, http-parser with the callbacks that a
 * server needs (the target and every header end up as slices), and a constant answer as long as the one that Fermata
 * gives for examples/hello.py, in one write.  It takes no shortcut that a real server could not take; it also has no
 * timeouts, limits or counters, so a server with them cannot quite reach it.
 */
#include <errno.h>
#include <http_parser.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "load_common.h"

enum { INPUT = 8192, FIELDS = 100, OUTPUT = 64 * 1024 };

struct slice {
    uint32_t at, len; /* counted from the begin of the request's target */
};

struct conn {
    struct event readable, writable;
    struct event_base *base;
    http_parser parser;
    struct slice url, name[FIELDS], value[FIELDS];
    unsigned fields;
    bool in_value;
    uint32_t begin; /* where in `input` the target of the request is that is being read, if url.len */
    uint32_t used;  /* bytes of `input` */
    char *kept;     /* output that the socket did not take */
    size_t nkept;
    char input[INPUT];
};

/* All connections have one thread, so one buffer is enough for the answers to what one read brought. */
static char output[OUTPUT];
static size_t noutput;

/* ---- the answer ---- */

static char answer[256];
static size_t nanswer;

/* Renewed when the second has changed, since it contains the date. */
static void renew_answer(void)
{
    static time_t made;
    time_t now = time(NULL);
    if (now == made)
        return;
    made = now;
    char date[40];
    struct tm tm;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    nanswer = (size_t)snprintf(answer, sizeof answer,
                               "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n"
                               "Server: limit-c/0.1.0\r\nDate: %s\r\n\r\nHello, world!\n",
                               date);
}

/* ---- connections ---- */

static void conn_free(struct conn *c)
{
    int fd = event_get_fd(&c->readable);
    event_del(&c->readable);
    event_del(&c->writable);
    close(fd);
    free(c->kept);
    free(c);
}

static void keep(struct conn *c, const char *data, size_t n)
{
    c->kept = xrealloc(c->kept, n);
    memmove(c->kept, data, n);
    c->nkept = n;
    event_del(&c->readable);
    event_add(&c->writable, NULL);
}

/* Returns false if the connection is gone. */
static bool transmit(struct conn *c, const char *data, size_t n)
{
    ssize_t sent = send(event_get_fd(&c->readable), data, n, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return false;
    if (sent < (ssize_t)n)
        keep(c, data + (sent > 0 ? sent : 0), n - (size_t)(sent > 0 ? sent : 0));
    return true;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    (void)fd, (void)what;
    size_t n = c->nkept;
    c->nkept = 0;
    if (!transmit(c, c->kept, n))
        conn_free(c);
    else if (!c->nkept)
        event_add(&c->readable, NULL);
}

/* ---- parsing ---- */

/* Pieces of one token follow each other in `input`, also when they were read at different times. */
static void extend(struct conn *c, struct slice *s, const char *at, size_t len)
{
    if (s->len == 0)
        s->at = (uint32_t)(at - c->input) - c->begin;
    s->len += (uint32_t)len;
}

static int on_url(http_parser *p, const char *at, size_t len)
{
    struct conn *c = p->data;
    if (c->url.len == 0) {
        c->begin = (uint32_t)(at - c->input);
        c->fields = 0;
        c->in_value = true;
    }
    extend(c, &c->url, at, len);
    return 0;
}

static int on_field(http_parser *p, const char *at, size_t len)
{
    struct conn *c = p->data;
    if (c->in_value) {
        if (c->fields == FIELDS)
            return -1;
        c->name[c->fields].len = c->value[c->fields].len = 0;
        c->fields++;
        c->in_value = false;
    }
    extend(c, &c->name[c->fields - 1], at, len);
    return 0;
}

static int on_value(http_parser *p, const char *at, size_t len)
{
    struct conn *c = p->data;
    c->in_value = true;
    extend(c, &c->value[c->fields - 1], at, len);
    return 0;
}

/* Requests with a body are not part of the comparison. */
static int on_body(http_parser *p, const char *at, size_t len)
{
    (void)p, (void)at, (void)len;
    return -1;
}

static int on_complete(http_parser *p)
{
    struct conn *c = p->data;
    if (noutput + nanswer > OUTPUT)
        return -1;
    memcpy(output + noutput, answer, nanswer);
    noutput += nanswer;
    c->url.len = 0;
    return http_should_keep_alive(p) ? 0 : -1;
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

/* The input of answered requests is dropped; what there is of the next one moves to the front. */
static void drop_input(struct conn *c)
{
    if (c->url.len == 0) {
        c->used = 0;
        return;
    }
    c->used -= c->begin;
    memmove(c->input, c->input + c->begin, c->used);
    c->begin = 0;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    (void)what;
    ssize_t n = recv(fd, c->input + c->used, INPUT - c->used, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* also when a head does not fit */
        conn_free(c);
        return;
    }
    noutput = 0;
    renew_answer();
    size_t parsed = http_parser_execute(&c->parser, &settings, c->input + c->used, (size_t)n);
    bool ended = parsed != (size_t)n || HTTP_PARSER_ERRNO(&c->parser) != HPE_OK;
    c->used += (uint32_t)n;
    if ((noutput && !transmit(c, output, noutput)) || ended) {
        conn_free(c);
        return;
    }
    drop_input(c);
}

/* ---- main ---- */

static void on_connection(evutil_socket_t listener, short what, void *arg)
{
    (void)what;
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct conn *c = xcalloc(1, sizeof *c);
        http_parser_init(&c->parser, HTTP_REQUEST);
        c->parser.data = c;
        event_assign(&c->readable, arg, fd, EV_READ | EV_PERSIST, on_readable, c);
        event_assign(&c->writable, arg, fd, EV_WRITE, on_writable, c);
        event_add(&c->readable, NULL);
    }
}

int main(int argc, char **argv)
{
    unsigned port = 0, connections = 10000;
    const struct option_row rows[] = {
        {"--port", OPTION_PORT, &port, "P", "port on 127.0.0.1"},
        {"--connections", OPTION_COUNT, &connections, "N", "make room for so many at once [10000]"},
    };
    (void)argc;
    parse_options(argv, "usage: limit --port P\n\nAnswers every request with the same hello, as fast as can be.", rows,
                  sizeof rows / sizeof rows[0]);
    if (!port)
        usage_error("--port is missing");
    need_descriptors(connections + 20);

    struct event_config *config = event_config_new();
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    struct event_base *base = event_base_new_with_config(config);
    if (!base)
        die("libevent has no event base to offer");
    struct event *listener = event_new(base, listen_on(port), EV_READ | EV_PERSIST, on_connection, base);
    event_add(listener, NULL);
    event_base_dispatch(base);
    return 1;
}

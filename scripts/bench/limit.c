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

enum { INPUT = 16 * 1024, FIELDS = 100, OUTPUT = 256 * 1024 }; /* OUTPUT: of all that fit into INPUT */

/* What was not finished with one event.  As good as always there is nothing. */
struct rest {
    char *data;
    size_t n;
};

struct conn {
    struct event readable, writable;
    struct rest input;  /* the begin of a request */
    struct rest output; /* what the socket did not take */
};

/* All connections share one thread, so they share these: a connection stays small and the caches stay warm. */
static char input[INPUT], output[OUTPUT];
static size_t noutput;

struct slice {
    const char *at;
    size_t len;
};

/* The request that is being parsed. */
static struct {
    struct slice url, name[FIELDS], value[FIELDS];
    unsigned fields;
    bool in_value;
} request;

static void keep(struct rest *r, const char *data, size_t n)
{
    r->data = xrealloc(r->data, n);
    memmove(r->data, data, n);
    r->n = n;
}

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
    free(c->input.data);
    free(c->output.data);
    free(c);
}

/* Returns false if the connection is gone.  What is not sent now is kept, and until it is sent nothing is read. */
static bool transmit(struct conn *c, const char *data, size_t n)
{
    ssize_t sent = send(event_get_fd(&c->readable), data, n, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return false;
    size_t done = sent > 0 ? (size_t)sent : 0;
    if (done < n) {
        keep(&c->output, data + done, n - done);
        event_del(&c->readable);
        event_add(&c->writable, NULL);
    }
    return true;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    (void)fd, (void)what;
    size_t n = c->output.n;
    c->output.n = 0;
    if (!transmit(c, c->output.data, n))
        conn_free(c);
    else if (!c->output.n)
        event_add(&c->readable, NULL);
}

/* ---- parsing ---- */

/* A token may be reported in pieces, which follow each other. */
static void extend(struct slice *s, const char *at, size_t len)
{
    if (s->len == 0)
        s->at = at;
    s->len += len;
}

static int on_begin(http_parser *p)
{
    (void)p;
    request.url.len = 0;
    request.fields = 0;
    request.in_value = true;
    return 0;
}

static int on_url(http_parser *p, const char *at, size_t len)
{
    (void)p;
    extend(&request.url, at, len);
    return 0;
}

static int on_field(http_parser *p, const char *at, size_t len)
{
    (void)p;
    if (request.in_value) {
        if (request.fields == FIELDS)
            return -1;
        request.name[request.fields].len = request.value[request.fields].len = 0;
        request.fields++;
        request.in_value = false;
    }
    extend(&request.name[request.fields - 1], at, len);
    return 0;
}

static int on_value(http_parser *p, const char *at, size_t len)
{
    (void)p;
    request.in_value = true;
    extend(&request.value[request.fields - 1], at, len);
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
    if (noutput + nanswer > OUTPUT)
        return -1;
    memcpy(output + noutput, answer, nanswer);
    noutput += nanswer;
    http_parser_pause(p, 1); /* so that it says where the request ends */
    return 0;
}

static const http_parser_settings settings = {
    .on_message_begin = on_begin,
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

enum verdict { GO_ON, END };

/* Answers the requests in `input`, and keeps the begin of one that is not complete: it is parsed again with more. */
static enum verdict parse(struct conn *c, size_t n)
{
    size_t at = 0;
    noutput = 0;
    c->input.n = 0;
    while (at < n) {
        http_parser parser;
        http_parser_init(&parser, HTTP_REQUEST);
        size_t parsed = http_parser_execute(&parser, &settings, input + at, n - at);
        if (HTTP_PARSER_ERRNO(&parser) == HPE_OK) {
            keep(&c->input, input + at, n - at);
            return n - at < INPUT ? GO_ON : END;
        }
        if (HTTP_PARSER_ERRNO(&parser) != HPE_PAUSED || !http_should_keep_alive(&parser))
            return END;
        at += parsed;
    }
    return GO_ON;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    (void)what;
    size_t had = c->input.n;
    if (had)
        memcpy(input, c->input.data, had);
    ssize_t n = recv(fd, input + had, INPUT - had, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        conn_free(c);
        return;
    }
    renew_answer();
    enum verdict verdict = parse(c, had + (size_t)n);
    if ((noutput && !transmit(c, output, noutput)) || verdict == END)
        conn_free(c);
}

/* ---- main ---- */

static void on_connection(evutil_socket_t listener, short what, void *arg)
{
    (void)what;
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct conn *c = xcalloc(1, sizeof *c);
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

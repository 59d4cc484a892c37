/* Connections: reading requests, one exchange at a time, timeouts, refusals, closing.  States are told in conn.h.
 * All of it on the loop. */
#include "fermata/server/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fermata/http/h1/framer.h"
#include "fermata/server/access.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"

#define READ_AHEAD (64 * 1024) /* bytes kept of what a client sends while its request is being served */

static struct fm_conn *of_stream(struct fm_stream *s) { return FM_LIST_ENTRY(s, struct fm_conn, stream); }
static struct fm_conn *of_timer(struct fm_timer *t) { return FM_LIST_ENTRY(t, struct fm_conn, timer); }

/* In a drain, what is no request yet, or no more, has little time. */
static void start_timer(struct fm_conn *c, enum fm_timeout kind) FM_ON_LOOP
{
    if ((kind == FM_T_HEADER || kind == FM_T_LINGER) && atomic_load(&c->server->draining))
        kind = FM_T_DRAIN;
    c->timing = (uint8_t)kind;
    fm_timer_start(&c->server->loop.timers, &c->timer, kind, fm_loop_now(&c->server->loop));
}

void fm_conn_close(struct fm_conn *c)
{
    struct fm_server *server = c->server;
    if (c->exchange)
        fm_exchange_drop(c->exchange);
    fm_exchange_fini(&c->own);
    fm_timer_stop(&c->timer);
    fm_list_remove(&c->node);
    fm_stream_fini(&c->stream);
    fm_parser_free(c->parser);
    fm_buf_fini(&c->ahead);
    free(c);
    fm_server_conn_gone(server);
}

/* Ends our direction and waits for the client to end its own, reading and dropping what it still sends: a close with
 * unread bytes would reset the connection and could take the response with it (RFC 9112, 9.6).  False: it is closed and
 * gone already. */
static bool linger(struct fm_conn *c) FM_ON_LOOP
{
    if (c->ended || fm_stream_is_dead(&c->stream)) {
        fm_conn_close(c);
        return false;
    }
    c->state = FM_CONN_LINGERING;
    fm_buf_fini(&c->ahead);
    fm_stream_set_reading(&c->stream, FM_READ_ON);
    if (fm_stream_pending(&c->stream) == 0)
        fm_stream_shutdown(&c->stream);
    start_timer(c, FM_T_LINGER);
    return true;
}

/* ---- reading ---- */

/* Says why: each time at level debug, else rate-limited, for it may happen very often. */
static void log_refusal(struct fm_conn *c, const struct fm_http_error *error) FM_ON_LOOP
{
    static struct fm_ratelimit places[FM_REFUSALS_END]; /* one for each reason */
    char what[256];
    bool debug = fm_log_on(FM_LOG_DEBUG);
    const char *remote = *c->remote ? c->remote : "unix";
    fm_parser_describe(c->parser, what, sizeof what);
    if (debug)
        fm_debug("refused with %d (%s): %s; from %s: \"%s\"", error->status, error->slug, error->reason, remote, what);
    else
        fm_log_ratelimited(&places[error->id], FM_LOG_WARNING, "refused with %d (%s): %s; from %s: \"%s\"",
                           error->status, error->slug, error->reason, remote, what);
}

/* Exactly one answer, and nothing after the error is ever treated as a request.  False: the connection is gone. */
static bool refuse(struct fm_conn *c, const struct fm_http_error *error) FM_ON_LOOP
{
    char text[FM_H1_PLAIN_SIZE];
    bool is_head = fm_parser_is_head(c->parser);
    fm_count_refused(error->id);
    fm_count((enum fm_counter)(FM_C_REQ_1XX + error->status / 100 - 1));
    log_refusal(c, error);
    struct iovec piece = {text, fm_h1_plain(text, error->status, is_head)};
    bool sent = fm_stream_send(&c->stream, &piece, 1, 0) != FM_SENT_GONE;
    if (c->server->access) {
        struct fm_access_entry e = {.remote = c->remote, .status = (unsigned)error->status, .end = '-'};
        e.request = fm_parser_request(c->parser);
        e.line = fm_parser_line(c->parser, &e.line_len);
        e.bytes = sent ? fm_h1_plain_body(error->status, is_head) : 0;
        fm_access_log_add(c->server->access, &e);
    }
    fm_parser_drop_body(c->parser); /* the connection may linger */
    return linger(c);
}

static void on_head(struct fm_conn *c, bool body_is_here) FM_ON_LOOP
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    const struct fm_request *r = fm_parser_request(c->parser);
    if (!r->expect_continue || body_is_here || (!r->chunked && r->content_length <= 0))
        return;
    struct iovec piece = {(void *)(uintptr_t)go_on, sizeof go_on - 1};
    fm_stream_send(&c->stream, &piece, 1, 0);
}

/* --limit-queue: more than that would wait for long, so it is cheaper for all to say no at once.  What has begun is
 * served to its end and does not count. */
static bool is_queue_full(struct fm_conn *c) FM_ON_LOOP
{
    unsigned limit = c->server->options->limit_queue;
    return limit > 0 && fm_sched_waiting(&c->server->sched) >= limit;
}

static void on_request(struct fm_conn *c) FM_ON_LOOP
{
    fm_timer_stop(&c->timer);
    c->state = FM_CONN_BUSY;
    c->exchange = &c->own;
    if (atomic_load(&c->server->draining))
        fm_stream_set_reading(&c->stream, FM_READ_PAUSED); /* no further ones */
    fm_pace_response(&c->pace, &c->stream, fm_loop_now(&c->server->loop));
    fm_exchange_begin(&c->own, fm_parser_take(c->parser));
    if (c->ended && !c->server->options->allow_half_close)
        fm_exchange_end(c->exchange, FM_END_HALF_CLOSED);
}

/* More of a request is to come.  False: it comes too slowly, and the connection may be gone. */
static bool wait_for_more(struct fm_conn *c) FM_ON_LOOP
{
    struct fm_spool *spool = fm_parser_spool(c->parser);
    if (!fm_parser_request(c->parser)) {
        if (c->timing != FM_T_HEADER && c->timing != FM_T_DRAIN && fm_parser_started(c->parser))
            start_timer(c, FM_T_HEADER); /* once for the whole head */
        return true;
    }
    uint64_t now = fm_loop_now(&c->server->loop), size = fm_parser_request(c->parser)->body.size;
    if (c->timing != FM_T_BODY) {
        fm_pace_body(&c->pace, now, 0);
    } else if (fm_pace_body_is_too_slow(&c->pace, c->server->options, now, size)) {
        refuse(c, fm_refusal_error(FM_REFUSE_BODY_RATE));
        return false;
    }
    start_timer(c, FM_T_BODY); /* anew with each piece */
    c->slow_disk = spool && fm_spool_is_full(spool);
    if (c->slow_disk) {
        fm_timer_stop(&c->timer); /* it is not the client that is slow */
        fm_stream_set_reading(&c->stream, FM_READ_OFF);
    }
    return true;
}

/* All of a request has come.  False: it is refused, and the connection may be gone. */
static bool on_complete(struct fm_conn *c) FM_ON_LOOP
{
    switch (fm_parser_stored(c->parser)) {
    case FM_PARSE_DONE:
        c->state = FM_CONN_READING;
        if (is_queue_full(c)) {
            refuse(c, fm_refusal_error(FM_REFUSE_QUEUE_FULL));
            return false;
        }
        on_request(c);
        return true;
    case FM_PARSE_ERROR: refuse(c, fm_parser_error(c->parser)); return false;
    default:
        c->state = FM_CONN_STORING;
        fm_timer_stop(&c->timer);
        return true;
    }
}

/* Takes bytes as long as requests can be read; how many, or -1: it was refused, and may be gone. */
static int64_t take(struct fm_conn *c, const char *data, size_t len) FM_ON_LOOP
{
    size_t at = 0;
    while (c->state == FM_CONN_READING) {
        size_t used = 0;
        enum fm_parse parse = fm_parser_feed(c->parser, data + at, len - at, &used);
        struct fm_spool *spool = fm_parser_spool(c->parser);
        at += used;
        if (spool)
            fm_spool_own(spool, c);
        if (parse == FM_PARSE_HEAD) {
            on_head(c, at < len);
        } else if (parse == FM_PARSE_DONE) {
            atomic_store_explicit(&c->more, at < len, memory_order_relaxed); /* before a thread has the request */
            if (!on_complete(c))
                return -1;
        } else if (parse == FM_PARSE_ERROR) {
            refuse(c, fm_parser_error(c->parser));
            return -1;
        } else {
            return wait_for_more(c) ? (int64_t)at : -1;
        }
    }
    return (int64_t)at;
}

/* What came while it was busy: the next requests.  False: one was refused, and the connection may be gone. */
static bool take_ahead(struct fm_conn *c) FM_ON_LOOP
{
    if (fm_buf_size(&c->ahead) > 0) {
        int64_t used = take(c, fm_buf_head(&c->ahead), fm_buf_size(&c->ahead));
        if (used < 0)
            return false;
        fm_buf_consume(&c->ahead, (size_t)used);
        if (c->exchange && fm_buf_size(&c->ahead) > 0)
            atomic_store(&c->exchange->urgent, true);
    }
    if (fm_buf_size(&c->ahead) == 0 && c->ahead.cap > 0)
        fm_buf_fini(&c->ahead);
    return true;
}

void fm_conn_stored(struct fm_conn *c)
{
    if (c->state == FM_CONN_READING && c->slow_disk) {
        struct fm_spool *spool = fm_parser_spool(c->parser);
        if (spool && fm_spool_is_full(spool))
            return;
        c->slow_disk = false;
        fm_pace_body(&c->pace, fm_loop_now(&c->server->loop), fm_parser_request(c->parser)->body.size);
        start_timer(c, FM_T_BODY);
        fm_stream_set_reading(&c->stream, FM_READ_ON);
    } else if (c->state == FM_CONN_STORING) {
        on_complete(c);
    }
}

/* While a request is served no more is read than is kept of the next ones. */
static char *room(struct fm_stream *s, size_t *len)
{
    struct fm_conn *c = of_stream(s);
    if (c->state == FM_CONN_READING)
        return fm_parser_buffer(c->parser, len);
    if (c->state != FM_CONN_LINGERING)
        *len = READ_AHEAD - fm_buf_size(&c->ahead);
    return NULL;
}

static void on_data(struct fm_stream *s, const char *data, size_t len)
{
    struct fm_conn *c = of_stream(s);
    fm_assert_on_loop();
    if (c->state == FM_CONN_LINGERING)
        return;
    if (c->state == FM_CONN_READING) {
        int64_t used = take(c, data, len);
        if (used < 0)
            return;
        data += used;
        len -= (size_t)used;
    }
    if (len == 0)
        return;
    fm_buf_append(&c->ahead, data, len);
    if (c->ahead.failed) { /* bytes are lost */
        fm_stream_give_up(s, -ENOMEM);
        return;
    }
    atomic_store_explicit(&c->more, true, memory_order_relaxed);
    if (c->exchange)
        atomic_store(&c->exchange->urgent, true);
    if (fm_buf_size(&c->ahead) >= READ_AHEAD || c->last_read)
        fm_stream_set_reading(&c->stream, FM_READ_PAUSED);
}

static void on_end(struct fm_stream *s, int err)
{
    struct fm_conn *c = of_stream(s);
    fm_assert_on_loop();
    c->ended = true;
    if (c->state == FM_CONN_READING || c->state == FM_CONN_LINGERING) {
        fm_conn_close(c);
        return;
    }
    if (c->state == FM_CONN_STORING) {
        if (err < 0)
            fm_conn_close(c);
        return;
    }
    atomic_store(&c->exchange->urgent, true);
    if (c->state == FM_CONN_SENDING) {
        if (err < 0)
            fm_conn_exchange_over(c, true);
        return;
    }
    if (err == 0 && c->server->options->allow_half_close)
        return;
    if (fm_exchange_end(c->exchange, err < 0 ? FM_END_GONE : FM_END_HALF_CLOSED))
        fm_conn_exchange_over(c, true);
}

/* ---- writing ---- */

static void start_send_timer(struct fm_conn *c) FM_ON_LOOP
{
    fm_pace_look(&c->pace, &c->stream, c->server->options, fm_loop_now(&c->server->loop));
    start_timer(c, FM_T_SEND);
}

/* The server has answered itself while a step still runs: the client has the whole response, which says that the
 * connection ends, and need not wait for the step. */
static void end_our_side(struct fm_conn *c) FM_ON_LOOP
{
    if (c->state == FM_CONN_BUSY && c->exchange->ending && c->exchange->status != 0 &&
        fm_stream_pending(&c->stream) == 0)
        fm_stream_shutdown(&c->stream);
}

static void on_output(struct fm_stream *s)
{
    struct fm_conn *c = of_stream(s);
    fm_assert_on_loop();
    bool dead = fm_stream_is_dead(s);
    uint64_t pending = dead ? 0 : fm_stream_pending(s);
    if (pending > 0 && c->state == FM_CONN_LINGERING)
        start_timer(c, FM_T_LINGER);
    else if (pending > 0 && !fm_stream_reads_file(s))
        start_send_timer(c);
    else
        fm_timer_stop(&c->timer);
    switch (c->state) {
    case FM_CONN_BUSY:
        if (dead && fm_exchange_end(c->exchange, FM_END_GONE)) {
            fm_conn_exchange_over(c, true);
        } else {
            fm_exchange_output(c->exchange);
            end_our_side(c);
        }
        break;
    case FM_CONN_SENDING:
        if (pending == 0)
            fm_conn_exchange_over(c, dead);
        break;
    case FM_CONN_LINGERING:
        if (dead) {
            fm_conn_close(c);
        } else if (pending == 0) {
            fm_stream_shutdown(s);
            start_timer(c, FM_T_LINGER);
        }
        break;
    default: /* 100 Continue to a slow reader */
        if (dead)
            fm_conn_close(c);
        else if (pending == 0 && c->state == FM_CONN_READING && !c->slow_disk)
            start_timer(c, fm_parser_request(c->parser) ? FM_T_BODY : FM_T_HEADER);
    }
}

static const struct fm_stream_ops stream_ops = {room, on_data, on_end, on_output};

/* The response is with the kernel, or never will be: the next request, or the end. */
void fm_conn_exchange_over(struct fm_conn *c, bool broken)
{
    struct fm_exchange *x = c->exchange;
    bool keep = x->call.writer.framer.keep && !broken, draining = atomic_load(&c->server->draining);
    bool client_closes = !x->call.request->keep_alive;
    if (x->over == 0) /* it was still being sent, or had not begun */
        x->over = fm_loop_now(&c->server->loop);
    uint64_t over = x->over;
    fm_exchange_account(x, !broken);
    fm_exchange_drop(x);
    c->exchange = NULL;
    c->served = true;
    if (broken) {
        fm_stream_reset(&c->stream);
        fm_conn_close(c);
    } else if (!keep && client_closes && fm_buf_size(&c->ahead) == 0) {
        fm_conn_close(c); /* it has said that it sends nothing more */
    } else if (!keep) {
        linger(c);
    } else {
        c->state = FM_CONN_READING;
        c->timing = FM_T_KEEP_ALIVE; /* from the end of the response, also where the loop was not told at once */
        fm_timer_start(&c->server->loop.timers, &c->timer, FM_T_KEEP_ALIVE, over);
        if (!take_ahead(c))
            return;
        if (c->ended && c->state == FM_CONN_READING) {
            fm_conn_close(c); /* no more requests can come */
            return;
        }
        if (fm_buf_size(&c->ahead) < READ_AHEAD && !c->slow_disk && (c->state == FM_CONN_READING || !draining))
            fm_stream_set_reading(&c->stream, FM_READ_ON);
        if (draining && c->state == FM_CONN_READING)
            fm_conn_drain(c);
    }
}

/* ---- timeouts ---- */

void fm_conn_timeout_idle(struct fm_timer *t)
{
    fm_assert_on_loop();
    fm_conn_close(of_timer(t));
}

void fm_conn_timeout_header(struct fm_timer *t)
{
    struct fm_conn *c = of_timer(t);
    fm_assert_on_loop();
    if (fm_parser_started(c->parser))
        refuse(c, fm_refusal_error(FM_REFUSE_HEADER_TIMEOUT));
    else
        fm_conn_close(c); /* connected and said nothing */
}

void fm_conn_timeout_body(struct fm_timer *t)
{
    fm_assert_on_loop();
    refuse(of_timer(t), fm_refusal_error(FM_REFUSE_BODY_TIMEOUT));
}

void fm_conn_timeout_send(struct fm_timer *t)
{
    struct fm_conn *c = of_timer(t);
    fm_assert_on_loop();
    if (!fm_pace_is_over(&c->pace, &c->stream, c->server->options, fm_loop_now(&c->server->loop))) {
        start_timer(c, FM_T_SEND);
        return;
    }
    if (c->state == FM_CONN_SENDING) {
        fm_count(FM_C_SEND_TIMEOUTS);
        fm_conn_exchange_over(c, true);
    } else if (c->state != FM_CONN_BUSY) {
        fm_conn_close(c);
    } else if (fm_exchange_end(c->exchange, FM_END_SEND_TIMEOUT)) {
        fm_conn_exchange_over(c, true);
    }
}

void fm_conn_timeout_linger(struct fm_timer *t)
{
    fm_assert_on_loop();
    fm_conn_close(of_timer(t));
}

void fm_conn_timeout_drain(struct fm_timer *t)
{
    fm_assert_on_loop();
    if (of_timer(t)->state == FM_CONN_READING)
        fm_conn_timeout_header(t);
    else
        fm_conn_close(of_timer(t));
}

/* The request had not begun, so the server's own answer could be given. */
static void answered(struct fm_conn *c) FM_ON_LOOP
{
    if (fm_stream_pending(&c->stream) > 0)
        c->state = FM_CONN_SENDING;
    else
        fm_conn_exchange_over(c, c->exchange->status == 0);
}

/* Ends what the connection does, for a reason that may still be told the client. */
static void end_exchange(struct fm_conn *c, enum fm_end why) FM_ON_LOOP
{
    struct fm_exchange *x = c->exchange;
    if (c->state == FM_CONN_SENDING) {
        if (why == FM_END_DEADLINE)
            fm_count(FM_C_LATE_SENDING);
        fm_conn_exchange_over(c, true);
    } else if (fm_exchange_end(x, why)) {
        answered(c);
    } else {
        end_our_side(c);
    }
}

void fm_conn_timeout_request(struct fm_timer *t)
{
    struct fm_exchange *x = FM_LIST_ENTRY(t, struct fm_exchange, deadline);
    fm_assert_on_loop();
    end_exchange(x->conn, FM_END_DEADLINE);
}

void fm_conn_timeout_queue(struct fm_timer *t)
{
    struct fm_exchange *x = FM_LIST_ENTRY(t, struct fm_exchange, queue_timer);
    fm_assert_on_loop();
    if (x->conn->state == FM_CONN_BUSY && fm_exchange_shed(x))
        answered(x->conn);
}

/* ---- life ---- */

/* A request that has arrived is served, the rest of its body awaited.  What nobody has read yet is read as usual.  A
 * new connection is a client that is about to send. */
void fm_conn_drain(struct fm_conn *c)
{
    bool unread = fm_stream_has_unread(&c->stream);
    if (c->state == FM_CONN_LINGERING) {
        start_timer(c, FM_T_DRAIN);
    } else if (c->state != FM_CONN_READING) {
        c->last_read = unread; /* what has arrived behind its request */
        if (!unread)
            fm_stream_set_reading(&c->stream, FM_READ_PAUSED);
    } else if (!fm_parser_request(c->parser)) {
        if (c->served && !unread && !fm_parser_started(c->parser))
            fm_conn_close(c);
        else
            start_timer(c, FM_T_DRAIN);
    }
}

void fm_conn_expire(struct fm_conn *c)
{
    bool arrived = fm_parser_request(c->parser) || fm_parser_started(c->parser) || fm_stream_has_unread(&c->stream);
    if (c->state == FM_CONN_BUSY || c->state == FM_CONN_SENDING)
        end_exchange(c, FM_END_SHUTDOWN);
    else if (c->state != FM_CONN_LINGERING && arrived)
        refuse(c, fm_refusal_error(FM_REFUSE_SHUTDOWN));
    else
        fm_conn_close(c);
}

void fm_conn_accept(struct fm_listener *l, int fd, const union fm_sockaddr *peer)
{
    struct fm_server *server = l->owner;
    struct fm_conn *c = calloc(1, sizeof *c);
    struct fm_parser *parser = c ? fm_parser_new(&server->options->limits) : NULL;
    char host[FM_ADDR_TEXT];
    fm_assert_on_loop();
    int err = -ENOMEM;
    if (!c || !parser || (err = fm_stream_init(&c->stream, &server->loop, fm_plain(fd), &stream_ops)) != 0) {
        fm_error_ratelimited("connection: %s; it is closed", fm_strerror(err));
        fm_parser_free(parser);
        close(fd);
        free(c);
        return;
    }
    c->server = server;
    c->listener = (uint8_t)(l - server->listeners);
    c->remote_port = (uint16_t)fm_addr_host(peer, host);
    memcpy(c->remote, host, strnlen(host, sizeof c->remote - 1));
    c->parser = parser;
    fm_exchange_init(&c->own, c);
    fm_timer_init(&c->timer);
    fm_list_push(&server->conns, &c->node);
    fm_count(FM_C_CONNS_TOTAL);
    fm_count(FM_C_CONNS);
    start_timer(c, FM_T_HEADER);
    if (++server->nconns >= server->max_conns)
        for (unsigned i = 0; i < server->nlisteners; i++)
            fm_listener_want(&server->listeners[i], false);
}

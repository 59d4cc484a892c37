/* An HTTP/1 connection: reading requests, timeouts, refusals, closing; see server/http1.h.  All of it on the loop. */
#include "fermata/server/http1.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/http/forwarded.h"
#include "fermata/http/h1/framer.h"
#include "fermata/http/request_id.h"
#include "fermata/http/traceparent.h"
#include "fermata/net/proxy_protocol.h"
#include "fermata/server/access.h"
#include "fermata/server/refused.h"
#include "fermata/server/timeouts.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/util/statsd.h"

#define READ_AHEAD (64 * 1024) /* bytes kept of what a client sends while its request is being served */

static struct fm_http1 *of_stream(struct fm_stream *s) { return FM_LIST_ENTRY(s, struct fm_http1, stream); }
static struct fm_http1 *of_timer(struct fm_timer *t) { return FM_LIST_ENTRY(t, struct fm_http1, timer); }

/* ---- states ---- */

bool fm_http1_move_allowed(enum fm_http1_state from, enum fm_http1_state to)
{
#define X(from_, to_, when)                                                                                            \
    if (from == FM_HTTP1_##from_ && to == FM_HTTP1_##to_)                                                              \
        return true;
    FM_HTTP1_MOVES(X)
#undef X
    return false;
}

const char *fm_http1_state_name(enum fm_http1_state state)
{
    static const char *const names[] = {
#define X(state, what) #state,
        FM_HTTP1_STATES(X)
#undef X
    };
    return state < FM_HTTP1_STATE_COUNT ? names[state] : "?";
}

/* The one place where the state changes. */
static void move(struct fm_http1 *c, enum fm_http1_state to) FM_ON_LOOP
{
#ifdef FM_DEBUG
    if (!fm_http1_move_allowed(c->state, to))
        fm_die("connection: no transition from %s to %s", fm_http1_state_name(c->state), fm_http1_state_name(to));
#endif
    c->state = (uint8_t)to;
}

/* Nothing more of it is taken for a request. */
static bool has_left_off(const struct fm_http1 *c)
{
    return c->state == FM_HTTP1_LINGERING || c->state == FM_HTTP1_CLOSED;
}

/* In a drain, what is no request yet, or no more, has little time. */
static void start_timer(struct fm_http1 *c, enum fm_timeout kind) FM_ON_LOOP
{
    if ((kind == FM_T_HEADER || kind == FM_T_LINGER) && atomic_load(&c->service->draining))
        kind = FM_T_DRAIN;
    c->timing = (uint8_t)kind;
    fm_timer_start(&c->service->loop->timers, &c->timer, kind, fm_loop_now(c->service->loop));
}

static void free_conn(struct fm_event *gone)
{
    struct fm_http1 *c = FM_LIST_ENTRY(gone, struct fm_http1, gone);
    fm_assert_on_loop();
    fm_exchange_fini(&c->exchange);
    fm_stream_fini(&c->stream);
    fm_parser_free(c->parser);
    fm_buf_fini(&c->ahead);
    free(c);
}

void fm_http1_close(struct fm_http1 *c)
{
    if (c->state == FM_HTTP1_CLOSED)
        return;
    move(c, FM_HTTP1_CLOSED);
    struct fm_request *left = fm_exchange_close(&c->exchange);
    if (left)
        fm_parser_give_back(c->parser, left);
    fm_timer_stop(&c->timer);
    fm_stream_close(&c->stream);
    fm_loop_defer(c->service->loop, &c->gone);
    c->on_closed(c);
}

/* Ends our direction and waits for the client to end its own, reading and dropping what it still sends: a close with
 * unread bytes would reset the connection and could take the response with it (RFC 9112, 9.6). */
static void linger(struct fm_http1 *c) FM_ON_LOOP
{
    if (c->ended || fm_stream_is_dead(&c->stream)) {
        fm_http1_close(c);
        return;
    }
    move(c, FM_HTTP1_LINGERING);
    fm_buf_fini(&c->ahead);
    fm_stream_set_reading(&c->stream, FM_READ_ON);
    if (fm_stream_pending(&c->stream) == 0)
        fm_stream_shutdown(&c->stream);
    start_timer(c, FM_T_LINGER);
}

/* ---- reading ---- */

/* Exactly one answer, and nothing after the error is ever treated as a request. */
static void refuse(struct fm_http1 *c, const struct fm_http_error *error) FM_ON_LOOP
{
    char text[FM_H1_PLAIN_SIZE];
    bool is_head = fm_parser_is_head(c->parser);
    fm_count_refused(error->id);
    fm_count((enum fm_counter)(FM_C_REQ_1XX + error->status / 100 - 1));
    fm_refused_log(error, c->parser, c->remote);
    struct iovec piece = {text, fm_h1_plain(text, error->status, is_head)};
    bool sent = fm_stream_send(&c->stream, &piece, 1, 0) != FM_SENT_GONE;
    if (c->service->statsd)
        fm_statsd_request(c->service->statsd, (unsigned)error->status, 0);
    if (c->service->access) {
        struct fm_access_entry e = {.remote = c->remote, .status = (unsigned)error->status, .end = '-'};
        e.request = fm_parser_request(c->parser);
        e.line = fm_parser_line(c->parser, &e.line_len);
        e.bytes = sent ? fm_h1_plain_body(error->status, is_head) : 0;
        fm_access_log_add(c->service->access, &e);
    }
    fm_parser_drop_body(c->parser); /* the connection may linger */
    linger(c);
}

static void on_head(struct fm_http1 *c, bool body_is_here) FM_ON_LOOP
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct fm_request *r = fm_parser_request(c->parser);
    fm_request_id_give(&c->service->options->request_id, r);
    if (r->sends_trace)
        fm_traceparent_take(r);
    if (!r->expect_continue || body_is_here || (!r->chunked && r->content_length <= 0))
        return;
    struct iovec piece = {(void *)(uintptr_t)go_on, sizeof go_on - 1};
    fm_stream_send(&c->stream, &piece, 1, 0);
}

/* --limit-queue: more than that would wait for long, so it is cheaper for all to say no at once.  What has begun is
 * served to its end and does not count. */
static bool is_queue_full(struct fm_http1 *c) FM_ON_LOOP
{
    unsigned limit = c->service->options->limit_queue;
    return limit > 0 && fm_sched_waiting(c->service->sched) >= limit;
}

/* What proxies say of the request, as far as they are trusted. */
static struct fm_request *take_request(struct fm_http1 *c) FM_ON_LOOP
{
    struct fm_request *r = fm_parser_take(c->parser);
    if (r->from_proxy && !c->unnamed)
        fm_forwarded_read(&c->service->options->proxy, r, c->remote, &r->forwarded);
    if (c->tls && r->forwarded.scheme == FM_SCHEME_UNTOLD) {
        r->forwarded.scheme = FM_SCHEME_HTTPS;
        r->forwarded.any = true;
    }
    return r;
}

static void on_request(struct fm_http1 *c) FM_ON_LOOP
{
    fm_timer_stop(&c->timer);
    move(c, FM_HTTP1_BUSY);
    if (atomic_load(&c->service->draining))
        fm_stream_set_reading(&c->stream, FM_READ_PAUSED); /* no further ones */
    fm_pace_response(&c->pace, &c->stream, fm_loop_now(c->service->loop));
    fm_exchange_begin(&c->exchange, take_request(c));
    if (c->ended && !c->service->options->allow_half_close)
        fm_exchange_end(&c->exchange, FM_END_HALF_CLOSED);
}

/* More of a request is to come; what comes too slowly is refused. */
static void wait_for_more(struct fm_http1 *c) FM_ON_LOOP
{
    struct fm_spool *spool = fm_parser_spool(c->parser);
    if (!fm_parser_request(c->parser)) {
        if (c->timing != FM_T_HEADER && c->timing != FM_T_DRAIN && fm_parser_started(c->parser))
            start_timer(c, FM_T_HEADER); /* once for the whole head */
        return;
    }
    uint64_t now = fm_loop_now(c->service->loop), size = fm_parser_request(c->parser)->body.size;
    if (c->timing != FM_T_BODY) {
        fm_pace_body(&c->pace, now, 0);
    } else if (fm_pace_body_is_too_slow(&c->pace, c->service->options, now, size)) {
        refuse(c, fm_refusal_error(FM_REFUSE_BODY_RATE));
        return;
    }
    start_timer(c, FM_T_BODY); /* anew with each piece */
    c->slow_disk = spool && fm_spool_is_full(spool);
    if (c->slow_disk) {
        fm_timer_stop(&c->timer); /* it is not the client that is slow */
        fm_stream_set_reading(&c->stream, FM_READ_OFF);
    }
}

/* All of a request has come: it is served when it is stored, or refused. */
static void on_complete(struct fm_http1 *c) FM_ON_LOOP
{
    switch (fm_parser_stored(c->parser)) {
    case FM_PARSE_DONE:
        if (is_queue_full(c))
            refuse(c, fm_refusal_error(FM_REFUSE_QUEUE_FULL));
        else
            on_request(c);
        break;
    case FM_PARSE_ERROR: refuse(c, fm_parser_error(c->parser)); break;
    default:
        if (c->state != FM_HTTP1_STORING)
            move(c, FM_HTTP1_STORING);
        fm_timer_stop(&c->timer);
    }
}

/* Takes bytes as long as requests can be read: how many.  If it has left off reading requests then, the others are of
 * no use. */
static size_t take(struct fm_http1 *c, const char *data, size_t len) FM_ON_LOOP
{
    size_t at = 0;
    while (c->state == FM_HTTP1_READING) {
        size_t used = 0;
        enum fm_parse parse = fm_parser_feed(c->parser, data + at, len - at, &used);
        struct fm_spool *spool = fm_parser_spool(c->parser);
        at += used;
        if (spool)
            fm_spool_own(spool, c);
        if (parse == FM_PARSE_HEAD) {
            on_head(c, at < len);
        } else if (parse == FM_PARSE_DONE) {
            atomic_store_explicit(&c->exchange.more, at < len, memory_order_relaxed); /* before a thread has it */
            on_complete(c);
        } else if (parse == FM_PARSE_ERROR) {
            refuse(c, fm_parser_error(c->parser));
        } else {
            wait_for_more(c);
            break;
        }
    }
    return at;
}

/* What came while it was busy: the next requests. */
static void take_ahead(struct fm_http1 *c) FM_ON_LOOP
{
    if (fm_buf_size(&c->ahead) > 0) {
        size_t used = take(c, fm_buf_head(&c->ahead), fm_buf_size(&c->ahead));
        if (has_left_off(c))
            return;
        fm_buf_consume(&c->ahead, used);
        if (c->state == FM_HTTP1_BUSY && fm_buf_size(&c->ahead) > 0)
            atomic_store(&c->exchange.urgent, true);
    }
    if (fm_buf_size(&c->ahead) == 0 && c->ahead.cap > 0)
        fm_buf_fini(&c->ahead);
}

void fm_http1_stored(void *connection)
{
    struct fm_http1 *c = connection;
    if (c->state == FM_HTTP1_READING && c->slow_disk) {
        struct fm_spool *spool = fm_parser_spool(c->parser);
        if (spool && fm_spool_is_full(spool))
            return;
        c->slow_disk = false;
        fm_pace_body(&c->pace, fm_loop_now(c->service->loop), fm_parser_request(c->parser)->body.size);
        start_timer(c, FM_T_BODY);
        fm_stream_set_reading(&c->stream, FM_READ_ON);
    } else if (c->state == FM_HTTP1_STORING) {
        on_complete(c);
    }
}

static const struct fm_stream_ops stream_ops;

/* The header of the PROXY protocol, which comes before everything else.  What is none ends the connection without an
 * answer, as its own specification has it: who speaks here need not speak HTTP. */
static void on_proxy_header(struct fm_stream *s, const char *data, size_t len)
{
    static struct fm_ratelimit place;
    struct fm_http1 *c = of_stream(s);
    struct fm_proxied told;
    struct fm_peer *peer = &c->exchange.call.peer;
    fm_assert_on_loop();
    if (c->state != FM_HTTP1_READING)
        return;
    fm_buf_append(&c->ahead, data, len);
    int n = c->ahead.failed ? FM_EINVAL
                            : fm_proxy_header(fm_buf_head(&c->ahead), fm_buf_size(&c->ahead),
                                              c->service->options->proxy_protocol, &told);
    if (n == 0)
        return;
    if (n < 0) {
        fm_log_ratelimited(&place, FM_LOG_WARNING,
                           "a connection from %s has no header of the PROXY protocol; it is closed",
                           *c->remote ? c->remote : "unix");
        fm_http1_close(c);
        return;
    }
    s->ops = &stream_ops;
    fm_buf_consume(&c->ahead, (size_t)n);
    c->unnamed = !told.told;
    if (told.told) {
        memcpy(c->via, c->remote, sizeof c->via);
        fm_ip_text(&told.client, c->remote);
        peer->remote_port = told.client_port;
        peer->via = c->via;
        c->tls = told.tls;
    }
    take_ahead(c);
}

/* While a request is served no more is read than is kept of the next ones. */
static char *room(struct fm_stream *s, size_t *len)
{
    struct fm_http1 *c = of_stream(s);
    if (c->state == FM_HTTP1_READING)
        return fm_parser_buffer(c->parser, len);
    if (c->state != FM_HTTP1_LINGERING)
        *len = READ_AHEAD - fm_buf_size(&c->ahead);
    return NULL;
}

static void on_data(struct fm_stream *s, const char *data, size_t len)
{
    struct fm_http1 *c = of_stream(s);
    fm_assert_on_loop();
    if (c->state == FM_HTTP1_READING) {
        size_t used = take(c, data, len);
        data += used;
        len -= used;
    }
    if (len == 0 || has_left_off(c))
        return;
    fm_buf_append(&c->ahead, data, len);
    if (c->ahead.failed) { /* bytes are lost */
        fm_stream_give_up(s, -ENOMEM);
        return;
    }
    atomic_store_explicit(&c->exchange.more, true, memory_order_relaxed);
    if (c->state == FM_HTTP1_BUSY)
        atomic_store(&c->exchange.urgent, true);
    if (fm_buf_size(&c->ahead) >= READ_AHEAD || c->last_read)
        fm_stream_set_reading(&c->stream, FM_READ_PAUSED);
}

static void on_end(struct fm_stream *s, int err)
{
    struct fm_http1 *c = of_stream(s);
    fm_assert_on_loop();
    c->ended = true;
    switch ((enum fm_http1_state)c->state) {
    case FM_HTTP1_READING:
    case FM_HTTP1_LINGERING: fm_http1_close(c); break;
    case FM_HTTP1_STORING:
        if (err < 0)
            fm_http1_close(c);
        break;
    case FM_HTTP1_BUSY:
        atomic_store(&c->exchange.urgent, true);
        if (err < 0)
            fm_exchange_end(&c->exchange, FM_END_GONE);
        else if (!c->service->options->allow_half_close)
            fm_exchange_end(&c->exchange, FM_END_HALF_CLOSED);
        break;
    case FM_HTTP1_CLOSED:
    case FM_HTTP1_STATE_COUNT: break;
    }
}

/* ---- writing ---- */

static void start_send_timer(struct fm_http1 *c) FM_ON_LOOP
{
    fm_pace_look(&c->pace, &c->stream, c->service->options, fm_loop_now(c->service->loop));
    start_timer(c, FM_T_SEND);
}

/* Which timeout counts now, where bytes are kept for the client. */
static void time_output(struct fm_http1 *c, int64_t pending) FM_ON_LOOP
{
    if (pending > 0 && c->state == FM_HTTP1_LINGERING)
        start_timer(c, FM_T_LINGER);
    else if (pending > 0 && !fm_stream_reads_file(&c->stream))
        start_send_timer(c);
    else
        fm_timer_stop(&c->timer);
}

static void on_output(struct fm_stream *s)
{
    struct fm_http1 *c = of_stream(s);
    fm_assert_on_loop();
    bool dead = fm_stream_is_dead(s);
    uint64_t pending = dead ? 0 : fm_stream_pending(s);
    time_output(c, pending);
    if (dead) {
        if (c->state == FM_HTTP1_BUSY)
            fm_exchange_end(&c->exchange, FM_END_GONE);
        else
            fm_http1_close(c);
    }
    switch ((enum fm_http1_state)c->state) {
    case FM_HTTP1_BUSY: fm_exchange_output(&c->exchange); break;
    case FM_HTTP1_LINGERING:
        if (pending == 0) {
            fm_stream_shutdown(s);
            start_timer(c, FM_T_LINGER);
        }
        break;
    case FM_HTTP1_READING: /* 100 Continue to a slow reader */
        if (pending == 0 && !c->slow_disk)
            start_timer(c, fm_parser_request(c->parser) ? FM_T_BODY : FM_T_HEADER);
        break;
    case FM_HTTP1_STORING:
    case FM_HTTP1_CLOSED:
    case FM_HTTP1_STATE_COUNT: break;
    }
}

static const struct fm_stream_ops stream_ops = {room, on_data, on_end, on_output};
static const struct fm_stream_ops proxied_ops = {NULL, on_proxy_header, on_end, on_output}; /* until it has come */

/* ---- the next request, or the end ---- */

/* Its keep-alive time began at `over`, the end of the response, also where the loop was not told at once. */
static void next_request(struct fm_http1 *c, uint64_t over) FM_ON_LOOP
{
    bool draining = atomic_load(&c->service->draining);
    move(c, FM_HTTP1_READING);
    c->timing = FM_T_KEEP_ALIVE;
    fm_timer_start(&c->service->loop->timers, &c->timer, FM_T_KEEP_ALIVE, over);
    take_ahead(c);
    if (has_left_off(c))
        return;
    if (c->ended && c->state == FM_HTTP1_READING) {
        fm_http1_close(c); /* no more requests can come */
        return;
    }
    if (fm_buf_size(&c->ahead) < READ_AHEAD && !c->slow_disk && (c->state == FM_HTTP1_READING || !draining))
        fm_stream_set_reading(&c->stream, FM_READ_ON);
    if (draining && c->state == FM_HTTP1_READING)
        fm_http1_drain(c);
}

static void on_over(struct fm_exchange *x, bool broken)
{
    struct fm_http1 *c = FM_LIST_ENTRY(x, struct fm_http1, exchange);
    bool keep = x->call.writer.framer.keep, client_closes = !x->call.request->keep_alive;
    fm_assert_on_loop();
    fm_parser_give_back(c->parser, fm_exchange_drop(x));
    c->served = true;
    if (broken) {
        fm_stream_reset(&c->stream);
        fm_http1_close(c);
    } else if (keep) {
        next_request(c, x->over);
    } else if (client_closes && fm_buf_size(&c->ahead) == 0) {
        fm_http1_close(c); /* it has said that it sends nothing more */
    } else {
        linger(c);
    }
}

/* ---- timeouts ---- */

void fm_http1_timeout_idle(struct fm_timer *t)
{
    fm_assert_on_loop();
    fm_http1_close(of_timer(t));
}

void fm_http1_timeout_header(struct fm_timer *t)
{
    struct fm_http1 *c = of_timer(t);
    fm_assert_on_loop();
    if (fm_parser_started(c->parser))
        refuse(c, fm_refusal_error(FM_REFUSE_HEADER_TIMEOUT));
    else
        fm_http1_close(c); /* connected and said nothing */
}

void fm_http1_timeout_body(struct fm_timer *t)
{
    fm_assert_on_loop();
    refuse(of_timer(t), fm_refusal_error(FM_REFUSE_BODY_TIMEOUT));
}

void fm_http1_timeout_send(struct fm_timer *t)
{
    struct fm_http1 *c = of_timer(t);
    fm_assert_on_loop();
    if (!fm_pace_is_over(&c->pace, &c->stream, c->service->options, fm_loop_now(c->service->loop))) {
        start_timer(c, FM_T_SEND);
        return;
    }
    if (c->state == FM_HTTP1_BUSY)
        fm_exchange_end(&c->exchange, FM_END_SEND_TIMEOUT);
    else
        fm_http1_close(c);
}

void fm_http1_timeout_linger(struct fm_timer *t)
{
    fm_assert_on_loop();
    fm_http1_close(of_timer(t));
}

void fm_http1_timeout_drain(struct fm_timer *t)
{
    fm_assert_on_loop();
    if (of_timer(t)->state == FM_HTTP1_READING)
        fm_http1_timeout_header(t);
    else
        fm_http1_close(of_timer(t));
}

/* ---- life ---- */

/* A request that has arrived is served, the rest of its body awaited.  What is still unread is read as usual.  A
 * new connection is a client that is about to send. */
void fm_http1_drain(struct fm_http1 *c)
{
    bool unread = fm_stream_has_unread(&c->stream);
    if (c->state == FM_HTTP1_CLOSED)
        return;
    if (c->state == FM_HTTP1_LINGERING) {
        start_timer(c, FM_T_DRAIN);
    } else if (c->state != FM_HTTP1_READING) {
        c->last_read = unread; /* what has arrived behind its request */
        if (!unread)
            fm_stream_set_reading(&c->stream, FM_READ_PAUSED);
    } else if (!fm_parser_request(c->parser)) {
        if (c->served && !unread && !fm_parser_started(c->parser) && !atomic_load(&c->service->others_serve))
            fm_http1_close(c);
        else
            start_timer(c, FM_T_DRAIN);
    }
}

void fm_http1_expire(struct fm_http1 *c)
{
    bool arrived = fm_parser_request(c->parser) || fm_parser_started(c->parser) || fm_stream_has_unread(&c->stream);
    if (c->state == FM_HTTP1_BUSY)
        fm_exchange_end(&c->exchange, FM_END_SHUTDOWN);
    else if (!has_left_off(c) && arrived)
        refuse(c, fm_refusal_error(FM_REFUSE_SHUTDOWN));
    else
        fm_http1_close(c);
}

int fm_http1_new(struct fm_http1 **made, struct fm_service *service, int fd, const struct fm_peer *peer, void *owner,
                 fm_http1_closed_fn *on_closed)
{
    struct fm_http1 *c = calloc(1, sizeof *c);
    struct fm_parser *parser = c ? fm_parser_new(&service->options->limits) : NULL;
    int err = parser ? fm_stream_init(&c->stream, service->loop, fm_plain(fd), &stream_ops) : -ENOMEM;
    *made = NULL;
    if (err != 0) {
        fm_parser_free(parser);
        free(c);
        return err;
    }
    c->service = service;
    c->owner = owner;
    c->on_closed = on_closed;
    c->parser = parser;
    if (service->options->proxy_protocol)
        c->stream.ops = &proxied_ops;
    memcpy(c->remote, peer->remote_addr, strnlen(peer->remote_addr, sizeof c->remote - 1));
    struct fm_peer own = *peer;
    own.remote_addr = c->remote;
    fm_exchange_init(&c->exchange, service, &c->stream, &own, on_over);
    fm_list_init(&c->node);
    fm_timer_init(&c->timer);
    fm_event_init(&c->gone, free_conn);
    start_timer(c, FM_T_HEADER);
    *made = c;
    return 0;
}

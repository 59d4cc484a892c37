/* The admin server: GET and HEAD of a few paths, keep-alive, on the loop from first byte to last. */
#include "fermata/admin/admin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fermata/admin/published.h"
#include "fermata/http/h1/framer.h"
#include "fermata/http/h1/parser.h"
#include "fermata/http/response.h"
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/log.h"
#include "internal.h"

#define MAX_CONNS 256 /* a scraper or two and probes; more is a mistake, and the one idle for longest gives way */

#define MAX_HANDED 64 /* the same, of those that another process hands over: people, and what they have written */

#define OWNERS_ONLY 0600

static const struct fm_listener_options listening = {.backlog = 128,
                                                     .keepalive = 15,
                                                     .user_timeout = 30000,
                                                     .spares = 4};

static const struct fm_http_limits limits = {.request_line = 2048, .fields = 64, .field_size = 4096, .body = 0};

/* ---- answers ---- */

/* 0, or FM_ECLOSED: then the connection is to be closed. */
static int respond(struct admin_conn *c, const struct fm_request *r) FM_ON_LOOP
{
    struct fm_admin *a = c->admin;
    struct fm_admin_answer answer;
    c->keep = r->keep_alive;
    c->is_head = r->is_head;
    if (fm_admin_answer(&a->answers, r, &answer, &c->asked))
        return fm_admin_send(c, &answer);
    if (!c->asked.hand_over)
        return fm_admin_gather(c);
    if (fm_admin_hand_over(&a->answers, &c->asked, r, fm_stream_fd(&c->stream), &answer))
        return FM_ECLOSED; /* here; it goes on elsewhere */
    return fm_admin_send(c, &answer);
}

/* ---- requests ---- */

static void refuse(struct admin_conn *c)
{
    char text[FM_H1_PLAIN_SIZE];
    struct iovec piece = {text, fm_h1_plain(text, fm_parser_error(c->parser)->status, fm_parser_is_head(c->parser))};
    fm_stream_send(&c->stream, &piece, 1, 0);
    c->state = ENDING;
}

/* Answers at most one request of the len bytes at data; how many of them were taken.  It may close the connection. */
static size_t take(struct admin_conn *c, const char *data, size_t len) FM_ON_LOOP
{
    struct fm_loop *loop = c->stream.loop;
    size_t at = 0, used;
    enum fm_parse parse;
    do {
        parse = fm_parser_feed(c->parser, data + at, len - at, &used);
        at += used;
    } while (parse == FM_PARSE_HEAD);
    if (parse == FM_PARSE_ERROR)
        refuse(c);
    if (parse != FM_PARSE_DONE)
        return len;
    struct fm_request *r = fm_parser_take(c->parser);
    int err = respond(c, r);
    fm_request_free(r);
    if (err != 0) {
        fm_admin_close(c);
        return len;
    }
    if (c->state == WAITING) /* it is idle once it has been answered */
        fm_timer_stop(&c->idle);
    else
        fm_timer_start(&loop->timers, &c->idle, c->admin->idle_kind, fm_loop_now(loop));
    fm_list_remove(&c->node);
    fm_list_push(&c->admin->conns, &c->node);
    return at;
}

/* There is no memory for what it sends. */
static void fail(struct admin_conn *c) FM_ON_LOOP
{
    fm_error_ratelimited("admin: %s; the connection is closed", fm_strerror(-ENOMEM));
    fm_admin_close(c);
}

/* One request in a turn of the loop: a page of metrics takes it some 50 us, and a client may ask for thousands.  None
 * while the client has not read the last answer: a client that asks and asks costs one page of memory. */
static void on_bytes(struct admin_conn *c, const char *data, size_t len) FM_ON_LOOP
{
    bool unread = fm_stream_pending(&c->stream) > 0 || c->state == WAITING;
    c->answered = false;
    size_t used = c->state != OPEN && c->state != WAITING ? len : unread ? 0 : take(c, data, len);
    if (c->state == CLOSED)
        return;
    bool kept = fm_buf_size(&c->ahead) > 0; /* then data is what is kept */
    if (kept)
        fm_buf_consume(&c->ahead, used);
    else
        fm_buf_append(&c->ahead, data + used, len - used);
    if (c->ahead.failed) {
        fail(c);
        return;
    }
    bool more = fm_buf_size(&c->ahead) > 0 && c->state == OPEN;
    if (more)
        c->answered = false;
    bool waits = c->state == WAITING;
    fm_stream_set_reading(&c->stream, more || waits ? FM_READ_PAUSED : FM_READ_ON);
    if (more)
        fm_admin_answer_more(c);
    else if (!waits)
        fm_buf_fini(&c->ahead);
    if (c->state == ENDING && fm_stream_pending(&c->stream) == 0)
        fm_stream_shutdown(&c->stream);
}

/* It is answered after what was posted before: a request that is over while the loop slept, which did not have to hurry
 * to hear of it, would else be counted as being sent. */
static void on_data(struct fm_stream *s, const char *data, size_t len)
{
    struct admin_conn *c = FM_LIST_ENTRY(s, struct admin_conn, stream);
    fm_assert_on_loop();
    c->answered = false;
    fm_buf_append(&c->ahead, data, len);
    if (c->ahead.failed) {
        fail(c);
        return;
    }
    fm_loop_cancel(s->loop, &c->more); /* it is not posted twice */
    fm_loop_post(s->loop, &c->more, 0, NULL);
}

static void on_more(struct fm_event *event)
{
    struct admin_conn *c = FM_LIST_ENTRY(event, struct admin_conn, more);
    fm_assert_on_loop();
    on_bytes(c, fm_buf_head(&c->ahead), fm_buf_size(&c->ahead));
}

/* What came before its end, perhaps in the same turn, is answered. */
static void on_end(struct fm_stream *s, int err)
{
    struct admin_conn *c = FM_LIST_ENTRY(s, struct admin_conn, stream);
    fm_assert_on_loop();
    if (err == 0 && c->state == OPEN && fm_buf_size(&c->ahead) > 0)
        on_bytes(c, fm_buf_head(&c->ahead), fm_buf_size(&c->ahead));
    fm_admin_close(c);
}

static void on_output(struct fm_stream *s)
{
    struct admin_conn *c = FM_LIST_ENTRY(s, struct admin_conn, stream);
    fm_assert_on_loop();
    if (fm_stream_is_dead(s))
        fm_admin_close(c);
    else if (c->state == ENDING && fm_stream_pending(s) == 0)
        fm_stream_shutdown(s);
    else if (fm_buf_size(&c->ahead) > 0 && c->state != WAITING)
        fm_admin_answer_more(c);
}

static const struct fm_stream_ops stream_ops = {.on_data = on_data, .on_end = on_end, .on_output = on_output};

void fm_admin_timeout(struct fm_timer *t)
{
    fm_assert_on_loop();
    fm_admin_close(FM_LIST_ENTRY(t, struct admin_conn, idle));
}

/* Nothing is being sent, and nothing waits to be answered. */
static bool is_idle(struct admin_conn *c) FM_ON_LOOP
{
    return c->state != WAITING && fm_buf_size(&c->ahead) == 0 && fm_stream_pending(&c->stream) == 0;
}

/* Room for the newest, which is the last: the one that has been idle for longest goes, or if none is, the one that was
 * answered first. */
static void make_room(struct fm_admin *a) FM_ON_LOOP
{
    const struct fm_list *newest = a->conns.prev;
    struct fm_list *node = a->conns.next;
    while (node != newest && !is_idle(FM_LIST_ENTRY(node, struct admin_conn, node)))
        node = node->next;
    fm_admin_close(FM_LIST_ENTRY(node == newest ? a->conns.next : node, struct admin_conn, node));
}

/* NULL: it is closed. */
static struct admin_conn *begin(struct fm_admin *a, int fd) FM_ON_LOOP
{
    struct admin_conn *c = calloc(1, sizeof *c);
    struct fm_parser *parser = c ? fm_parser_new(&limits) : NULL;
    int err = -ENOMEM;
    if (!c || !parser || (err = fm_stream_init(&c->stream, a->loop, fm_plain(fd), &stream_ops)) != 0) {
        fm_error_ratelimited("admin: %s; the connection is closed", fm_strerror(err));
        fm_parser_free(parser);
        close(fd);
        free(c);
        return NULL;
    }
    c->admin = a;
    c->stream.uncounted = true;
    c->parser = parser;
    fm_timer_init(&c->idle);
    fm_list_push(&a->conns, &c->node);
    fm_list_init(&c->wait);
    fm_timer_init(&c->late);
    fm_timer_start(&a->loop->timers, &c->idle, a->idle_kind, fm_loop_now(a->loop));
    fm_event_init(&c->more, on_more);
    fm_event_init(&c->gone, fm_admin_conn_free);
    if (++a->nconns > a->most)
        make_room(a);
    return c;
}

static void on_accept(struct fm_listener *l, int fd, const union fm_sockaddr *peer)
{
    (void)peer;
    fm_assert_on_loop();
    begin(l->owner, fd);
}

void fm_admin_take(struct fm_admin *a, int fd, const char *head, size_t len)
{
    struct admin_conn *c = begin(a, fd);
    if (c)
        on_data(&c->stream, head, len);
}

static struct fm_admin *make(const struct fm_admin_source *source)
{
    struct fm_admin *a = fm_calloc(1, sizeof *a);
    fm_list_init(&a->conns);
    a->most = MAX_CONNS;
    a->published = -1;
    fm_admin_gather_init(a);
    a->answers.source = *source;
    return a;
}

struct fm_admin *fm_admin_adopt(int fd, const struct fm_admin_source *source)
{
    struct fm_admin *a = make(source);
    int err = fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? fm_listener_adopt(&a->listener, fd, &listening) : -errno;
    a->answers.is_local = fm_addr_is_local(&a->listener.addr);
    if (err == 0)
        return a;
    fm_log(FM_LOG_CRITICAL, "descriptor %d is no listening socket: %s", fd, fm_strerror(err));
    free(a);
    return NULL;
}

struct fm_admin *fm_admin_portless(struct fm_loop *loop, unsigned idle_kind, const struct fm_admin_source *source)
{
    struct fm_admin *a = make(source);
    a->loop = loop;
    a->listener.fd = a->listener.pinned = -1;
    fm_timer_init(&a->listener.retry);
    a->idle_kind = idle_kind;
    a->most = MAX_HANDED;
    a->answers.is_checked = true;
    a->paused = true; /* for good */
    fm_admin_gather_listen(a, true);
    return a;
}

const struct fm_listener *fm_admin_listener(const struct fm_admin *a) { return &a->listener; }

void fm_admin_take_path(struct fm_admin *a, const struct fm_listener *before)
{
    fm_listener_take_path(&a->listener, before);
}

struct fm_admin *fm_admin_new(const struct fm_addr *addr, bool only_ipv6, const struct fm_admin_source *source)
{
    struct fm_listener_options how = listening;
    const char *what;
    char url[FM_ADDR_TEXT];
    struct fm_admin *a = make(source);
    how.only_ipv6 = only_ipv6;
    how.mode = OWNERS_ONLY;
    int err = fm_listener_open(&a->listener, addr, &how, &what);
    a->answers.is_local = fm_addr_is_local(&a->listener.addr);
    if (err == 0)
        return a;
    fm_addr_url(addr, url);
    fm_log(FM_LOG_CRITICAL, "--admin-bind %s: %s: %s", url, what, fm_strerror(err));
    free(a);
    return NULL;
}

int fm_admin_start(struct fm_admin *a, struct fm_loop *loop, unsigned idle_kind, unsigned accept_kind)
{
    a->idle_kind = idle_kind;
    a->loop = loop;
    int err = fm_listener_start(&a->listener, loop, accept_kind, on_accept, a);
    a->published = err == 0 ? fm_published_make(&a->listener.addr) : -1;
    if (err == 0 && a->published < 0)
        fm_warn("admin: %s; `fermata status` finds it by its address only", fm_strerror(a->published));
    fm_admin_gather_listen(a, err == 0);
    return err;
}

void fm_admin_pause(struct fm_admin *a)
{
    a->paused = true;
    fm_listener_want(&a->listener, false);
    for (struct fm_list *next, *node = a->conns.next; node != &a->conns; node = next) {
        struct admin_conn *c = FM_LIST_ENTRY(node, struct admin_conn, node);
        next = node->next;
        if (c->answered && fm_stream_pending(&c->stream) == 0 && !fm_stream_has_unread(&c->stream))
            fm_admin_close(c);
    }
}

void fm_admin_resume(struct fm_admin *a)
{
    a->paused = false;
    fm_listener_want(&a->listener, true);
}

bool fm_admin_is_busy(const struct fm_admin *a)
{
    bool busy = false;
    for (struct fm_list *node = a->conns.next; node != &a->conns; node = node->next) {
        struct admin_conn *c = FM_LIST_ENTRY(node, struct admin_conn, node);
        busy |= c->state == OPEN || c->state == WAITING || fm_stream_pending(&c->stream) > 0;
    }
    return busy;
}

void fm_admin_url(const struct fm_admin *a, char *text) { fm_addr_url(&a->listener.addr, text); }

bool fm_admin_lost(struct fm_admin *a, int fd)
{
    for (struct fm_list *node = a->conns.next; node != &a->conns; node = node->next) {
        struct admin_conn *c = FM_LIST_ENTRY(node, struct admin_conn, node);
        if (fm_stream_fd(&c->stream) == fd) {
            fm_stream_lost(&c->stream);
            return true;
        }
    }
    return false;
}

void fm_admin_free(struct fm_admin *a)
{
    if (!a)
        return;
    while (!fm_list_empty(&a->conns))
        fm_admin_close(FM_LIST_ENTRY(a->conns.next, struct admin_conn, node));
    fm_admin_gather_fini(a);
    fm_listener_close(&a->listener);
    if (a->published >= 0)
        fm_fds_close(a->published);
    free(a);
}

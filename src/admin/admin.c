/* The admin server: GET and HEAD of a few paths, keep-alive, on the loop from first byte to last. */
#include "fermata/admin/admin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fermata/admin/answers.h"
#include "fermata/admin/published.h"
#include "fermata/http/h1/framer.h"
#include "fermata/http/h1/parser.h"
#include "fermata/http/response.h"
#include "fermata/net/listener.h"
#include "fermata/net/stream.h"
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/inquiry.h"
#include "fermata/util/log.h"
#include "fermata/util/stacks.h"

#define MAX_CONNS 256 /* a scraper or two and probes; more is a mistake, and the one idle for longest gives way */

#define OWNERS_ONLY 0600

static const struct fm_listener_options listening = {.backlog = 128,
                                                     .keepalive = 15,
                                                     .user_timeout = 30000,
                                                     .spares = 4};

struct answered { /* what was asked of Python; posted, once at a time, when there is an answer */
    struct fm_event event;
    atomic_bool posted;
    struct fm_admin *admin;
};

struct fm_admin {
    struct fm_listener listener;
    struct fm_admin_answers answers;
    struct fm_list conns; /* the one whose last request is oldest first */
    unsigned nconns, idle_kind;
    int published; /* a descriptor, or less than 0 */
    bool paused;
    struct fm_list waiting;   /* clients for whom the requests are looked at, one after the other */
    struct fm_status *status; /* what has been seen so far, for the first of them */
    struct fm_event survey;   /* posted while there are any, and the first one's is not `walked` */
    bool walked;              /* all have been seen for the first: it waits for what Python says of them */
    struct fm_list asking;    /* clients for whom the application is asked for its metrics */
    struct answered metrics, futures;
    struct fm_list for_stacks; /* clients for whom stacks are being found; they wait for the requests afterwards */
    struct fm_event found;     /* posted when they are */
    bool finding;              /* somebody is at it, until then */
    struct fm_stacks *_Atomic stacks; /* what was found; from the thread that has found it */
};

enum state {
    OPEN,
    WAITING, /* for the requests to be looked at, or for the application; what comes is kept */
    ENDING,  /* the last answer is given: what comes is dropped, and the client closes, or the idle timeout does */
    CLOSED,
};

struct admin_conn {
    struct fm_stream stream;
    struct fm_list node;
    struct fm_timer idle;
    struct fm_admin *admin;
    struct fm_parser *parser;
    struct fm_buf ahead;         /* requests behind the one that was answered in this turn of the loop */
    struct fm_event more;        /* posted while there are any */
    struct fm_event gone;        /* frees it, at the end of the turn in which it was closed */
    struct fm_list wait;         /* in one of the admin's lists, while WAITING */
    struct fm_timer late;        /* while it waits for what is asked of Python */
    struct fm_admin_asked asked; /* what for */
    bool keep, is_head;          /* of the request that is answered */
    uint8_t state;               /* enum state */
    bool answered;               /* and nothing has come since */
};

static const struct fm_http_limits limits = {.request_line = 2048, .fields = 64, .field_size = 4096, .body = 0};

static void free_conn(struct fm_event *gone)
{
    struct admin_conn *c = FM_LIST_ENTRY(gone, struct admin_conn, gone);
    fm_assert_on_loop();
    fm_stream_fini(&c->stream);
    fm_parser_free(c->parser);
    fm_buf_fini(&c->ahead);
    free(c);
}

static void close_conn(struct admin_conn *c) FM_ON_LOOP
{
    struct fm_admin *a = c->admin;
    if (c->state == CLOSED)
        return;
    c->state = CLOSED;
    fm_timer_stop(&c->idle);
    fm_timer_stop(&c->late);
    fm_list_remove(&c->node);
    if (a->waiting.next == &c->wait) { /* the walk was for this one */
        fm_status_free(a->status);
        a->status = NULL;
        if (a->walked) /* else it is posted */
            fm_loop_post(c->stream.loop, &a->survey, 0, NULL);
        a->walked = false;
    }
    fm_list_remove(&c->wait);
    fm_loop_cancel(c->stream.loop, &c->more);
    fm_stream_close(&c->stream);
    fm_loop_defer(c->stream.loop, &c->gone);
    a->nconns--;
    fm_listener_refill(&a->listener);
}

/* ---- answers ---- */

/* 0, or FM_ECLOSED. */
static int send_answer(struct admin_conn *c, struct fm_admin_answer *answer)
{
    struct fm_buf head = FM_BUF_INIT;
    bool keep = c->keep && !c->admin->paused;
    fm_buf_printf(&head,
                  "HTTP/1.1 %d %s\r\nServer: fermata\r\nDate: %s\r\nContent-Type: %s\r\n%s%sContent-Length: "
                  "%zu\r\nConnection: %s\r\n\r\n",
                  answer->status, fm_status_reason(answer->status), fm_http_date(), answer->type, answer->fields,
                  answer->age, fm_buf_size(&answer->body), keep ? "keep-alive" : "close");
    struct iovec pieces[2] = {
        {fm_buf_head(&head), fm_buf_size(&head)},
        {fm_buf_head(&answer->body), c->is_head ? 0 : fm_buf_size(&answer->body)},
    };
    bool complete = !head.failed && !answer->body.failed;
    enum fm_sent sent = complete ? fm_stream_send(&c->stream, pieces, 2, 0) : FM_SENT_GONE;
    if (!complete)
        fm_error_ratelimited("admin: %s; the connection is closed", fm_strerror(-ENOMEM));
    fm_buf_fini(&head);
    fm_buf_fini(&answer->body);
    c->state = keep ? OPEN : ENDING;
    c->answered = true;
    return sent == FM_SENT_GONE ? FM_ECLOSED : 0;
}

/* ---- what takes more than this turn ---- */

static void wait_for_requests(struct fm_admin *a, struct admin_conn *c) FM_ON_LOOP
{
    fm_list_push(&a->waiting, &c->wait);
    if (a->waiting.next != &c->wait)
        return;
    fm_loop_cancel(c->stream.loop, &a->survey); /* the one that it was posted for may have gone */
    fm_loop_post(c->stream.loop, &a->survey, 0, NULL);
}

/* In the thread that has found them. */
static void be_found(void *admin, struct fm_stacks *stacks)
{
    struct fm_admin *a = admin;
    atomic_store(&a->stacks, stacks);
    fm_loop_post(a->listener.loop, &a->found, 0, NULL);
}

/* For all who ask meanwhile, too.  0 or a negated errno. */
static int find_stacks(struct fm_admin *a) FM_ON_LOOP
{
    if (a->finding)
        return 0;
    a->finding = true; /* first: it may be found before ask_stacks returns */
    int err = a->answers.source.ask_stacks(a->answers.source.ctx, be_found, a);
    a->finding = err == 0;
    return err;
}

static void on_found(struct fm_event *event)
{
    struct fm_admin *a = FM_LIST_ENTRY(event, struct fm_admin, found);
    fm_assert_on_loop();
    a->finding = false;
    fm_stacks_free(a->answers.stacks);
    a->answers.stacks = atomic_exchange(&a->stacks, NULL);
    while (!fm_list_empty(&a->for_stacks)) {
        struct admin_conn *c = FM_LIST_ENTRY(a->for_stacks.next, struct admin_conn, wait);
        fm_list_remove(&c->wait);
        wait_for_requests(a, c);
    }
}

/* 0, or FM_ECLOSED. */
static int respond(struct admin_conn *c, const struct fm_request *r) FM_ON_LOOP
{
    struct fm_admin *a = c->admin;
    struct fm_admin_answer answer;
    int err;
    c->keep = r->keep_alive;
    c->is_head = r->is_head;
    if (fm_admin_answer(&a->answers, r, &answer, &c->asked))
        return send_answer(c, &answer);
    if (fm_admin_wants_stacks(&c->asked) && (err = find_stacks(a)) != 0) {
        fm_admin_answer_no_stacks(&answer, err);
        return send_answer(c, &answer);
    }
    c->state = WAITING; /* for what is gathered in the next turns */
    if (c->asked.app_metrics) {
        fm_list_push(&a->asking, &c->wait);
        fm_timer_start(&c->stream.loop->timers, &c->late, a->answers.source.metrics_kind, fm_now());
    } else if (fm_admin_wants_stacks(&c->asked)) {
        fm_list_push(&a->for_stacks, &c->wait);
    } else {
        wait_for_requests(a, c);
    }
    return 0;
}

/* Goes on with what was read ahead, unless the client has to read first: on_output calls this then. */
static void answer_more(struct admin_conn *c) FM_ON_LOOP
{
    if (fm_stream_pending(&c->stream) > 0)
        return;
    fm_loop_cancel(c->stream.loop, &c->more); /* it is not posted twice */
    fm_loop_post(c->stream.loop, &c->more, 0, NULL);
}

/* What was read ahead while it waited is read now. */
static void go_on(struct admin_conn *c) FM_ON_LOOP
{
    fm_timer_start(&c->stream.loop->timers, &c->idle, c->admin->idle_kind, fm_now());
    if (c->state == OPEN && fm_buf_size(&c->ahead) > 0) {
        c->answered = false;
        answer_more(c);
        return;
    }
    fm_buf_fini(&c->ahead);
    fm_stream_set_reading(&c->stream, FM_READ_ON);
    if (c->state == ENDING && fm_stream_pending(&c->stream) == 0)
        fm_stream_shutdown(&c->stream);
}

/* The first of those that wait is answered; all the requests have been seen. */
static void answer_first(struct fm_admin *a, struct admin_conn *c) FM_ON_LOOP
{
    struct fm_admin_answer answer;
    fm_list_remove(&c->wait);
    fm_timer_stop(&c->late);
    a->walked = false;
    fm_admin_answer_status(&a->answers, c->asked.page, a->status, &answer);
    fm_status_free(a->status);
    a->status = NULL;
    if (send_answer(c, &answer) != 0)
        close_conn(c);
    else
        go_on(c);
    if (!fm_list_empty(&a->waiting))
        fm_loop_post(a->listener.loop, &a->survey, 0, NULL);
}

/* A part of the walk: one client after the other has one of its own, however many there are. */
static void on_survey(struct fm_event *event)
{
    struct fm_admin *a = FM_LIST_ENTRY(event, struct fm_admin, survey);
    fm_assert_on_loop();
    if (fm_list_empty(&a->waiting))
        return;
    struct admin_conn *c = FM_LIST_ENTRY(a->waiting.next, struct admin_conn, wait);
    bool first = !a->status;
    if (first)
        a->status = fm_status_new(&c->asked.query);
    if (a->status && !a->answers.source.walk(a->answers.source.ctx, a->status, first)) {
        fm_loop_post(a->listener.loop, &a->survey, 0, NULL);
        return;
    }
    a->walked = a->status && fm_admin_waits_for_futures(&a->answers, c->asked.page);
    if (a->walked)
        fm_timer_start(&a->listener.loop->timers, &c->late, a->answers.source.futures_kind, fm_now());
    else
        answer_first(a, c);
}

/* ---- the application's metrics ---- */

static void answer_with_metrics(struct admin_conn *c) FM_ON_LOOP
{
    struct fm_admin_answer answer;
    fm_list_remove(&c->wait);
    fm_timer_stop(&c->late);
    fm_admin_answer_app(&c->admin->answers, &answer);
    if (send_answer(c, &answer) != 0)
        close_conn(c);
    else
        go_on(c);
}

/* ---- answers of Python ---- */

void fm_admin_late(struct fm_timer *t)
{
    struct admin_conn *c = FM_LIST_ENTRY(t, struct admin_conn, late);
    fm_assert_on_loop();
    if (c->asked.app_metrics)
        answer_with_metrics(c);
    else
        answer_first(c->admin, c);
}

/* By the thread that has asked. */
static void tell(void *answered)
{
    struct answered *a = answered;
    if (!atomic_exchange(&a->posted, true))
        fm_loop_post(a->admin->listener.loop, &a->event, 0, NULL);
}

/* Whoever waits now is answered; who comes meanwhile has another answer to wait for, and is posted for again. */
static void on_metrics(struct fm_event *event)
{
    struct answered *metrics = FM_LIST_ENTRY(event, struct answered, event);
    struct fm_admin *a = metrics->admin;
    fm_assert_on_loop();
    atomic_store(&metrics->posted, false);
    while (!fm_list_empty(&a->asking))
        answer_with_metrics(FM_LIST_ENTRY(a->asking.next, struct admin_conn, wait));
}

static void on_futures(struct fm_event *event)
{
    struct answered *futures = FM_LIST_ENTRY(event, struct answered, event);
    struct fm_admin *a = futures->admin;
    fm_assert_on_loop();
    atomic_store(&futures->posted, false);
    if (a->walked)
        answer_first(a, FM_LIST_ENTRY(a->waiting.next, struct admin_conn, wait));
}

static void listen_to(struct answered *answered, struct fm_inquiry *q, bool listen)
{
    if (q)
        fm_inquiry_listen(q, listen ? tell : NULL, listen ? answered : NULL);
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
        close_conn(c);
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
        close_conn(c);
        return;
    }
    bool more = fm_buf_size(&c->ahead) > 0 && c->state == OPEN;
    if (more)
        c->answered = false;
    bool waits = c->state == WAITING;
    fm_stream_set_reading(&c->stream, more || waits ? FM_READ_PAUSED : FM_READ_ON);
    if (more)
        answer_more(c);
    else if (!waits)
        fm_buf_fini(&c->ahead);
    if (c->state == ENDING && fm_stream_pending(&c->stream) == 0)
        fm_stream_shutdown(&c->stream);
}

static void on_data(struct fm_stream *s, const char *data, size_t len)
{
    fm_assert_on_loop();
    on_bytes(FM_LIST_ENTRY(s, struct admin_conn, stream), data, len);
}

static void on_more(struct fm_event *event)
{
    struct admin_conn *c = FM_LIST_ENTRY(event, struct admin_conn, more);
    fm_assert_on_loop();
    on_bytes(c, fm_buf_head(&c->ahead), fm_buf_size(&c->ahead));
}

static void on_end(struct fm_stream *s, int err)
{
    (void)err;
    fm_assert_on_loop();
    close_conn(FM_LIST_ENTRY(s, struct admin_conn, stream));
}

static void on_output(struct fm_stream *s)
{
    struct admin_conn *c = FM_LIST_ENTRY(s, struct admin_conn, stream);
    fm_assert_on_loop();
    if (fm_stream_is_dead(s))
        close_conn(c);
    else if (c->state == ENDING && fm_stream_pending(s) == 0)
        fm_stream_shutdown(s);
    else if (fm_buf_size(&c->ahead) > 0 && c->state != WAITING)
        answer_more(c);
}

static const struct fm_stream_ops stream_ops = {.on_data = on_data, .on_end = on_end, .on_output = on_output};

void fm_admin_timeout(struct fm_timer *t)
{
    fm_assert_on_loop();
    close_conn(FM_LIST_ENTRY(t, struct admin_conn, idle));
}

/* Room for the newest, which is the last: the one that has been idle for longest goes, or if all are being sent
 * something, the one that was answered first. */
static void make_room(struct fm_admin *a) FM_ON_LOOP
{
    const struct fm_list *newest = a->conns.prev;
    struct fm_list *node = a->conns.next;
    while (node != newest && fm_stream_pending(&FM_LIST_ENTRY(node, struct admin_conn, node)->stream) > 0)
        node = node->next;
    close_conn(FM_LIST_ENTRY(node == newest ? a->conns.next : node, struct admin_conn, node));
}

static void on_accept(struct fm_listener *l, int fd, const union fm_sockaddr *peer)
{
    struct fm_admin *a = l->owner;
    struct admin_conn *c = calloc(1, sizeof *c);
    struct fm_parser *parser = c ? fm_parser_new(&limits) : NULL;
    (void)peer;
    fm_assert_on_loop();
    int err = -ENOMEM;
    if (!c || !parser || (err = fm_stream_init(&c->stream, l->loop, fm_plain(fd), &stream_ops)) != 0) {
        fm_error_ratelimited("admin: %s; the connection is closed", fm_strerror(err));
        fm_parser_free(parser);
        close(fd);
        free(c);
        return;
    }
    c->admin = a;
    c->stream.uncounted = true;
    c->parser = parser;
    fm_timer_init(&c->idle);
    fm_list_push(&a->conns, &c->node);
    fm_list_init(&c->wait);
    fm_timer_init(&c->late);
    fm_timer_start(&l->loop->timers, &c->idle, a->idle_kind, fm_loop_now(l->loop));
    fm_event_init(&c->more, on_more);
    fm_event_init(&c->gone, free_conn);
    if (++a->nconns > MAX_CONNS)
        make_room(a);
}

static struct fm_admin *make(const struct fm_admin_source *source)
{
    struct fm_admin *a = fm_calloc(1, sizeof *a);
    fm_list_init(&a->conns);
    fm_list_init(&a->waiting);
    a->published = -1;
    fm_list_init(&a->asking);
    fm_list_init(&a->for_stacks);
    fm_event_init(&a->survey, on_survey);
    fm_event_init(&a->metrics.event, on_metrics);
    fm_event_init(&a->futures.event, on_futures);
    fm_event_init(&a->found, on_found);
    a->metrics.admin = a->futures.admin = a;
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
    int err = fm_listener_start(&a->listener, loop, accept_kind, on_accept, a);
    a->published = err == 0 ? fm_published_make(&a->listener.addr) : -1;
    if (err == 0 && a->published < 0)
        fm_warn("admin: %s; `fermata status` finds it by its address only", fm_strerror(a->published));
    listen_to(&a->metrics, a->answers.source.app_metrics, err == 0);
    listen_to(&a->futures, a->answers.source.futures, err == 0);
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
            close_conn(c);
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
        close_conn(FM_LIST_ENTRY(a->conns.next, struct admin_conn, node));
    listen_to(&a->metrics, a->answers.source.app_metrics, false);
    listen_to(&a->futures, a->answers.source.futures, false);
    if (a->listener.loop) {
        fm_loop_cancel(a->listener.loop, &a->survey);
        fm_loop_cancel(a->listener.loop, &a->metrics.event);
        fm_loop_cancel(a->listener.loop, &a->futures.event);
        fm_loop_cancel(a->listener.loop, &a->found);
    }
    fm_listener_close(&a->listener);
    fm_stacks_free(a->answers.stacks);
    fm_stacks_free(atomic_load(&a->stacks));
    if (a->published >= 0)
        fm_fds_close(a->published);
    free(a);
}

/* The server's half of a request; see server/request.h. */
#include "fermata/server/request.h"

#include <errno.h>
#include <stdlib.h>

#include "fermata/http/h1/framer.h"
#include "fermata/sched/wake.h"
#include "fermata/server/access.h"
#include "fermata/server/timeouts.h"
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/util/statsd.h"

_Static_assert(FM_STREAM_BORROW > FM_OUTPUT_HIGH, "a block is borrowed only of a request that is parked then");

static struct fm_exchange *of_call(struct fm_call *call) { return FM_LIST_ENTRY(call, struct fm_exchange, call); }

/* ---- the writer's sink: the connection's stream ---- */

static enum fm_sent note(struct fm_exchange *x, enum fm_sent sent)
{
    atomic_store_explicit(&x->kept, sent != FM_SENT_ALL, memory_order_relaxed);
    return sent;
}

static enum fm_sent sink_send(void *sink, const struct iovec *pieces, int n, bool borrow)
{
    struct fm_exchange *x = sink;
    return note(x, fm_stream_send(x->stream, pieces, n, borrow ? FM_SEND_BORROW : 0));
}

static enum fm_sent sink_send_file(void *sink, const struct iovec *head, int fd, int64_t pos, int64_t len)
{
    struct fm_exchange *x = sink;
    return note(x, fm_stream_send_file(x->stream, head, fd, pos, len));
}

static bool sink_takes_files(void *sink) { return fm_stream_takes_files(((struct fm_exchange *)sink)->stream); }

static uint64_t sink_pending(void *sink) { return fm_stream_pending(((struct fm_exchange *)sink)->stream); }

static bool sink_may_keep(void *sink)
{
    struct fm_exchange *x = sink;
    struct fm_service *s = x->service;
    if (atomic_load_explicit(&s->leaving, memory_order_relaxed) &&
        !atomic_load_explicit(&x->more, memory_order_relaxed))
        return false; /* where the next request has arrived it is answered, too */
    return s->options->keep_alive > 0;
}

static void sink_give_up(void *sink) { fm_stream_give_up(((struct fm_exchange *)sink)->stream, -ENOMEM); }

static const struct fm_sink_ops sink_ops = {
    .framer = &fm_h1_framer,
    .send = sink_send,
    .send_file = sink_send_file,
    .takes_files = sink_takes_files,
    .pending = sink_pending,
    .may_keep = sink_may_keep,
    .give_up = sink_give_up,
};

/* ---- what the WSGI layer asks for ---- */

/* May the request that waits for its client go on?  The stream's lock is held. */
static bool has_room(struct fm_exchange *x)
{
    return fm_task_aborted(&x->call.task) || fm_stream_has_room(x->stream, FM_OUTPUT_LOW);
}

/* Under the stream's lock, so that the loop either has drained it before (and we see room) or finds the task WRITING
 * when it does.  Output is kept, so the loop has been asked to write. */
static bool park_on_output(struct fm_call *call)
{
    struct fm_stream *s = of_call(call)->stream;
    fm_mutex_lock(&s->lock);
    bool room = has_room(of_call(call));
    if (!room) {
        atomic_store_explicit(&call->task.since, fm_now(), memory_order_relaxed);
        fm_task_move(&call->task, FM_TASK_RUNNING, FM_TASK_WRITING);
    }
    fm_mutex_unlock(&s->lock);
    return !room;
}

static int wait_output(struct fm_call *call)
{
    struct fm_exchange *x = of_call(call);
    struct fm_stream *s = x->stream;
    fm_mutex_lock(&s->lock);
    while (!has_room(x))
        pthread_cond_wait(&x->drained, &s->lock.m);
    bool over = fm_stream_is_dead_owned(s) || fm_task_aborted(&call->task);
    fm_mutex_unlock(&s->lock);
    return over ? FM_ECLOSED : 0;
}

/* After fm_writer_claim: the server's own answer. */
static void answer(struct fm_exchange *x, int status)
{
    char text[FM_H1_PLAIN_SIZE];
    struct iovec piece = {text, fm_h1_plain(text, status, x->call.writer.framer.is_head)};
    x->status = (uint16_t)status;
    x->answer_len = (uint16_t)piece.iov_len;
    fm_stream_send(x->stream, &piece, 1, 0);
}

static void answer_call(struct fm_call *call, int status) { answer(of_call(call), status); }

/* The loop need not hurry where the connection just waits for its next request: that request wakes it, or at the latest
 * the time when the connection has been idle too long.  Where the client has to take something before, the request is
 * as old as it is (send_rest), which is to be seen meanwhile. */
static void finish(struct fm_call *call, enum fm_outcome outcome)
{
    struct fm_exchange *x = of_call(call);
    struct fm_service *service = x->service;
    bool calm = outcome == FM_OUTCOME_DONE && call->writer.framer.keep &&
                !service->access /* a log line should not wait */ &&
                !atomic_load_explicit(&x->kept, memory_order_relaxed);
    x->over = fm_thread_tick();
    uint64_t due = calm ? x->over + service->options->keep_alive : 0;
    x->outcome = (uint8_t)outcome;
    fm_task_move(&call->task, FM_TASK_RUNNING, FM_TASK_DONE);
    fm_loop_post(service->loop, &x->finished, due, &x->urgent);
}

static const struct fm_call_ops call_ops = {park_on_output, wait_output, answer_call, finish};

/* ---- the end, on the loop ---- */

/* Bytes of the body that were sent: of a response that was broken off those that the kernel has taken. */
static uint64_t body_sent(const struct fm_exchange *x)
{
    const struct fm_writer *w = &x->call.writer;
    uint64_t body = x->status                            ? fm_h1_plain_body(x->status, w->framer.is_head)
                    : w->framer.framing == FM_FRAME_NONE ? 0
                                                         : w->body;
    uint64_t sent = x->stream->sent - x->sent_before; /* no thread writes any more */
    uint64_t head = x->status ? x->answer_len - body : w->head_len;
    sent = sent > head ? sent - head : 0;
    return body < sent ? body : sent;
}

static void FM_COLD log_request(const struct fm_exchange *x, unsigned status, bool complete) FM_ON_LOOP
{
    char client[FM_IP_TEXT];
    const struct fm_request *r = x->call.request;
    struct fm_access_entry e = {.remote = x->call.peer.remote_addr, .request = r, .bytes = body_sent(x)};
    if (r->forwarded.has_client) {
        fm_ip_text(&r->forwarded.client, client);
        e.remote = client;
    }
    e.took = x->over - x->begun;
    e.status = status ? status : 499;
    e.end = !complete || x->outcome == FM_OUTCOME_BROKEN ? 'X' : x->call.writer.framer.keep ? '+' : '-';
    fm_access_log_add(x->service->access, &e);
}

/* Counts and logs the request at its end. */
static void account(struct fm_exchange *x, bool complete) FM_ON_LOOP
{
    const struct fm_writer *w = &x->call.writer;
    unsigned status = x->status ? x->status : fm_writer_head_left(w) ? w->resp.status : 0, class = status / 100;
    fm_count(class >= 1 && class <= 5 ? (enum fm_counter)(FM_C_REQ_1XX + class - 1) : FM_C_REQ_NONE);
    fm_observe(FM_HG_REQUEST, x->over - x->begun);
    if (++x->service->served == x->service->enough)
        x->service->on_enough(x->service);
    if (fm_slow_is_one(&x->service->slow, x->over - x->begun, x->over))
        fm_slow_note(&x->service->slow, x->call.request, status, x->over - x->begun, x->over);
    if (x->service->access)
        log_request(x, status, complete);
    if (x->service->statsd)
        fm_statsd_request(x->service->statsd, status ? status : 499, x->over - x->begun);
}

/* The response is with the kernel, or never will be. */
static void be_over(struct fm_exchange *x, bool broken) FM_ON_LOOP
{
    if (x->over == 0) /* it was still being sent, or had not begun */
        x->over = fm_loop_now(x->service->loop);
    if (x->sending)
        fm_count_age(FM_AGE_SENDING, x->sending_since, (uint32_t)-1);
    x->sending = false;
    account(x, !broken);
    x->on_over(x, broken);
}

/* No thread writes any more, so the stream is the loop's without its lock. */
static void send_rest(struct fm_exchange *x, bool broken) FM_ON_LOOP
{
    if (!broken && fm_stream_pending_owned(x->stream) > 0) {
        x->sending = true;
        x->sending_since = x->over ? x->over : fm_loop_now(x->service->loop);
        x->over = 0; /* not yet */
        fm_count_age(FM_AGE_SENDING, x->sending_since, 1);
    } else {
        be_over(x, broken);
    }
}

static void on_finished(struct fm_event *event)
{
    struct fm_exchange *x = FM_LIST_ENTRY(event, struct fm_exchange, finished);
    fm_assert_on_loop();
    bool broken = x->outcome == FM_OUTCOME_ABORTED && x->status == 0;
    if (x->outcome == FM_OUTCOME_BROKEN) {
        /* A chunked body without its end, or one shorter than its Content-Length, shows that it is cut short: what was
         * sent before may still arrive.  Only where the end of the connection is the end of the body it takes a reset.
         */
        x->call.writer.framer.keep = false;
        broken = x->call.writer.framer.framing == FM_FRAME_CLOSE;
    }
    send_rest(x, broken || fm_stream_is_dead_owned(x->stream));
}

/* ---- life ---- */

void fm_exchange_init(struct fm_exchange *x, struct fm_service *service, struct fm_stream *stream,
                      const struct fm_peer *peer, fm_over_fn *on_over)
{
    x->service = service;
    x->stream = stream;
    x->on_over = on_over;
    fm_task_init(&x->call.task);
    fm_writer_init(&x->call.writer, &sink_ops, x);
    x->call.ops = &call_ops;
    x->call.sched = service->sched;
    x->call.peer = *peer;
    fm_event_init(&x->finished, on_finished);
    fm_timer_init(&x->deadline);
    fm_timer_init(&x->queue_timer);
    pthread_cond_init(&x->drained, NULL);
}

void fm_exchange_fini(struct fm_exchange *x)
{
    fm_writer_fini(&x->call.writer);
    pthread_cond_destroy(&x->drained);
}

void fm_exchange_begin(struct fm_exchange *x, struct fm_request *request)
{
    struct fm_timers *timers = &x->service->loop->timers;
    x->call.request = request;
    fm_writer_reset(&x->call.writer, request->minor, request->is_head, request->keep_alive);
    atomic_store_explicit(&x->urgent, false, memory_order_relaxed); /* the queue's lock shows it to the thread */
    atomic_store_explicit(&x->status, 0, memory_order_relaxed);
    x->over = 0;
    x->sent_before = x->stream->sent; /* no thread writes now */
    x->outcome = FM_OUTCOME_DONE;
    x->sending = x->ending = false;
    atomic_store_explicit(&x->kept, false, memory_order_relaxed);
    x->number = ++x->service->begun;
    x->begun = fm_loop_now(x->service->loop);
    fm_timer_start(timers, &x->deadline, FM_T_REQUEST, x->begun);
    fm_timer_start(timers, &x->queue_timer, FM_T_QUEUE, x->begun);
    fm_task_move(&x->call.task, FM_TASK_IDLE, FM_TASK_QUEUED);
    fm_sched_push(x->service->sched, &x->call.task);
}

struct fm_request *fm_exchange_drop(struct fm_exchange *x)
{
    struct fm_request *request = x->call.request;
    fm_timer_stop(&x->deadline);
    fm_timer_stop(&x->queue_timer);
    fm_task_reset(&x->call.task);
    x->call.request = NULL;
    return request;
}

struct fm_request *fm_exchange_close(struct fm_exchange *x)
{
    fm_loop_cancel(x->service->loop, &x->finished); /* posted only where the threads have left in haste */
    return x->call.request ? fm_exchange_drop(x) : NULL;
}

bool fm_exchange_is_streaming(struct fm_exchange *x)
{
    fm_mutex_lock(&x->stream->lock);
    bool sent = x->call.request && x->stream->sent > x->sent_before;
    fm_mutex_unlock(&x->stream->lock);
    return sent;
}

/* ---- ended from outside ---- */

/* The counter of a way to end, by the state the request was found in. */
static void count_end(enum fm_end why, enum fm_task_state found)
{
    static const uint8_t place[FM_TASK_STATE_COUNT] = {
        [FM_TASK_QUEUED] = 0, [FM_TASK_RUNNING] = 1, [FM_TASK_PARKING] = 1, [FM_TASK_WOKEN] = 1,
        [FM_TASK_PARKED] = 2, [FM_TASK_WRITING] = 3, [FM_TASK_DONE] = 4,
    };
    if (why == FM_END_DEADLINE)
        fm_count((enum fm_counter)(FM_C_LATE_QUEUED + place[found]));
    else if (why == FM_END_GONE || (why == FM_END_HALF_CLOSED && found == FM_TASK_PARKED))
        fm_count((enum fm_counter)(FM_C_GONE_QUEUED + place[found]));
    else if (why == FM_END_SEND_TIMEOUT)
        fm_count(FM_C_SEND_TIMEOUTS);
}

static const char *end_name(enum fm_end why)
{
    static const char *const names[] = {"the client is gone", "the client is gone", "--request-timeout",
                                        "the graceful timeout has passed", "--send-timeout"};
    return (size_t)why < sizeof names / sizeof *names ? names[why] : "?";
}

/* A step that runs cannot be interrupted: say so, with its stack as soon as the GIL can be had. */
static void report_stuck(struct fm_exchange *x, const char *what)
{
    uint64_t ms = (fm_loop_now(x->service->loop) - x->begun) / FM_MS;
    fm_warn("%s: the request has ended after %llu ms, but its step is still running and cannot be interrupted", what,
            (unsigned long long)ms);
    if (x->service->report_stack)
        x->service->report_stack(atomic_load_explicit(&x->call.thread, memory_order_relaxed), what);
}

/* The server has answered itself while a step still runs: the client has the whole response, which says that the
 * connection ends, and need not wait for the step. */
static void end_our_side(struct fm_exchange *x) FM_ON_LOOP
{
    if (x->ending && x->status != 0 && fm_stream_pending(x->stream) == 0)
        fm_stream_shutdown(x->stream);
}

static void end_sending(struct fm_exchange *x, enum fm_end why) FM_ON_LOOP
{
    if (why == FM_END_HALF_CLOSED)
        return;
    if (why == FM_END_DEADLINE)
        fm_count(FM_C_LATE_SENDING);
    else if (why == FM_END_SEND_TIMEOUT)
        fm_count(FM_C_SEND_TIMEOUTS);
    be_over(x, true);
}

/* Aborts the task, and wakes a write() that waits.  The state it was found in. */
static enum fm_task_state abort_task(struct fm_exchange *x, bool gone) FM_ON_LOOP
{
    struct fm_stream *s = x->stream;
    fm_mutex_lock(&s->lock); /* WRITING and write() change hands under it */
    enum fm_task_state found = fm_task_abort(&x->call.task, x->call.sched, gone);
    pthread_cond_broadcast(&x->drained);
    fm_mutex_unlock(&s->lock);
    return found;
}

static void say_end(struct fm_exchange *x, enum fm_end why, enum fm_task_state found)
{
    char what[FM_REQUEST_TEXT];
    bool stuck = why == FM_END_DEADLINE && found == FM_TASK_RUNNING;
    if (!stuck && !fm_log_on(FM_LOG_DEBUG))
        return;
    fm_request_describe(x->call.request, what, sizeof what);
    fm_debug("%s: ended in state %s: %s", what, fm_task_state_name(found), end_name(why));
    if (stuck)
        report_stuck(x, what);
}

void fm_exchange_end(struct fm_exchange *x, enum fm_end why)
{
    struct fm_call *call = &x->call;
    int status = why == FM_END_DEADLINE ? 504 : why == FM_END_SHUTDOWN ? 503 : 0;
    if (x->sending) {
        end_sending(x, why);
        return;
    }
    if (status && fm_task_state(&call->task) == FM_TASK_DONE)
        return; /* complete in the very moment: its event is on the way */
    if (why != FM_END_HALF_CLOSED) {
        if (status && fm_writer_claim(&call->writer))
            answer(x, status);
        else if (x->status == 0 || why != FM_END_DEADLINE)
            fm_stream_reset(x->stream); /* something has left, or there is no client to tell */
    }
    enum fm_task_state found = abort_task(x, why == FM_END_HALF_CLOSED);
    if (!x->ending)
        count_end(why, found);
    x->ending = x->ending || why != FM_END_HALF_CLOSED || found == FM_TASK_PARKED;
    if (why == FM_END_HALF_CLOSED)
        return;
    say_end(x, why, found);
    if (found == FM_TASK_QUEUED && fm_sched_take_back(call->sched, &call->task))
        send_rest(x, x->status == 0); /* it had not begun, so the server's own answer could be given */
    else if (status)
        end_our_side(x);
}

void fm_exchange_timeout_request(struct fm_timer *t)
{
    fm_assert_on_loop();
    fm_exchange_end(FM_LIST_ENTRY(t, struct fm_exchange, deadline), FM_END_DEADLINE);
}

void fm_exchange_timeout_queue(struct fm_timer *t)
{
    struct fm_exchange *x = FM_LIST_ENTRY(t, struct fm_exchange, queue_timer);
    fm_assert_on_loop();
    if (x->sending || !fm_sched_take_back(x->call.sched, &x->call.task))
        return; /* a thread has it, or had it */
    fm_count_refused(FM_REFUSE_QUEUE_TIMEOUT);
    if (fm_writer_claim(&x->call.writer))
        answer(x, fm_refusal_error(FM_REFUSE_QUEUE_TIMEOUT)->status);
    send_rest(x, x->status == 0);
}

/* ---- output ---- */

void fm_exchange_output(struct fm_exchange *x)
{
    struct fm_stream *s = x->stream;
    if (x->sending) {
        bool dead = fm_stream_is_dead(s);
        if (dead || fm_stream_pending(s) == 0)
            be_over(x, dead);
        return;
    }
    fm_mutex_lock(&s->lock);
    if (has_room(x)) {
        fm_task_resume_writing(&x->call.task, x->call.sched);
        pthread_cond_broadcast(&x->drained);
    }
    fm_mutex_unlock(&s->lock);
    end_our_side(x);
}

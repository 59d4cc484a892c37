/* A gateway without a server, for tests of src/wsgi: requests as text, applications as Python code, a connection that
 * writes down what it is given, and a scheduler whose tasks the test runs itself, in the calling thread, as the first
 * of its pool threads. */
#ifndef FERMATA_TESTS_UNIT_GATEWAY_H
#define FERMATA_TESTS_UNIT_GATEWAY_H

#include "wsgi/internal.h"

#include "../http/h1/replay.h"
#include "../py/python.h"
#include "fermata/http/h1/framer.h"
#include "fermata/sched/sched.h"
#include "fermata/sched/wake.h"
#include "fermata/util/err.h"
#include "fermata/wsgi/gateway.h"

static struct fm_sched sched;

struct exchange {
    struct fm_call call;
    struct replay stream;
    struct fm_buf out; /* what was sent */
    /* what the connection answers */
    int64_t kept; /* bytes that it says it keeps */
    bool gone;    /* the client is */
    bool room;    /* there is, when a step comes to wait for it */
    /* what has happened */
    unsigned waited; /* in write() */
    bool borrowed;   /* the last block was lent */
    int64_t file_pos, file_len;
    int answered; /* with this status */
    unsigned finished;
    enum fm_outcome outcome;
};

static inline struct exchange *exchange_of(struct fm_call *call) { return FM_LIST_ENTRY(call, struct exchange, call); }

/* ---- the connection ---- */

static inline enum fm_sent sink_send(void *sink, const struct iovec *pieces, int n, bool borrow)
{
    struct exchange *x = sink;
    x->borrowed = borrow;
    for (int i = 0; i < n && !x->gone; i++)
        fm_buf_append(&x->out, pieces[i].iov_base, pieces[i].iov_len);
    return x->gone ? FM_SENT_GONE : x->kept == 0 ? FM_SENT_ALL : borrow ? FM_SENT_BORROWED : FM_SENT_KEPT;
}

static inline enum fm_sent sink_send_file(void *sink, const struct iovec *head, int fd, int64_t pos, int64_t len)
{
    struct exchange *x = sink;
    CHECK(fd >= 0);
    fm_buf_append(&x->out, head->iov_base, head->iov_len);
    x->file_pos = pos;
    x->file_len = len;
    return x->kept == 0 ? FM_SENT_ALL : FM_SENT_BORROWED;
}

static inline bool sink_may_keep(void *sink) { return sink != NULL; }
static inline void sink_give_up(void *sink) { ((struct exchange *)sink)->gone = true; }

/* ---- what only the server can do ---- */

static inline bool park_on_output(struct fm_call *call)
{
    CHECK(!sched.threads[0].task && !sched.threads[0].corked);
    if (!exchange_of(call)->room)
        fm_task_move(&call->task, FM_TASK_RUNNING, FM_TASK_WRITING);
    return !exchange_of(call)->room;
}

static inline int wait_output(struct fm_call *call)
{
    exchange_of(call)->waited++;
    return exchange_of(call)->gone ? FM_ECLOSED : 0;
}

static inline void answer(struct fm_call *call, int status) { exchange_of(call)->answered = status; }

static inline void finish(struct fm_call *call, enum fm_outcome outcome)
{
    CHECK(!sched.threads[0].task && !sched.threads[0].corked);
    CHECK(!call->run && atomic_load(&call->thread) == 0);
    exchange_of(call)->finished++;
    exchange_of(call)->outcome = outcome;
    fm_task_move(&call->task, FM_TASK_RUNNING, FM_TASK_DONE);
}

static inline bool sink_takes_files(void *sink) { return sink != NULL; }
static inline uint64_t sink_pending(void *sink) { return (uint64_t)((struct exchange *)sink)->kept; }

static const struct fm_sink_ops sink_ops = {.framer = &fm_h1_framer,
                                            .send = sink_send,
                                            .send_file = sink_send_file,
                                            .takes_files = sink_takes_files,
                                            .pending = sink_pending,
                                            .may_keep = sink_may_keep,
                                            .give_up = sink_give_up};
static const struct fm_call_ops call_ops = {park_on_output, wait_output, answer, finish};

/* ---- requests ---- */

static const struct fm_http_limits limits = {.request_line = 8190, .fields = 100, .field_size = 8190, .body = 1 << 26};

#define GET "GET / HTTP/1.1\r\nHost: example.net\r\n\r\n"

/* A call with this request, which is not queued. */
static inline void make_call(struct exchange *x, const char *text)
{
    *x = (struct exchange){.room = true};
    replay(&x->stream, &limits, text, strlen(text), NULL);
    assert_int_equal(x->stream.nrequests, 1);
    struct fm_request *r = x->stream.requests[0];
    x->call.request = r;
    fm_task_init(&x->call.task);
    fm_writer_init(&x->call.writer, &sink_ops, x);
    fm_writer_reset(&x->call.writer, r->minor, r->is_head, r->keep_alive);
    x->call.ops = &call_ops;
    x->call.sched = &sched;
    x->call.peer = (struct fm_peer){"192.0.2.1", 54321, "server.example", "8000", NULL};
}

/* Runs the steps that are queued, and those that they queue. */
static inline void run_steps(void) { fm_sched_run_rest(&sched); }

/* Up to the first suspension, or the end. */
static inline void begin(struct exchange *x, const char *text)
{
    make_call(x, text);
    fm_task_move(&x->call.task, FM_TASK_IDLE, FM_TASK_QUEUED);
    fm_sched_push(&sched, &x->call.task);
    run_steps();
}

static inline void drop_call(struct exchange *x)
{
    fm_task_reset(&x->call.task);
    fm_writer_fini(&x->call.writer);
    fm_buf_fini(&x->out);
    replay_fini(&x->stream);
}

/* The request has ended, once, in this way. */
static inline void end(struct exchange *x, enum fm_outcome outcome)
{
    assert_int_equal(x->finished, 1);
    assert_int_equal(x->outcome, outcome);
    assert_int_equal(fm_task_state(&x->call.task), FM_TASK_DONE);
    drop_call(x);
}

static inline enum fm_task_state state_of(struct exchange *x) { return fm_task_state(&x->call.task); }

/* What was sent, as text. */
static inline const char *sent(struct exchange *x)
{
    fm_buf_append(&x->out, "", 1);
    x->out.len--;
    return fm_buf_head(&x->out);
}

/* ---- the gateway ---- */

/* Defines app(environ, start_response). */
#define APP(text) app_is(text, __FILE__, __LINE__)

static inline void app_is(const char *text, const char *file, int line)
{
    py_run(text, file, line);
    Py_XSETREF(fm_wsgi.application, py_get("app"));
}

static inline void no_wake(void *ctx) { (void)ctx; }
static inline void run_step(void *ctx, struct fm_thread *thread, struct fm_task *task)
{
    (void)ctx;
    fm_wsgi_step(FM_LIST_ENTRY(task, struct fm_call, task), thread);
}
static const struct fm_sched_ops sched_ops = {.wake = no_wake, .step = run_step};

static inline void start_gateway(void)
{
    start_python();
    if (fm_wsgi_init(&(struct fm_wsgi_config){.multithread = true, .end_child = _exit}) != 0) {
        PyErr_Print();
        exit(1);
    }
    CHECK(fm_sched_init(&sched, 1, &sched_ops, NULL) == 0);
    sched.threads[0].user = fm_wsgi_thread_new();
    PY("import concurrent.futures, contextvars, gc, io, os, sys, tempfile, threading, time\n"
       "from concurrent.futures import Future\n"
       "def ok(start_response, *headers): return start_response('200 OK', list(headers))\n");
}

static inline void stop_gateway(void)
{
    Py_CLEAR(names);
    fm_wsgi_fini();
    stop_python();
    fm_sched_fini(&sched);
}

/* main: all the tests, between start and end. */
#define GATEWAY_MAIN(tests)                                                                                            \
    int main(void)                                                                                                     \
    {                                                                                                                  \
        start_gateway();                                                                                               \
        int failed = cmocka_run_group_tests(tests, NULL, NULL);                                                        \
        stop_gateway();                                                                                                \
        return failed;                                                                                                 \
    }

#endif

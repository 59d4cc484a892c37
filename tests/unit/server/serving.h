/* A service without Python and without threads: a loop that the test turns, a scheduler whose steps the test writes,
 * and clients at the other end of a pair of sockets. */
#ifndef FERMATA_TESTS_SERVING_H
#define FERMATA_TESTS_SERVING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "../net/loopback.h"
#include "fermata/http/response.h"
#include "fermata/server/http1.h"
#include "fermata/server/timeouts.h"
#include "fermata/util/counter.h"
#include "fermata/util/log.h"

static struct {
    struct fm_options options;
    struct fm_loop loop;
    struct fm_sched sched;
    struct fm_service service;
    void (*step)(struct fm_call *call); /* what steps do */
    unsigned steps;
    char target[64];     /* of the last request that a step has seen */
    unsigned reports;    /* of stacks */
    struct fm_wait wait; /* of a step that parks */
} on;

/* ---- the service ---- */

static void nothing_polls(void *ctx, bool block) { (void)ctx, (void)block; }
static void nothing_wakes(void *ctx) { (void)ctx; }
static void no_gil(void *ctx, struct fm_thread *thread) { (void)ctx, (void)thread; }
static bool nothing_corked(void *ctx, struct fm_task *task, uint64_t since)
{
    (void)ctx, (void)task, (void)since;
    return false;
}

static void step(void *ctx, struct fm_thread *thread, struct fm_task *task)
{
    struct fm_call *call = FM_LIST_ENTRY(task, struct fm_call, task);
    struct fm_span target = call->request->target;
    (void)ctx;
    snprintf(on.target, sizeof on.target, "%.*s", (int)target.len, fm_request_text(call->request, target));
    task->begun = true;
    on.steps++;
    fm_thread_release(thread);
    on.step(call);
}

static const struct fm_sched_ops serving_ops = {nothing_polls, nothing_wakes,  no_gil, no_gil,
                                                step,          nothing_corked, NULL};

static void on_report(unsigned long thread, const char *what)
{
    (void)thread, (void)what;
    on.reports++;
}

/* Hello, in the words of the application. */
static inline void respond(struct fm_call *call, const char *p, size_t n, bool borrow)
{
    const char *why;
    struct fm_response r = {.length = -1};
    assert_int_equal(fm_response_start(&r, "200 OK", 6, &why), 0);
    assert_int_equal(fm_writer_set_response(&call->writer, &r), 0);
    fm_writer_expect(&call->writer, (int64_t)n);
    fm_writer_whole(&call->writer, p, n, borrow);
    fm_response_fini(&r);
}

static inline void hello(struct fm_call *call)
{
    if (fm_task_aborted(&call->task)) {
        call->ops->finish(call, FM_OUTCOME_ABORTED);
        return;
    }
    respond(call, "hello", 5, false);
    fm_writer_end(&call->writer);
    call->ops->finish(call, FM_OUTCOME_DONE);
}

/* Parks on a future that is never done; the step after that is the last. */
static inline void wait_for_ever(struct fm_call *call)
{
    if (fm_task_aborted(&call->task)) {
        call->ops->finish(call, FM_OUTCOME_ABORTED);
        return;
    }
    fm_task_park(&call->task, &on.wait);
    if (!fm_task_let_go(&call->task, &on.wait)) /* the client has ended its direction */
        call->ops->finish(call, FM_OUTCOME_ABORTED);
}

static inline void define_timeouts(void)
{
    const struct fm_options *o = &on.options;
#define X(name, ns, handler) fm_timers_define(&on.loop.timers, FM_T_##name, ns, handler);
    FM_CONN_TIMEOUTS(X)
#undef X
}

static inline int serving_start(void **state)
{
    char *argv[] = {(char *)(uintptr_t) "test", (char *)(uintptr_t) "app", NULL};
    (void)state;
    memset(&on, 0, sizeof on);
    fm_log_set_level(FM_LOG_CRITICAL);
    if (fm_options_parse(&on.options, 2, argv, "3") != FM_OPTIONS_RUN || fm_loop_init(&on.loop) != 0 ||
        fm_sched_init(&on.sched, 1, &serving_ops, NULL) != 0)
        return -1;
    on.service.loop = &on.loop;
    on.service.sched = &on.sched;
    on.service.options = &on.options;
    on.service.report_stack = on_report;
    on.step = hello;
    define_timeouts();
    fm_role_take_loop();
    return 0;
}

static inline int serving_finish(void **state)
{
    (void)state;
    fm_loop_reap(&on.loop);
    fm_sched_fini(&on.sched);
    fm_loop_fini(&on.loop);
    fm_role_drop_loop();
    fm_options_free(&on.options);
    return 0;
}

/* Runs the steps that are queued, as a pool thread. */
static inline void run_steps(void)
{
    fm_role_drop_loop();
    fm_sched_run_rest(&on.sched);
    fm_role_take_loop();
}

static inline void turn(void) { fm_loop_turn(&on.loop, false); }

/* Until nothing more comes of what was sent. */
static inline void settle(void)
{
    for (int i = 0; i < 12; i++) {
        turn();
        run_steps();
    }
}

/* A timeout passes. */
static inline void expires(struct fm_timer *t, fm_timer_fn *handler)
{
    assert_false(fm_list_empty(&t->node)); /* it runs */
    fm_timer_stop(t);
    handler(t);
}

static inline uint64_t counted(enum fm_counter id)
{
    struct fm_counters_sum sum;
    fm_counters_read(&sum);
    return sum.cell[id];
}

/* ---- clients ---- */

struct client {
    int fd;
    bool at_end; /* the server has ended the connection */
    size_t len;
    char text[256 * 1024];
};

static inline void say(struct client *k, const char *text)
{
    assert_int_equal(send(k->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* What has come. */
static inline const char *hear(struct client *k)
{
    ssize_t n;
    while ((n = recv(k->fd, k->text + k->len, sizeof k->text - 1 - k->len, MSG_DONTWAIT)) > 0)
        k->len += (size_t)n;
    k->at_end = n == 0 || (n < 0 && errno != EAGAIN);
    k->text[k->len] = '\0';
    return k->text;
}

static inline void forget(struct client *k) { k->len = 0; }

static inline unsigned responses(struct client *k)
{
    unsigned n = 0;
    for (const char *at = hear(k); (at = strstr(at, "HTTP/1.1 ")); at++)
        n++;
    return n;
}

static inline bool has_status(struct client *k, int status)
{
    char line[32];
    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    return strncmp(hear(k), line, strlen(line)) == 0;
}

#endif

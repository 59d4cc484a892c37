/* What the status pages ask a worker; see worker/survey.h. */
#include "fermata/worker/survey.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fermata/admin/status.h"
#include "fermata/server/http1.h"
#include "fermata/util/clock.h"
#include "fermata/worker/worker.h"
#include "fermata/wsgi/steps.h"

#define A_TURN 1000 /* connections: a fraction of a millisecond */

/* Which of the states a request is in; FM_STATUS_STATE_COUNT: in none.  It may change at any moment. */
static enum fm_status_state state_of(const struct fm_exchange *x)
{
    static const uint8_t states[FM_TASK_STATE_COUNT] = {
        [FM_TASK_IDLE] = FM_STATUS_STATE_COUNT,      [FM_TASK_QUEUED] = FM_STATUS_QUEUED,
        [FM_TASK_RUNNING] = FM_STATUS_RUNNING,       [FM_TASK_PARKING] = FM_STATUS_RUNNING,
        [FM_TASK_WOKEN] = FM_STATUS_RUNNING,         [FM_TASK_PARKED] = FM_STATUS_PARKED_FUTURE,
        [FM_TASK_WRITING] = FM_STATUS_PARKED_CLIENT, [FM_TASK_DONE] = FM_STATUS_SENDING,
    };
    return (enum fm_status_state)states[fm_task_state(&x->call.task)];
}

static uint64_t time_since(uint64_t then, uint64_t now) { return now > then ? now - then : 0; }

struct looking {
    struct fm_status *status;
    uint64_t now;
    bool paths;
};

/* Text of the request, which the loop has made and nobody changes. */
static void look_at(struct fm_http1 *c, void *arg) FM_UNCHECKED
{
    struct looking *l = arg;
    const struct fm_exchange *x = &c->exchange;
    const struct fm_request *r = x->call.request;
    enum fm_status_state state = state_of(x);
    if (!r || c->state != FM_HTTP1_BUSY || state == FM_STATUS_STATE_COUNT)
        return;
    struct fm_task *t = &c->exchange.call.task;
    uint64_t then = state == FM_STATUS_SENDING && x->sending ? x->sending_since
                                                             : atomic_load_explicit(&t->since, memory_order_relaxed);
    if (then == 0)
        then = l->now; /* it was queued in this turn of the loop, and gets its time when the turn is over */
    struct fm_status_seen seen = {
        .number = x->number,
        .age = time_since(x->begun, l->now),
        .in_state = time_since(then, l->now),
        .state = state,
        .place = atomic_load_explicit(&t->place, memory_order_relaxed),
        .thread = (uint16_t)(atomic_load_explicit(&t->ran, memory_order_relaxed) + 1),
        .method = fm_request_text(r, r->method),
        .method_len = r->method.len,
        .path = l->paths ? fm_request_text(r, r->path) : "",
        .path_len = l->paths ? r->path.len : 0,
        .client = c->remote,
        .trace = fm_request_trace(r),
    };
    fm_status_see(l->status, &seen);
}

bool fm_survey_walk(void *worker, struct fm_status *s, bool first) FM_UNCHECKED
{
    struct fm_worker *w = worker;
    struct looking l = {s, fm_now(), !w->options->no_status_paths};
    return fm_conns_visit(&w->conns, first, A_TURN, look_at, &l);
}

static int longer_first(const void *a, const void *b)
{
    const struct fm_status_request *x = a, *y = b;
    return (x->age < y->age) - (x->age > y->age);
}

static unsigned copy_slowest(const struct fm_worker *w, struct fm_status_request *to, uint64_t now)
{
    unsigned n = 0;
    for (unsigned i = 0; i < FM_SLOWEST; i++) {
        const struct fm_slow_request *r = &w->service.slow.all[i];
        if (!fm_slow_is_recent(r, now))
            continue;
        const char *path = w->options->no_status_paths ? "" : r->path;
        const struct fm_status_seen seen = {.age = r->took,
                                            .in_state = time_since(r->over, now),
                                            .method = r->method,
                                            .method_len = (unsigned)strlen(r->method),
                                            .path = path,
                                            .path_len = (unsigned)strlen(path),
                                            .client = "",
                                            .trace = *r->trace ? r->trace : NULL};
        fm_status_take(&to[n], &seen);
        to[n++].status = (uint16_t)r->status;
    }
    qsort(to, n, sizeof *to, longer_first);
    return n;
}

void fm_survey_about(void *worker, struct fm_status_about *about) FM_UNCHECKED
{
    struct fm_worker *w = worker;
    static struct fm_status_request slow[FM_SLOWEST]; /* until it is rendered, in this turn */
    uint64_t now = fm_now();
    unsigned idle;
    about->application = w->options->app;
    about->pid = getpid();
    about->is_worker = w->handed.any;
    about->slot = w->handed.slot;
    about->draining = atomic_load(&w->service.leaving);
    about->has_places = !w->options->no_places;
    fm_sched_threads(&w->sched, &about->busy, &idle);
    about->threads = w->options->threads;
    about->up = time_since(w->started, now);
    about->slow = slow;
    about->nslow = copy_slowest(w, slow, now);
}

int fm_survey_ask_stacks(void *worker, void (*found)(void *arg, struct fm_stacks *stacks), void *arg) FM_UNCHECKED
{
    return fm_steps_ask(&((struct fm_worker *)worker)->sched, found, arg);
}

/* The scheduler, the tasks, the monitor and the loop's sleep, as they are, under a controlled interleaving.
 *
 * Around them a server in small, which does with them what server/ and wsgi/ do, in the same order and under the same
 * locks: clients send requests, leave, end their direction, take output, requests have deadlines; steps yield futures,
 * write more than there is room for, give up the GIL, and go on; futures are completed in threads of their own; the
 * server is stopped at the end, or before.  Each schedule is another mixture of all this and another interleaving.
 *
 * Held against each: one leader; never more steps than threads; the GIL held in each step; close() once, never beside
 * a step, for each request that began, and never for others; exactly one fate for each; nothing touched after it is
 * freed; every thread wakes up that has something to do; everything ends.
 *
 * FM_SIM_SCHEDULES says how many, FM_SIM_SEED repeats a run and FM_SIM_FIRST a schedule of it. */
#ifndef FM_DEBUG
#define FM_DEBUG /* each transition is checked */
#endif
#include "simulate.h"

static int on_poll(int flags);

/* The product's own, each name that two of them have renamed. */
#define check task_check
#include "../../../src/sched/task.c"
#undef check
#define event_base_loop(base, flags) on_poll(flags)
#define flush loop_flush
#include "../../../src/net/loop.c"
#undef flush
#include "../../../src/sched/runq.c"
#define SUSPECT 1
#define WINDOW (FM_MS / 50)
#define LEAST_STEPS 1u
#define PAYS 1u
#define LASTS 1u
#define NO_PAUSE (FM_MS / 10)
#define LET_BE 0
#include "../../../src/sched/waits.c"
static uint64_t found_waiting;
static bool waits_step(struct fm_waits *w, uint64_t took, uint64_t now, bool wanted, unsigned others)
{
    bool waits = fm_waits_step(w, took, now, wanted, others);
    found_waiting += waits;
    return waits;
}
#define fm_waits_step waits_step
static unsigned budget_min;
#define BUDGET_MIN budget_min
#define BUDGET_MAX (4 * budget_min)
#include "../../../src/sched/sched.c"
#include "../../../src/sched/wake.c"
#include "../../../src/sched/monitor.c"

enum { CONNS = 4, STEPS = 3, POOL_MOST = 3 };

/* ---- what the server has ---- */

struct future {
    struct fm_mutex lock;
    bool done, taken;         /* taken: a thread completes it, or none ever will */
    struct fm_wait *callback; /* NULL: none yet */
};

enum action { PARK, PARK_DONE, WRITE, BLOCK, HOLD, REQUEUE, GO_ON };

enum { ALIVE = 0x600d, READING = 1, BUSY, SENDING };

struct conn { /* with its exchange: one request after another */
    unsigned magic;
    unsigned index;
    struct fm_task task;
    struct fm_event finished;
    struct fm_mutex lock; /* the stream's */
    bool full;            /* more output is kept than may be; the stream's lock */
    atomic_bool urgent;
    unsigned state;
    bool gone, half_closed, ending;
    unsigned requests; /* still to come */
    /* of the request; the task's holder */
    bool has_run;
    bool in_step; /* not only between two accesses, as it would be if one step could meet another */
    struct future *future;
    struct fm_wait *wait;
    bool stays; /* parks on a future that is never done: only the client's going ends that */
    unsigned steps;
    bool writing; /* a write() that waits for room, in its thread */
    pthread_cond_t drained;
};

static struct {
    unsigned pool;
    struct fm_sched sched;
    struct fm_loop loop;
    struct fm_monitor monitor;
    struct conn *conn[CONNS];
    unsigned conns, futures, pending; /* futures that no thread has begun to complete */
    struct future future[CONNS * 3 * STEPS * 2];
    struct fm_wait wait[CONNS * 3 * STEPS * 2];
    struct fm_mutex gil;
    bool no_gil;       /* there is none: what would take it goes on */
    uint64_t with_gil; /* the fibers that have it */
    unsigned polling, in_step, threads_left;
    unsigned events; /* from outside that are still to come, beside requests */
    bool stop_early, draining, over;
    bool busy;         /* as the leader has been told */
    bool never_begins; /* the application cannot be loaded: stopped by the main thread, without a connection */
    /* fates */
    unsigned begun, closed, accepted, finished, taken_back, dropped;
} w;

static struct {
    uint64_t schedules, requests, parks, woken, writes, stalls, aborts, taken_back, sleeps, stopped_early, busy;
} sum;

static void sim_save(struct sim_fiber *f)
{
    f->own[0] = self;
    f->on_loop = fm_thread_on_loop;
}

static void sim_load(struct sim_fiber *f)
{
    self = f->own[0];
    fm_thread_on_loop = f->on_loop;
}

static void sim_explain(void)
{
    struct fm_sched *c = &w.sched;
    fprintf(stderr, "  pool %u, queued %u + %u, running %u, searching %u, budget %u, leader %td, asleep %d, stop %d\n",
            c->pool, c->runq.length[FM_UNSTARTED], c->runq.length[FM_STARTED], c->running, c->searching, c->budget,
            c->leader ? c->leader - c->threads : -1, w.loop.asleep, c->stop);
    for (unsigned i = 0; i < CONNS; i++)
        if (w.conn[i])
            fprintf(stderr, "  connection %u: state %u, task %s, flags %x, to come %u\n", i, w.conn[i]->state,
                    fm_task_state_name((enum fm_task_state)(w.conn[i]->task.word & FM_TASK_STATE_MASK)),
                    w.conn[i]->task.word & ~FM_TASK_STATE_MASK, w.conn[i]->requests);
}

static bool has_gil(void) { return w.with_gil >> sim.current & 1; }

static uint64_t sim_next_event(void) { return UINT64_MAX; } /* what comes, comes at any time */

static bool some(unsigned n) { return sim_one_in(n); }

/* ---- futures: as in concurrent.futures, callbacks are called outside the lock ---- */

static struct future *new_future(bool done)
{
    struct future *f = &w.future[w.futures++];
    SIM_CHECK(w.futures <= sizeof w.future / sizeof *w.future);
    memset(f, 0, sizeof *f);
    fm_mutex_init(&f->lock);
    f->done = done;
    w.pending += !done;
    sim.changed = true;
    return f;
}

static void add_done_callback(struct future *f, struct fm_wait *callback)
{
    fm_mutex_lock(&f->lock);
    bool done = f->done;
    if (!done)
        f->callback = callback;
    fm_mutex_unlock(&f->lock);
    if (done)
        fm_wait_fire(callback, &w.sched);
}

static void complete(struct future *f)
{
    fm_mutex_lock(&f->lock);
    f->done = true;
    struct fm_wait *callback = f->callback;
    fm_mutex_unlock(&f->lock);
    if (callback)
        fm_wait_fire(callback, &w.sched);
    if (callback && some(4))
        fm_wait_fire(callback, &w.sched); /* some call their callbacks twice */
}

static struct future *pending_future(void)
{
    unsigned n = 0;
    struct future *found = NULL;
    for (unsigned i = 0; i < w.futures; i++)
        if (!w.future[i].done && !w.future[i].taken && some(++n))
            found = &w.future[i];
    return found;
}

static bool has_future(const void *arg)
{
    (void)arg;
    return w.pending > 0 || w.over;
}

/* A thread that completes futures, in any order, whenever it likes. */
static void completer(void *arg)
{
    for (;;) {
        sim_wait_until(has_future, arg);
        struct future *f = pending_future();
        if (!f && w.over)
            return;
        if (!f)
            continue; /* the other one has it */
        f->taken = true;
        w.pending--;
        while (some(2))
            sim_yield();
        complete(f);
    }
}

/* ---- on the loop: server/http1.c and request.c in small ---- */

static void conn_close(struct conn *c)
{
    SIM_CHECK(fm_thread_on_loop && c->magic == ALIVE && !c->in_step);
    w.conn[c->index] = NULL;
    w.conns--;
    sim_free(c, sizeof *c);
    if (w.conns == 0)
        fm_sched_stop(&w.sched);
}

static void dispatch(struct conn *c)
{
    c->state = BUSY;
    c->requests--;
    c->ending = c->has_run = c->stays = false;
    c->steps = (unsigned)sim_random(STEPS + 1);
    atomic_store_explicit(&c->urgent, false, memory_order_relaxed);
    w.accepted++;
    fm_task_move(&c->task, FM_TASK_IDLE, FM_TASK_QUEUED);
    fm_sched_push(&w.sched, &c->task);
}

static void exchange_over(struct conn *c, bool broken)
{
    SIM_CHECK(c->state == BUSY || c->state == SENDING);
    fm_task_reset(&c->task);
    if (broken || c->gone || c->requests == 0 || w.draining) {
        w.dropped += c->requests;
        conn_close(c);
        return;
    }
    c->state = READING;
    if (some(2)) /* pipelined: the next one is here */
        dispatch(c);
}

static void on_finished(struct fm_event *event)
{
    struct conn *c = FM_LIST_ENTRY(event, struct conn, finished);
    SIM_CHECK(fm_thread_on_loop && c->magic == ALIVE && !c->in_step);
    w.finished++;
    if (c->full && !c->gone && some(2)) {
        c->state = SENDING;
        return;
    }
    exchange_over(c, c->gone);
}

/* Ends the request from outside: a deadline, a client that is gone, a time without sending. */
static void end(struct conn *c, bool half_closed)
{
    fm_mutex_lock(&c->lock);
    if (!half_closed)
        c->full = false; /* the stream is dead */
    enum fm_task_state found = fm_task_abort(&c->task, &w.sched, half_closed);
    pthread_cond_broadcast(&c->drained);
    fm_mutex_unlock(&c->lock);
    sum.aborts += found != FM_TASK_DONE;
    if (!half_closed && found == FM_TASK_QUEUED && fm_sched_take_back(&w.sched, &c->task)) {
        w.taken_back++;
        exchange_over(c, c->gone);
    }
}

static void drained(struct conn *c)
{
    fm_mutex_lock(&c->lock);
    c->full = false;
    fm_task_resume_writing(&c->task, &w.sched);
    pthread_cond_broadcast(&c->drained);
    fm_mutex_unlock(&c->lock);
}

static bool must_leave(const struct conn *c) { return c->state == BUSY && c->stays && !c->gone && !c->ending; }

/* Something from outside that could happen now happens, perhaps.  How many things did. */
static unsigned outside(bool must)
{
    unsigned happened = 0, start = (unsigned)sim_random(CONNS);
    for (unsigned i = 0; i < CONNS; i++) {
        struct conn *c = w.conn[(start + i) % CONNS];
        if (!c || (some(2) && !must))
            continue;
        if (c->state == READING) {
            happened++;
            if (c->requests > 0 && !w.draining && !some(16)) {
                dispatch(c);
            } else {
                w.dropped += c->requests;
                conn_close(c);
            }
        } else if (c->full) {
            happened++;
            drained(c);
            if (c->state == SENDING)
                exchange_over(c, false);
        } else if (must_leave(c)) {
            happened++;
            c->gone = true;
            atomic_store(&c->urgent, true);
            end(c, false);
        } else if (c->state == BUSY && w.events > 0 && some(2)) {
            w.events--;
            happened++;
            switch (sim_random(4)) {
            case 0: /* gone */
                c->gone = true;
                atomic_store(&c->urgent, true);
                end(c, false);
                break;
            case 1:
                c->half_closed = true;
                atomic_store(&c->urgent, true);
                end(c, true);
                break;
            case 2: /* its deadline, or its time in the queue */
                if (c->ending || fm_task_state(&c->task) == FM_TASK_DONE)
                    break;
                c->ending = true;
                end(c, false);
                break;
            default: /* --queue-timeout */
                if (fm_sched_take_back(&w.sched, &c->task)) {
                    w.taken_back++;
                    exchange_over(c, false);
                }
            }
        }
    }
    if (w.no_gil && some(8))
        fm_sched_set_parallel(&w.sched, (unsigned)sim_random(2)); /* a library has turned the GIL on */
    if (w.stop_early && !w.sched.stop && some(4)) { /* the graceful timeout has passed: end what there is, then stop */
        w.draining = true;
        for (unsigned i = 0; i < CONNS; i++)
            if (w.conn[i] && w.conn[i]->state == BUSY)
                end(w.conn[i], false);
        fm_sched_stop(&w.sched);
    }
    return happened;
}

static bool outside_can_act(void)
{
    for (unsigned i = 0; i < CONNS; i++)
        if (w.conn[i] && (w.conn[i]->state == READING || w.conn[i]->full || must_leave(w.conn[i])))
            return true;
    return w.stop_early && !w.sched.stop;
}

static bool poll_can_end(const void *arg)
{
    (void)arg;
    return sim.eventfd[w.loop.wake_fd] > 0 || outside_can_act();
}

/* event_base_loop. */
static int on_poll(int flags)
{
    SIM_CHECK(fm_thread_on_loop && w.polling == 1 && !has_gil());
    sim_point();
    if (!(flags & EVLOOP_NONBLOCK)) {
        sum.sleeps++;
        sim_wait_until(poll_can_end, NULL);
    }
    if (sim.eventfd[w.loop.wake_fd] > 0)
        on_wake(w.loop.wake_fd, 0, &w.loop);
    outside(!(flags & EVLOOP_NONBLOCK) && w.conns > 0 && sim.eventfd[w.loop.wake_fd] == 0);
    sim_point();
    return 0;
}

static bool loop_ready(void *ctx)
{
    (void)ctx;
    return fm_sched_has_work(&w.sched);
}

/* ---- what the server is to the scheduler ---- */

static void poll_loop(void *ctx, bool block) FM_UNCHECKED
{
    (void)ctx;
    SIM_CHECK(w.polling++ == 0); /* one leader */
    fm_loop_turn(&w.loop, block);
    SIM_CHECK(--w.polling == 0);
}

static void wake_loop(void *ctx)
{
    (void)ctx;
    fm_loop_wake(&w.loop);
}

static void take_gil(void *ctx, struct fm_thread *thread)
{
    (void)ctx;
    SIM_CHECK(thread == fm_thread_self() && !has_gil());
    if (!w.no_gil) {
        fm_mutex_lock(&w.gil);
        SIM_CHECK(w.with_gil == 0);
    }
    w.with_gil |= UINT64_C(1) << sim.current;
}

static void drop_gil(void *ctx, struct fm_thread *thread)
{
    (void)ctx, (void)thread;
    SIM_CHECK(has_gil());
    w.with_gil &= ~(UINT64_C(1) << sim.current);
    if (!w.no_gil)
        fm_mutex_unlock(&w.gil);
}

static bool flush_held(void *ctx, struct fm_task *task, uint64_t since)
{
    struct conn *c = FM_LIST_ENTRY(task, struct conn, task);
    (void)ctx, (void)since;
    SIM_CHECK(c->magic == ALIVE && c->in_step); /* the step cannot end meanwhile */
    sim_point();
    SIM_CHECK(c->magic == ALIVE && c->in_step);
    return some(2);
}

static void leave_step(struct conn *c, struct fm_thread *thread)
{
    fm_thread_release(thread);
    SIM_CHECK(c->magic == ALIVE && c->in_step && has_gil());
    c->in_step = false;
    w.in_step--;
}

static void enter_step(struct conn *c)
{
    SIM_CHECK(c->magic == ALIVE && !c->in_step && has_gil());
    c->in_step = true;
    SIM_CHECK(++w.in_step <= w.pool);
}

/* Others wait for a thread though one is free. */
static bool nobody_waits(const void *arg)
{
    (void)arg;
    return fm_runq_length(&w.sched.runq) + fm_runq_length(&w.sched.incoming) == 0 || w.sched.running == w.pool ||
           w.sched.stop;
}

/* So many threads are in a step that the leader has to know of it. */
static bool leader_knows(const void *arg)
{
    (void)arg;
    return w.busy || w.sched.running < w.sched.busy_from || w.sched.stop;
}

static void be_busy(void *ctx, bool busy)
{
    (void)ctx;
    SIM_CHECK(w.polling == 0 && fm_thread_on_loop && w.busy != busy);
    w.busy = busy;
    sim.changed = true;
    sum.busy += busy;
}

/* Gives up the GIL in the middle of a step, as a call that blocks does: for a while, or until others are served, or
 * until the leader knows how many block. */
static void block(struct conn *c, struct fm_thread *thread)
{
    drop_gil(NULL, thread);
    if (some(2)) {
        sim_wait_until(nobody_waits, NULL);
    } else if (some(2)) {
        sim_wait_until(leader_knows, NULL);
    } else {
        do
            sim_yield();
        while (!some(3));
    }
    take_gil(NULL, thread);
    SIM_CHECK(c->magic == ALIVE && c->in_step);
}

/* write() beyond what is kept: waits in its thread, without the GIL. */
static void write_and_wait(struct conn *c, struct fm_thread *thread)
{
    drop_gil(NULL, thread);
    fm_mutex_lock(&c->lock);
    c->full = !c->gone && !fm_task_aborted(&c->task);
    while (c->full && !fm_task_aborted(&c->task))
        pthread_cond_wait(&c->drained, &c->lock.m);
    fm_mutex_unlock(&c->lock);
    take_gil(NULL, thread);
}

static bool park(struct conn *c)
{
    c->future = new_future(false);
    c->wait = &w.wait[w.futures - 1];
    memset(c->wait, 0, sizeof *c->wait);
    if (some(8)) {
        c->stays = c->future->taken = true;
        w.pending--;
    }
    fm_task_park(&c->task, c->wait);
    if (some(32)) { /* add_done_callback raised */
        fm_task_unpark(&c->task, c->wait);
        c->wait = NULL; /* no request waits for the future */
        return false;
    }
    add_done_callback(c->future, c->wait);
    return true;
}

/* As park_on_output of server/request.c. */
static bool park_on_output(struct conn *c)
{
    fm_mutex_lock(&c->lock);
    bool room = c->gone || fm_task_aborted(&c->task) || !c->full;
    if (!room)
        fm_task_move(&c->task, FM_TASK_RUNNING, FM_TASK_WRITING);
    fm_mutex_unlock(&c->lock);
    return !room;
}

/* fm_wsgi_step in small. */
static void step(void *ctx, struct fm_thread *thread, struct fm_task *task)
{
    struct conn *c = FM_LIST_ENTRY(task, struct conn, task);
    (void)ctx;
    SIM_CHECK(thread == fm_thread_self() && thread->task == task && c->magic == ALIVE);
    SIM_CHECK(fm_task_state(task) == FM_TASK_RUNNING);
    enter_step(c);
    task->begun = true;
    if (!c->has_run) {
        c->has_run = true;
        w.begun++;
    }
    for (;;) {
        if (c->wait) { /* fm_future_unpark */
            fm_wait_disarm(c->wait);
            if (!fm_task_aborted(task))
                SIM_CHECK(c->future->done);
            c->wait = NULL;
        }
        if (fm_task_aborted(task) || c->steps == 0)
            break;
        c->steps--;
        switch ((enum action)sim_random(GO_ON + 1)) {
        case PARK:
            if (!park(c))
                break;
            sum.parks++;
            leave_step(c, thread);
            if (fm_task_let_go(task, c->wait))
                return; /* not ours any more, not even to look at */
            sum.woken++;
            enter_step(c);
            fm_thread_take(thread, task);
            break;
        case PARK_DONE: new_future(true); break;
        case WRITE:
            sum.writes++;
            fm_mutex_lock(&c->lock);
            c->full = !c->gone && !fm_task_aborted(task);
            fm_mutex_unlock(&c->lock);
            leave_step(c, thread);
            if (park_on_output(c))
                return;
            enter_step(c);
            fm_thread_take(thread, task);
            break;
        case BLOCK: block(c, thread); break;
        case HOLD:
            fm_thread_cork(thread);
            if (some(2))
                write_and_wait(c, thread);
            break;
        case REQUEUE:
            leave_step(c, thread);
            fm_task_move(task, FM_TASK_RUNNING, FM_TASK_QUEUED);
            fm_sched_push(&w.sched, task);
            return;
        case GO_ON: break;
        }
    }
    if (some(4))
        block(c, thread); /* in close() */
    w.closed++;
    leave_step(c, thread);
    fm_task_move(task, FM_TASK_RUNNING, FM_TASK_DONE);
    fm_loop_post(&w.loop, &c->finished, 0, &c->urgent);
}

static const struct fm_sched_ops ops = {poll_loop, wake_loop, take_gil, drop_gil, step, flush_held, be_busy};

static void thread_main(void *arg) FM_UNCHECKED
{
    fm_sched_run(&w.sched, (unsigned)(uintptr_t)arg);
    SIM_CHECK(!has_gil());
    w.threads_left--;
}

static bool monitor_can_go_on(const void *arg)
{
    (void)arg;
    return sim.eventfd[w.sched.monitor_fd] > 0 || w.sched.stop;
}

static bool all_have_left(const void *arg)
{
    (void)arg;
    return w.threads_left == 0;
}

/* As watch() and finish() of worker/worker.c. */
static void monitor_main(void *arg)
{
    (void)arg;
    fm_monitor_init(&w.monitor, &w.sched);
    if (w.never_begins) {
        while (!some(4))
            sim_yield();
        fm_sched_stop(&w.sched);
    }
    while (!fm_sched_has_stopped(&w.sched)) {
        uint64_t pause = fm_monitor_tick(&w.monitor);
        if (pause == UINT64_MAX)
            sim_wait_until(monitor_can_go_on, NULL);
        else
            sim.now += pause;
        if (sim.eventfd[w.sched.monitor_fd] > 0)
            fm_monitor_woken(&w.monitor);
        sim_yield();
    }
    fm_sched_join(&w.sched, UINT64_MAX);
    sim_wait_until(all_have_left, NULL); /* as fm_interp_join: one may not even have come yet */
    w.over = sim.changed = true;
}

/* ---- a schedule ---- */

static struct conn *new_conn(unsigned index)
{
    struct conn *c = calloc(1, sizeof *c);
    c->magic = ALIVE;
    c->index = index;
    fm_task_init(&c->task);
    fm_mutex_init(&c->lock);
    fm_event_init(&c->finished, on_finished);
    c->state = READING;
    c->requests = 1 + (unsigned)sim_random(3);
    return c;
}

static void set_up(void)
{
    memset(&w, 0, offsetof(typeof(w), future));
    memset(&w.gil, 0, sizeof w - offsetof(typeof(w), gil));
    w.pool = 1 + (unsigned)sim_random(POOL_MOST);
    fm_mutex_init(&w.gil);
    w.loop.armed = FM_NEVER;
    fm_mutex_init(&w.loop.lock);
    fm_list_init(&w.loop.inbox);
    fm_list_init(&w.loop.taken);
    fm_list_init(&w.loop.ended);
    fm_timers_init(&w.loop.timers);
    atomic_init(&w.loop.next_due, FM_NEVER);
    w.loop.ready = loop_ready;
    w.loop.wake_fd = sim_eventfd();
    SIM_CHECK(fm_sched_init(&w.sched, w.pool, &ops, &w) == 0);
    w.no_gil = some(2);
    if (w.no_gil)
        atomic_init(&w.sched.parallel,
                    1 + (unsigned)sim_random(w.pool + 1));               /* as many processors as threads, or fewer */
    fm_sched_watch_from(&w.sched, 1 + (unsigned)sim_random(w.pool + 1)); /* at one more than there can be: never */
    w.threads_left = w.pool + 1;
    w.conns = 1 + (unsigned)sim_random(CONNS);
    w.events = (unsigned)sim_random(4);
    w.stop_early = some(8);
    w.never_begins = some(32);
    budget_min = (unsigned[]){1, 2, 3, 64}[sim_random(4)];
    if (w.never_begins)
        w.conns = 0;
    for (unsigned i = 0; i < w.conns; i++)
        w.conn[i] = new_conn(i);
    static const char *const names[] = {"thread 0", "thread 1", "thread 2", "thread 3"};
    for (unsigned i = 0; i <= w.pool; i++)
        sim_start(names[i], thread_main, (void *)(uintptr_t)i);
    sim_start("monitor", monitor_main, NULL);
    sim_start("completer 1", completer, NULL);
    sim_start("completer 2", completer, NULL);
}

static void tear_down(void) FM_UNCHECKED
{
    SIM_CHECK(w.threads_left == 0 && w.in_step == 0 && w.polling == 0 && w.with_gil == 0);
    if (!w.stop_early || w.conns == 0) {
        SIM_CHECK(w.conns == 0);
        SIM_CHECK(fm_runq_length(&w.sched.runq) == 0 && fm_runq_length(&w.sched.incoming) == 0 && w.sched.running == 0);
        SIM_CHECK(w.accepted == w.begun + w.taken_back);
        SIM_CHECK(w.begun == w.closed && w.closed == w.finished);
    }
    SIM_CHECK(w.closed <= w.begun && w.finished <= w.closed);
    sum.schedules++;
    sum.requests += w.accepted;
    sum.taken_back += w.taken_back;
    sum.stopped_early += w.conns > 0 || w.never_begins;
    for (unsigned i = 0; i < CONNS; i++)
        free(w.conn[i]); /* where it was stopped early */
    fm_sched_fini(&w.sched);
}

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

int main(void)
{
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
    puts("interleavings: not with the thread sanitizer, for which fibers are no threads");
    return 0;
#endif
#endif
    sim.seed = setting("FM_SIM_SEED", (uint64_t)time(NULL));
    uint64_t first = setting("FM_SIM_FIRST", 0), n = setting("FM_SIM_SCHEDULES", 20000);
    printf("interleavings: %llu schedules, FM_SIM_SEED=%llu\n", (unsigned long long)n, (unsigned long long)sim.seed);
    fflush(stdout);
    for (uint64_t i = first; i < first + n; i++) {
        sim_begin(i);
        set_up();
        sim_run();
        tear_down();
    }
    struct fm_counters_sum counters;
    fm_counters_read(&counters);
    sum.stalls = counters.cell[FM_C_STALLS];
    printf(
        "%llu requests, %llu parks (%llu went on at once), %llu writes, %llu stalls (%llu times the leader found its "
        "steps to wait), %llu ended from outside, "
        "%llu taken back, %llu sleeps of the leader, %llu stopped early; %llu points a schedule\n",
        (unsigned long long)sum.requests, (unsigned long long)sum.parks, (unsigned long long)sum.woken,
        (unsigned long long)sum.writes, (unsigned long long)sum.stalls, (unsigned long long)found_waiting,
        (unsigned long long)sum.aborts, (unsigned long long)sum.taken_back, (unsigned long long)sum.sleeps,
        (unsigned long long)sum.stopped_early,
        (unsigned long long)(sim.total_steps / (sum.schedules ? sum.schedules : 1)));
    for (unsigned i = 0; i < SIM_FIBERS; i++)
        free(sim.fiber[i].stack);
    if (n < 1000)
        return 0;
    /* What never happened was not tested. */
    return sum.parks && sum.woken && sum.writes && sum.stalls && found_waiting && sum.aborts && sum.taken_back &&
                   sum.stopped_early && sum.busy
               ? 0
               : 1;
}

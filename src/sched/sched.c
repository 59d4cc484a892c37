/* The scheduler's threads: polling, running inline, handing off.  The roles are told in sched/sched.h, the order of
 * tasks in sched/runq.h.
 *
 * Why no work is forgotten: the push decides under the lock which thread will run the task.  While there is a budget
 * that is a searching thread, of which one is on its way or is woken now, unless all pool threads are busy; a pool
 * thread that ends a step looks at the queue before it sleeps, under the same lock.  Without a budget it is the leader,
 * which looks at the queue after it has announced its sleep (fm_sched_has_work), and is woken by whatever makes the
 * queue its own: a push, the push that uses the budget up, the end of a step where all pool threads were busy.  A
 * leader that begins a budget by itself wakes a searching thread before it sleeps, as a new leader does.  A searching
 * thread takes a task in either case, so what it was woken for is not left behind.
 *
 * Where steps can run in parallel all of that holds as well; there are only more threads that look: a searching one is
 * also woken while the leader is in a step, and a pool thread that ends one takes the next. */
#include "fermata/sched/sched.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/vital.h"

#define BATCH (2 * FM_MS) /* then it is time to poll */
#ifndef BUDGET_MIN        /* a test has smaller ones */
#define BUDGET_MIN 64u
#define BUDGET_MAX 16384u
#endif
#define SEEN_WAITING 16u    /* where the leader has found its steps to wait, so many times the least budget */
#define RECURS_WITHIN 1000u /* inline tasks between two stalls that count as one phase */

static __thread struct fm_thread *self;

struct fm_thread *fm_thread_self(void) { return self; }

int fm_sched_init(struct fm_sched *c, unsigned pool, const struct fm_sched_ops *ops, void *ctx)
{
    pthread_condattr_t monotonic;
    *c = (struct fm_sched){.ops = ops, .ctx = ctx, .pool = pool, .busy_from = UINT_MAX};
    c->monitor_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (c->monitor_fd < 0)
        return -errno;
    fm_fds_own(c->monitor_fd);
    fm_mutex_init(&c->lock);
    fm_runq_init(&c->runq);
    fm_runq_init(&c->incoming);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->all_gone, &monotonic);
    pthread_condattr_destroy(&monotonic);
    c->threads = fm_calloc(pool + 1, sizeof *c->threads);
    for (unsigned i = 0; i <= pool; i++) {
        struct fm_thread *h = &c->threads[i];
        h->sched = c;
        h->index = i;
        pthread_cond_init(&h->order_changed, NULL);
        fm_mutex_init(&h->lock);
    }
    return 0;
}

void fm_sched_fini(struct fm_sched *c)
{
    for (unsigned i = 0; i <= c->pool; i++) {
        pthread_cond_destroy(&c->threads[i].order_changed);
        fm_mutex_fini(&c->threads[i].lock);
    }
    free(c->threads);
    pthread_cond_destroy(&c->all_gone);
    fm_mutex_fini(&c->lock);
    fm_fds_close(c->monitor_fd);
}

/* ---- orders ---- */

static struct fm_thread *pop_idle(struct fm_sched *c) FM_REQUIRES(c->lock)
{
    struct fm_thread *h = c->idle;
    if (h)
        c->idle = h->next_idle;
    return h;
}

/* At most one thread is on its way to the queue at any time; it wakes the next one when it has found work. */
static void wake_searcher(struct fm_sched *c) FM_REQUIRES(c->lock)
{
    if (c->searching > 0 || fm_runq_length(&c->runq) == 0 || c->running >= c->pool)
        return;
    struct fm_thread *h = pop_idle(c);
    if (!h)
        return;
    c->searching++;
    h->order = FM_ORDER_SEARCH;
    pthread_cond_signal(&h->order_changed);
}

/* Without a budget the queue is the leader's.  But where there is a processor for one more step, why wait for it? */
static bool has_processor(const struct fm_sched *c) FM_REQUIRES(c->lock)
{
    unsigned processors = atomic_load_explicit(&c->parallel, memory_order_relaxed);
    return __builtin_expect(processors > 0, 0) && c->running < processors;
}

static void sleep_until_ordered(struct fm_sched *c, struct fm_thread *h) FM_REQUIRES(c->lock)
{
    h->order = FM_ORDER_NONE;
    h->next_idle = c->idle;
    c->idle = h;
    while (h->order == FM_ORDER_NONE && !c->stop)
        pthread_cond_wait(&h->order_changed, &c->lock.m);
}

/* ---- the run queue ---- */

/* The first of a line may be another one. */
static void show_oldest(const struct fm_sched *c) FM_REQUIRES(c->lock)
{
    fm_count_queued_since(fm_runq_length(&c->runq) > 0 ? fm_runq_since(&c->runq) : 0);
}

static struct fm_task *pop_task(struct fm_sched *c) FM_REQUIRES(c->lock)
{
    struct fm_task *t = fm_runq_pop(&c->runq);
    show_oldest(c);
    return t;
}

/* What the loop has pushed in this turn.  The time if there was any, otherwise 0. */
static uint64_t take_incoming(struct fm_sched *c) FM_REQUIRES(c->lock)
{
    unsigned n = fm_runq_length(&c->incoming);
    if (n == 0)
        return 0;
    uint64_t now = fm_now();
    c->inline_tasks += n;
    fm_runq_append(&c->runq, &c->incoming, now);
    if (fm_runq_length(&c->runq) == n)
        fm_count_queued_since(now); /* else there is an older one */
    return now;
}

void fm_sched_push(struct fm_sched *c, struct fm_task *t)
{
    bool wake = false;
    if (fm_thread_on_loop && !c->handing_off) { /* a budget begins only while the leader runs a step */
        fm_runq_push(&c->incoming, t, 0);
        return;
    }
    uint64_t now = fm_now();
    fm_mutex_lock(&c->lock);
    fm_runq_push(&c->runq, t, now);
    if (fm_runq_length(&c->runq) == 1)
        fm_count_queued_since(now);
    if (c->budget > 0) {
        c->budget--;
        wake_searcher(c);
        wake = c->budget == 0; /* from now on the queue is the leader's */
    } else {
        c->inline_tasks++;
        wake = true;
        if (c->leader_runs && has_processor(c))
            wake_searcher(c);
    }
    fm_mutex_unlock(&c->lock);
    if (wake && !fm_thread_on_loop)
        c->ops->wake(c->ctx); /* costs a load unless the leader sleeps */
}

bool fm_sched_take_back(struct fm_sched *c, struct fm_task *t)
{
    fm_mutex_lock(&c->lock);
    take_incoming(c);
    bool mine = !fm_list_empty(&t->node) && !t->begun;
    if (mine)
        fm_runq_remove(&c->runq, t);
    show_oldest(c);
    fm_mutex_unlock(&c->lock);
    if (mine)
        fm_task_move(t, FM_TASK_QUEUED, FM_TASK_IDLE);
    return mine;
}

/* The leader has not seen yet that so many threads are in a step. */
static bool is_news(const struct fm_sched *c) FM_REQUIRES(c->lock) { return c->running >= c->busy_from && !c->busy; }

static bool would_run_inline(const struct fm_sched *c) FM_REQUIRES(c->lock)
{
    return fm_runq_length(&c->runq) > 0 && c->budget == 0 && c->running < c->pool;
}

bool fm_sched_has_work(struct fm_sched *c)
{
    if (fm_thread_on_loop && fm_runq_length(&c->incoming) > 0)
        return true;
    fm_mutex_lock(&c->lock);
    bool work = would_run_inline(c) || is_news(c) || c->stop;
    fm_mutex_unlock(&c->lock);
    return work;
}

/* ---- one step ---- */

static void set_corked(struct fm_thread *h, struct fm_task *t)
{
    fm_mutex_lock(&h->lock);
    h->corked = t;
    fm_mutex_unlock(&h->lock);
}

void fm_thread_cork(struct fm_thread *h)
{
    if (!h->corked) /* the pool thread is its only writer */
        set_corked(h, h->task);
    atomic_store(&h->sched->may_postpone, 0);
    fm_sched_watch(h->sched);
}

void fm_thread_release(struct fm_thread *h)
{
    if (h->corked)
        set_corked(h, NULL);
    h->task = NULL;
}

uint64_t fm_thread_tick(void)
{
    uint64_t now = fm_now();
    if (self)
        self->now = now;
    return now;
}

/* h->now is when the step begins. */
static void run_task(struct fm_thread *h, struct fm_task *t)
{
    struct fm_sched *c = h->sched;
    uint64_t begin = h->now;
    fm_observe(FM_HG_QUEUE_WAIT, begin > t->queued_at ? begin - t->queued_at : 0);
    fm_task_move(t, FM_TASK_QUEUED, FM_TASK_RUNNING);
    fm_thread_take(h, t);
    atomic_store_explicit(&t->ran, (uint16_t)h->index, memory_order_relaxed);
    atomic_store_explicit(&t->since, begin, memory_order_relaxed);
    atomic_store_explicit(&h->since, begin & ~(uint64_t)FM_FOR_GIL, memory_order_relaxed);
    fm_count_step_begins(begin);
    c->ops->step(c->ctx, h, t);
    atomic_store_explicit(&h->since, 0, memory_order_relaxed);
    if (h->now == begin)
        h->now = fm_now();
    fm_count_step_ends(h->now - begin);
    fm_observe(FM_HG_STEP, h->now - begin);
}

/* `now` is when it begins to wait for it; h->now is when it has it. */
static void wait_for_gil(struct fm_thread *h, uint64_t now)
{
    atomic_store_explicit(&h->since, now | FM_FOR_GIL, memory_order_relaxed);
    h->sched->ops->take_gil(h->sched->ctx, h);
    h->has_gil = true;
    h->now = fm_now();
    fm_observe(FM_HG_GIL_WAIT, h->now - now);
}

static void leave_gil(struct fm_thread *h)
{
    if (h->has_gil)
        h->sched->ops->drop_gil(h->sched->ctx, h);
    h->has_gil = false;
}

/* ---- the two ways to spend a turn ---- */

/* A step is over.  When calm, the queue is left to the leader: it may sleep, because there was a budget when it
 * looked, or because all pool threads were busy.  Entered and left with the lock held. */
static void step_is_over(struct fm_sched *c) FM_REQUIRES(c->lock)
{
    c->running--;
    if (!would_run_inline(c))
        return;
    fm_mutex_unlock(&c->lock);
    c->ops->wake(c->ctx);
    fm_mutex_lock(&c->lock);
}

/* A stall has been seen: the next tasks are handed off, more of them if the last stall was not long ago, and the more
 * the surer it is that others will wait, too (a factor of the least). */
static void hand_off(struct fm_sched *c, unsigned factor) FM_REQUIRES(c->lock)
{
    bool again = c->budget_size > 0 && c->inline_tasks < RECURS_WITHIN;
    unsigned least = factor * BUDGET_MIN;
    c->budget_size = again ? c->budget_size * 2 : least;
    if (c->budget_size < least)
        c->budget_size = least;
    if (c->budget_size > BUDGET_MAX)
        c->budget_size = BUDGET_MAX;
    c->budget = c->budget_size;
    c->inline_tasks = 0;
    fm_count(FM_C_STALLS);
}

/* The first step of a batch is about to begin, as soon as there is the GIL; polling was over at `now`. */
static void begin_batch(struct fm_sched *c, struct fm_thread *h, uint64_t now, unsigned others)
{
    atomic_store_explicit(&c->inline_since, now | FM_FOR_GIL, memory_order_relaxed);
    atomic_store(&c->inline_thread, h);
    fm_sched_watch(c);
    wait_for_gil(h, now);
    h->until = h->now + BATCH;
    h->waits.parallel = fm_sched_is_parallel(c);
    fm_waits_enter(&h->waits, h->now, others);
}

/* A step begins, so none is late before watch_after from now.  Twice in that time the timer is set anew: two system
 * calls instead of a monitor that wakes up for nothing. */
static void postpone_look(struct fm_sched *c, struct fm_thread *h)
{
    uint64_t after = atomic_load_explicit(&c->watch_after, memory_order_relaxed);
    if (h->now - h->watched < after / 2)
        return;
    h->watched = h->now;
    if (atomic_load(&c->may_postpone))
        fm_sched_look_after(c, after);
}

/* Runs t as the leader.  False if there should be no other: the steps wait, and from now on they are handed off.
 * Entered and left with the lock held. */
static bool inline_step(struct fm_sched *c, struct fm_thread *h, struct fm_task *t, uint64_t now) FM_REQUIRES(c->lock)
{
    bool wanted = fm_runq_length(&c->runq) > 0 && c->running < c->pool;
    unsigned others = fm_sched_is_parallel(c) ? 0 : c->pool_turns; /* what they do to the GIL */
    if (wanted && has_processor(c))
        wake_searcher(c);
    fm_mutex_unlock(&c->lock);
    if (!h->has_gil)
        begin_batch(c, h, now, others);
    uint64_t began = h->now;
    atomic_store_explicit(&c->inline_since, began & ~(uint64_t)FM_FOR_GIL, memory_order_relaxed);
    postpone_look(c, h);
    run_task(h, t);
    bool waits = fm_waits_step(&h->waits, h->now - began, h->now, wanted, others);
    fm_mutex_lock(&c->lock);
    if (!waits || c->leader != h || c->running == c->pool)
        return true;
    hand_off(c, SEEN_WAITING);
    return false;
}

/* Runs as many as are queued, at most for so long that polling is not late.  If that queues more, there is a turn of
 * the loop before.  Entered and left with the lock held, left with the GIL. */
static void run_batch(struct fm_sched *c, struct fm_thread *h, uint64_t now) FM_REQUIRES(c->lock)
{
    unsigned batch = fm_runq_length(&c->runq);
    struct fm_task *t = pop_task(c);
    c->running++;
    c->leader_runs = true;
    while (t && inline_step(c, h, t, now) && --batch > 0 && h->now < h->until && c->leader == h && !c->stop)
        t = pop_task(c);
    if (c->leader == h) {
        atomic_store_explicit(&c->inline_thread, NULL, memory_order_release); /* the monitor may see it late */
        c->leader_runs = false;
        c->running--;
    } else { /* replaced during a step: a pool thread from now on */
        c->pool_turns++;
        step_is_over(c);
    }
}

/* The leader's turn; entered and left with the lock held. */
static void leader_turn(struct fm_sched *c, struct fm_thread *h) FM_REQUIRES(c->lock)
{
    if (c->budget > 0 || has_processor(c))
        wake_searcher(c); /* it finds what a leader that stalled has left, or one whose batch was over */
    bool block = !would_run_inline(c), busy = c->running >= c->busy_from, changed = busy != c->busy;
    c->busy = busy;
    c->handing_off = c->budget > 0;
    fm_mutex_unlock(&c->lock);
    fm_waits_leave(&h->waits, h->now);
    leave_gil(h);
    fm_role_take_loop();
    if (changed && c->ops->busy)
        c->ops->busy(c->ctx, busy);
    c->ops->poll(c->ctx, block);
    fm_role_drop_loop();
    fm_mutex_lock(&c->lock);
    uint64_t now = take_incoming(c);
    if (would_run_inline(c) && !c->stop)
        run_batch(c, h, now ? now : fm_now());
    else
        wake_searcher(c);
}

/* A pool thread's turn: one task, or sleep; entered and left with the lock held.  When the budget is used up, pool
 * threads go to sleep though there is work: as long as some of them went on beside the leader, they would take the GIL
 * from each other at every step (Flask at 32 connections: 267 us of CPU a
 * request instead of 230, p99 224 ms instead of 29; medians of three runs beside other load).  Where there is no GIL
 * they go on as long as there is a processor for them. */
static void pool_turn(struct fm_sched *c, struct fm_thread *h) FM_REQUIRES(c->lock)
{
    bool wanted = c->budget > 0 || h->order == FM_ORDER_SEARCH || has_processor(c);
    struct fm_task *t = wanted && c->running < c->pool ? pop_task(c) : NULL;
    if (h->order == FM_ORDER_SEARCH) {
        h->order = FM_ORDER_NONE;
        c->searching--;
    }
    if (t) {
        c->running++;
        c->pool_turns++;
        if (c->budget > 0 || has_processor(c))
            wake_searcher(c);
        bool news = is_news(c);
        fm_mutex_unlock(&c->lock);
        if (news)
            c->ops->wake(c->ctx); /* a leader that looks later finds it by itself (fm_sched_has_work) */
        if (h->has_gil)
            h->now = fm_now();
        else
            wait_for_gil(h, fm_now());
        run_task(h, t);
        fm_mutex_lock(&c->lock);
        c->pool_turns++;
        step_is_over(c);
    } else if (h->has_gil) {
        fm_mutex_unlock(&c->lock);
        leave_gil(h);
        fm_mutex_lock(&c->lock); /* work may have come: the next turn looks again */
    } else {
        sleep_until_ordered(c, h);
    }
}

void fm_sched_run(struct fm_sched *c, unsigned index)
{
    struct fm_thread *h = &c->threads[index];
    self = h;
    h->tid = h->waits.tid = (int)syscall(SYS_gettid);
    h->ident = (unsigned long)pthread_self();
    fm_counters_attach();
    fm_mutex_lock(&c->lock);
    c->alive++;
    h->here = true;
    if (!c->leader)
        c->leader = h;
    while (!c->stop) {
        if (c->leader == h)
            leader_turn(c, h);
        else
            pool_turn(c, h);
    }
    if (h->order == FM_ORDER_SEARCH) /* it was told to, and then all to stop */
        c->searching--;
    h->order = FM_ORDER_NONE;
    fm_mutex_unlock(&c->lock);
    leave_gil(h);
    fm_mutex_lock(&c->lock);
    c->alive--;
    h->here = false;
    pthread_cond_signal(&c->all_gone);
    fm_mutex_unlock(&c->lock);
    self = NULL;
}

void fm_sched_run_rest(struct fm_sched *c)
{
    struct fm_thread *h = &c->threads[0];
    struct fm_task *t;
    self = h;
    do {
        fm_mutex_lock(&c->lock);
        take_incoming(c);
        t = pop_task(c);
        fm_mutex_unlock(&c->lock);
        h->now = fm_now();
        if (t)
            run_task(h, t);
    } while (t);
    self = NULL;
}

/* ---- promotion ---- */

/* Is the thread still the leader, in the step that was seen? */
static bool leads_still(struct fm_sched *c, const struct fm_thread *h, uint64_t since) FM_REQUIRES(c->lock)
{
    return c->leader == h && atomic_load(&c->inline_thread) == h && atomic_load(&c->inline_since) == since && !c->stop;
}

bool fm_sched_promote(struct fm_sched *c, struct fm_thread *held_up, uint64_t since)
{
    fm_mutex_lock(&c->lock);
    struct fm_thread *next = leads_still(c, held_up, since) ? pop_idle(c) : NULL;
    if (next) {
        c->leader = next;
        c->leader_runs = false;
        atomic_store(&c->inline_thread, NULL);
        if (since & FM_FOR_GIL)
            fm_count(FM_C_STALLS);
        else
            hand_off(c, 1);
        next->order = FM_ORDER_LEADER;
        pthread_cond_signal(&next->order_changed);
    }
    fm_mutex_unlock(&c->lock);
    return next != NULL;
}

/* ---- the rest ---- */

void fm_sched_stop(struct fm_sched *c)
{
    fm_mutex_lock(&c->lock);
    c->stop = true;
    for (unsigned i = 0; i <= c->pool; i++)
        pthread_cond_signal(&c->threads[i].order_changed);
    fm_mutex_unlock(&c->lock);
    c->ops->wake(c->ctx);
}

bool fm_sched_has_stopped(struct fm_sched *c)
{
    fm_mutex_lock(&c->lock);
    bool stopped = c->stop;
    fm_mutex_unlock(&c->lock);
    return stopped;
}

unsigned fm_sched_join(struct fm_sched *c, uint64_t deadline)
{
    struct timespec until = {.tv_sec = (time_t)(deadline / FM_SEC), .tv_nsec = (long)(deadline % FM_SEC)};
    fm_mutex_lock(&c->lock);
    while (c->alive > 0 && pthread_cond_timedwait(&c->all_gone, &c->lock.m, &until) != ETIMEDOUT)
        ;
    unsigned left = c->alive;
    fm_mutex_unlock(&c->lock);
    return left;
}

bool fm_sched_is_inline(struct fm_sched *c, const struct fm_thread *thread)
{
    return atomic_load_explicit(&c->inline_thread, memory_order_relaxed) == thread;
}

void fm_sched_look_after(struct fm_sched *c, uint64_t ns)
{
    struct itimerspec after = {.it_value.tv_nsec = (long)ns};
    if (timerfd_settime(c->monitor_fd, 0, &after, NULL) != 0)
        fm_vital_lost("a timerfd");
}

void fm_sched_watch(struct fm_sched *c)
{
    if (atomic_load(&c->monitor_asleep) && atomic_exchange(&c->monitor_asleep, 0))
        fm_sched_look_after(c, atomic_load_explicit(&c->watch_after, memory_order_relaxed));
}

void fm_sched_set_parallel(struct fm_sched *c, unsigned processors)
{
    fm_mutex_lock(&c->lock);
    atomic_store_explicit(&c->parallel, processors, memory_order_relaxed);
    fm_mutex_unlock(&c->lock);
    c->ops->wake(c->ctx); /* what pool threads would have taken may be the leader's now */
}

void fm_sched_watch_from(struct fm_sched *c, unsigned threads) { c->busy_from = threads; }

/* The crew's threads: polling, running inline, handing off.  The roles are told in sched/crew.h.
 *
 * Why no work is forgotten: whoever pushes decides under the lock who will run the task.  While there is a budget that
 * is a searching thread, of which one is on its way or is woken now, unless all hands are busy; a hand that ends a step
 * looks at the queue before it sleeps, under the same lock.  Without a budget it is the lookout, which looks at the
 * queue after it has announced its sleep (fm_crew_has_work), and is woken by whatever makes the queue its own: a push,
 * the push that uses the budget up, the end of a step where all hands were busy.  A searching thread takes a task in
 * either case, so what it was woken for is not left behind. */
#include "fermata/sched/crew.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"

static __thread struct fm_hand *self;

struct fm_hand *fm_hand_self(void) { return self; }

int fm_crew_init(struct fm_crew *c, unsigned pool, const struct fm_crew_ops *ops, void *ctx)
{
    pthread_condattr_t monotonic;
    *c = (struct fm_crew){.ops = ops, .ctx = ctx, .pool = pool};
    c->monitor_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (c->monitor_fd < 0)
        return -errno;
    fm_fds_own(c->monitor_fd);
    fm_mutex_init(&c->lock);
    fm_list_init(&c->runq);
    fm_list_init(&c->incoming);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->all_gone, &monotonic);
    pthread_condattr_destroy(&monotonic);
    c->hands = fm_calloc(pool + 1, sizeof *c->hands);
    for (unsigned i = 0; i <= pool; i++) {
        struct fm_hand *h = &c->hands[i];
        h->crew = c;
        h->index = i;
        pthread_cond_init(&h->order_changed, NULL);
        fm_mutex_init(&h->lock);
    }
    return 0;
}

void fm_crew_fini(struct fm_crew *c)
{
    for (unsigned i = 0; i <= c->pool; i++) {
        pthread_cond_destroy(&c->hands[i].order_changed);
        fm_mutex_fini(&c->hands[i].lock);
    }
    free(c->hands);
    pthread_cond_destroy(&c->all_gone);
    fm_mutex_fini(&c->lock);
    fm_fds_close(c->monitor_fd);
}

/* ---- orders ---- */

static struct fm_hand *pop_idle(struct fm_crew *c) FM_REQUIRES(c->lock)
{
    struct fm_hand *h = c->idle;
    if (h)
        c->idle = h->next_idle;
    return h;
}

/* At most one thread is on its way to the queue at any time; it wakes the next one when it has found work. */
static void wake_searcher(struct fm_crew *c) FM_REQUIRES(c->lock)
{
    if (c->searching > 0 || c->queued == 0 || c->running >= c->pool)
        return;
    struct fm_hand *h = pop_idle(c);
    if (!h)
        return;
    c->searching++;
    h->order = FM_ORDER_SEARCH;
    pthread_cond_signal(&h->order_changed);
}

static void sleep_until_ordered(struct fm_crew *c, struct fm_hand *h) FM_REQUIRES(c->lock)
{
    h->order = FM_ORDER_NONE;
    h->next_idle = c->idle;
    c->idle = h;
    while (h->order == FM_ORDER_NONE && !c->stop)
        pthread_cond_wait(&h->order_changed, &c->lock.m);
}

/* ---- the run queue ---- */

static struct fm_task *pop_task(struct fm_crew *c) FM_REQUIRES(c->lock)
{
    struct fm_list *node = fm_list_pop(&c->runq);
    if (!node)
        return NULL;
    c->queued--;
    struct fm_task *t = FM_LIST_ENTRY(node, struct fm_task, node);
    if (!t->begun)
        atomic_fetch_sub_explicit(&c->fresh, 1, memory_order_relaxed);
    return t;
}

static void take_incoming(struct fm_crew *c) FM_REQUIRES(c->lock)
{
    if (c->nincoming == 0)
        return;
    uint64_t now = fm_now();
    for (struct fm_list *node = c->incoming.next; node != &c->incoming; node = node->next)
        FM_LIST_ENTRY(node, struct fm_task, node)->queued_at = now;
    fm_list_append(&c->runq, &c->incoming);
    c->queued += c->nincoming;
    c->inline_tasks += c->nincoming;
    c->nincoming = 0;
}

void fm_crew_push(struct fm_crew *c, struct fm_task *t)
{
    bool wake = false;
    if (!t->begun)
        atomic_fetch_add_explicit(&c->fresh, 1, memory_order_relaxed);
    if (fm_thread_on_loop && !c->handing_off) { /* a budget begins only while the lookout runs a step */
        fm_list_push(&c->incoming, &t->node);
        c->nincoming++;
        return;
    }
    t->queued_at = fm_now();
    fm_mutex_lock(&c->lock);
    fm_list_push(&c->runq, &t->node);
    c->queued++;
    if (c->budget > 0) {
        c->budget--;
        wake_searcher(c);
        wake = c->budget == 0; /* from now on the queue is the lookout's */
    } else {
        c->inline_tasks++;
        wake = true;
    }
    fm_mutex_unlock(&c->lock);
    if (wake && !fm_thread_on_loop)
        c->ops->wake(c->ctx); /* costs a load unless the lookout sleeps */
}

bool fm_crew_take_back(struct fm_crew *c, struct fm_task *t)
{
    fm_mutex_lock(&c->lock);
    take_incoming(c);
    bool mine = !fm_list_empty(&t->node) && !t->begun;
    if (mine) {
        fm_list_remove(&t->node);
        c->queued--;
        atomic_fetch_sub_explicit(&c->fresh, 1, memory_order_relaxed);
    }
    fm_mutex_unlock(&c->lock);
    if (mine)
        fm_task_move(t, FM_TASK_QUEUED, FM_TASK_IDLE);
    return mine;
}

unsigned fm_crew_waiting(struct fm_crew *c)
{
    fm_mutex_lock(&c->lock);
    unsigned fresh = atomic_load_explicit(&c->fresh, memory_order_relaxed), idle = c->pool - c->running;
    fm_mutex_unlock(&c->lock);
    return fresh > idle ? fresh - idle : 0;
}

static bool would_run_inline(const struct fm_crew *c) FM_REQUIRES(c->lock)
{
    return c->queued > 0 && c->budget == 0 && c->running < c->pool;
}

bool fm_crew_has_work(struct fm_crew *c)
{
    if (fm_thread_on_loop && c->nincoming > 0)
        return true;
    fm_mutex_lock(&c->lock);
    bool work = would_run_inline(c) || c->stop;
    fm_mutex_unlock(&c->lock);
    return work;
}

/* ---- one step ---- */

static void set_held(struct fm_hand *h, struct fm_task *t)
{
    fm_mutex_lock(&h->lock);
    h->held = t;
    fm_mutex_unlock(&h->lock);
}

void fm_hand_hold(struct fm_hand *h)
{
    if (!h->held) /* the hand is its only writer */
        set_held(h, h->task);
    fm_crew_watch(h->crew);
}

void fm_hand_release(struct fm_hand *h)
{
    if (h->held)
        set_held(h, NULL);
    h->task = NULL;
}

uint64_t fm_hand_tick(void)
{
    uint64_t now = fm_now();
    if (self)
        self->now = now;
    return now;
}

/* h->now is when the step begins. */
static void run_task(struct fm_hand *h, struct fm_task *t)
{
    struct fm_crew *c = h->crew;
    uint64_t begin = h->now;
    fm_observe(FM_HG_QUEUE_WAIT, begin > t->queued_at ? begin - t->queued_at : 0);
    fm_task_move(t, FM_TASK_QUEUED, FM_TASK_RUNNING);
    fm_hand_take(h, t);
    c->ops->step(c->ctx, h, t);
    if (h->now == begin)
        h->now = fm_now();
    fm_observe(FM_HG_STEP, h->now - begin);
}

static void ensure_gil(struct fm_hand *h)
{
    if (!h->has_gil)
        h->crew->ops->take_gil(h->crew->ctx, h);
    h->has_gil = true;
}

static void leave_gil(struct fm_hand *h)
{
    if (h->has_gil)
        h->crew->ops->drop_gil(h->crew->ctx, h);
    h->has_gil = false;
}

/* ---- the two ways to spend a turn ---- */

/* A step is over.  When calm, the queue is left to the lookout: it may sleep, because there was a budget when it
 * looked, or because all hands were busy.  Entered and left with the lock held. */
static void step_is_over(struct fm_crew *c) FM_REQUIRES(c->lock)
{
    c->running--;
    if (!would_run_inline(c))
        return;
    fm_mutex_unlock(&c->lock);
    c->ops->wake(c->ctx);
    fm_mutex_lock(&c->lock);
}

/* The lookout's turn; entered and left with the lock held. */
static void lookout_turn(struct fm_crew *c, struct fm_hand *h) FM_REQUIRES(c->lock)
{
    if (c->budget > 0)
        wake_searcher(c); /* a new lookout finds what the stalled one left */
    bool block = !would_run_inline(c);
    c->handing_off = c->budget > 0;
    fm_mutex_unlock(&c->lock);
    fm_role_take_loop();
    c->ops->poll(c->ctx, block);
    fm_role_drop_loop();
    fm_mutex_lock(&c->lock);
    take_incoming(c);

    if (!would_run_inline(c)) {
        wake_searcher(c);
        return;
    }
    /* A batch: what is queued now.  What it queues itself waits for the next turn, so that polling is not starved. */
    unsigned batch = c->queued;
    c->running++;
    fm_mutex_unlock(&c->lock);
    atomic_store(&c->inline_hand, h);
    fm_crew_watch(c);
    ensure_gil(h);
    h->now = fm_now();
    fm_mutex_lock(&c->lock);
    while (batch-- > 0 && c->lookout == h && !c->stop) {
        struct fm_task *t = pop_task(c);
        if (!t)
            break;
        fm_mutex_unlock(&c->lock);
        atomic_fetch_add_explicit(&c->beat, 1, memory_order_relaxed);
        run_task(h, t);
        fm_mutex_lock(&c->lock);
    }
    if (c->lookout != h) { /* replaced during a step: a pool thread from now on, which gives up the GIL by itself */
        step_is_over(c);
        return;
    }
    atomic_store(&c->inline_hand, NULL);
    fm_mutex_unlock(&c->lock);
    leave_gil(h);
    fm_mutex_lock(&c->lock);
    c->running--;
}

/* A pool thread's turn: one task, or sleep; entered and left with the lock held.  When the budget is used up, pool
 * threads go to sleep though there is work: as long as some of them went on beside the lookout, they would take the GIL
 * from each other at every step (Flask at 32 connections: 267 us of CPU a
 * request instead of 230, p99 224 ms instead of 29; medians of three runs beside other load). */
static void pool_turn(struct fm_crew *c, struct fm_hand *h) FM_REQUIRES(c->lock)
{
    bool wanted = c->budget > 0 || h->order == FM_ORDER_SEARCH;
    struct fm_task *t = wanted && c->running < c->pool ? pop_task(c) : NULL;
    if (h->order == FM_ORDER_SEARCH) {
        h->order = FM_ORDER_NONE;
        c->searching--;
    }
    if (t) {
        c->running++;
        if (c->budget > 0)
            wake_searcher(c);
        fm_mutex_unlock(&c->lock);
        ensure_gil(h);
        h->now = fm_now();
        run_task(h, t);
        fm_mutex_lock(&c->lock);
        step_is_over(c);
    } else if (h->has_gil) {
        fm_mutex_unlock(&c->lock);
        leave_gil(h);
        fm_mutex_lock(&c->lock); /* work may have come: the next turn looks again */
    } else {
        sleep_until_ordered(c, h);
    }
}

void fm_crew_run(struct fm_crew *c, unsigned index)
{
    struct fm_hand *h = &c->hands[index];
    self = h;
    h->tid = (int)syscall(SYS_gettid);
    fm_counters_attach();
    fm_mutex_lock(&c->lock);
    c->alive++;
    h->here = true;
    if (!c->lookout)
        c->lookout = h;
    while (!c->stop) {
        if (c->lookout == h)
            lookout_turn(c, h);
        else
            pool_turn(c, h);
    }
    fm_mutex_unlock(&c->lock);
    leave_gil(h);
    fm_mutex_lock(&c->lock);
    c->alive--;
    h->here = false;
    pthread_cond_signal(&c->all_gone);
    fm_mutex_unlock(&c->lock);
    self = NULL;
}

void fm_crew_run_rest(struct fm_crew *c)
{
    struct fm_hand *h = &c->hands[0];
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

/* ---- the rest ---- */

void fm_crew_stop(struct fm_crew *c)
{
    fm_mutex_lock(&c->lock);
    c->stop = true;
    for (unsigned i = 0; i <= c->pool; i++)
        pthread_cond_signal(&c->hands[i].order_changed);
    fm_mutex_unlock(&c->lock);
    c->ops->wake(c->ctx);
}

bool fm_crew_has_stopped(struct fm_crew *c)
{
    fm_mutex_lock(&c->lock);
    bool stopped = c->stop;
    fm_mutex_unlock(&c->lock);
    return stopped;
}

unsigned fm_crew_join(struct fm_crew *c, uint64_t deadline)
{
    struct timespec until = {.tv_sec = (time_t)(deadline / FM_SEC), .tv_nsec = (long)(deadline % FM_SEC)};
    fm_mutex_lock(&c->lock);
    while (c->alive > 0 && pthread_cond_timedwait(&c->all_gone, &c->lock.m, &until) != ETIMEDOUT)
        ;
    unsigned left = c->alive;
    fm_mutex_unlock(&c->lock);
    return left;
}

unsigned fm_crew_left(struct fm_crew *c, int *tids, unsigned n, bool *polling)
{
    unsigned left = 0;
    fm_mutex_lock(&c->lock);
    *polling = c->lookout && c->lookout->here && atomic_load(&c->inline_hand) != c->lookout;
    for (unsigned i = 0; i <= c->pool; i++) {
        if (c->hands[i].here && left < n)
            tids[left] = c->hands[i].tid;
        left += c->hands[i].here;
    }
    fm_mutex_unlock(&c->lock);
    return left;
}

bool fm_crew_is_inline(struct fm_crew *c, const struct fm_hand *hand)
{
    return atomic_load_explicit(&c->inline_hand, memory_order_relaxed) == hand;
}

void fm_crew_watch(struct fm_crew *c)
{
    if (atomic_load(&c->monitor_asleep) && atomic_exchange(&c->monitor_asleep, 0))
        fm_fds_wake(c->monitor_fd);
}

void fm_crew_threads(struct fm_crew *c, unsigned *busy, unsigned *idle)
{
    fm_mutex_lock(&c->lock);
    *busy = c->running;
    *idle = c->pool - c->running;
    fm_mutex_unlock(&c->lock);
}

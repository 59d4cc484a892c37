/* The scheduler: one leader, at most P steps at once, inline and handed off, and no task forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "../util/threads.h"
#include "fermata/sched/sched.h"
#include "fermata/sched/monitor.h"

enum { MOST = 5 };

struct job {
    struct fm_task task;
    void (*run)(struct job *);
    atomic_uint ran;
    unsigned left, polls, since_poll;
    struct fm_thread *thread; /* that ran it last */
    bool was_inline;
};

/* ---- what the server is to the scheduler ---- */

static struct fm_sched sched;
static struct fm_monitor monitor;
static pthread_t threads[MOST];
static unsigned nthreads;

static int wake_fd;
static atomic_int asleep;
static atomic_bool sleeping; /* past its last look for work */
static atomic_int polling;
static atomic_uint polls;

static pthread_mutex_t gil = PTHREAD_MUTEX_INITIALIZER;
static __thread bool my_gil;

static atomic_uint in_step, most_in_step, done;
static atomic_bool gate_open;
static atomic_uint at_gate;

static void poll_events(void *ctx, bool block)
{
    CHECK(ctx == &sched);
    CHECK(fm_thread_on_loop);
    CHECK(!my_gil);
    CHECK(atomic_exchange(&polling, 1) == 0); /* there is one leader */
    atomic_fetch_add(&polls, 1);
    if (block) {
        atomic_store(&asleep, 1);
        if (!fm_sched_has_work(&sched)) {
            struct pollfd p = {wake_fd, POLLIN, 0};
            atomic_store(&sleeping, true);
            poll(&p, 1, -1); /* for ever: a lost wake-up is found */
            atomic_store(&sleeping, false);
        }
        atomic_store(&asleep, 0);
        eventfd_t count;
        (void)!eventfd_read(wake_fd, &count);
    }
    CHECK(atomic_exchange(&polling, 0) == 1);
}

static void wake(void *ctx)
{
    CHECK(ctx == &sched);
    if (atomic_load(&asleep) && atomic_exchange(&asleep, 0))
        CHECK(eventfd_write(wake_fd, 1) == 0);
}

static bool no_gil; /* there is none to wait for */

static void take_gil(void *ctx, struct fm_thread *thread)
{
    CHECK(ctx == &sched && thread == fm_thread_self());
    CHECK(!my_gil);
    if (!no_gil)
        pthread_mutex_lock(&gil);
    my_gil = true;
}

static void drop_gil(void *ctx, struct fm_thread *thread)
{
    CHECK(ctx == &sched && thread == fm_thread_self());
    CHECK(my_gil);
    my_gil = false;
    if (!no_gil)
        pthread_mutex_unlock(&gil);
}

static void step(void *ctx, struct fm_thread *thread, struct fm_task *task)
{
    struct job *j = FM_LIST_ENTRY(task, struct job, task);
    CHECK(ctx == &sched && thread == fm_thread_self() && thread->task == task);
    CHECK(my_gil && !fm_thread_on_loop);
    CHECK(fm_task_state(task) == FM_TASK_RUNNING);
    unsigned n = atomic_fetch_add(&in_step, 1) + 1, most = atomic_load(&most_in_step);
    CHECK(n <= sched.pool);
    while (n > most && !atomic_compare_exchange_weak(&most_in_step, &most, n))
        ;
    task->begun = true;
    j->thread = thread;
    j->was_inline = fm_sched_is_inline(&sched, thread);
    atomic_fetch_add(&j->ran, 1);
    if (j->run)
        j->run(j);
    atomic_fetch_sub(&in_step, 1);
    fm_thread_release(thread);
    if (j->left > 0) {
        j->left--;
        fm_task_move(task, FM_TASK_RUNNING, FM_TASK_QUEUED);
        fm_sched_push(&sched, task);
    } else {
        fm_task_move(task, FM_TASK_RUNNING, FM_TASK_DONE);
        atomic_fetch_add(&done, 1);
    }
}

static bool flush(void *ctx, struct fm_task *task, uint64_t since)
{
    (void)ctx, (void)task, (void)since;
    return false;
}

static unsigned watch_from; /* of the next scheduler; 0: it is not watched */
static atomic_bool is_busy;
static atomic_uint tells;

static void be_busy(void *ctx, bool busy)
{
    CHECK(ctx == &sched && fm_thread_on_loop && !my_gil);
    CHECK(busy != atomic_load(&is_busy));
    atomic_store(&is_busy, busy);
    atomic_fetch_add(&tells, 1);
}

static const struct fm_sched_ops ops = {poll_events, wake, take_gil, drop_gil, step, flush, be_busy};

/* ---- what steps do ---- */

/* Blocks, without the GIL, as an application that asks a database. */
static void block(struct job *j)
{
    (void)j;
    my_gil = false;
    pthread_mutex_unlock(&gil);
    atomic_fetch_add(&at_gate, 1);
    WAIT_FOR(atomic_load(&gate_open));
    atomic_fetch_sub(&at_gate, 1);
    pthread_mutex_lock(&gil);
    my_gil = true;
}

static void nap(struct job *j)
{
    (void)j;
    my_gil = false;
    pthread_mutex_unlock(&gil);
    usleep(8000); /* the monitor looks twice before it is sure */
    pthread_mutex_lock(&gil);
    my_gil = true;
}

/* Waits shortly, as for an answer of a cache. */
static void doze(struct job *j)
{
    (void)j;
    my_gil = false;
    pthread_mutex_unlock(&gil);
    usleep(200);
    pthread_mutex_lock(&gil);
    my_gil = true;
}

static void compute_for(uint64_t ns)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    uint64_t end = (uint64_t)used.tv_sec * FM_SEC + (uint64_t)used.tv_nsec + ns;
    do
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    while ((uint64_t)used.tv_sec * FM_SEC + (uint64_t)used.tv_nsec < end);
}

static void compute(struct job *j)
{
    (void)j;
    compute_for(FM_MS / 5);
}

static void compute_longer(struct job *j)
{
    j->polls = atomic_load(&polls);
    compute_for(FM_MS);
}

static void job_init(struct job *j, void (*run)(struct job *))
{
    memset(j, 0, sizeof *j);
    fm_task_init(&j->task);
    j->run = run;
}

static void push(struct job *j)
{
    fm_task_move(&j->task, FM_TASK_IDLE, FM_TASK_QUEUED);
    fm_sched_push(&sched, &j->task);
}

static unsigned ran(struct job *j) { return atomic_load(&j->ran); }

/* ---- the scheduler ---- */

static void *be_thread(void *arg)
{
    fm_sched_run(&sched, (unsigned)(uintptr_t)arg);
    CHECK(!fm_thread_self() && !my_gil && !fm_thread_on_loop);
    return NULL;
}

static void init(unsigned pool)
{
    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    atomic_store(&asleep, 0);
    atomic_store(&sleeping, false);
    atomic_store(&polls, 0);
    atomic_store(&in_step, 0);
    atomic_store(&most_in_step, 0);
    atomic_store(&done, 0);
    atomic_store(&gate_open, false);
    atomic_store(&at_gate, 0);
    assert_int_equal(fm_sched_init(&sched, pool, &ops, &sched), 0);
    fm_monitor_init(&monitor, &sched);
    atomic_store(&is_busy, false);
    atomic_store(&tells, 0);
    if (watch_from > 0)
        fm_sched_watch_from(&sched, watch_from);
    nthreads = 0;
}

static unsigned idle_threads(void)
{
    unsigned n = 0;
    fm_mutex_lock(&sched.lock);
    for (struct fm_thread *h = sched.idle; h; h = h->next_idle)
        n++;
    fm_mutex_unlock(&sched.lock);
    return n;
}

static struct fm_thread *leader(void)
{
    fm_mutex_lock(&sched.lock);
    struct fm_thread *h = sched.leader;
    fm_mutex_unlock(&sched.lock);
    return h;
}

static unsigned budget(void)
{
    fm_mutex_lock(&sched.lock);
    unsigned n = sched.budget;
    fm_mutex_unlock(&sched.lock);
    return n;
}

static unsigned queued(void)
{
    fm_mutex_lock(&sched.lock);
    unsigned n = fm_runq_length(&sched.runq);
    fm_mutex_unlock(&sched.lock);
    return n;
}

static void run(unsigned pool)
{
    init(pool);
    for (; nthreads <= pool; nthreads++)
        threads[nthreads] = spawn(be_thread, (void *)(uintptr_t)nthreads);
    WAIT_FOR(idle_threads() == pool && atomic_load(&sleeping));
}

static void leave(void)
{
    atomic_store(&gate_open, true);
    fm_sched_stop(&sched);
    assert_int_equal(fm_sched_join(&sched, fm_now() + 30 * FM_SEC), 0);
    for (; nthreads > 0; nthreads--)
        join(threads[nthreads - 1]);
    assert_int_equal(atomic_load(&in_step), 0);
    assert_int_equal(sched.running, 0);
    assert_int_equal(sched.searching, 0);
    fm_sched_fini(&sched);
    close(wake_fd);
}

/* Looks as the monitor does, until x. */
#define TICK_UNTIL(x) WAIT_FOR((fm_monitor_tick(&monitor), (x)))

static uint64_t stalls(void)
{
    struct fm_counters_sum sum;
    fm_counters_read(&sum);
    return sum.cell[FM_C_STALLS];
}

/* ---- inline ---- */

static void test_leader_runs_them_itself(void **state)
{
    (void)state;
    struct job jobs[50];
    run(3);
    assert_null(fm_thread_self());
    struct fm_thread *first = leader();
    for (unsigned i = 0; i < 50; i++) {
        job_init(&jobs[i], NULL);
        push(&jobs[i]);
        if (i % 2) /* by two */
            WAIT_FOR(atomic_load(&done) == i + 1);
    }
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(ran(&jobs[i]), 1);
        assert_int_equal(fm_task_state(&jobs[i].task), FM_TASK_DONE);
        assert_ptr_equal(jobs[i].thread, first);
        assert_true(jobs[i].was_inline);
    }
    WAIT_FOR(atomic_load(&sleeping));
    assert_ptr_equal(leader(), first);
    assert_null(atomic_load(&sched.inline_thread));
    assert_int_equal(idle_threads(), 3);
    assert_int_equal(atomic_load(&most_in_step), 1);
    leave();
}

static void in_turn(struct job *j)
{
    unsigned n = atomic_load(&polls);
    j->since_poll = n == j->polls ? j->since_poll + 1 : 1;
    CHECK(j->since_poll <= 3); /* as many as are queued, then it polls: what they queue waits for the next turn */
    j->polls = n;
}

static void test_polls_between_steps_that_go_on(void **state)
{
    (void)state;
    struct job jobs[3];
    run(1);
    for (unsigned i = 0; i < 3; i++) {
        job_init(&jobs[i], in_turn);
        jobs[i].left = 100;
    }
    for (unsigned i = 0; i < 3; i++)
        push(&jobs[i]);
    WAIT_FOR(atomic_load(&done) == 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(ran(&jobs[i]), 101);
    leave();
}

static void give_and_take(struct job *j)
{
    fm_thread_release(j->thread);
    CHECK(j->thread->task == NULL);
    fm_thread_take(j->thread, &j->task);
    CHECK(j->thread->task == &j->task);
}

static void test_hand_shows_its_task(void **state)
{
    (void)state;
    struct job j;
    run(1);
    job_init(&j, give_and_take);
    push(&j);
    WAIT_FOR(atomic_load(&done) == 1);
    WAIT_FOR(atomic_load(&sleeping));
    assert_null(j.thread->task);
    leave();
}

/* ---- a step that blocks ---- */

/* Blocks the leader in a step, and has it replaced. */
static struct fm_thread *stall(struct job *j)
{
    struct fm_thread *before = leader();
    unsigned gate = atomic_load(&at_gate);
    job_init(j, block);
    push(j);
    WAIT_FOR(atomic_load(&at_gate) == gate + 1);
    assert_true(j->was_inline);
    assert_ptr_equal(j->thread, before);
    TICK_UNTIL(leader() != before);
    return before;
}

static void test_another_takes_over(void **state)
{
    (void)state;
    struct job stuck, next[10];
    uint64_t stalls_before = stalls();
    run(2);
    struct fm_thread *first = stall(&stuck);
    assert_int_equal(stalls() - stalls_before, 1);
    assert_int_equal(budget(), 64);
    assert_false(fm_sched_is_inline(&sched, first));
    WAIT_FOR(atomic_load(&sleeping)); /* the new one polls */
    for (unsigned i = 0; i < 10; i++) {
        job_init(&next[i], NULL);
        push(&next[i]);
        WAIT_FOR(atomic_load(&done) == i + 1);
        assert_ptr_not_equal(next[i].thread, first);
        assert_ptr_not_equal(next[i].thread, leader());
        assert_false(next[i].was_inline);
    }
    for (int i = 0; i < 20; i++) /* no thread is in another's way now */
        fm_monitor_tick(&monitor);
    assert_int_equal(stalls() - stalls_before, 1);
    assert_ptr_equal(stuck.thread, first);
    struct fm_thread *now = leader();
    atomic_store(&gate_open, true);
    WAIT_FOR(atomic_load(&done) == 11);
    WAIT_FOR(idle_threads() == 2); /* the first is one of the others now */
    assert_ptr_equal(leader(), now);
    leave();
}

/* What the stalled leader had not come to. */
static void test_the_rest_of_its_batch(void **state)
{
    (void)state;
    struct job stuck, rest[5];
    run(2);
    job_init(&stuck, block);
    fm_mutex_lock(&sched.lock); /* as if they had come in one turn */
    for (unsigned i = 0; i < 6; i++) {
        struct job *j = i == 0 ? &stuck : &rest[i - 1];
        if (i > 0)
            job_init(j, NULL);
        fm_task_move(&j->task, FM_TASK_IDLE, FM_TASK_QUEUED);
        fm_runq_push(&sched.runq, &j->task, fm_now());
    }
    fm_mutex_unlock(&sched.lock);
    wake(&sched);
    WAIT_FOR(atomic_load(&at_gate) == 1);
    assert_int_equal(atomic_load(&done), 0);
    TICK_UNTIL(atomic_load(&done) == 5);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(ran(&rest[i]), 1);
    leave();
}

/* One thread for the application, and it blocks: another still polls. */
static void test_all_are_blocked(void **state)
{
    (void)state;
    for (unsigned pool = 1; pool < MOST; pool++) {
        struct job blocked[MOST], more[3];
        unsigned busy, idle;
        run(pool);
        for (unsigned i = 0; i < pool; i++) {
            job_init(&blocked[i], block);
            push(&blocked[i]);
        }
        TICK_UNTIL(atomic_load(&at_gate) == pool);
        for (unsigned i = 0; i < 3; i++) {
            job_init(&more[i], NULL);
            push(&more[i]);
        }
        TICK_UNTIL(atomic_load(&sleeping));
        for (int i = 0; i < 20; i++) {
            unsigned before = atomic_load(&polls);
            WAIT_FOR(atomic_load(&sleeping)); /* it does not turn and turn */
            wake(&sched);
            WAIT_FOR(atomic_load(&polls) > before);
            fm_monitor_tick(&monitor);
        }
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(ran(&more[i]), 0);
            assert_int_equal(fm_task_state(&more[i].task), FM_TASK_QUEUED);
        }
        assert_int_equal(queued(), 3);
        assert_false(fm_sched_has_work(&sched));
        fm_sched_threads(&sched, &busy, &idle);
        assert_int_equal(busy, pool);
        assert_int_equal(idle, 0);

        atomic_store(&gate_open, true);
        WAIT_FOR(atomic_load(&done) == pool + 3); /* without a push and without a monitor */
        assert_int_equal(atomic_load(&most_in_step), pool);
        WAIT_FOR(idle_threads() == pool);
        WAIT_FOR(atomic_load(&sleeping));
        fm_sched_threads(&sched, &busy, &idle);
        assert_int_equal(busy, 0);
        assert_int_equal(idle, pool);
        assert_int_equal(pthread_mutex_trylock(&gil), 0); /* no thread keeps it while it sleeps */
        pthread_mutex_unlock(&gil);
        leave();
    }
}

static struct fm_sched_ages ages_now(void)
{
    struct fm_sched_ages ages;
    fm_sched_ages(&sched, fm_now(), &ages);
    return ages;
}

/* The leader says that all threads are in a step, also where it slept when the last of them began; and that they are
 * not any more. */
static void test_busy_is_told(void **state)
{
    (void)state;
    for (unsigned pool = 1; pool < MOST; pool++) {
        struct job blocked[MOST], last;
        watch_from = pool;
        run(pool);
        watch_from = 0;
        for (unsigned i = 0; i < pool; i++) {
            assert_false(atomic_load(&is_busy));
            job_init(&blocked[i], block);
            push(&blocked[i]);
            TICK_UNTIL(atomic_load(&at_gate) == i + 1);
        }
        TICK_UNTIL(atomic_load(&is_busy));
        assert_int_equal(atomic_load(&tells), 1);
        assert_int_equal(ages_now().old, pool);
        assert_int_equal(ages_now().waiting, 0);
        assert_int_equal(ages_now().gil_since, UINT64_MAX);
        job_init(&last, NULL);
        push(&last);
        assert_int_equal(ages_now().waiting, 1);
        atomic_store(&gate_open, true);
        WAIT_FOR(atomic_load(&done) == pool + 1);
        WAIT_FOR(atomic_load(&sleeping));
        wake(&sched);
        WAIT_FOR(!atomic_load(&is_busy));
        assert_int_equal(ages_now().old, 0);
        leave();
    }
}

/* A thread that waits for the GIL is one that may be stuck. */
static void test_the_wait_for_the_gil(void **state)
{
    (void)state;
    struct job j;
    watch_from = 1;
    run(2);
    watch_from = 0;
    uint64_t before = fm_now();
    pthread_mutex_lock(&gil);
    job_init(&j, NULL);
    push(&j);
    TICK_UNTIL(ages_now().gil_since != UINT64_MAX);
    TICK_UNTIL(atomic_load(&is_busy)); /* of another leader: the first waits */
    assert_true(ages_now().gil_since + 1 >= before);
    assert_int_equal(ages_now().old, 1);
    pthread_mutex_unlock(&gil);
    WAIT_FOR(atomic_load(&done) == 1);
    WAIT_FOR(ages_now().gil_since == UINT64_MAX);
    leave();
}

/* The same without a leader that is held up: a budget brings all to the pool. */
static void test_pool_runs_side_by_side(void **state)
{
    (void)state;
    struct job blocked[4];
    uint64_t before = stalls();
    run(4);
    sched.budget = 100;
    for (unsigned i = 0; i < 4; i++) {
        job_init(&blocked[i], block);
        push(&blocked[i]);
    }
    WAIT_FOR(atomic_load(&at_gate) == 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_false(blocked[i].was_inline);
        assert_ptr_not_equal(blocked[i].thread, leader());
        for (unsigned k = 0; k < i; k++)
            assert_ptr_not_equal(blocked[i].thread, blocked[k].thread);
    }
    assert_int_equal(stalls(), before);
    assert_int_equal(budget(), 96);
    leave();
}

/* ---- the budget ---- */

enum { PLENTY = 16384 };
static struct job plenty[PLENTY];

/* Pushes n quick ones and waits for them; how many of them were run inline. */
static unsigned push_quick(unsigned n)
{
    unsigned before = atomic_load(&done), were_inline = 0;
    for (unsigned i = 0; i < n; i++) {
        job_init(&plenty[i], NULL);
        push(&plenty[i]);
    }
    WAIT_FOR(atomic_load(&done) == before + n);
    for (unsigned i = 0; i < n; i++)
        were_inline += plenty[i].was_inline;
    return were_inline;
}

static void stall_and_go_on(unsigned expected_budget)
{
    struct job j;
    stall(&j);
    assert_int_equal(budget(), expected_budget);
    atomic_store(&gate_open, true);
    WAIT_FOR(atomic_load(&at_gate) == 0 && fm_task_state(&j.task) == FM_TASK_DONE);
    atomic_store(&gate_open, false);
    WAIT_FOR(idle_threads() == sched.pool && atomic_load(&sleeping));
}

static void test_budget(void **state)
{
    (void)state;
    run(2);
    for (unsigned size = 64, i = 0; i < 10; i++) {
        stall_and_go_on(size);
        for (unsigned k = 0; k + 1 < size; k++)
            assert_int_equal(push_quick(1), 0); /* so many go to the pool */
        assert_int_equal(budget(), 1);
        push_quick(1); /* the last one of them wakes both a pool thread and the leader: the first one runs it */
        assert_int_equal(budget(), 0);
        WAIT_FOR(idle_threads() == 2);
        assert_int_equal(push_quick(1), 1); /* and the next is run inline */
        size = size < PLENTY ? 2 * size : size;
    }
    assert_int_equal(push_quick(1100), 1100); /* it has become calm */
    stall_and_go_on(64);
    leave();
}

/* Whatever is still queued when the budget is used up is the leader's: pool threads go to sleep, and none is
 * forgotten, also if the leader has slept all the time, or could not have run anything because all pool threads were
 * busy. */
static void test_the_budget_ends_with_a_backlog(void **state)
{
    (void)state;
    for (unsigned pool = 1; pool <= 3; pool++) {
        struct job blocked[3];
        run(pool);
        for (unsigned round = 0; round < 20; round++) {
            unsigned before = atomic_load(&done);
            pthread_mutex_lock(&sched.lock.m);
            sched.budget = pool + 3;
            pthread_mutex_unlock(&sched.lock.m);
            for (unsigned i = 0; i < pool; i++) {
                job_init(&blocked[i], block);
                push(&blocked[i]);
            }
            WAIT_FOR(atomic_load(&at_gate) == pool);
            for (unsigned i = 0; i < 10; i++) { /* three use the budget up, the others come after it */
                job_init(&plenty[i], NULL);
                push(&plenty[i]);
            }
            assert_int_equal(atomic_load(&done), before);
            atomic_store(&gate_open, true);
            WAIT_FOR(atomic_load(&done) == before + pool + 10);
            atomic_store(&gate_open, false);
            WAIT_FOR(idle_threads() == pool);
        }
        leave();
    }
}

/* ---- many that are short ---- */

/* What a step does is told by the processor time that it has; where other programs take most of that, the leader may be
 * mistaken for a while, and it is tried again. */
enum { SHORT = 400, ROUNDS_UNDER_LOAD = 5 };

/* Pushes SHORT of them at once and waits for them; how many of them were run inline. */
static unsigned push_short(void (*body)(struct job *))
{
    unsigned before = atomic_load(&done), were_inline = 0;
    for (unsigned i = 0; i < SHORT; i++)
        job_init(&plenty[i], body);
    for (unsigned i = 0; i < SHORT; i++)
        push(&plenty[i]);
    WAIT_FOR(atomic_load(&done) == before + SHORT);
    for (unsigned i = 0; i < SHORT; i++)
        were_inline += plenty[i].was_inline;
    return were_inline;
}

/* No step of them is late, and no monitor looks: the leader finds out by itself. */
static void test_short_waits_run_side_by_side(void **state)
{
    (void)state;
    uint64_t before = stalls();
    run(4);
    for (int round = 0; push_short(doze) >= SHORT / 2; round++)
        assert_true(round < ROUNDS_UNDER_LOAD);
    assert_true(stalls() > before);
    assert_int_equal(atomic_load(&most_in_step), 4);
    leave();
}

/* Where the one free thread is the leader's nothing is gained. */
static void test_short_waits_without_another_thread(void **state)
{
    (void)state;
    uint64_t before = stalls();
    run(1);
    assert_int_equal(push_short(doze), SHORT);
    assert_int_equal(stalls(), before);
    leave();
}

static atomic_bool no_more_ticks;
static void *be_monitor(void *arg);

static void test_short_computations_stay_inline(void **state)
{
    (void)state;
    bool shown = false;
    for (int round = 0; !shown; round++) {
        assert_true(round < ROUNDS_UNDER_LOAD);
        uint64_t before = stalls();
        run(4);
        atomic_store(&no_more_ticks, false);
        pthread_t ticking = spawn(be_monitor, NULL);
        shown = push_short(compute) == SHORT && stalls() == before && atomic_load(&most_in_step) == 1;
        atomic_store(&no_more_ticks, true);
        join(ticking);
        leave();
    }
}

/* ---- in parallel ---- */

/* As one that computes: it does not let others go on. */
static void stay(struct job *j)
{
    (void)j;
    atomic_fetch_add(&at_gate, 1);
    WAIT_FOR(atomic_load(&gate_open));
    atomic_fetch_sub(&at_gate, 1);
}

static void run_in_parallel(unsigned pool, unsigned processors)
{
    no_gil = true;
    run(pool);
    fm_sched_set_parallel(&sched, processors);
}

static void leave_in_parallel(void)
{
    leave();
    no_gil = false;
}

/* No monitor looks, and none of the steps gives anything up: what is queued while the leader is in one is begun by
 * another thread, and by as many as there are processors. */
static void test_others_take_what_the_leader_has_not_begun(void **state)
{
    (void)state;
    struct job jobs[4];
    uint64_t before = stalls();
    run_in_parallel(4, 3);
    for (unsigned i = 0; i < 4; i++) {
        job_init(&jobs[i], stay);
        push(&jobs[i]);
        WAIT_FOR(atomic_load(&at_gate) == (i < 3 ? i + 1 : 3));
    }
    assert_true(jobs[0].was_inline && !jobs[1].was_inline && !jobs[2].was_inline);
    assert_ptr_not_equal(jobs[1].thread, jobs[2].thread);
    assert_int_equal(queued(), 1);
    assert_int_equal(stalls(), before);
    atomic_store(&gate_open, true);
    WAIT_FOR(atomic_load(&done) == 4);
    leave_in_parallel();
}

/* What has come in one turn of the loop, too. */
static void test_others_take_the_rest_of_a_batch(void **state)
{
    (void)state;
    struct job jobs[3];
    run_in_parallel(4, 3);
    for (unsigned i = 0; i < 3; i++)
        job_init(&jobs[i], stay);
    fm_mutex_lock(&sched.lock);
    for (unsigned i = 0; i < 3; i++) {
        fm_task_move(&jobs[i].task, FM_TASK_IDLE, FM_TASK_QUEUED);
        fm_runq_push(&sched.runq, &jobs[i].task, fm_now());
    }
    fm_mutex_unlock(&sched.lock);
    wake(&sched);
    WAIT_FOR(atomic_load(&at_gate) == 3);
    assert_int_equal(jobs[0].was_inline + jobs[1].was_inline + jobs[2].was_inline, 1);
    leave_in_parallel();
}

/* With a GIL again it is the leader's, who is told. */
static void test_the_gil_is_turned_on(void **state)
{
    (void)state;
    struct job first, second;
    run_in_parallel(4, 3);
    job_init(&first, stay);
    job_init(&second, NULL);
    push(&first);
    WAIT_FOR(atomic_load(&at_gate) == 1);
    fm_sched_set_parallel(&sched, 0);
    push(&second);
    assert_int_equal(queued(), 1);
    atomic_store(&gate_open, true);
    WAIT_FOR(atomic_load(&done) == 2);
    assert_true(second.was_inline);
    leave_in_parallel();
}

/* Steps that compute are handed off as those that wait. */
static void test_computations_run_side_by_side(void **state)
{
    (void)state;
    uint64_t before = stalls();
    run_in_parallel(4, 2);
    assert_true(push_short(compute) < SHORT);
    assert_true(stalls() > before);
    assert_true(atomic_load(&most_in_step) > 1);
    leave_in_parallel();
}

/* However many are queued, a few milliseconds of them and it is time to poll. */
static void test_a_batch_ends(void **state)
{
    (void)state;
    unsigned in_a_row = 0;
    run(1);
    for (unsigned i = 0; i < 50; i++)
        job_init(&plenty[i], compute_longer);
    for (unsigned i = 0; i < 50; i++)
        push(&plenty[i]);
    WAIT_FOR(atomic_load(&done) == 50);
    for (unsigned i = 1; i < 50; i++) {
        in_a_row = plenty[i].polls == plenty[i - 1].polls ? in_a_row + 1 : 0;
        assert_true(in_a_row < 3);
    }
    leave();
}

/* ---- whose turn it is ---- */

static void test_new_ones_and_those_that_go_on_take_turns(void **state)
{
    (void)state;
    struct job go_on[4], fresh[2];
    struct job *const order[] = {&fresh[0], &go_on[0], &fresh[1], &go_on[1], &go_on[2], &go_on[3]};
    init(1);
    fm_role_take_loop(); /* as one turn of the loop */
    for (unsigned i = 0; i < 4; i++) {
        job_init(&go_on[i], NULL);
        go_on[i].task.begun = true;
        push(&go_on[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        job_init(&fresh[i], NULL);
        push(&fresh[i]);
    }
    assert_int_equal(fm_sched_waiting(&sched), 1); /* one has a thread; those that go on do not count */
    fm_mutex_lock(&sched.lock);
    sched.running = 1;
    fm_mutex_unlock(&sched.lock);
    assert_int_equal(fm_sched_waiting(&sched), 2);
    assert_false(fm_sched_take_back(&sched, &go_on[0].task)); /* and they are in the run queue now */
    assert_int_equal(fm_sched_waiting(&sched), 2);
    assert_true(fm_sched_take_back(&sched, &fresh[0].task));
    assert_int_equal(fm_sched_waiting(&sched), 1);
    push(&fresh[0]);
    assert_true(fm_sched_take_back(&sched, &fresh[1].task));
    push(&fresh[1]);
    assert_int_equal(fm_sched_waiting(&sched), 2);
    fm_role_drop_loop();
    fm_mutex_lock(&sched.lock);
    fm_runq_append(&sched.runq, &sched.incoming, fm_now());
    for (unsigned i = 0; i < 6; i++)
        assert_ptr_equal(fm_runq_pop(&sched.runq), &order[i]->task);
    fm_mutex_unlock(&sched.lock);
    fm_sched_fini(&sched);
    close(wake_fd);
}

/* ---- taking back ---- */

static void test_take_back(void **state)
{
    (void)state;
    struct job j, begun, other;
    init(1);
    job_init(&j, NULL);
    job_init(&begun, NULL);
    job_init(&other, NULL);
    begun.task.begun = true;
    fm_role_take_loop();
    assert_false(fm_sched_take_back(&sched, &j.task)); /* not there yet */
    push(&other);
    push(&j);
    push(&begun);
    assert_true(fm_sched_has_work(&sched));
    assert_true(fm_sched_take_back(&sched, &j.task));
    assert_int_equal(fm_task_state(&j.task), FM_TASK_IDLE);
    assert_int_equal(queued(), 2);
    assert_false(fm_sched_take_back(&sched, &j.task));
    assert_int_equal(fm_task_state(&j.task), FM_TASK_IDLE);
    assert_false(fm_sched_take_back(&sched, &begun.task));
    assert_int_equal(fm_task_state(&begun.task), FM_TASK_QUEUED);
    assert_true(fm_sched_take_back(&sched, &other.task));
    assert_int_equal(queued(), 1);
    push(&j); /* and again */
    assert_true(fm_sched_take_back(&sched, &j.task));
    fm_role_drop_loop();
    fm_sched_fini(&sched);
    close(wake_fd);
}

static void test_take_back_what_runs(void **state)
{
    (void)state;
    struct job blocked, waiting;
    run(1);
    stall(&blocked);
    job_init(&waiting, NULL);
    push(&waiting);
    fm_role_take_loop();
    assert_false(fm_sched_take_back(&sched, &blocked.task));
    assert_int_equal(fm_task_state(&blocked.task), FM_TASK_RUNNING);
    assert_true(fm_sched_take_back(&sched, &waiting.task));
    fm_role_drop_loop();
    atomic_store(&gate_open, true);
    WAIT_FOR(atomic_load(&done) == 1);
    WAIT_FOR(idle_threads() == 1);
    assert_int_equal(ran(&waiting), 0);
    leave();
}

/* ---- stop ---- */

static void test_stop(void **state)
{
    (void)state;
    run(3);
    assert_false(fm_sched_has_stopped(&sched));
    assert_false(fm_sched_has_work(&sched));
    assert_int_equal(fm_sched_join(&sched, fm_now() + 5 * FM_MS), 4); /* they have not been told to go */
    fm_sched_stop(&sched);
    assert_true(fm_sched_has_stopped(&sched));
    assert_true(fm_sched_has_work(&sched)); /* the leader must not sleep again */
    assert_int_equal(fm_sched_join(&sched, fm_now() + 30 * FM_SEC), 0);
    leave();
}

static void test_stop_while_steps_run(void **state)
{
    (void)state;
    struct job blocked[2], rest;
    run(2);
    for (unsigned i = 0; i < 2; i++) {
        job_init(&blocked[i], block);
        push(&blocked[i]);
    }
    TICK_UNTIL(atomic_load(&at_gate) == 2);
    job_init(&rest, NULL);
    push(&rest);
    fm_sched_stop(&sched);
    WAIT_FOR(fm_sched_join(&sched, fm_now()) == 2); /* the leader goes */
    unsigned before = atomic_load(&polls);
    assert_int_equal(fm_sched_join(&sched, fm_now() + 20 * FM_MS), 2);
    atomic_store(&gate_open, true);
    assert_int_equal(fm_sched_join(&sched, fm_now() + 30 * FM_SEC), 0);
    assert_int_equal(atomic_load(&done), 2);
    assert_int_equal(ran(&rest), 0);
    assert_int_equal(atomic_load(&polls), before);
    pthread_mutex_lock(&gil);
    my_gil = true;
    fm_sched_run_rest(&sched);
    my_gil = false;
    pthread_mutex_unlock(&gil);
    assert_int_equal(ran(&rest), 1);
    assert_int_equal(fm_task_state(&rest.task), FM_TASK_DONE);
    assert_int_equal(queued(), 0);
    assert_null(fm_thread_self());
    leave();
}

static void test_stopped_before_it_ran(void **state)
{
    (void)state;
    init(2);
    fm_sched_stop(&sched);
    for (; nthreads <= 2; nthreads++)
        threads[nthreads] = spawn(be_thread, (void *)(uintptr_t)nthreads);
    leave();
    assert_int_equal(atomic_load(&polls), 0);
}

/* ---- no task is forgotten ---- */

enum { PUSHERS = 3, TOTAL = ROUNDS(100000) / PUSHERS * PUSHERS };

static struct job *jobs;

static void *be_monitor(void *arg)
{
    (void)arg;
    while (!atomic_load(&no_more_ticks)) {
        uint64_t ns = fm_monitor_tick(&monitor);
        struct pollfd p = {sched.monitor_fd, POLLIN, 0};
        if (ns == UINT64_MAX) {
            poll(&p, 1, 1000); /* see no_more_ticks */
            fm_monitor_woken(&monitor);
        } else {
            usleep((useconds_t)(ns / 1000));
        }
    }
    return NULL;
}

struct pusher {
    struct job *jobs;
    uint64_t seed;
};

static void *push_many(void *arg)
{
    struct pusher *p = arg;
    for (unsigned i = 0; i < TOTAL / PUSHERS;) {
        unsigned n = 1 + (unsigned)(rnd(&p->seed) % 50);
        for (; n > 0 && i < TOTAL / PUSHERS; n--, i++) {
            job_init(&p->jobs[i], rnd(&p->seed) % (TOTAL / 50) == 0 ? nap : NULL);
            p->jobs[i].left = rnd(&p->seed) % 8 == 0;
            push(&p->jobs[i]);
        }
        if (rnd(&p->seed) % 4 == 0) /* all go to sleep, perhaps */
            WAIT_FOR(fm_task_state(&p->jobs[i - 1].task) == FM_TASK_DONE);
        for (uint64_t spin = rnd(&p->seed) % 2000; spin > 0; spin--)
            atomic_signal_fence(memory_order_seq_cst);
    }
    return NULL;
}

static void test_no_task_is_forgotten(void **state)
{
    (void)state;
    uint64_t seed = new_seed(), stalls_before = stalls();
    struct pusher pushers[PUSHERS];
    pthread_t pushing[PUSHERS];
    jobs = calloc(TOTAL, sizeof *jobs);
    assert_non_null(jobs);
    run(3);
    atomic_store(&no_more_ticks, false);
    pthread_t ticking = spawn(be_monitor, NULL);
    for (int i = 0; i < PUSHERS; i++) {
        pushers[i] = (struct pusher){jobs + (size_t)i * (TOTAL / PUSHERS), rnd(&seed)};
        pushing[i] = spawn(push_many, &pushers[i]);
    }
    for (int i = 0; i < PUSHERS; i++)
        join(pushing[i]);
    WAIT_FOR(atomic_load(&done) == TOTAL);
    unsigned were_inline = 0;
    for (unsigned i = 0; i < TOTAL; i++) {
        CHECK(fm_task_state(&jobs[i].task) == FM_TASK_DONE);
        CHECK(ran(&jobs[i]) == 1 || ran(&jobs[i]) == 2);
        were_inline += jobs[i].was_inline;
    }
    assert_int_equal(queued(), 0);
    atomic_store(&no_more_ticks, true);
    join(ticking);
    leave();
    assert_int_equal(atomic_load(&done), TOTAL);
    printf("%u tasks, %u inline, %u stalls\n", TOTAL, were_inline, (unsigned)(stalls() - stalls_before));
    assert_true(were_inline > 0 && were_inline < TOTAL && stalls() > stalls_before);
    free(jobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leader_runs_them_itself),
        cmocka_unit_test(test_polls_between_steps_that_go_on),
        cmocka_unit_test(test_hand_shows_its_task),
        cmocka_unit_test(test_another_takes_over),
        cmocka_unit_test(test_the_rest_of_its_batch),
        cmocka_unit_test(test_all_are_blocked),
        cmocka_unit_test(test_busy_is_told),
        cmocka_unit_test(test_the_wait_for_the_gil),
        cmocka_unit_test(test_pool_runs_side_by_side),
        cmocka_unit_test(test_others_take_what_the_leader_has_not_begun),
        cmocka_unit_test(test_others_take_the_rest_of_a_batch),
        cmocka_unit_test(test_the_gil_is_turned_on),
        cmocka_unit_test(test_computations_run_side_by_side),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_the_budget_ends_with_a_backlog),
        cmocka_unit_test(test_short_waits_run_side_by_side),
        cmocka_unit_test(test_short_waits_without_another_thread),
        cmocka_unit_test(test_short_computations_stay_inline),
        cmocka_unit_test(test_a_batch_ends),
        cmocka_unit_test(test_new_ones_and_those_that_go_on_take_turns),
        cmocka_unit_test(test_take_back),
        cmocka_unit_test(test_take_back_what_runs),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_while_steps_run),
        cmocka_unit_test(test_stopped_before_it_ran),
        cmocka_unit_test(test_no_task_is_forgotten),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

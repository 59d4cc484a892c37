/* The monitor: when it sleeps and what wakes it, whom it replaces, and whose held output it sends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <string.h>
#include <sys/syscall.h>

#include "../util/threads_on_one.h"
#include "fermata/sched/monitor.h"
#include "fermata/util/thread_time.h"

enum { POOL = 2, LONG_CALM = 1000 };

static struct fm_crew crew;
static struct fm_monitor monitor;

/* ---- held output ---- */

static struct {
    struct fm_task *task; /* of the last call */
    unsigned calls;
    uint64_t since;
    bool holds;
} flushed;

static bool flush(void *ctx, struct fm_task *task, uint64_t since)
{
    CHECK(ctx == &crew);
    flushed.task = task;
    flushed.calls++;
    flushed.since = since;
    return flushed.holds;
}

static const struct fm_crew_ops ops = {.flush = flush};

static int start(void **state)
{
    (void)state;
    memset(&flushed, 0, sizeof flushed);
    if (fm_crew_init(&crew, POOL, &ops, &crew) != 0)
        return -1;
    fm_monitor_init(&monitor, &crew);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    fm_crew_fini(&crew);
    return 0;
}

static bool woken(void)
{
    struct pollfd p = {crew.monitor_fd, POLLIN, 0};
    return poll(&p, 1, 0) == 1;
}

/* Ticks until it goes to sleep: how often. */
static unsigned tick_to_sleep(void)
{
    for (unsigned n = 1; n <= LONG_CALM; n++)
        if (fm_monitor_tick(&monitor) == UINT64_MAX)
            return n;
    fail_msg("it does not sleep");
    return 0;
}

/* At the first sight of calm whoever has something to watch must say so; it is quiet when nobody has for a while. */
static void test_sleeps_when_calm(void **state)
{
    (void)state;
    assert_int_equal(crew.monitor_asleep, 0);
    assert_int_equal(fm_monitor_tick(&monitor), 64 * FM_MS);
    assert_int_equal(crew.monitor_asleep, 1);
    assert_true(fm_monitor_tick(&monitor) == UINT64_MAX);
    assert_true(fm_monitor_tick(&monitor) == UINT64_MAX);
    assert_int_equal(crew.monitor_asleep, 1);
    assert_false(woken());
    assert_int_equal(flushed.calls, 0); /* nobody holds anything */
}

/* Not at once: most steps are over by then. */
static void test_watch_wakes_it_later(void **state)
{
    (void)state;
    fm_crew_watch(&crew); /* it is awake */
    assert_false(woken());
    for (int i = 0; i < 3; i++) {
        tick_to_sleep();
        uint64_t before = fm_now();
        fm_crew_watch(&crew);
        assert_int_equal(crew.monitor_asleep, 0);
        WAIT_FOR(woken());
        assert_true(fm_now() - before >= FM_MS);
        fm_monitor_woken(&monitor);
        assert_false(woken());
        fm_crew_watch(&crew); /* told once */
        usleep(3000);
        assert_false(woken());
        assert_int_equal(fm_monitor_tick(&monitor), 64 * FM_MS); /* that was all: back to sleep */
    }
    fm_monitor_woken(&monitor); /* for nothing */
}

static void hold(struct fm_hand *h, struct fm_task *t)
{
    fm_hand_take(h, t);
    fm_hand_hold(h);
}

static void test_held_output_is_flushed(void **state)
{
    (void)state;
    struct fm_task t;
    fm_task_init(&t);
    for (unsigned i = 0; i <= POOL; i++) { /* whichever hand */
        flushed.calls = 0;
        flushed.task = NULL;
        hold(&crew.hands[i], &t);
        uint64_t before = fm_now();
        fm_monitor_tick(&monitor);
        uint64_t after = fm_now();
        unsigned calls = flushed.calls;
        assert_true(calls >= 1);
        assert_ptr_equal(flushed.task, &t);
        assert_true(flushed.since >= before - FM_MS && flushed.since <= after - FM_MS); /* held for a tick */
        fm_hand_release(&crew.hands[i]);
        atomic_store(&crew.monitor_asleep, 0);
        fm_monitor_tick(&monitor);
        assert_int_equal(flushed.calls, calls);
        atomic_store(&crew.monitor_asleep, 0);
    }
}

static void test_held_output_keeps_it_awake(void **state)
{
    (void)state;
    struct fm_task t;
    fm_task_init(&t);
    hold(&crew.hands[1], &t);
    flushed.holds = true;
    for (int i = 0; i < LONG_CALM; i++)
        assert_int_equal(fm_monitor_tick(&monitor), FM_MS);
    assert_int_equal(flushed.calls, LONG_CALM);
    flushed.holds = false; /* a step alone does not */
    tick_to_sleep();
    fm_hand_release(&crew.hands[1]);
}

/* The lookout puts the monitor's timer off, but not where somebody's output would have to wait for that. */
static void test_held_output_is_not_put_off(void **state)
{
    (void)state;
    struct fm_task t;
    fm_task_init(&t);
    tick_to_sleep();
    assert_int_equal(crew.may_postpone, 1);
    hold(&crew.hands[1], &t);
    assert_int_equal(crew.may_postpone, 0);
    flushed.holds = true;
    atomic_store(&crew.inline_since, fm_now() & ~(uint64_t)FM_FOR_GIL);
    crew.hands[0].tid = (int)syscall(SYS_gettid);
    atomic_store(&crew.inline_hand, &crew.hands[0]);
    for (int i = 0; i < 10; i++) {
        assert_true(fm_monitor_tick(&monitor) <= FM_MS);
        assert_int_equal(crew.may_postpone, 0);
    }
    flushed.holds = false;
    assert_int_equal(fm_monitor_tick(&monitor), 64 * FM_MS);
    assert_int_equal(crew.may_postpone, 1);
    fm_hand_release(&crew.hands[1]);
    atomic_store(&crew.inline_hand, NULL);
}

/* Held between its last look and its sleep. */
static bool hold_late(void *ctx, struct fm_task *task, uint64_t since)
{
    flush(ctx, task, since);
    return atomic_load(&crew.monitor_asleep); /* seen only after it has said that it sleeps */
}

static void test_looks_once_more_before_it_sleeps(void **state)
{
    (void)state;
    static const struct fm_crew_ops late = {.flush = hold_late};
    struct fm_task t;
    fm_task_init(&t);
    crew.ops = &late;
    hold(&crew.hands[0], &t);
    for (int i = 0; i < LONG_CALM; i++) {
        assert_int_equal(fm_monitor_tick(&monitor), FM_MS);
        assert_int_equal(crew.monitor_asleep, 0);
    }
    fm_hand_release(&crew.hands[0]);
    tick_to_sleep();
}

/* A step that gives its task away is not looked at any more once fm_hand_release has returned. */
struct releasing {
    struct fm_task *task;
    atomic_bool stop;
};

static atomic_uint released_looks;

static bool look_at(void *ctx, struct fm_task *task, uint64_t since)
{
    (void)ctx, (void)since;
    CHECK(task->queued_at == 1); /* whoever releases changes it afterwards: the thread sanitizer looks, too */
    atomic_fetch_add(&released_looks, 1);
    return true;
}

static void *take_and_release(void *arg)
{
    struct releasing *r = arg;
    while (!atomic_load(&r->stop)) {
        r->task->queued_at = 1;
        hold(&crew.hands[0], r->task);
        sched_yield();
        fm_hand_release(&crew.hands[0]);
        r->task->queued_at = 2;
    }
    return NULL;
}

static void test_released_is_not_looked_at(void **state)
{
    (void)state;
    static const struct fm_crew_ops looks = {.flush = look_at};
    struct fm_task t;
    struct releasing r = {.task = &t};
    fm_task_init(&t);
    crew.ops = &looks;
    atomic_store(&released_looks, 0);
    pthread_t thread = spawn(take_and_release, &r);
    for (int i = 0; i < ROUNDS(50000); i++)
        fm_monitor_tick(&monitor);
    WAIT_FOR((fm_monitor_tick(&monitor), atomic_load(&released_looks) > 100));
    atomic_store(&r.stop, true);
    join(thread);
}

/* ---- whom it replaces ---- */

struct lookout {
    atomic_int tid;
    atomic_bool computes, is_at_it, stop;
    pthread_t thread;
};

static void *be_lookout(void *arg)
{
    struct lookout *me = arg;
    atomic_store(&me->tid, (int)syscall(SYS_gettid));
    while (!atomic_load(&me->stop))
        if (atomic_load(&me->computes))
            atomic_store(&me->is_at_it, true);
        else
            usleep(1000);
    return NULL;
}

static struct lookout lookout;

static uint64_t stalls(void)
{
    struct fm_counters_sum sum;
    fm_counters_read(&sum);
    return sum.cell[FM_C_STALLS];
}

/* As the lookout does it. */
static void begin_step(void)
{
    atomic_store(&crew.inline_since, fm_now() & ~(uint64_t)FM_FOR_GIL);
    atomic_store(&crew.inline_hand, &crew.hands[0]);
}

/* Hand 0 is the lookout, inline; the others sleep. */
static int start_inline(void **state)
{
    if (start(state) != 0)
        return -1;
    atomic_store(&lookout.tid, 0);
    atomic_store(&lookout.stop, false);
    atomic_store(&lookout.computes, false);
    atomic_store(&lookout.is_at_it, false);
    lookout.thread = spawn(be_lookout, &lookout);
    WAIT_FOR(atomic_load(&lookout.tid));
    crew.hands[0].tid = atomic_load(&lookout.tid);
    crew.lookout = &crew.hands[0];
    crew.idle = &crew.hands[1];
    crew.hands[1].next_idle = &crew.hands[2];
    crew.running = 1;
    begin_step();
    return 0;
}

static int finish_inline(void **state)
{
    atomic_store(&lookout.stop, true);
    join(lookout.thread);
    return finish(state);
}

static void ticks(int n)
{
    for (int i = 0; i < n; i++) {
        fm_monitor_tick(&monitor);
        usleep(500);
    }
}

static void test_replaces_a_blocked_lookout(void **state)
{
    (void)state;
    uint64_t before = stalls(), began = atomic_load(&crew.inline_since);
    fm_monitor_tick(&monitor);
    assert_ptr_equal(crew.lookout, &crew.hands[0]); /* not yet */
    WAIT_FOR(woken());                              /* when it has run for so long */
    assert_true(fm_now() - began >= FM_MS);
    WAIT_FOR((fm_monitor_tick(&monitor), crew.lookout != &crew.hands[0]));
    assert_true(fm_now() - began >= FM_MS);
    assert_ptr_equal(crew.lookout, &crew.hands[1]);
    assert_int_equal(crew.hands[1].order, FM_ORDER_LOOKOUT);
    assert_ptr_equal(crew.idle, &crew.hands[2]);
    assert_null(atomic_load(&crew.inline_hand));
    assert_int_equal(crew.budget, 64);
    assert_int_equal(stalls(), before + 1);
    ticks(20); /* the new one polls */
    assert_ptr_equal(crew.lookout, &crew.hands[1]);
    assert_int_equal(stalls(), before + 1);
}

/* A step that it sees for the first time when it is late already. */
static void test_one_look_is_enough(void **state)
{
    (void)state;
    usleep(2000);
    for (int i = 0; i < 200 && crew.lookout == &crew.hands[0]; i++) {
        begin_step(); /* another: whatever was seen of the last one does not count */
        usleep(2000);
        fm_monitor_tick(&monitor); /* in vain where it finds the thread between two sleeps */
    }
    assert_ptr_equal(crew.lookout, &crew.hands[1]);
}

static void test_ticks_faster_after_a_stall(void **state)
{
    (void)state;
    WAIT_FOR((fm_monitor_tick(&monitor), crew.lookout != &crew.hands[0]));
    assert_int_equal(atomic_load(&crew.watch_after), FM_MS / 4);
    uint64_t began = fm_now(), fast = 0;
    crew.lookout = &crew.hands[0];
    WAIT_FOR((begin_step(), fast++, fm_monitor_tick(&monitor), atomic_load(&crew.watch_after) == FM_MS));
    assert_true(fast > 0 && fm_now() - began >= 50 * FM_MS);
}

static void test_a_lookout_that_moves_on_stays(void **state)
{
    (void)state;
    crew.idle = NULL; /* so that nothing changes where this machine is slow */
    for (int i = 0; i < 30; i++) {
        begin_step();
        uint64_t began = fm_now();
        fm_monitor_tick(&monitor);
        WAIT_FOR(woken()); /* when that step is late */
        assert_true(fm_now() - began >= FM_MS / 2);
        fm_monitor_woken(&monitor);
    }
    crew.idle = &crew.hands[1];
    atomic_store(&crew.inline_hand, NULL); /* it polls */
    ticks(30);
    assert_ptr_equal(crew.lookout, &crew.hands[0]);
}

/* Others have the GIL, and will give it up: that is no stall.  If they do not, at least somebody must poll. */
static void test_waiting_for_the_gil(void **state)
{
    (void)state;
    uint64_t before = stalls(), began = fm_now() | FM_FOR_GIL;
    atomic_store(&crew.inline_since, began);
    WAIT_FOR((fm_monitor_tick(&monitor), crew.lookout != &crew.hands[0]));
    assert_true(fm_now() - began >= 10 * FM_MS);
    assert_int_equal(crew.budget, 0); /* nothing is handed off */
    assert_int_equal(stalls(), before + 1);
}

static void test_nobody_is_left_to_replace_it(void **state)
{
    (void)state;
    uint64_t before = stalls();
    crew.idle = NULL;
    ticks(20);
    assert_ptr_equal(crew.lookout, &crew.hands[0]);
    assert_ptr_equal(atomic_load(&crew.inline_hand), &crew.hands[0]);
    assert_int_equal(crew.budget, 0);
    assert_int_equal(stalls(), before);
    crew.idle = &crew.hands[2]; /* one comes back */
    WAIT_FOR((fm_monitor_tick(&monitor), crew.lookout == &crew.hands[2]));
    assert_null(crew.idle);
}

static void test_a_stopped_crew_is_left_alone(void **state)
{
    (void)state;
    crew.stop = true;
    ticks(20);
    assert_ptr_equal(crew.lookout, &crew.hands[0]);
}

/* A thread that computes will give the GIL up after the switch interval; handing over earlier gains nothing. */
static void test_a_computing_lookout_is_given_time(void **state)
{
    (void)state;
    atomic_store(&lookout.computes, true);
    WAIT_FOR(atomic_load(&lookout.is_at_it));
    fm_monitor_tick(&monitor);
    uint64_t used = fm_thread_used(crew.hands[0].tid);
    WAIT_FOR((usleep(100), fm_monitor_tick(&monitor), crew.lookout != &crew.hands[0]));
    assert_true(fm_thread_used(crew.hands[0].tid) - used >= 4 * FM_MS);
}

/* It is runnable and has no processor, because another thread has: it does not count how long that takes. */
static void test_a_lookout_without_a_processor_stays(void **state)
{
    (void)state;
    struct neighbour neighbour;
    give_neighbour(&neighbour, crew.hands[0].tid);
    setpriority(PRIO_PROCESS, (id_t)crew.hands[0].tid, 19); /* it gets next to nothing */
    atomic_store(&lookout.computes, true);
    WAIT_FOR(atomic_load(&lookout.is_at_it));
    uint64_t used = fm_thread_used(crew.hands[0].tid), began = fm_now();
    begin_step();
    while (fm_now() - began < 200 * FM_MS && fm_thread_used(crew.hands[0].tid) - used < 4 * FM_MS) {
        fm_monitor_tick(&monitor);
        assert_ptr_equal(crew.lookout, &crew.hands[0]);
        usleep(500);
    }
    assert_true(fm_now() - began > 20 * FM_MS); /* it did have to wait */
    end_neighbour(&neighbour);
}

static void test_stays_awake_while_the_lookout_is_inline(void **state)
{
    (void)state;
    crew.idle = NULL;
    for (int i = 0; i < LONG_CALM; i++)
        assert_int_not_equal(fm_monitor_tick(&monitor), UINT64_MAX);
    atomic_store(&crew.inline_hand, NULL);
    tick_to_sleep();
    begin_step();
    fm_crew_watch(&crew);
    WAIT_FOR(woken());
}

/* ---- no watch is missed ---- */

static atomic_bool watch_over, monitor_left;
static atomic_uint holding, flushes;

static bool flush_now(void *ctx, struct fm_task *task, uint64_t since)
{
    (void)ctx, (void)task, (void)since;
    if (atomic_exchange(&holding, 0))
        atomic_fetch_add(&flushes, 1);
    return false;
}

static void *be_monitor(void *arg)
{
    (void)arg;
    while (!atomic_load(&watch_over)) {
        uint64_t pause = fm_monitor_tick(&monitor);
        if (pause < UINT64_MAX && !atomic_load(&crew.monitor_asleep))
            continue;
        struct pollfd p = {crew.monitor_fd, POLLIN, 0};
        poll(&p, 1, -1); /* for ever: a missed one is found */
        fm_monitor_woken(&monitor);
    }
    atomic_store(&monitor_left, true);
    return NULL;
}

static void test_no_watch_is_missed(void **state)
{
    (void)state;
    static const struct fm_crew_ops now = {.flush = flush_now};
    struct fm_task t;
    uint64_t seed = new_seed();
    unsigned n;
    fm_task_init(&t);
    crew.ops = &now;
    hold(&crew.hands[0], &t);
    atomic_store(&holding, 0);
    atomic_store(&flushes, 0);
    atomic_store(&watch_over, false);
    atomic_store(&monitor_left, false);
    pthread_t thread = spawn(be_monitor, NULL);
    for (n = 0; n < ROUNDS(20000); n++) {
        atomic_store(&holding, 1);
        fm_crew_watch(&crew);
        WAIT_FOR(atomic_load(&flushes) == n + 1);
        for (uint64_t spin = rnd(&seed) % 20000; spin > 0; spin--) /* it needs some time to go to sleep */
            atomic_signal_fence(memory_order_seq_cst);
    }
    atomic_store(&watch_over, true);
    WAIT_FOR((fm_crew_watch(&crew), atomic_load(&monitor_left)));
    join(thread);
    fm_hand_release(&crew.hands[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sleeps_when_calm, start, finish),
        cmocka_unit_test_setup_teardown(test_watch_wakes_it_later, start, finish),
        cmocka_unit_test_setup_teardown(test_held_output_is_flushed, start, finish),
        cmocka_unit_test_setup_teardown(test_held_output_keeps_it_awake, start, finish),
        cmocka_unit_test_setup_teardown(test_held_output_is_not_put_off, start, finish),
        cmocka_unit_test_setup_teardown(test_looks_once_more_before_it_sleeps, start, finish),
        cmocka_unit_test_setup_teardown(test_released_is_not_looked_at, start, finish),
        cmocka_unit_test_setup_teardown(test_replaces_a_blocked_lookout, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_one_look_is_enough, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_ticks_faster_after_a_stall, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_a_lookout_that_moves_on_stays, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_waiting_for_the_gil, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_nobody_is_left_to_replace_it, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_a_stopped_crew_is_left_alone, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_a_computing_lookout_is_given_time, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_a_lookout_without_a_processor_stays, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_stays_awake_while_the_lookout_is_inline, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_no_watch_is_missed, start, finish),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

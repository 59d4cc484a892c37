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

static struct fm_sched sched;
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
    CHECK(ctx == &sched);
    flushed.task = task;
    flushed.calls++;
    flushed.since = since;
    return flushed.holds;
}

static const struct fm_sched_ops ops = {.flush = flush};

static int start(void **state)
{
    (void)state;
    memset(&flushed, 0, sizeof flushed);
    if (fm_sched_init(&sched, POOL, &ops, &sched) != 0)
        return -1;
    fm_monitor_init(&monitor, &sched);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    fm_sched_fini(&sched);
    return 0;
}

static bool woken(void)
{
    struct pollfd p = {sched.monitor_fd, POLLIN, 0};
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

/* At the first sight of calm a thread that has something to watch must say so; when none has for a while it is quiet.
 */
static void test_sleeps_when_calm(void **state)
{
    (void)state;
    assert_int_equal(sched.monitor_asleep, 0);
    assert_int_equal(fm_monitor_tick(&monitor), 64 * FM_MS);
    assert_int_equal(sched.monitor_asleep, 1);
    assert_true(fm_monitor_tick(&monitor) == UINT64_MAX);
    assert_true(fm_monitor_tick(&monitor) == UINT64_MAX);
    assert_int_equal(sched.monitor_asleep, 1);
    assert_false(woken());
    assert_int_equal(flushed.calls, 0); /* no thread holds anything */
}

/* Not at once: most steps are over by then. */
static void test_watch_wakes_it_later(void **state)
{
    (void)state;
    fm_sched_watch(&sched); /* it is awake */
    assert_false(woken());
    for (int i = 0; i < 3; i++) {
        tick_to_sleep();
        uint64_t before = fm_now();
        fm_sched_watch(&sched);
        assert_int_equal(sched.monitor_asleep, 0);
        WAIT_FOR(woken());
        assert_true(fm_now() - before >= FM_MS);
        fm_monitor_woken(&monitor);
        assert_false(woken());
        fm_sched_watch(&sched); /* told once */
        usleep(3000);
        assert_false(woken());
        assert_int_equal(fm_monitor_tick(&monitor), 64 * FM_MS); /* that was all: back to sleep */
    }
    fm_monitor_woken(&monitor); /* for nothing */
}

static void hold(struct fm_thread *h, struct fm_task *t)
{
    fm_thread_take(h, t);
    fm_thread_cork(h);
}

static void test_held_output_is_flushed(void **state)
{
    (void)state;
    struct fm_task t;
    fm_task_init(&t);
    for (unsigned i = 0; i <= POOL; i++) { /* whichever thread */
        flushed.calls = 0;
        flushed.task = NULL;
        hold(&sched.threads[i], &t);
        uint64_t before = fm_now();
        fm_monitor_tick(&monitor);
        uint64_t after = fm_now();
        unsigned calls = flushed.calls;
        assert_true(calls >= 1);
        assert_ptr_equal(flushed.task, &t);
        assert_true(flushed.since >= before - FM_MS && flushed.since <= after - FM_MS); /* held for a tick */
        fm_thread_release(&sched.threads[i]);
        atomic_store(&sched.monitor_asleep, 0);
        fm_monitor_tick(&monitor);
        assert_int_equal(flushed.calls, calls);
        atomic_store(&sched.monitor_asleep, 0);
    }
}

static void test_held_output_keeps_it_awake(void **state)
{
    (void)state;
    struct fm_task t;
    fm_task_init(&t);
    hold(&sched.threads[1], &t);
    flushed.holds = true;
    for (int i = 0; i < LONG_CALM; i++)
        assert_int_equal(fm_monitor_tick(&monitor), FM_MS);
    assert_int_equal(flushed.calls, LONG_CALM);
    flushed.holds = false; /* a step alone does not */
    tick_to_sleep();
    fm_thread_release(&sched.threads[1]);
}

/* The leader puts the monitor's timer off, but not where a response's output would have to wait for that. */
static void test_held_output_is_not_put_off(void **state)
{
    (void)state;
    struct fm_task t;
    fm_task_init(&t);
    tick_to_sleep();
    assert_int_equal(sched.may_postpone, 1);
    hold(&sched.threads[1], &t);
    assert_int_equal(sched.may_postpone, 0);
    flushed.holds = true;
    atomic_store(&sched.inline_since, fm_now() & ~(uint64_t)FM_FOR_GIL);
    sched.threads[0].tid = (int)syscall(SYS_gettid);
    atomic_store(&sched.inline_thread, &sched.threads[0]);
    for (int i = 0; i < 10; i++) {
        assert_true(fm_monitor_tick(&monitor) <= FM_MS);
        assert_int_equal(sched.may_postpone, 0);
    }
    flushed.holds = false;
    assert_int_equal(fm_monitor_tick(&monitor), 64 * FM_MS);
    assert_int_equal(sched.may_postpone, 1);
    fm_thread_release(&sched.threads[1]);
    atomic_store(&sched.inline_thread, NULL);
}

/* Held between its last look and its sleep. */
static bool hold_late(void *ctx, struct fm_task *task, uint64_t since)
{
    flush(ctx, task, since);
    return atomic_load(&sched.monitor_asleep); /* seen only after it has said that it sleeps */
}

static void test_looks_once_more_before_it_sleeps(void **state)
{
    (void)state;
    static const struct fm_sched_ops late = {.flush = hold_late};
    struct fm_task t;
    fm_task_init(&t);
    sched.ops = &late;
    hold(&sched.threads[0], &t);
    for (int i = 0; i < LONG_CALM; i++) {
        assert_int_equal(fm_monitor_tick(&monitor), FM_MS);
        assert_int_equal(sched.monitor_asleep, 0);
    }
    fm_thread_release(&sched.threads[0]);
    tick_to_sleep();
}

/* A step that gives its task away is not looked at any more once fm_thread_release has returned. */
struct releasing {
    struct fm_task *task;
    atomic_bool stop;
};

static atomic_uint released_looks;

static bool look_at(void *ctx, struct fm_task *task, uint64_t since)
{
    (void)ctx, (void)since;
    CHECK(task->queued_at == 1); /* the thread that releases changes it afterwards: the thread sanitizer looks, too */
    atomic_fetch_add(&released_looks, 1);
    return true;
}

static void *take_and_release(void *arg)
{
    struct releasing *r = arg;
    while (!atomic_load(&r->stop)) {
        r->task->queued_at = 1;
        hold(&sched.threads[0], r->task);
        sched_yield();
        fm_thread_release(&sched.threads[0]);
        r->task->queued_at = 2;
    }
    return NULL;
}

static void test_released_is_not_looked_at(void **state)
{
    (void)state;
    static const struct fm_sched_ops looks = {.flush = look_at};
    struct fm_task t;
    struct releasing r = {.task = &t};
    fm_task_init(&t);
    sched.ops = &looks;
    atomic_store(&released_looks, 0);
    pthread_t thread = spawn(take_and_release, &r);
    for (int i = 0; i < ROUNDS(50000); i++)
        fm_monitor_tick(&monitor);
    WAIT_FOR((fm_monitor_tick(&monitor), atomic_load(&released_looks) > 100));
    atomic_store(&r.stop, true);
    join(thread);
}

/* ---- whom it replaces ---- */

struct leader {
    atomic_int tid;
    atomic_bool computes, is_at_it, stop;
    pthread_t thread;
};

static void *be_leader(void *arg)
{
    struct leader *me = arg;
    atomic_store(&me->tid, (int)syscall(SYS_gettid));
    while (!atomic_load(&me->stop))
        if (atomic_load(&me->computes))
            atomic_store(&me->is_at_it, true);
        else
            usleep(1000);
    return NULL;
}

static struct leader leader;

static uint64_t stalls(void)
{
    struct fm_counters_sum sum;
    fm_counters_read(&sum);
    return sum.cell[FM_C_STALLS];
}

/* As the leader does it. */
static void begin_step(void)
{
    atomic_store(&sched.inline_since, fm_now() & ~(uint64_t)FM_FOR_GIL);
    atomic_store(&sched.inline_thread, &sched.threads[0]);
}

/* Hand 0 is the leader, inline; the others sleep. */
static int start_inline(void **state)
{
    if (start(state) != 0)
        return -1;
    atomic_store(&leader.tid, 0);
    atomic_store(&leader.stop, false);
    atomic_store(&leader.computes, false);
    atomic_store(&leader.is_at_it, false);
    leader.thread = spawn(be_leader, &leader);
    WAIT_FOR(atomic_load(&leader.tid));
    sched.threads[0].tid = atomic_load(&leader.tid);
    sched.leader = &sched.threads[0];
    sched.idle = &sched.threads[1];
    sched.threads[1].next_idle = &sched.threads[2];
    sched.running = 1;
    begin_step();
    return 0;
}

static int finish_inline(void **state)
{
    atomic_store(&leader.stop, true);
    join(leader.thread);
    return finish(state);
}

static void ticks(int n)
{
    for (int i = 0; i < n; i++) {
        fm_monitor_tick(&monitor);
        usleep(500);
    }
}

static void test_replaces_a_blocked_leader(void **state)
{
    (void)state;
    uint64_t before = stalls(), began = atomic_load(&sched.inline_since);
    fm_monitor_tick(&monitor);
    assert_ptr_equal(sched.leader, &sched.threads[0]); /* not yet */
    WAIT_FOR(woken());                                 /* when it has run for so long */
    assert_true(fm_now() - began >= FM_MS);
    WAIT_FOR((fm_monitor_tick(&monitor), sched.leader != &sched.threads[0]));
    assert_true(fm_now() - began >= FM_MS);
    assert_ptr_equal(sched.leader, &sched.threads[1]);
    assert_int_equal(sched.threads[1].order, FM_ORDER_LEADER);
    assert_ptr_equal(sched.idle, &sched.threads[2]);
    assert_null(atomic_load(&sched.inline_thread));
    assert_int_equal(sched.budget, 64);
    assert_int_equal(stalls(), before + 1);
    ticks(20); /* the new one polls */
    assert_ptr_equal(sched.leader, &sched.threads[1]);
    assert_int_equal(stalls(), before + 1);
}

/* A step that it sees for the first time when it is late already. */
static void test_one_look_is_enough(void **state)
{
    (void)state;
    usleep(2000);
    for (int i = 0; i < 200 && sched.leader == &sched.threads[0]; i++) {
        begin_step(); /* another: whatever was seen of the last one does not count */
        usleep(2000);
        fm_monitor_tick(&monitor); /* in vain where it finds the thread between two sleeps */
    }
    assert_ptr_equal(sched.leader, &sched.threads[1]);
}

static void test_ticks_faster_after_a_stall(void **state)
{
    (void)state;
    WAIT_FOR((fm_monitor_tick(&monitor), sched.leader != &sched.threads[0]));
    assert_int_equal(atomic_load(&sched.watch_after), FM_MS / 4);
    uint64_t began = fm_now(), fast = 0;
    sched.leader = &sched.threads[0];
    WAIT_FOR((begin_step(), fast++, fm_monitor_tick(&monitor), atomic_load(&sched.watch_after) == FM_MS));
    assert_true(fast > 0 && fm_now() - began >= 50 * FM_MS);
}

static void test_a_leader_that_moves_on_stays(void **state)
{
    (void)state;
    sched.idle = NULL; /* so that nothing changes where this machine is slow */
    for (int i = 0; i < 30; i++) {
        begin_step();
        uint64_t began = fm_now();
        fm_monitor_tick(&monitor);
        WAIT_FOR(woken()); /* when that step is late */
        assert_true(fm_now() - began >= FM_MS / 2);
        fm_monitor_woken(&monitor);
    }
    sched.idle = &sched.threads[1];
    atomic_store(&sched.inline_thread, NULL); /* it polls */
    ticks(30);
    assert_ptr_equal(sched.leader, &sched.threads[0]);
}

/* Others have the GIL, and will give it up: that is no stall.  If they do not, another thread must at least poll. */
static void test_waiting_for_the_gil(void **state)
{
    (void)state;
    uint64_t before = stalls(), began = fm_now() | FM_FOR_GIL;
    atomic_store(&sched.inline_since, began);
    WAIT_FOR((fm_monitor_tick(&monitor), sched.leader != &sched.threads[0]));
    assert_true(fm_now() - began >= 10 * FM_MS);
    assert_int_equal(sched.budget, 0); /* nothing is handed off */
    assert_int_equal(stalls(), before + 1);
}

static void test_nobody_is_left_to_replace_it(void **state)
{
    (void)state;
    uint64_t before = stalls();
    sched.idle = NULL;
    ticks(20);
    assert_ptr_equal(sched.leader, &sched.threads[0]);
    assert_ptr_equal(atomic_load(&sched.inline_thread), &sched.threads[0]);
    assert_int_equal(sched.budget, 0);
    assert_int_equal(stalls(), before);
    sched.idle = &sched.threads[2]; /* one comes back */
    WAIT_FOR((fm_monitor_tick(&monitor), sched.leader == &sched.threads[2]));
    assert_null(sched.idle);
}

static void test_a_stopped_scheduler_is_left_alone(void **state)
{
    (void)state;
    sched.stop = true;
    ticks(20);
    assert_ptr_equal(sched.leader, &sched.threads[0]);
}

/* A thread that computes will give the GIL up after the switch interval; handing over earlier gains nothing. */
static void test_a_computing_leader_is_given_time(void **state)
{
    (void)state;
    atomic_store(&leader.computes, true);
    WAIT_FOR(atomic_load(&leader.is_at_it));
    fm_monitor_tick(&monitor);
    uint64_t used = fm_tid_used(sched.threads[0].tid);
    WAIT_FOR((usleep(100), fm_monitor_tick(&monitor), sched.leader != &sched.threads[0]));
    assert_true(fm_tid_used(sched.threads[0].tid) - used >= 4 * FM_MS);
}

/* It is runnable and has no processor, because another thread has: it does not count how long that takes.  Where other
 * programs take the neighbour's share, the leader may have computed for long enough to be replaced, which is right
 * then; and where it has had the processor all the time, nothing was shown, and it is tried again. */
static void test_a_leader_without_a_processor_stays(void **state)
{
    (void)state;
    struct neighbour neighbour;
    give_neighbour(&neighbour, sched.threads[0].tid);
    setpriority(PRIO_PROCESS, (id_t)sched.threads[0].tid, 19); /* it gets next to nothing */
    atomic_store(&leader.computes, true);
    WAIT_FOR(atomic_load(&leader.is_at_it));
    bool shown = false;
    for (int round = 0; round < 50 && !shown && sched.leader == &sched.threads[0]; round++) {
        uint64_t used = fm_tid_used(sched.threads[0].tid), began = fm_now();
        begin_step();
        while (fm_now() - began < 200 * FM_MS && fm_tid_used(sched.threads[0].tid) - used < 4 * FM_MS) {
            fm_monitor_tick(&monitor);
            if (sched.leader != &sched.threads[0]) {
                assert_true(fm_tid_used(sched.threads[0].tid) - used >= 4 * FM_MS);
                break;
            }
            usleep(500);
        }
        shown = fm_now() - began > 20 * FM_MS; /* it did have to wait */
    }
    assert_true(shown || sched.leader != &sched.threads[0]);
    end_neighbour(&neighbour);
}

static void test_stays_awake_while_the_leader_is_inline(void **state)
{
    (void)state;
    sched.idle = NULL;
    for (int i = 0; i < LONG_CALM; i++)
        assert_int_not_equal(fm_monitor_tick(&monitor), UINT64_MAX);
    atomic_store(&sched.inline_thread, NULL);
    tick_to_sleep();
    begin_step();
    fm_sched_watch(&sched);
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
        if (pause < UINT64_MAX && !atomic_load(&sched.monitor_asleep))
            continue;
        struct pollfd p = {sched.monitor_fd, POLLIN, 0};
        poll(&p, 1, -1); /* for ever: a missed one is found */
        fm_monitor_woken(&monitor);
    }
    atomic_store(&monitor_left, true);
    return NULL;
}

static void test_no_watch_is_missed(void **state)
{
    (void)state;
    static const struct fm_sched_ops now = {.flush = flush_now};
    struct fm_task t;
    uint64_t seed = new_seed();
    unsigned n;
    fm_task_init(&t);
    sched.ops = &now;
    hold(&sched.threads[0], &t);
    atomic_store(&holding, 0);
    atomic_store(&flushes, 0);
    atomic_store(&watch_over, false);
    atomic_store(&monitor_left, false);
    pthread_t thread = spawn(be_monitor, NULL);
    for (n = 0; n < ROUNDS(20000); n++) {
        atomic_store(&holding, 1);
        fm_sched_watch(&sched);
        WAIT_FOR(atomic_load(&flushes) == n + 1);
        for (uint64_t spin = rnd(&seed) % 20000; spin > 0; spin--) /* it needs some time to go to sleep */
            atomic_signal_fence(memory_order_seq_cst);
    }
    atomic_store(&watch_over, true);
    WAIT_FOR((fm_sched_watch(&sched), atomic_load(&monitor_left)));
    join(thread);
    fm_thread_release(&sched.threads[0]);
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
        cmocka_unit_test_setup_teardown(test_replaces_a_blocked_leader, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_one_look_is_enough, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_ticks_faster_after_a_stall, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_a_leader_that_moves_on_stays, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_waiting_for_the_gil, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_nobody_is_left_to_replace_it, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_a_stopped_scheduler_is_left_alone, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_a_computing_leader_is_given_time, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_a_leader_without_a_processor_stays, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_stays_awake_while_the_leader_is_inline, start_inline, finish_inline),
        cmocka_unit_test_setup_teardown(test_no_watch_is_missed, start, finish),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Which steps of the leader count as waiting: short ones that sleep do; those that compute do not, nor those that are
 * kept from the processor, nor those during which no request waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../util/threads_on_one.h"
#include "fermata/sched/waits.h"
#include "fermata/util/thread_time.h"

enum { LONG = 400 };

static struct fm_waits waits;
static unsigned others;
static bool wanted;

static int start(void **state)
{
    (void)state;
    waits = (struct fm_waits){.tid = (int)syscall(SYS_gettid)};
    others = 0;
    wanted = true;
    return 0;
}

static void doze(void) { usleep(200); }

static void compute(void)
{
    uint64_t used = fm_tid_used(waits.tid);
    while (fm_tid_used(waits.tid) - used < FM_MS / 5)
        ;
}

static void compute_for_long(void)
{
    for (int i = 0; i < 100; i++)
        compute();
}

static bool one(void (*body)(void))
{
    uint64_t began = fm_now();
    body();
    uint64_t now = fm_now();
    return fm_waits_step(&waits, now - began, now, wanted, others);
}

/* How many steps it took until they were found to wait; 0 if they never were. */
static unsigned steps(void (*body)(void), unsigned most)
{
    for (unsigned n = 1; n <= most; n++)
        if (one(body))
            return n;
    return 0;
}

static void test_short_waits_are_found(void **state)
{
    (void)state;
    unsigned n = steps(doze, LONG);
    assert_true(n >= 2 && n < LONG / 4); /* a few windows of a millisecond */
    /* When what was handed off is over, it is looked at again at once. */
    fm_waits_enter(&waits, fm_now(), others);
    n = steps(doze, LONG);
    assert_true(n >= 2 && n < LONG / 4);
}

static void test_computing_is_no_waiting(void **state)
{
    (void)state;
    assert_int_equal(steps(compute, LONG), 0);
}

/* Without a GIL it pays to run them side by side, if they last and others are kept waiting. */
static void compute_shortly(void)
{
    uint64_t used = fm_tid_used(waits.tid);
    while (fm_tid_used(waits.tid) - used < FM_MS / 100)
        ;
}

static void test_computing_counts_in_parallel(void **state)
{
    (void)state;
    waits.parallel = true;
    unsigned n = steps(compute, LONG);
    assert_true(n >= 2 && n < LONG / 4);
    start(NULL);
    waits.parallel = true;
    others = 0;
    assert_int_not_equal(steps(doze, LONG), 0);
    start(NULL);
    waits.parallel = true;
    compute(); /* what begins a window */
    assert_int_equal(steps(compute_shortly, LONG), 0);
    start(NULL);
    waits.parallel = true;
    wanted = false;
    assert_int_equal(steps(compute, LONG), 0);
}

static void test_nor_is_being_without_a_processor(void **state)
{
    (void)state;
    struct neighbour n;
    cpu_set_t all;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    give_neighbour(&n, waits.tid);
    uint64_t delayed = fm_tid_delayed(waits.tid);
    assert_int_equal(steps(compute, LONG), 0);
    assert_int_equal(steps(compute_for_long, 10), 0);
    assert_true(fm_tid_delayed(waits.tid) > delayed);
    end_neighbour(&n);
    sched_setaffinity(0, sizeof all, &all);
}

static void test_nor_where_no_request_waits(void **state)
{
    (void)state;
    wanted = false;
    assert_int_equal(steps(doze, LONG), 0);
}

/* What other threads do to the GIL would look the same. */
static void test_not_while_others_come_and_go(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LONG; i++) {
        others += i % 2;
        assert_false(one(doze));
    }
    assert_int_not_equal(steps(doze, LONG), 0); /* now they are all in long steps */
}

/* The time between two batches, in which the leader polls and sleeps, is no step's. */
static void test_polling_is_no_waiting(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LONG; i++) {
        fm_waits_enter(&waits, fm_now(), others);
        assert_false(one(compute));
        fm_waits_leave(&waits, fm_now());
        usleep(200);
    }
}

/* Two clients in turn: none is ever queued while a step runs, but there is always one when the leader polls. */
static void test_polling_that_finds_more_at_once(void **state)
{
    (void)state;
    unsigned found = 0;
    wanted = false;
    for (unsigned i = 0; i < LONG && !found; i++) {
        fm_waits_enter(&waits, fm_now(), others);
        found = one(doze);
        fm_waits_leave(&waits, fm_now());
    }
    assert_int_equal(found, 1);
    start(NULL);
    wanted = false;
    for (unsigned i = 0; i < LONG; i++) { /* one client, which must be waited for */
        fm_waits_enter(&waits, fm_now(), others);
        assert_false(one(doze));
        fm_waits_leave(&waits, fm_now());
        usleep(50);
    }
}

static void test_quick_steps_cost_nothing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        fm_waits_enter(&waits, fm_now(), others);
        assert_false(fm_waits_step(&waits, FM_MS / 20, fm_now(), true, others));
        fm_waits_leave(&waits, fm_now());
        assert_int_equal(waits.phase, FM_WAITS_OFF);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_short_waits_are_found, start),
        cmocka_unit_test_setup(test_computing_is_no_waiting, start),
        cmocka_unit_test_setup(test_computing_counts_in_parallel, start),
        cmocka_unit_test_setup(test_nor_is_being_without_a_processor, start),
        cmocka_unit_test_setup(test_nor_where_no_request_waits, start),
        cmocka_unit_test_setup(test_not_while_others_come_and_go, start),
        cmocka_unit_test_setup(test_polling_is_no_waiting, start),
        cmocka_unit_test_setup(test_polling_that_finds_more_at_once, start),
        cmocka_unit_test_setup(test_quick_steps_cost_nothing, start),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

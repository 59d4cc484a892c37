/* A thread's processor time, its time without a processor, and its state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fermata/util/thread_time.h"
#include "threads_on_one.h"

static int me(void) { return (int)syscall(SYS_gettid); }

static void compute(uint64_t ns)
{
    for (uint64_t end = fm_now() + ns; fm_now() < end;)
        ;
}

static void test_used(void **state)
{
    (void)state;
    uint64_t used = fm_tid_used(me());
    assert_true(used > 0);
    usleep(20000);
    assert_true(fm_tid_used(me()) - used < 15 * FM_MS);
    used = fm_tid_used(me());
    WAIT_FOR((compute(FM_MS), fm_tid_used(me()) - used > 5 * FM_MS));
}

static void test_delayed(void **state)
{
    (void)state;
    struct neighbour n;
    uint64_t before;
    WAIT_FOR((before = fm_tid_delayed(me()), usleep(20000), fm_tid_delayed(me()) - before < 15 * FM_MS)); /* no delay */
    pid_t tid = me();
    cpu_set_t all;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    give_neighbour(&n, tid);
    bool all_told = false;
    for (int round = 0; !all_told; round++) { /* other programs may come between two looks */
        assert_true(round < 20);
        uint64_t began = fm_now(), used = fm_tid_used(tid);
        before = fm_tid_delayed(tid);
        WAIT_FOR((compute(FM_MS), fm_tid_delayed(tid) - before > 20 * FM_MS));
        uint64_t delayed = fm_tid_delayed(tid) - before;
        used = fm_tid_used(tid) - used;
        uint64_t wall = fm_now() - began;
        assert_true(used + delayed <= wall + 5 * FM_MS);           /* they are parts of it */
        all_told = used + delayed + 15 * FM_MS + wall / 4 >= wall; /* and there is no other */
    }
    end_neighbour(&n);
    sched_setaffinity(0, sizeof all, &all);
}

static void *sleep_long(void *arg)
{
    struct neighbour *n = arg;
    atomic_store(&n->tid, me());
    while (!atomic_load(&n->stop))
        usleep(10000);
    return NULL;
}

static void test_state(void **state)
{
    (void)state;
    struct neighbour n = {.tid = 0};
    n.thread = spawn(sleep_long, &n);
    WAIT_FOR(atomic_load(&n.tid));
    WAIT_FOR(fm_tid_state(atomic_load(&n.tid)) == FM_TID_BLOCKED);
    assert_int_equal(fm_tid_state(me()), FM_TID_RUNNABLE);
    end_neighbour(&n);
}

static void test_of_nobody(void **state)
{
    (void)state;
    int tid = 1; /* not of this process */
    assert_int_equal(fm_tid_used(tid), 0);
    assert_int_equal(fm_tid_delayed(tid), 0);
    assert_int_equal(fm_tid_state(tid), FM_TID_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_used),
        cmocka_unit_test(test_delayed),
        cmocka_unit_test(test_state),
        cmocka_unit_test(test_of_nobody),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

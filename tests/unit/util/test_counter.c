/* Counters: own blocks, the shared one, gauges that wrap around, histograms, and sums while many threads write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "fermata/util/counter.h"
#include "threads.h"

static uint64_t value(enum fm_counter id)
{
    struct fm_counters_sum sum;
    fm_counters_read(&sum);
    return sum.cell[id];
}

static void test_unattached(void **state)
{
    (void)state;
    struct fm_counters_sum before, after;
    fm_counters_read(&before);
    fm_count(FM_C_PARKS);
    fm_count_add(FM_C_PARKS, 10);
    fm_count_refused(0);
    fm_count_refused(FM_REFUSAL_CELLS - 1);
    fm_count_refused(FM_REFUSAL_CELLS); /* no such cell: ignored */
    fm_count_refused(UINT32_MAX);
    fm_counters_read(&after);
    assert_int_equal(after.cell[FM_C_PARKS] - before.cell[FM_C_PARKS], 11);
    assert_int_equal(after.refused[0] - before.refused[0], 1);
    assert_int_equal(after.refused[FM_REFUSAL_CELLS - 1] - before.refused[FM_REFUSAL_CELLS - 1], 1);
    after.cell[FM_C_PARKS] -= 11;
    after.refused[0]--;
    after.refused[FM_REFUSAL_CELLS - 1]--;
    assert_memory_equal(&before, &after, sizeof before); /* and nothing else */
}

static void *count_in_own_block(void *arg)
{
    (void)arg;
    fm_counters_attach();
    fm_count_add(FM_C_STALLS, 3);
    fm_count_refused(7);
    fm_observe(FM_HG_STEP, 1);
    return NULL;
}

static void test_own_block_outlives_its_thread(void **state)
{
    (void)state;
    struct fm_counters_sum before, after;
    fm_counters_read(&before);
    join(spawn(count_in_own_block, NULL));
    fm_counters_read(&after);
    assert_int_equal(after.cell[FM_C_STALLS] - before.cell[FM_C_STALLS], 3);
    assert_int_equal(after.refused[7] - before.refused[7], 1);
    assert_int_equal(after.hist[FM_HG_STEP].bucket[0] - before.hist[FM_HG_STEP].bucket[0], 1);
    assert_int_equal(after.hist[FM_HG_STEP].sum - before.hist[FM_HG_STEP].sum, 1);
}

/* Up in one block, down in another: each wraps, the sum is right. */
static void *gauge_down(void *arg)
{
    if (arg)
        fm_counters_attach();
    for (int i = 0; i < 5; i++)
        fm_count_add(FM_C_CONNS, (uint64_t)-1);
    fm_gauge_move(FM_C_IN_QUEUED, FM_C_IN_RUNNING);
    return NULL;
}

static void test_gauges_wrap_around(void **state)
{
    (void)state;
    uint64_t conns = value(FM_C_CONNS), queued = value(FM_C_IN_QUEUED), running = value(FM_C_IN_RUNNING);
    join(spawn(gauge_down, state)); /* below zero first */
    join(spawn(gauge_down, NULL));
    assert_int_equal((int64_t)(value(FM_C_CONNS) - conns), -10);
    fm_count_add(FM_C_CONNS, 12);
    assert_int_equal(value(FM_C_CONNS) - conns, 2);
    assert_int_equal((int64_t)(value(FM_C_IN_QUEUED) - queued), -2);
    assert_int_equal(value(FM_C_IN_RUNNING) - running, 2);
    fm_count_add(FM_C_IN_QUEUED, 2);
    assert_int_equal(value(FM_C_IN_QUEUED), queued);
}

/* le: a value that equals a bound lies in its bucket. */
static void test_histogram(void **state)
{
    (void)state;
    struct fm_counters_sum before, after;
    const struct fm_bounds *bounds = &fm_bounds[FM_HG_PARKED];
    assert_int_equal(bounds->n, FM_BUCKETS - 1); /* it has the most */
    for (unsigned b = 0; b < bounds->n; b++) {
        uint64_t bound = bounds->at[b];
        if (b > 0)
            assert_true(bound > bounds->at[b - 1]);
        const struct {
            uint64_t ns;
            unsigned bucket;
        } cases[] = {{bound - 1, b}, {bound, b}, {bound + 1, b + 1}};
        for (size_t i = 0; i < 3; i++) {
            fm_counters_read(&before);
            fm_observe(FM_HG_PARKED, cases[i].ns);
            fm_counters_read(&after);
            for (unsigned k = 0; k < FM_BUCKETS; k++)
                assert_int_equal(after.hist[FM_HG_PARKED].bucket[k] - before.hist[FM_HG_PARKED].bucket[k],
                                 k == cases[i].bucket);
            assert_int_equal(after.hist[FM_HG_PARKED].sum - before.hist[FM_HG_PARKED].sum, cases[i].ns);
        }
    }
    fm_counters_read(&before);
    fm_observe(FM_HG_PARKED, 0);
    fm_observe(FM_HG_PARKED, 3600 * FM_SEC);
    fm_counters_read(&after);
    assert_int_equal(after.hist[FM_HG_PARKED].bucket[0] - before.hist[FM_HG_PARKED].bucket[0], 1);
    assert_int_equal(after.hist[FM_HG_PARKED].bucket[FM_BUCKETS - 1] - before.hist[FM_HG_PARKED].bucket[FM_BUCKETS - 1],
                     1);
}

/* ---- many threads ---- */

enum { THREADS = 8 };
static const unsigned each = ROUNDS(200000);
static atomic_int writing;

static void *write_many(void *arg)
{
    unsigned who = *(unsigned *)arg;
    if (who % 2) /* half of them are foreign threads */
        fm_counters_attach();
    for (unsigned i = 0; i < each; i++) {
        fm_count(FM_C_REQ_2XX);
        fm_count_add(FM_C_BYTES_OUT, i);
        fm_count_add(FM_C_CONNS, who < THREADS / 2 ? 1 : (uint64_t)-1);
        fm_observe(FM_HG_REQUEST, i % 2 ? 1 : 400 * FM_SEC);
        fm_count_refused(i % 3);
    }
    atomic_fetch_sub(&writing, 1);
    return NULL;
}

static void test_sums_of_many_threads(void **state)
{
    (void)state;
    struct fm_counters_sum before, last, now;
    pthread_t threads[THREADS];
    unsigned who[THREADS];
    fm_counters_read(&before);
    last = before;
    atomic_store(&writing, THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        who[i] = i;
        threads[i] = spawn(write_many, &who[i]);
    }
    while (atomic_load(&writing) > 0) { /* what only grows never seems to shrink */
        fm_counters_read(&now);
        assert_true(now.cell[FM_C_REQ_2XX] >= last.cell[FM_C_REQ_2XX]);
        assert_true(now.cell[FM_C_REQ_2XX] - before.cell[FM_C_REQ_2XX] <= (uint64_t)THREADS * each);
        assert_true(now.hist[FM_HG_REQUEST].bucket[0] >= last.hist[FM_HG_REQUEST].bucket[0]);
        assert_true(now.hist[FM_HG_REQUEST].sum >= last.hist[FM_HG_REQUEST].sum);
        last = now;
    }
    for (unsigned i = 0; i < THREADS; i++)
        join(threads[i]);
    fm_counters_read(&now);
    assert_int_equal(now.cell[FM_C_REQ_2XX] - before.cell[FM_C_REQ_2XX], THREADS * each);
    assert_int_equal(now.cell[FM_C_BYTES_OUT] - before.cell[FM_C_BYTES_OUT], (uint64_t)THREADS * each * (each - 1) / 2);
    assert_int_equal(now.cell[FM_C_CONNS], before.cell[FM_C_CONNS]);
    assert_int_equal(now.hist[FM_HG_REQUEST].bucket[0] - before.hist[FM_HG_REQUEST].bucket[0], THREADS * each / 2);
    unsigned most = fm_bounds[FM_HG_REQUEST].n; /* +Inf */
    assert_int_equal(now.hist[FM_HG_REQUEST].bucket[most] - before.hist[FM_HG_REQUEST].bucket[most],
                     THREADS * each / 2);
    assert_int_equal(now.hist[FM_HG_REQUEST].sum - before.hist[FM_HG_REQUEST].sum,
                     (uint64_t)THREADS * each / 2 * (1 + 400 * FM_SEC));
    uint64_t refused = 0;
    for (unsigned i = 0; i < 3; i++)
        refused += now.refused[i] - before.refused[i];
    assert_int_equal(refused, THREADS * each);
}

static void *park_two(void *arg)
{
    fm_counters_attach();
    fm_count(FM_C_IN_PARKED_FUTURE);
    fm_count(FM_C_IN_PARKED_CLIENT);
    return arg;
}

/* In whichever blocks they are counted; a moment in which one has gone and not come is no number. */
static void test_parked(void **state)
{
    (void)state;
    assert_int_equal(fm_counters_parked(), 0);
    join(spawn(park_two, NULL));
    assert_int_equal(fm_counters_parked(), 2);
    fm_count_add(FM_C_IN_PARKED_FUTURE, (uint64_t)-3);
    assert_int_equal(fm_counters_parked(), 0);
    fm_count_add(FM_C_IN_PARKED_FUTURE, 1);
    assert_int_equal(fm_counters_parked(), 0);
    assert_int_equal(fm_counters_layout(), fm_counters_layout());
}

static void *attach_a_thousand_times(void *arg)
{
    (void)arg;
    for (int i = 0; i < 1000; i++) {
        fm_counters_attach();
        fm_count(FM_C_APP_ERRORS); /* each block counts, the left ones too */
    }
    return NULL;
}

/* Past the last block the shared one serves.  Last, because blocks are not given back. */
static void test_more_threads_than_blocks(void **state)
{
    (void)state;
    uint64_t before = value(FM_C_APP_ERRORS);
    for (int i = 0; i < 5; i++)
        join(spawn(attach_a_thousand_times, NULL));
    assert_int_equal(value(FM_C_APP_ERRORS) - before, 5000);
    before = value(FM_C_STALLS);
    join(spawn(count_in_own_block, NULL));
    assert_int_equal(value(FM_C_STALLS) - before, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unattached),
        cmocka_unit_test(test_own_block_outlives_its_thread),
        cmocka_unit_test(test_gauges_wrap_around),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_sums_of_many_threads),
        cmocka_unit_test(test_parked),
        cmocka_unit_test(test_more_threads_than_blocks),
    };
    no_longer_than(300);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

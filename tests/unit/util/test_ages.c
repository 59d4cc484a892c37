/* The oldest in a state: against a list of all that are in it, over ages from an eighth of a second to weeks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "fermata/util/ages.h"
#include "fermata/util/clock.h"
#include "threads.h"

#define DAY (24 * 3600 * FM_SEC)
#define CELL (1ull << 27)

static struct fm_ages mine, others;

static uint64_t oldest(enum fm_age state, uint64_t now)
{
    struct fm_ages_sum sum = {.queued_since = 0};
    fm_ages_sum(&sum, &mine);
    fm_ages_sum(&sum, &others);
    return fm_ages_oldest(&sum, state, now);
}

static int clear(void **state)
{
    (void)state;
    memset(&mine, 0, sizeof mine);
    memset(&others, 0, sizeof others);
    return 0;
}

/* Rounded up: by a sixth of itself at most, or by a cell. */
static void check(uint64_t told, uint64_t real)
{
    assert_true(told >= real);
    assert_true(told <= real + (real / 6 > CELL ? real / 6 : CELL) + 1);
}

static void test_none(void **state)
{
    (void)state;
    assert_int_equal(oldest(FM_AGE_PARKED_FUTURE, 0), 0);
    assert_int_equal(oldest(FM_AGE_PARKED_FUTURE, 100 * DAY), 0);
    assert_int_equal(oldest(FM_AGE_SENDING, 12345), 0);
}

/* One that stays, looked at again and again. */
static void test_one_grows_old(void **state)
{
    (void)state;
    for (uint64_t since = 5 * DAY; since < 5 * DAY + 20 * CELL; since += CELL / 3) {
        fm_ages_add(&mine, FM_AGE_PARKED_CLIENT, since, 1, true);
        for (uint64_t age = 0; age < 25 * DAY; age += age / 13 + FM_SEC / 50)
            check(oldest(FM_AGE_PARKED_CLIENT, since + age), age);
        assert_int_equal(oldest(FM_AGE_PARKED_FUTURE, since + FM_SEC), 0);
        fm_ages_add(&mine, FM_AGE_PARKED_CLIENT, since, (uint32_t)-1, true);
        assert_int_equal(oldest(FM_AGE_PARKED_CLIENT, since + FM_SEC), 0);
    }
}

/* One that has just come is not none, wherever in a cell the clock stands. */
static void test_no_age_is_not_none(void **state)
{
    (void)state;
    for (uint64_t since = 1000 * CELL; since <= 1001 * CELL; since += CELL / 4) {
        fm_ages_add(&mine, FM_AGE_SENDING, since, 1, true);
        assert_true(oldest(FM_AGE_SENDING, since) > 0);
        fm_ages_add(&mine, FM_AGE_SENDING, since, (uint32_t)-1, true);
    }
}

enum { MANY = 300 };

/* They come and go, in one block and out of another. */
static void test_many(void **state)
{
    (void)state;
    uint64_t seed = 7, now = 30 * DAY, in[MANY] = {0};
    for (int i = 0; i < ROUNDS(20000); i++) {
        unsigned k = (unsigned)(rnd(&seed) % MANY);
        struct fm_ages *block = rnd(&seed) % 2 ? &mine : &others;
        now += rnd(&seed) % (rnd(&seed) % 100 == 0 ? 600 * FM_SEC : FM_SEC);
        if (in[k] != 0)
            fm_ages_add(block, FM_AGE_PARKED_FUTURE, in[k], (uint32_t)-1, block == &mine);
        in[k] = rnd(&seed) % 3 ? now : 0;
        if (in[k] != 0)
            fm_ages_add(block, FM_AGE_PARKED_FUTURE, in[k], 1, block == &mine);
        uint64_t first = UINT64_MAX;
        for (unsigned n = 0; n < MANY; n++)
            if (in[n] != 0 && in[n] < first)
                first = in[n];
        if (first == UINT64_MAX)
            assert_int_equal(oldest(FM_AGE_PARKED_FUTURE, now), 0);
        else if (now - first < 25 * DAY)
            check(oldest(FM_AGE_PARKED_FUTURE, now), now - first);
    }
}

/* It has left in one block and not yet entered in the other: that is none, and hides no other one. */
static void test_less_than_none(void **state)
{
    (void)state;
    uint64_t now = 3 * DAY;
    fm_ages_add(&others, FM_AGE_SENDING, now - 100 * FM_SEC, (uint32_t)-1, false);
    assert_int_equal(oldest(FM_AGE_SENDING, now), 0);
    fm_ages_add(&mine, FM_AGE_SENDING, now - 10 * FM_SEC, 1, true);
    check(oldest(FM_AGE_SENDING, now), 10 * FM_SEC);
}

/* It enters after the clock was read and before the sum was taken. */
static void test_younger_than_now(void **state)
{
    (void)state;
    for (uint64_t now = 2 * DAY; now < 2 * DAY + 70 * CELL; now += CELL / 2) {
        clear(state);
        fm_ages_add(&mine, FM_AGE_SENDING, now + CELL / 2, 1, true);
        assert_true(oldest(FM_AGE_SENDING, now) <= CELL);
    }
}

static void test_steps(void **state)
{
    (void)state;
    struct fm_ages_sum sum = {.queued_since = 0};
    atomic_store(&mine.step_since, 20);
    atomic_store(&others.step_since, 12);
    atomic_store(&others.queued_since, 5);
    fm_ages_sum(&sum, &mine);
    fm_ages_sum(&sum, &others);
    assert_int_equal(sum.step_since, 12);
    assert_int_equal(sum.steps, 2);
    assert_int_equal(sum.steps_since, 32);
    assert_int_equal(sum.queued_since, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_none, clear),
        cmocka_unit_test_setup(test_one_grows_old, clear),
        cmocka_unit_test_setup(test_no_age_is_not_none, clear),
        cmocka_unit_test_setup(test_many, clear),
        cmocka_unit_test_setup(test_less_than_none, clear),
        cmocka_unit_test_setup(test_younger_than_now, clear),
        cmocka_unit_test_setup(test_steps, clear),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Whether a worker's loop turns: asked only where it matters, and judged only by who came in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fermata/arbiter/vigil.h"
#include "fermata/util/clock.h"

#define PATIENCE (30 * FM_SEC)

static struct fm_vigil v;

static enum fm_verdict look(uint64_t turns, bool matters, uint64_t now)
{
    return fm_vigil_look(&v, 101, turns, matters, PATIENCE, now);
}

static int begin(void **state)
{
    (void)state;
    v = (struct fm_vigil){0};
    assert_int_equal(look(7, true, FM_SEC), FM_VERDICT_IDLE); /* the first look has nothing to compare with */
    return 0;
}

static void test_it_turns(void **state)
{
    (void)state;
    for (uint64_t i = 8; i < 100; i++)
        assert_int_equal(look(i, true, i * PATIENCE), FM_VERDICT_TURNS);
}

/* An idle worker is never woken. */
static void test_idle_is_not_asked(void **state)
{
    (void)state;
    for (uint64_t i = 2; i < 100; i++)
        assert_int_equal(look(7, false, i * PATIENCE), FM_VERDICT_IDLE);
}

static void test_silent(void **state)
{
    (void)state;
    assert_int_equal(look(7, true, 10 * FM_SEC), FM_VERDICT_ASK);
    assert_int_equal(look(7, true, 11 * FM_SEC), FM_VERDICT_WAIT); /* once */
    assert_int_equal(look(7, false, 10 * FM_SEC + PATIENCE - 1), FM_VERDICT_WAIT);
    assert_int_equal(look(7, false, 10 * FM_SEC + PATIENCE), FM_VERDICT_SILENT); /* its client may have given up */
}

static void test_it_answers(void **state)
{
    (void)state;
    assert_int_equal(look(7, true, 10 * FM_SEC), FM_VERDICT_ASK);
    assert_int_equal(look(8, true, 11 * FM_SEC), FM_VERDICT_TURNS);
    assert_int_equal(look(8, false, 100 * FM_SEC), FM_VERDICT_IDLE);
    assert_int_equal(look(8, true, 200 * FM_SEC), FM_VERDICT_ASK);
}

/* A machine that slept: all were asked long ago, and could not answer. */
static void test_who_comes_late_does_not_judge(void **state)
{
    (void)state;
    assert_int_equal(look(7, true, 10 * FM_SEC), FM_VERDICT_ASK);
    fm_vigil_pardon(&v, 1000 * FM_SEC);
    assert_int_equal(look(7, true, 1000 * FM_SEC), FM_VERDICT_WAIT);
    assert_int_equal(look(7, true, 1000 * FM_SEC + PATIENCE), FM_VERDICT_SILENT);
}

static void test_pardon_for_one_that_was_not_asked(void **state)
{
    (void)state;
    fm_vigil_pardon(&v, 1000 * FM_SEC);
    assert_int_equal(look(7, false, 5000 * FM_SEC), FM_VERDICT_IDLE);
}

/* In the place of one that is gone comes another, which may have turned as often. */
static void test_another_worker(void **state)
{
    (void)state;
    assert_int_equal(look(7, true, 10 * FM_SEC), FM_VERDICT_ASK);
    assert_int_equal(fm_vigil_look(&v, 102, 7, true, PATIENCE, 100 * FM_SEC), FM_VERDICT_IDLE);
    assert_int_equal(fm_vigil_look(&v, 102, 7, true, PATIENCE, 101 * FM_SEC), FM_VERDICT_ASK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_it_turns, begin),
        cmocka_unit_test_setup(test_idle_is_not_asked, begin),
        cmocka_unit_test_setup(test_silent, begin),
        cmocka_unit_test_setup(test_it_answers, begin),
        cmocka_unit_test_setup(test_who_comes_late_does_not_judge, begin),
        cmocka_unit_test_setup(test_pardon_for_one_that_was_not_asked, begin),
        cmocka_unit_test_setup(test_another_worker, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Roles: who holds the loop, thread by thread; debug builds end a program that breaks the rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>

#include "fermata/util/annotate.h"
#include "threads.h"

static void *role_in_thread(void *arg)
{
    (void)arg;
    CHECK(!fm_thread_on_loop); /* the main thread's is not ours */
    fm_role_take_loop();
    CHECK(fm_thread_on_loop);
    fm_role_drop_loop();
    CHECK(!fm_thread_on_loop);
    return NULL;
}

static void test_take_and_drop(void **state)
{
    (void)state;
    assert_int_equal(fm_thread_on_loop, 0);
    for (int i = 0; i < 3; i++) {
        fm_role_take_loop();
        assert_int_equal(fm_thread_on_loop, 1);
        fm_assert_on_loop();
        join(spawn(role_in_thread, NULL));
        assert_int_equal(fm_thread_on_loop, 1);
        fm_role_drop_loop();
        assert_int_equal(fm_thread_on_loop, 0);
    }
}

static void take_twice(void *arg)
{
    (void)arg;
    fm_role_take_loop();
    fm_role_take_loop();
}

static void drop_without(void *arg)
{
    (void)arg;
    fm_role_drop_loop();
}

static void assert_without(void *arg)
{
    (void)arg;
    fm_assert_on_loop();
}

static void test_breaking_the_rule(void **state)
{
    (void)state;
#ifdef FM_DEBUG
    bool expected = true;
#else
    bool expected = false;
#endif
    assert_int_equal(dies(take_twice, NULL), expected);
    assert_int_equal(dies(drop_without, NULL), expected);
    assert_int_equal(dies(assert_without, NULL), expected);
}

static struct fm_mutex lock = FM_MUTEX_INIT;
static unsigned guarded;

static void *add_many(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        fm_mutex_lock(arg ? arg : &lock);
        guarded++;
        fm_mutex_unlock(arg ? arg : &lock);
    }
    return NULL;
}

static void test_mutex(void **state)
{
    (void)state;
    struct fm_mutex own;
    fm_mutex_init(&own);
    for (int i = 0; i < 2; i++) {
        pthread_t threads[4];
        guarded = 0;
        for (int t = 0; t < 4; t++)
            threads[t] = spawn(add_many, i ? &own : NULL);
        for (int t = 0; t < 4; t++)
            join(threads[t]);
        assert_int_equal(guarded, 80000);
    }
    fm_mutex_fini(&own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take_and_drop),
        cmocka_unit_test(test_breaking_the_rule),
        cmocka_unit_test(test_mutex),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Timeouts: with times that the test makes up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "../util/threads.h"
#include "fermata/net/timer.h"

enum { LONG, SHORT, OFF, STOPS_OTHERS, AGAIN, FREES, KINDS };

struct item {
    char name;
    unsigned again; /* starts itself over so many times */
    struct fm_timer timer;
    struct item *other; /* stopped by this one */
};

static struct fm_timers timers;
static char fired[256];
static uint64_t now;

static void note(const struct item *i)
{
    size_t n = strlen(fired);
    assert_true(fm_list_empty(&i->timer.node)); /* stopped when it is called */
    assert_true(i->timer.due <= now);
    fired[n] = i->name;
    fired[n + 1] = '\0';
}

static struct item *of(struct fm_timer *t) { return FM_LIST_ENTRY(t, struct item, timer); }

static void on_expired(struct fm_timer *t) { note(of(t)); }

static void on_stopper(struct fm_timer *t)
{
    note(of(t));
    fm_timer_stop(&of(t)->other->timer);
}

static void on_again(struct fm_timer *t)
{
    note(of(t));
    if (of(t)->again-- > 0)
        fm_timer_start(&timers, t, AGAIN, now);
}

static void on_free(struct fm_timer *t)
{
    note(of(t));
    free(of(t));
}

static int start(void **state)
{
    (void)state;
    memset(&timers, 0xff, sizeof timers);
    fm_timers_init(&timers);
    fm_timers_define(&timers, LONG, 100, on_expired);
    fm_timers_define(&timers, SHORT, 10, on_expired);
    fm_timers_define(&timers, OFF, 0, on_expired);
    fm_timers_define(&timers, STOPS_OTHERS, 10, on_stopper);
    fm_timers_define(&timers, AGAIN, 1, on_again);
    fm_timers_define(&timers, FREES, 10, on_free);
    fired[0] = '\0';
    now = 1000;
    return 0;
}

static struct item items[8];

static struct item *item(unsigned i)
{
    items[i] = (struct item){.name = (char)('a' + i)};
    fm_timer_init(&items[i].timer);
    return &items[i];
}

static void run_at(uint64_t when)
{
    now = when;
    fired[0] = '\0';
    uint64_t next = fm_timers_run(&timers, now);
    assert_int_equal(next, fm_timers_next(&timers));
}

static void test_expires_when_due(void **state)
{
    (void)state;
    assert_int_equal(fm_timers_next(&timers), FM_NEVER);
    run_at(FM_NEVER - 1);
    assert_string_equal(fired, "");
    fm_timer_start(&timers, &item(0)->timer, LONG, 1000);
    fm_timer_start(&timers, &item(1)->timer, SHORT, 1005);
    fm_timer_start(&timers, &item(2)->timer, LONG, 1020);
    assert_int_equal(fm_timers_next(&timers), 1015);
    run_at(1014);
    assert_string_equal(fired, "");
    run_at(1015);
    assert_string_equal(fired, "b");
    assert_int_equal(fm_timers_next(&timers), 1100);
    run_at(1120);
    assert_string_equal(fired, "ac"); /* in the order of starting */
    assert_int_equal(fm_timers_next(&timers), FM_NEVER);
    run_at(5000);
    assert_string_equal(fired, "");
}

static void test_restart(void **state)
{
    (void)state;
    fm_timer_start(&timers, &item(0)->timer, LONG, 1000);
    fm_timer_start(&timers, &item(1)->timer, LONG, 1010);
    fm_timer_start(&timers, &items[0].timer, LONG, 1050); /* from then on, and behind the other */
    assert_int_equal(fm_timers_next(&timers), 1110);
    run_at(1149);
    assert_string_equal(fired, "b");
    run_at(1150);
    assert_string_equal(fired, "a");
}

static void test_changes_kind(void **state)
{
    (void)state;
    fm_timer_start(&timers, &item(0)->timer, LONG, 1000);
    fm_timer_start(&timers, &items[0].timer, SHORT, 1000);
    assert_int_equal(fm_timers_next(&timers), 1010);
    run_at(1200);
    assert_string_equal(fired, "a"); /* once */
    fm_timer_start(&timers, &items[0].timer, SHORT, 1200);
    fm_timer_start(&timers, &items[0].timer, LONG, 1200);
    run_at(1299);
    assert_string_equal(fired, "");
}

static void test_stop(void **state)
{
    (void)state;
    fm_timer_stop(&item(0)->timer); /* never started */
    fm_timer_start(&timers, &items[0].timer, SHORT, 1000);
    fm_timer_start(&timers, &item(1)->timer, SHORT, 1000);
    fm_timer_stop(&items[0].timer);
    fm_timer_stop(&items[0].timer);
    run_at(2000);
    assert_string_equal(fired, "b");
}

static void test_kind_that_is_off(void **state)
{
    (void)state;
    fm_timer_start(&timers, &item(0)->timer, OFF, 1000);
    assert_int_equal(fm_timers_next(&timers), FM_NEVER);
    fm_timer_start(&timers, &items[0].timer, SHORT, 1000);
    fm_timer_start(&timers, &items[0].timer, OFF, 1000); /* just stops it */
    assert_int_equal(fm_timers_next(&timers), FM_NEVER);
    run_at(9000);
    assert_string_equal(fired, "");
    fm_timer_start(&timers, &items[0].timer, KINDS, 1000); /* never defined: off */
    run_at(9000);
    assert_string_equal(fired, "");
}

static void test_stop_in_callback(void **state)
{
    (void)state;
    item(0)->other = item(2);
    fm_timer_start(&timers, &items[0].timer, STOPS_OTHERS, 1000);
    fm_timer_start(&timers, &item(1)->timer, STOPS_OTHERS, 1000);
    items[1].other = &items[1];                                   /* itself: harmless */
    fm_timer_start(&timers, &items[2].timer, STOPS_OTHERS, 1000); /* due, too, but stopped by the first */
    fm_timer_start(&timers, &item(3)->timer, STOPS_OTHERS, 1000);
    items[3].other = &items[2];
    run_at(1010);
    assert_string_equal(fired, "abd");
    assert_int_equal(fm_timers_next(&timers), FM_NEVER);
}

static void test_starts_itself_over(void **state)
{
    (void)state;
    item(0)->again = 2;
    fm_timer_start(&timers, &items[0].timer, AGAIN, 1000);
    run_at(1001);
    assert_string_equal(fired, "a"); /* not for ever */
    assert_int_equal(fm_timers_next(&timers), 1002);
    run_at(1002);
    run_at(1003);
    assert_string_equal(fired, "a");
    assert_int_equal(fm_timers_next(&timers), FM_NEVER);
}

static void test_callback_frees(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct item *one = malloc(sizeof *one);
        *one = (struct item){.name = 'f'};
        fm_timer_init(&one->timer);
        fm_timer_start(&timers, &one->timer, FREES, 1000);
    }
    run_at(1010);
    assert_string_equal(fired, "fff");
}

/* A long history against the obvious implementation. */
static void test_random_history(void **state)
{
    (void)state;
    enum { N = 40 };
    static struct item many[N];
    uint64_t due[N], seed = new_seed();
    fm_timers_define(&timers, LONG, 1000, on_expired);
    fm_timers_define(&timers, SHORT, 37, on_expired);
    for (unsigned i = 0; i < N; i++) {
        many[i].name = (char)('0' + i);
        fm_timer_init(&many[i].timer);
        due[i] = FM_NEVER;
    }
    for (unsigned step = 0; step < 30000; step++) {
        unsigned i = (unsigned)(rnd(&seed) % N), kind = (unsigned)(rnd(&seed) % 3);
        uint64_t next = FM_NEVER;
        now += rnd(&seed) % 20;
        if (rnd(&seed) % 4) {
            fm_timer_start(&timers, &many[i].timer, kind, now);
            due[i] = kind == OFF ? FM_NEVER : now + (kind == LONG ? 1000 : 37);
        } else {
            fm_timer_stop(&many[i].timer);
            due[i] = FM_NEVER;
        }
        for (unsigned k = 0; k < N; k++)
            next = due[k] < next ? due[k] : next;
        assert_int_equal(fm_timers_next(&timers), next);
        run_at(now);
        for (unsigned k = 0; k < N; k++) {
            assert_int_equal(strchr(fired, many[k].name) != NULL, due[k] <= now);
            if (due[k] <= now)
                due[k] = FM_NEVER;
        }
    }
}

#define TEST(name) cmocka_unit_test_setup(name, start)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_expires_when_due),   TEST(test_restart),
        TEST(test_changes_kind),       TEST(test_stop),
        TEST(test_kind_that_is_off),   TEST(test_stop_in_callback),
        TEST(test_starts_itself_over), TEST(test_callback_frees),
        TEST(test_random_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

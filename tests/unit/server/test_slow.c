/* The slowest requests: against a list of all, as they come and as time passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "../util/threads.h"
#include "fermata/http/request.h"
#include "fermata/server/slow.h"
#include "fermata/util/annotate.h"
#include "fermata/util/clock.h"

#define LATELY (600 * FM_SEC)

static char head[1000] = "GET /path?query";
static struct fm_request request = {.head = head, .method = {0, 3}, .path = {4, 5}};

static void note(struct fm_slow *s, uint64_t took, uint64_t now)
{
    fm_role_take_loop();
    if (fm_slow_is_one(s, took, now))
        fm_slow_note(s, &request, 200, took, now);
    fm_role_drop_loop();
}

static int longer_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

static unsigned recent(const struct fm_slow *s, uint64_t now, uint64_t *took)
{
    unsigned n = 0;
    for (unsigned i = 0; i < FM_SLOWEST; i++)
        if (fm_slow_is_recent(&s->all[i], now))
            took[n++] = s->all[i].took;
    qsort(took, n, sizeof *took, longer_first);
    return n;
}

static void test_text(void **state)
{
    (void)state;
    struct fm_slow s = {.least = 0};
    note(&s, FM_SEC, 5 * FM_SEC);
    assert_string_equal(s.all[0].method, "GET");
    assert_string_equal(s.all[0].path, "/path");
    assert_int_equal(s.all[0].status, 200);
    memset(head + 4, 'x', 900);
    request.path.len = 900;
    note(&s, FM_SEC, 5 * FM_SEC);
    assert_int_equal(strlen(s.all[1].path), FM_SLOW_PATH);
    request.path.len = 5;
    assert_string_equal(s.all[1].trace, "");
    memcpy(head + 500, "0af7651916cd43dd8448eb211c80319c-b7ad", 37);
    request.trace_off = 500;
    note(&s, FM_SEC, 5 * FM_SEC);
    assert_string_equal(s.all[2].trace, "0af7651916cd43dd8448eb211c80319c");
    request.trace_off = 0;
}

static void test_slowest_within_ten_minutes(void **state)
{
    (void)state;
    enum { MANY = 400 };
    struct fm_slow s = {.least = 0};
    uint64_t seed = 5, now = FM_SEC, took[MANY], kept[FM_SLOWEST];
    for (unsigned i = 0; i < MANY; i++) {
        took[i] = 1 + rnd(&seed) % FM_SEC;
        note(&s, took[i], now += FM_SEC);
    }
    qsort(took, MANY, sizeof *took, longer_first);
    assert_int_equal(recent(&s, now, kept), FM_SLOWEST);
    assert_memory_equal(kept, took, sizeof kept);
    /* They are forgotten, and then others get in that took less. */
    now += LATELY;
    assert_int_equal(recent(&s, now, kept), 0);
    for (uint64_t k = 1; k <= FM_SLOWEST; k++)
        note(&s, k, now);
    assert_int_equal(recent(&s, now, kept), FM_SLOWEST);
    assert_false(fm_slow_is_one(&s, 1, now));
    note(&s, 1, now);
    note(&s, 2, now);
    assert_int_equal(recent(&s, now, kept), FM_SLOWEST);
    assert_int_equal(kept[FM_SLOWEST - 1], 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_slowest_within_ten_minutes),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

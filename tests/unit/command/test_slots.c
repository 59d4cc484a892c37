/* Which workers there are, by what /workers answers: and by what others do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "fermata/command/slots.h"

static struct fm_slots slots;

static bool read(const char *text)
{
    struct fm_buf json = FM_BUF_INIT;
    fm_buf_puts(&json, text);
    bool good = fm_slots_read(&slots, &json);
    fm_buf_fini(&json);
    return good;
}

#define BEFORE "{\"wanted\": 2, \"generation\": 1, \"reload\": \"none\", \"workers\": ["
#define BEHIND "],\n\"slots\": [\n{\"slot\": 7, \"exits\": 0, \"last\": {\"pid\": 3}}]}\n"
#define ONE(slot, state)                                                                                               \
    "\n{\"slot\": " #slot ", \"pid\": 12, \"generation\": 1, \"state\": \"" state "\", \"why\": \"\", \"since\": "     \
    "1.000}"

static void test_workers(void **state)
{
    (void)state;
    assert_true(read(BEFORE ONE(1, "ready") "," ONE(0, "loading") BEHIND));
    assert_int_equal(slots.n, 2); /* and not those that are remembered */
    assert_int_equal(slots.all[0].slot, 0);
    assert_string_equal(slots.all[0].state, "loading");
    assert_int_equal(slots.all[1].slot, 1);
    assert_string_equal(slots.all[1].state, "ready");
}

static void test_several_in_a_slot(void **state)
{
    (void)state;
    assert_true(read(BEFORE ONE(3, "loading") "," ONE(3, "ready") "," ONE(3, "draining") "," ONE(3, "killed") BEHIND));
    assert_int_equal(slots.n, 1);
    assert_string_equal(slots.all[0].state, "ready");
    assert_true(read(BEFORE ONE(3, "odd") "," ONE(3, "killed") BEHIND)); /* a state of another version's */
    assert_string_equal(slots.all[0].state, "killed");
}

static void test_none(void **state)
{
    (void)state;
    assert_true(read(BEFORE BEHIND));
    assert_int_equal(slots.n, 0);
}

static void test_what_is_no_such_answer(void **state)
{
    static const char *const all[] = {"",
                                      "ok\n",
                                      "{}",
                                      "{\"workers\": 2}",
                                      BEFORE,
                                      BEFORE "{",
                                      BEFORE "{}]",
                                      BEFORE "{\"slot\": 1}]",
                                      BEFORE "{\"slot\": \"x\", \"state\": \"ready\"}]",
                                      BEFORE "{\"slot\": 1, \"state\": 3}]",
                                      BEFORE ONE(1, "ready")};
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (read(all[i]))
            fail_msg("%s", all[i]);
}

/* Whoever answers: no more than there is room for. */
static void test_many(void **state)
{
    struct fm_buf json = FM_BUF_INIT;
    (void)state;
    fm_buf_puts(&json, BEFORE);
    for (unsigned i = 0; i < 3 * FM_SLOTS_MOST; i++)
        fm_buf_printf(&json, "%s{\"slot\": %u, \"state\": \"ready\"}", i ? "," : "", 3 * FM_SLOTS_MOST - i);
    fm_buf_puts(&json, "]}");
    assert_true(fm_slots_read(&slots, &json));
    assert_int_equal(slots.n, FM_SLOTS_MOST);
    for (unsigned i = 1; i < slots.n; i++)
        assert_true(slots.all[i - 1].slot < slots.all[i].slot);
    fm_buf_fini(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_workers), cmocka_unit_test(test_several_in_a_slot),
        cmocka_unit_test(test_none),    cmocka_unit_test(test_what_is_no_such_answer),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

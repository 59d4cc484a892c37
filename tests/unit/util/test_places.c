/* The table of places: text that stays, cut where it is too long, and no more of them than there is room for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <string.h>

#include "fermata/util/places.h"
#include "threads.h"

static void test_added(void **state)
{
    (void)state;
    assert_null(fm_places_get(0));
    assert_null(fm_places_get(1));
    assert_null(fm_places_get(UINT16_MAX));
    assert_int_equal(fm_places_add("/a/b.py", "f.<locals>.g", 12, true), 1);
    const struct fm_place *p = fm_places_get(1);
    assert_string_equal(p->file, "/a/b.py");
    assert_string_equal(p->function, "f.<locals>.g");
    assert_int_equal(p->line, 12);
    assert_true(p->guessed);
    assert_int_equal(fm_places_count(), 2);
}

/* Of a file the end is kept, of a function the beginning; no character is cut in two. */
static void test_long_ones(void **state)
{
    (void)state;
    char text[601];
    for (size_t i = 0; i < 600; i += 2)
        memcpy(text + i, "\xc3\xbc", 2);
    text[600] = '\0';
    const struct fm_place *p = fm_places_get(fm_places_add(text, text, 1, false));
    assert_int_equal(strlen(p->file), 254);
    assert_int_equal(strlen(p->function), 254);
    assert_int_equal(memcmp(p->file, "\xc3\xbc", 2), 0);
    assert_int_equal(memcmp(p->function, "\xc3\xbc", 2), 0);
    strcpy(text + 596, "end");
    p = fm_places_get(fm_places_add(text, text, 1, false));
    assert_string_equal(p->file + strlen(p->file) - 3, "end");
}

static atomic_bool enough;

/* Whatever is counted is there. */
static void *read_all_the_time(void *arg)
{
    while (!atomic_load(&enough))
        for (unsigned i = 1, n = fm_places_count(); i < n; i++)
            CHECK(strlen(fm_places_get((uint16_t)i)->file) > 0);
    return arg;
}

static void test_no_more_than_there_is_room_for(void **state)
{
    (void)state;
    pthread_t reader = spawn(read_all_the_time, NULL);
    for (unsigned i = fm_places_count(); i < FM_PLACES; i++)
        assert_int_equal(fm_places_add("file", "function", i, false), i);
    assert_int_equal(fm_places_add("file", "function", 1, false), 0);
    atomic_store(&enough, true);
    join(reader);
    assert_int_equal(fm_places_get(FM_PLACES - 1)->line, FM_PLACES - 1);
    assert_null(fm_places_get(FM_PLACES));
}

/* Counted only if that was asked for; one that leaves before it was counted makes no large number. */
static void test_parked(void **state)
{
    (void)state;
    fm_places_park(3, 1);
    assert_int_equal(fm_places_parked(3), 0);
    fm_places_watch();
    fm_places_park(3, 1);
    fm_places_park(3, 1);
    fm_places_park(4, -1);
    fm_places_park(UINT16_MAX, 1); /* as if it were not known */
    assert_int_equal(fm_places_parked(3), 2);
    assert_int_equal(fm_places_parked(4), 0);
    assert_int_equal(fm_places_parked(0), 1);
    assert_int_equal(fm_places_parked(UINT16_MAX), 0);
    fm_places_park(4, 1);
    fm_places_park(3, -1);
    assert_int_equal(fm_places_parked(4), 0);
    assert_int_equal(fm_places_parked(3), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_added),
        cmocka_unit_test(test_long_ones),
        cmocka_unit_test(test_no_more_than_there_is_room_for),
        cmocka_unit_test(test_parked),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

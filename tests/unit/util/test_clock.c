/* Dates, with a clock that the test sets: clock_gettime here takes the place of libc's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fermata/util/clock.h"
#include "threads.h"

static struct timespec wall, monotonic; /* 0: the real ones */

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    const struct timespec *fake = clock == CLOCK_REALTIME_COARSE ? &wall : clock == CLOCK_MONOTONIC ? &monotonic : NULL;
    if (fake && (fake->tv_sec || fake->tv_nsec)) {
        *ts = *fake;
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, ts);
}

static void test_now(void **state)
{
    (void)state;
    uint64_t a = fm_now(), b = fm_now();
    assert_true(a > 0 && b >= a);
    monotonic = (struct timespec){7, 5};
    uint64_t fixed = fm_now();
    monotonic = (struct timespec){5000000000, 999999999}; /* a machine that has been up for long */
    uint64_t late = fm_now();
    monotonic = (struct timespec){0, 0};
    assert_int_equal(fixed, 7000000005);
    assert_int_equal(late, 5000000000999999999);
    assert_int_equal(FM_SEC, 1000 * FM_MS);
}

static const struct {
    time_t when;
    const char *date, *clf;
} dates[] = {
    {1, "Thu, 01 Jan 1970 00:00:01 GMT", "01/Jan/1970:00:00:01 +0000"},
    {784111777, "Sun, 06 Nov 1994 08:49:37 GMT", "06/Nov/1994:08:49:37 +0000"}, /* RFC 9110, 5.6.7 */
    {951782400, "Tue, 29 Feb 2000 00:00:00 GMT", "29/Feb/2000:00:00:00 +0000"},
    {1795255200, "Sat, 21 Nov 2026 10:00:00 GMT", "21/Nov/2026:10:00:00 +0000"},
    {2147483648, "Tue, 19 Jan 2038 03:14:08 GMT", "19/Jan/2038:03:14:08 +0000"},
    {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT", "31/Dec/9999:23:59:59 +0000"},
    {784111777, "Sun, 06 Nov 1994 08:49:37 GMT", "06/Nov/1994:08:49:37 +0000"}, /* backwards again */
};

static void test_dates(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof dates / sizeof *dates; i++) {
        wall = (struct timespec){dates[i].when, 999999999};
        assert_string_equal(fm_http_date(), dates[i].date);
        assert_string_equal(fm_clf_date(), dates[i].clf);
        assert_int_equal(strlen(fm_http_date()), FM_HTTP_DATE_LEN);
    }
    wall = (struct timespec){0, 0};
}

/* Every day of some years, against libc's own formatting in the C locale. */
static void test_every_day(void **state)
{
    (void)state;
    for (time_t day = 0; day < 366 * 60; day++) {
        char expected[64];
        struct tm tm;
        wall = (struct timespec){day * 86400 + day * 61 % 86400 + 1, 0};
        gmtime_r(&wall.tv_sec, &tm);
        strftime(expected, sizeof expected, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        assert_string_equal(fm_http_date(), expected);
        strftime(expected, sizeof expected, "%d/%b/%Y:%H:%M:%S +0000", &tm);
        assert_string_equal(fm_clf_date(), expected);
    }
    wall = (struct timespec){0, 0};
}

static void test_made_once_a_second(void **state)
{
    (void)state;
    wall = (struct timespec){784111777, 0};
    char *date = (char *)(uintptr_t)fm_http_date();
    date[0] = 's'; /* a mark: made anew, it is gone */
    wall.tv_nsec = 999999999;
    assert_int_equal(fm_http_date()[0], 's');
    wall.tv_sec++;
    assert_string_equal(fm_http_date(), "Sun, 06 Nov 1994 08:49:38 GMT");
    wall = (struct timespec){0, 0};
}

static void test_zones(void **state)
{
    (void)state;
    const struct {
        const char *tz, *expected;
    } zones[] = {
        {"UTC0", "21/Nov/2026:10:00:00 +0000"},     {"XXX-5:30", "21/Nov/2026:15:30:00 +0530"},
        {"XXX+3:30", "21/Nov/2026:06:30:00 -0330"}, {"XXX+0:45", "21/Nov/2026:09:15:00 -0045"},
        {"XXX-14", "22/Nov/2026:00:00:00 +1400"},
    };
    for (size_t i = 0; i < sizeof zones / sizeof *zones; i++) {
        setenv("TZ", zones[i].tz, 1);
        tzset();
        wall = (struct timespec){1, 0}; /* so that the date is made anew */
        fm_clf_date();
        fm_http_date();
        wall = (struct timespec){1795255200, 0};
        assert_string_equal(fm_clf_date(), zones[i].expected);
        assert_string_equal(fm_http_date(), "Sat, 21 Nov 2026 10:00:00 GMT");
    }
    setenv("TZ", "UTC0", 1);
    tzset();
    wall = (struct timespec){0, 0};
}

static void test_is_today(void **state)
{
    (void)state;
    struct tm tm = {0};
    char *end = strptime(fm_http_date(), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    assert_true(end && !*end);
    time_t off = time(NULL) - timegm(&tm);
    assert_true(off >= -2 && off <= 10);
}

static void *date_in_thread(void *arg)
{
    const char *date = fm_http_date(), *clf = fm_clf_date();
    CHECK(date != ((const char **)arg)[0] && clf != ((const char **)arg)[1]);
    CHECK(strlen(date) == FM_HTTP_DATE_LEN);
    return NULL;
}

static void test_each_thread_has_its_own(void **state)
{
    (void)state;
    const char *mine[] = {fm_http_date(), fm_clf_date()};
    join(spawn(date_in_thread, mine));
}

/* As RFC 3339 has it, of now, and with milliseconds that do not stand still. */
static void test_iso(void **state)
{
    (void)state;
    char before[32], after[32];
    bool moved = false;
    for (int i = 0; i < 200 && !moved; i++) {
        time_t then = time(NULL), now;
        struct tm tm;
        char text[32];
        snprintf(text, sizeof text, "%s", fm_iso_date());
        now = time(NULL) + 1; /* a coarse clock may be a tick behind */
        gmtime_r(&(time_t){then - 1}, &tm);
        strftime(before, sizeof before, "%Y-%m-%dT%H:%M:%S.000Z", &tm);
        gmtime_r(&now, &tm);
        strftime(after, sizeof after, "%Y-%m-%dT%H:%M:%S.999Z", &tm);
        assert_int_equal(strlen(text), sizeof "2026-11-30T12:00:00.123Z" - 1);
        assert_true(strcmp(before, text) <= 0 && strcmp(text, after) <= 0);
        usleep(2000);
        moved = strcmp(text, fm_iso_date()) != 0;
    }
    assert_true(moved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_now),       cmocka_unit_test(test_dates),
        cmocka_unit_test(test_every_day), cmocka_unit_test(test_made_once_a_second),
        cmocka_unit_test(test_iso),       cmocka_unit_test(test_zones),
        cmocka_unit_test(test_is_today),  cmocka_unit_test(test_each_thread_has_its_own),
    };
    setenv("TZ", "UTC0", 1);
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

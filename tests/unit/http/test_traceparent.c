/* traceparent: what W3C Trace Context lets a tracer take, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/http/headers.h"
#include "fermata/http/traceparent.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"
#define GOOD "00-" TRACE "-" PARENT "-01"

static const char *const good[] = {
    GOOD,
    "00-" TRACE "-" PARENT "-00",
    "00-" TRACE "-" PARENT "-ff", /* flags that are not known are no mistake */
    "00-00000000000000000000000000000001-0000000000000001-01",
    "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-01",
    "01-" TRACE "-" PARENT "-01",
    "cc-" TRACE "-" PARENT "-01-what-the-future-will-be-like",
    "fe-" TRACE "-" PARENT "-01-",
};

static const char *const bad[] = {
    "",
    "00",
    "00-" TRACE "-" PARENT "-0",
    "00-" TRACE "-" PARENT "-01-",
    "00-" TRACE "-" PARENT "-01-more",
    "00-" TRACE "-" PARENT "-011",
    "cc-" TRACE "-" PARENT "-01.what-the-future-will-be-like",
    "cc-" TRACE "-" PARENT "-011",
    "ff-" TRACE "-" PARENT "-01",
    "ff-" TRACE "-" PARENT "-01-more",
    "FF-" TRACE "-" PARENT "-01",
    "0-" TRACE "-" PARENT "-01",
    "0g-" TRACE "-" PARENT "-01",
    "00-00000000000000000000000000000000-" PARENT "-01",
    "cc-00000000000000000000000000000000-" PARENT "-01",
    "00-" TRACE "-0000000000000000-01",
    "00-0AF7651916cd43dd8448eb211c80319c-" PARENT "-01",
    "00-.af7651916cd43dd8448eb211c80319c-" PARENT "-01",
    "00-" TRACE "-B7ad6b7169203331-01",
    "00-" TRACE "-" PARENT "-0A",
    "00-" TRACE "-" PARENT "-.1",
    "00_" TRACE "-" PARENT "-01",
    "00-" TRACE "_" PARENT "-01",
    "00-" TRACE "-" PARENT "_01",
    "00-" TRACE "1-" PARENT "-01",
    "00-" TRACE "-" PARENT "1-1",
    GOOD "," GOOD,
    "\xff\xff-" TRACE "-" PARENT "-01",
};

/* In memory of exactly its length, so that a sanitizer sees who reads beyond. */
static bool is_good(const char *text)
{
    size_t n = strlen(text);
    char *copy = malloc(n + !n);
    memcpy(copy, text, n);
    bool taken = fm_traceparent_is_good(copy, n);
    free(copy);
    return taken;
}

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!is_good(good[i]))
            fail_msg("%s is refused", good[i]);
}

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (is_good(bad[i]))
            fail_msg("%s is taken", bad[i]);
}

/* Whatever byte stands in the place of one of a good one, it is as the grammar has it. */
static void test_every_byte(void **state)
{
    (void)state;
    for (size_t at = 0; at < sizeof GOOD - 1; at++) {
        for (int c = 0; c < 256; c++) {
            char text[] = GOOD;
            bool is_hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
            text[at] = (char)c;
            if (fm_traceparent_is_good(text, sizeof text - 1) != (GOOD[at] == '-' ? c == '-' : is_hex))
                fail_msg("byte %d at %zu", c, at);
        }
    }
}

/* A request with so many of these fields, in turn, and another one before them. */
static struct fm_request *make(const char *const *values, unsigned n)
{
    struct fm_field fields[4] = {{.name_off = 16, .name_len = 1, .value_off = 19, .value_len = 1, .id = FM_H_OTHER}};
    char head[1024] = "GET / HTTP/1.1\r\nX: y\r\n";
    for (unsigned i = 0; i < n; i++) {
        size_t at = strlen(head);
        sprintf(head + at, "traceParent: %s\r\n", values[i]);
        fields[1 + i] = (struct fm_field){.name_off = (uint32_t)at,
                                          .name_len = 11,
                                          .value_off = (uint32_t)at + 13,
                                          .value_len = (uint32_t)strlen(values[i]),
                                          .id = (uint16_t)fm_header_lookup(head + at, 11)};
    }
    return fm_request_new(NULL, head, (uint32_t)strlen(head), fields, (uint16_t)(n + 1));
}

static void test_taken(void **state)
{
    (void)state;
    struct fm_request *r = make(good, 1);
    assert_null(fm_request_trace(r));
    fm_traceparent_take(r);
    assert_memory_equal(fm_request_trace(r), TRACE, FM_TRACE_ID);
    fm_request_free(r);
    r = make(bad + 3, 1);
    fm_traceparent_take(r);
    assert_null(fm_request_trace(r));
    fm_request_free(r);
}

/* Two are none, even of the same value. */
static void test_none_or_two(void **state)
{
    static const char *const same[] = {GOOD, GOOD};
    (void)state;
    for (unsigned n = 0; n <= 2; n += 2) {
        struct fm_request *r = make(same, n);
        fm_traceparent_take(r);
        assert_null(fm_request_trace(r));
        fm_request_free(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),  cmocka_unit_test(test_bad),         cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_taken), cmocka_unit_test(test_none_or_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

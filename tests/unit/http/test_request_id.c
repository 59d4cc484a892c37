/* Ids of requests: which are taken, and that those that are made differ. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/http/headers.h"
#include "fermata/http/request_id.h"
#include "fermata/util/annotate.h"

/* A request with these fields; each is "Name: value". */
static struct fm_request *make(const char *const *lines, unsigned n)
{
    struct fm_field fields[4];
    char head[4096] = "GET / HTTP/1.1\r\n";
    assert_true(n <= 4);
    for (unsigned i = 0; i < n; i++) {
        size_t at = strlen(head), name = strcspn(lines[i], ":");
        strcat(head, lines[i]);
        fields[i] = (struct fm_field){.name_off = (uint32_t)at,
                                      .name_len = (uint16_t)name,
                                      .value_off = (uint32_t)(at + name + 2),
                                      .value_len = (uint32_t)(strlen(lines[i]) - name - 2),
                                      .id = (uint16_t)fm_header_lookup(lines[i], name)};
        strcat(head, "\r\n");
    }
    struct fm_request *r = fm_request_new(NULL, head, (uint32_t)strlen(head), fields, (uint16_t)n);
    for (unsigned i = 0; i < n; i++)
        r->sends_id |= fields[i].id == FM_H_X_REQUEST_ID;
    r->method = (struct fm_span){0, 3};
    r->path = (struct fm_span){4, 1};
    return r;
}

static struct fm_id_rule rule_of(const char *name)
{
    struct fm_id_rule rule;
    assert_null(fm_id_rule_parse(&rule, name));
    return rule;
}

/* The id that a request with these lines gets, NUL-terminated; valid until the next call. */
static const char *id_of(const char *name, const char *const *lines, unsigned n)
{
    static char text[FM_ID_MAX + 1];
    struct fm_id_rule rule = rule_of(name);
    struct fm_request *r = make(lines, n);
    fm_request_id_give(&rule, r);
    snprintf(text, sizeof text, "%.*s", (int)r->id_len, fm_request_id(r));
    fm_request_free(r);
    return text;
}

static const char *id_of_one(const char *line) { return id_of("X-Request-ID", &line, 1); }

static bool is_made(const char *id) { return strlen(id) == 32 && strspn(id, "0123456789abcdef") == 32; }

static void test_sane_ones_are_taken(void **state)
{
    static const char *const ids[] = {
        "a",
        "0",
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "Root=1-67891233-abcdef012345678912345678;Self=1",
        "a+b/c==",
        "x_y.z~",
        "me@host:12",
    };
    char line[FM_ID_MAX + 64];
    (void)state;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        snprintf(line, sizeof line, "x-request-id: %s", ids[i]);
        assert_string_equal(id_of_one(line), ids[i]);
    }
    snprintf(line, sizeof line, "X-Request-ID: %0*d", FM_ID_MAX, 7);
    assert_int_equal(strlen(id_of_one(line)), FM_ID_MAX);
}

static void test_others_are_not(void **state)
{
    static const char *const ids[] = {"",      "a b", "a\"b",  "a\\b", "a,b",    "[a]", "a\xe4",
                                      "a<b>",  "$a",  "{a}",   "a%41", "a\tb",   "'a'", "a|b",
                                      "a&b=c", "a?",  "a#b c", "`a`",  "(a)(b)", "a*",  "a^b!"};
    char line[FM_ID_MAX + 64];
    (void)state;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        snprintf(line, sizeof line, "X-Request-ID: %s", ids[i]);
        if (!is_made(id_of_one(line)))
            fail_msg("%s is taken", ids[i]);
    }
    snprintf(line, sizeof line, "X-Request-ID: %0*d", FM_ID_MAX + 1, 7);
    assert_true(is_made(id_of_one(line)));
}

static void test_twice_is_none(void **state)
{
    static const char *const lines[] = {"X-Request-ID: a", "X-Request-ID: b"};
    (void)state;
    assert_true(is_made(id_of("X-Request-ID", lines, 2)));
    assert_string_equal(id_of("X-Request-ID", lines, 1), "a");
}

static void test_another_name(void **state)
{
    static const char *const lines[] = {"X-Request-ID: a", "x-correlation-id: b", "Traceparent: c"};
    (void)state;
    assert_string_equal(id_of("X-Correlation-ID", lines, 3), "b");
    assert_string_equal(id_of("traceparent", lines, 3), "c");
    assert_true(is_made(id_of("X-Correlation-ID", lines, 1)));
}

static void test_off(void **state)
{
    static const char *const line = "X-Request-ID: a";
    (void)state;
    assert_string_equal(id_of("off", &line, 1), "");
}

static void test_names(void **state)
{
    struct fm_id_rule rule;
    (void)state;
    assert_non_null(fm_id_rule_parse(&rule, ""));
    assert_non_null(fm_id_rule_parse(&rule, "X Y"));
    assert_non_null(fm_id_rule_parse(&rule, "X:"));
}

static int compare(const void *a, const void *b) { return memcmp(a, b, FM_ID_MADE); }

/* Over several batches. */
static void test_made_ones_differ(void **state)
{
    enum { N = 1000 };
    static char ids[N][FM_ID_MADE];
    struct fm_id_rule rule = rule_of("X-Request-ID");
    (void)state;
    for (unsigned i = 0; i < N; i++) {
        struct fm_request *r = make(NULL, 0);
        fm_request_id_give(&rule, r);
        assert_int_equal(r->id_len, FM_ID_MADE);
        memcpy(ids[i], fm_request_id(r), FM_ID_MADE);
        fm_request_free(r);
    }
    qsort(ids, N, FM_ID_MADE, compare);
    for (unsigned i = 1; i < N; i++)
        assert_int_not_equal(compare(ids[i - 1], ids[i]), 0);
}

static void test_once(void **state)
{
    struct fm_id_rule rule = rule_of("X-Request-ID");
    struct fm_request *r = make(NULL, 0);
    char before[FM_ID_MADE], text[FM_REQUEST_TEXT], expected[64];
    (void)state;
    fm_request_describe(r, text, sizeof text);
    assert_string_equal(text, "GET /");
    fm_request_id_give(&rule, r);
    memcpy(before, fm_request_id(r), sizeof before);
    fm_request_id_give(&rule, r);
    assert_memory_equal(before, fm_request_id(r), sizeof before);
    fm_request_describe(r, text, sizeof text);
    snprintf(expected, sizeof expected, "GET / (id %.32s)", before);
    assert_string_equal(text, expected);
    fm_request_describe(r, text, 12);
    assert_int_equal(strlen(text), 11);
    assert_memory_equal(text, "GET / (id ", 10);
    fm_request_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sane_ones_are_taken),
        cmocka_unit_test(test_others_are_not),
        cmocka_unit_test(test_twice_is_none),
        cmocka_unit_test(test_another_name),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_made_ones_differ),
        cmocka_unit_test(test_once),
    };
    fm_role_take_loop();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

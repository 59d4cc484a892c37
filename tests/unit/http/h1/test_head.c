/* A head as a whole: the scan that stops and goes on, and what fields mean together, without http-parser. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "fermata/http/headers.h"
#include "fermata/http/host.h"
#include "fermata/util/err.h"
#include "http/h1/head.h"

static const struct fm_http_limits limits = {.request_line = 100, .fields = 9, .field_size = 100, .body = 100};

static void test_scan_goes_on(void **state)
{
    (void)state;
    static const char head[] = "GET /a HTTP/1.0\r\nHost: b\r\nX: y\r\n\r\nrest";
    size_t len = sizeof head - 5;
    struct fm_head_scan scan = {.start = 0};
    enum fm_refusal why = FM_REFUSE_NOTHING;
    for (size_t n = 0; n < len; n++)
        assert_int_equal(fm_head_scan(&scan, &limits, head, n, &why), 0);
    assert_int_equal(fm_head_scan(&scan, &limits, head, len, &why), 1);
    assert_int_equal(scan.start, len);
    assert_int_equal(scan.lines, 2);
    assert_int_equal(scan.nfields, 2);
    assert_int_equal(scan.line.minor, 0);
    fm_head_scan_fini(&scan);
    scan = (struct fm_head_scan){.start = 0};
    assert_int_equal(fm_head_scan(&scan, &limits, head, sizeof head - 1, &why), 1); /* what follows does not matter */
    assert_int_equal(scan.start, len);
    fm_head_scan_fini(&scan);
}

static struct fm_good_host good;

/* Reads a whole head into *r, whose text stays where it is. */
static enum fm_refusal judge(const char *head, struct fm_request *r)
{
    struct fm_head_scan scan = {.start = 0};
    enum fm_refusal why = FM_REFUSE_NOTHING;
    static struct fm_field fields[9];
    assert_int_equal(fm_head_scan(&scan, &limits, head, strlen(head), &why), 1);
    *r = (struct fm_request){.head = (char *)(uintptr_t)head,
                             .head_len = (uint32_t)scan.start,
                             .fields = fields,
                             .nfields = scan.nfields};
    memcpy(fields, scan.fields, scan.nfields * sizeof *fields);
    fm_head_scan_fini(&scan);
    return fm_head_judge(r, &scan.line, &limits, &good);
}

/* What is remembered of the host before changes no verdict: it is that of a judge without a memory. */
static void test_hosts_in_turn(void **state)
{
    static const char *const hosts[] = {"a",
                                        "a",
                                        "a b",
                                        "a",
                                        "",
                                        "a",
                                        "ab",
                                        "a:80",
                                        "a:",
                                        "a:8x",
                                        "[::1]",
                                        "[::1",
                                        "a,b",
                                        "a\"b",
                                        "h.example.with.a.name.of.31.xxx",
                                        "h.example.with.a.name.of.32.xxxx"};
    size_t n = sizeof hosts / sizeof *hosts;
    (void)state;
    memset(&good, 0, sizeof good);
    for (size_t i = 0; i < n * n * 2; i++) {
        char head[128];
        struct fm_request r;
        const char *host = hosts[i % 2 ? i / 2 % n : i / 2 / n]; /* each behind each */
        snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host);
        enum fm_refusal why = judge(head, &r);
        assert_int_equal(why, *host && !fm_is_host(host, strlen(host)) ? FM_REFUSE_BAD_HOST : FM_REFUSE_NOTHING);
    }
}

static void test_fields(void **state)
{
    (void)state;
    static const char head[] =
        "GET / HTTP/1.1\r\nHost:a\r\nX_Y: 1\r\nx-y: \tb:c \t\r\nAccept: \t\r\nHost_:\r\n\r\nrest";
    static const struct {
        const char *name, *value;
        unsigned id;
    } want[] = {{"Host", "a", FM_H_HOST}, {"x-y", "b:c", FM_H_OTHER}, {"Accept", "", FM_H_ACCEPT}};
    struct fm_request r;
    assert_int_equal(judge(head, &r), FM_REFUSE_NOTHING);
    assert_int_equal(r.nfields, 3); /* names with an underscore are dropped */
    for (size_t i = 0; i < 3; i++) {
        const struct fm_field *f = &r.fields[i];
        assert_int_equal(f->id, want[i].id);
        assert_int_equal(f->name_len, strlen(want[i].name));
        assert_memory_equal(head + f->name_off, want[i].name, f->name_len);
        assert_int_equal(f->value_len, strlen(want[i].value));
        assert_memory_equal(head + f->value_off, want[i].value, f->value_len);
    }
    assert_int_equal(fm_head_field_len(&r.fields[0]), 6);
    assert_int_equal(fm_head_field_len(&r.fields[1]), 9);
}

static void test_framing(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        enum fm_refusal why;
        int64_t length;
        bool chunked;
    } cases[] = {
        {"", 0, -1, false},
        {"Content-Length: 100\r\n", 0, 100, false},
        {"Content-Length: 101\r\n", FM_REFUSE_BODY_TOO_LARGE, 0, false},
        {"Transfer-Encoding: chunked\r\n", 0, -1, true},
        {"Transfer-Encoding: gzip, chunked\r\n", FM_REFUSE_CODING_UNKNOWN, 0, false},
        {"Transfer-Encoding: gzip, chunked\r\nContent-Length: 1\r\n", FM_REFUSE_LENGTH_AND_CODING, 0, false},
        {"Transfer-Encoding: a, chunked, b, chunked\r\n", FM_REFUSE_BAD_CODING, 0, false},
        {"Content-Length: 1\r\nContent-Length: 1\r\n", FM_REFUSE_LENGTH_REPEATED, 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char head[300] = "PUT / HTTP/1.1\r\nHost: a\r\n";
        struct fm_request r;
        strcat(strcat(head, cases[i].fields), "\r\n");
        assert_int_equal(judge(head, &r), cases[i].why);
        if (cases[i].why == FM_REFUSE_NOTHING) {
            assert_int_equal(r.content_length, cases[i].length);
            assert_int_equal(r.chunked, cases[i].chunked);
        }
    }
}

static void test_persistence(void **state)
{
    (void)state;
    static const struct {
        const char *version, *connection;
        bool keep_alive;
    } cases[] = {
        {"1.1", "x", true},          {"1.1", "keep-alive", true},         {"1.1", "close", false},
        {"1.1", "a, cLoSe", false},  {"1.1", "keep-alive,close", false},  {"1.0", "x", false},
        {"1.0", "Keep-Alive", true}, {"1.0", "close, keep-alive", false}, {"1.0", "keep-alive-not", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char head[300] = "GET / HTTP/";
        struct fm_request r;
        strcat(strcat(head, cases[i].version), "\r\nHost: a\r\nConnection: ");
        strcat(strcat(head, cases[i].connection), "\r\n\r\n");
        assert_int_equal(judge(head, &r), FM_REFUSE_NOTHING);
        assert_int_equal(r.keep_alive, cases[i].keep_alive);
    }
}

static void test_host(void **state)
{
    (void)state;
    struct fm_request r;
    assert_int_equal(judge("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", &r), FM_REFUSE_NOTHING);
    assert_int_equal(r.host.off, 11);
    assert_int_equal(judge("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &r), FM_REFUSE_NOTHING);
    assert_int_equal(r.host.off, 23);
    assert_true(r.is_head);
    assert_int_equal(judge("HEAP / HTTP/1.0\r\nX: a\r\n\r\n", &r), FM_REFUSE_NOTHING);
    assert_int_equal(r.host.len, 0);
    assert_false(r.is_head);
    assert_int_equal(judge("GET / HTTP/1.1\r\nX: a\r\n\r\n", &r), FM_REFUSE_HOST_MISSING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan_goes_on), cmocka_unit_test(test_hosts_in_turn), cmocka_unit_test(test_fields),
        cmocka_unit_test(test_framing),      cmocka_unit_test(test_persistence),   cmocka_unit_test(test_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

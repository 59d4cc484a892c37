/* Responses in HTTP/1.x: which framing, what a head says, and what stands around blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/http/h1/framer.h"
#include "fermata/util/clock.h"
#include "fermata/util/text.h"

static struct fm_response r;
static struct fm_framer f;
static struct fm_buf out;

static int fini(void **state)
{
    (void)state;
    fm_response_fini(&r);
    fm_buf_fini(&out);
    r = (struct fm_response){.length = -1};
    return 0;
}

static void add(const char *name, const char *value)
{
    const char *why;
    assert_int_equal(fm_response_add(&r, name, strlen(name), value, strlen(value), &why), 0);
}

/* A response with a Server and a Date that do not change. */
static void start(const char *status)
{
    const char *why;
    fm_buf_fini(&out);
    assert_int_equal(fm_response_start(&r, status, strlen(status), &why), 0);
    add("Server", "s");
    add("Date", "d");
}

static void request(int minor, bool is_head, bool keep)
{
    f = (struct fm_framer){.framing = 99, .minor = (uint8_t)minor, .is_head = is_head, .keep = keep};
}

static void make_head(int64_t total)
{
    fm_h1_framer.head(&f, &r, total, &out);
    assert_null(r.lines.data); /* moved */
    assert_false(out.failed);
}

static void assert_out(const char *expected)
{
    fm_buf_append(&out, "", 1);
    assert_string_equal(fm_buf_head(&out), expected);
    out.len--;
}

#define HEAD(status) "HTTP/1.1 " status "\r\nServer: s\r\nDate: d\r\n"

/* ---- the decision ---- */

static void test_framing(void **state)
{
    (void)state;
    enum { NONE = FM_FRAME_NONE, LENGTH = FM_FRAME_LENGTH, BLOCKS = FM_FRAME_BLOCKS, CLOSE = FM_FRAME_CLOSE };
    const struct {
        int minor;
        bool is_head, keep;
        const char *status, *length; /* as the application gives it */
        int64_t total;
        int framing;
        bool keeps;
        const char *fields;
    } cases[] = {
        {1, false, true, "200 OK", NULL, 0, LENGTH, true, "Content-Length: 0\r\n"},
        {1, false, true, "200 OK", NULL, 5, LENGTH, true, "Content-Length: 5\r\n"},
        {1, false, false, "200 OK", NULL, 5, LENGTH, false, "Content-Length: 5\r\nConnection: close\r\n"},
        {0, false, true, "200 OK", NULL, 5, LENGTH, true, "Content-Length: 5\r\nConnection: keep-alive\r\n"},
        {0, false, false, "200 OK", NULL, 5, LENGTH, false, "Content-Length: 5\r\nConnection: close\r\n"},
        {1, false, true, "200 OK", "7", 5, LENGTH, true, "Content-Length: 7\r\n"}, /* the application's counts */
        {1, false, true, "200 OK", "7", -1, LENGTH, true, "Content-Length: 7\r\n"},
        {1, false, true, "200 OK", NULL, -1, BLOCKS, true, "Transfer-Encoding: chunked\r\n"},
        {1, false, false, "200 OK", NULL, -1, BLOCKS, false, "Transfer-Encoding: chunked\r\nConnection: close\r\n"},
        {0, false, true, "200 OK", NULL, -1, CLOSE, false, "Connection: close\r\n"},
        {1, true, true, "200 OK", NULL, -1, NONE, true, ""},
        {1, true, true, "200 OK", NULL, 0, NONE, true, ""}, /* nothing yielded for HEAD says nothing about GET */
        {1, true, true, "200 OK", NULL, 5, NONE, true, "Content-Length: 5\r\n"},
        {1, true, true, "200 OK", "7", -1, NONE, true, "Content-Length: 7\r\n"},
        {0, true, true, "200 OK", NULL, -1, NONE, true, "Connection: keep-alive\r\n"},
        {1, false, true, "204 OK", NULL, 5, NONE, true, ""},
        {1, false, true, "204 OK", "7", 5, NONE, true, ""},
        {1, false, true, "304 OK", NULL, 5, NONE, true, ""},
        {1, false, true, "304 OK", "7", 5, NONE, true, "Content-Length: 7\r\n"},
        {1, false, true, "205 OK", NULL, -1, NONE, true, "Content-Length: 0\r\n"}, /* RFC 9110, 15.3.6 */
        {1, false, true, "205 OK", "7", 7, NONE, true, "Content-Length: 0\r\n"},
        {1, true, true, "205 OK", NULL, 7, NONE, true, "Content-Length: 0\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[256];
        start(cases[i].status);
        if (cases[i].length)
            add("Content-Length", cases[i].length);
        request(cases[i].minor, cases[i].is_head, cases[i].keep);
        make_head(cases[i].total);
        assert_int_equal(f.framing, cases[i].framing);
        assert_int_equal(f.keep, cases[i].keeps);
        snprintf(expected, sizeof expected, "HTTP/1.1 %s\r\nServer: s\r\nDate: d\r\n%s\r\n", cases[i].status,
                 cases[i].fields);
        assert_out(expected);
    }
}

static void test_the_application_closes(void **state)
{
    (void)state;
    start("200 OK");
    add("Connection", "close");
    request(1, false, true);
    make_head(1);
    assert_false(f.keep);
    assert_out(HEAD("200 OK") "Content-Length: 1\r\nConnection: close\r\n\r\n");
}

/* ---- the head ---- */

/* Any number of bytes of fields: the buffer grows, and loses its place in front, at some. */
static void test_any_size(void **state)
{
    (void)state;
    char value[3000], expected[3100];
    for (size_t n = 0; n < sizeof value; n += n < 900 ? 1 : 57) {
        memset(value, 'v', n);
        value[n] = '\0';
        start("200 OK");
        add("X", value);
        request(1, false, true);
        make_head(3);
        snprintf(expected, sizeof expected, HEAD("200 OK") "X: %s\r\nContent-Length: 3\r\n\r\n", value);
        assert_out(expected);
    }
}

static void test_empty_reason(void **state)
{
    (void)state;
    start("404");
    request(1, false, true);
    make_head(0);
    assert_out(HEAD("404 ") "Content-Length: 0\r\n\r\n");
}

/* ---- blocks ---- */

static void test_blocks(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1, 9, 10, 15, 16, 255, 256, 0xabcdef, 1ull << 32, UINT64_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char expected[32];
        fm_buf_fini(&out);
        fm_h1_framer.before_block(&f, sizes[i], &out);
        snprintf(expected, sizeof expected, "%llx\r\n", (unsigned long long)sizes[i]);
        assert_out(expected);
    }
    struct iovec behind = fm_h1_framer.after_block(&f);
    assert_int_equal(behind.iov_len, 2);
    assert_memory_equal(behind.iov_base, "\r\n", 2);
    fm_buf_fini(&out);
    fm_h1_framer.end(&f, &out);
    assert_out("0\r\n\r\n");
}

/* ---- answers of the server itself ---- */

/* The answer with its Date taken out, after a look at it. */
static const char *plain(int status, bool is_head)
{
    static char text[FM_H1_PLAIN_SIZE + 1];
    size_t n = fm_h1_plain(text, status, is_head);
    assert_true(n > 0);
    text[n] = '\0';
    char *date = strstr(text, "Date: "), *end = date ? strstr(date, "\r\n") : NULL;
    assert_non_null(end);
    assert_int_equal(end - date, 6 + FM_HTTP_DATE_LEN);
    assert_memory_equal(end - 4, " GMT", 4);
    memmove(date, end + 2, strlen(end + 2) + 1);
    return text;
}

static void test_plain(void **state)
{
    (void)state;
    for (int is_head = 0; is_head < 2; is_head++) {
        char expected[256];
        snprintf(expected, sizeof expected,
                 "HTTP/1.1 504 Gateway Timeout\r\n" FM_SERVER_FIELD "Content-Type: text/plain\r\nContent-Length: 16\r\n"
                 "Connection: close\r\n\r\n%s",
                 is_head ? "" : "Gateway Timeout\n");
        assert_string_equal(plain(504, is_head), expected);
        assert_int_equal(fm_h1_plain_body(504, is_head), is_head ? 0 : 16);
    }
    /* Only what passes says when to come again. */
    assert_string_equal(plain(503, false),
                        "HTTP/1.1 503 Service Unavailable\r\n" FM_SERVER_FIELD "Content-Type: text/plain\r\n"
                        "Content-Length: 20\r\nRetry-After: 1\r\nConnection: close\r\n\r\nService Unavailable\n");
    for (int status = 200; status < 600; status++)
        assert_true(strstr(plain(status, false), "\r\n\r\n") != NULL);
}

#define TEST(name) cmocka_unit_test_teardown(name, fini)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_framing),  TEST(test_the_application_closes),
        TEST(test_any_size), TEST(test_empty_reason),
        TEST(test_blocks),   TEST(test_plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Response heads: what an application may say, what is dropped, and how a head is completed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "fermata/http/response.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"

#define SERVER "Server: fermata/" FM_VERSION "\r\n"

static struct fm_response r;

static int fini(void **state)
{
    (void)state;
    fm_response_fini(&r);
    r = (struct fm_response){.length = -1};
    return 0;
}

static int start_with(const char *status)
{
    const char *why = NULL;
    int rc = fm_response_start(&r, status, strlen(status), &why);
    assert_int_equal(why != NULL, rc != 0);
    return rc;
}

static int add(const char *name, const char *value)
{
    const char *why = NULL;
    int rc = fm_response_add(&r, name, strlen(name), value, strlen(value), &why);
    assert_int_equal(why != NULL, rc == FM_EINVAL);
    return rc;
}

static void assert_head(const char *expected)
{
    fm_buf_append(&r.head, "", 1);
    assert_string_equal(fm_buf_head(&r.head), expected);
    r.head.len--;
}

/* The head with its Date taken out, after a look at it. */
static const char *without_date(struct fm_buf *b)
{
    fm_buf_append(b, "", 1);
    char *head = fm_buf_head(b), *date = strstr(head, "Date: "), *end = date ? strstr(date, "\r\n") : NULL;
    b->len--;
    assert_non_null(end);
    assert_int_equal(end - date, 6 + FM_HTTP_DATE_LEN);
    assert_memory_equal(end - 4, " GMT", 4);
    assert_null(strstr(end, "Date: "));
    memmove(date, end + 2, strlen(end + 2) + 1);
    return head;
}

/* ---- status ---- */

static void test_status(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int status;
    } cases[] = {
        {"200 OK", 200},   {"404 Not Found", 404}, {"599 x", 599},          {"299 ", 299},
        {"200 \tOK", 200}, {"999 Nine", 999},      {"304 N\xc3\xb6t", 304},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[64];
        assert_int_equal(start_with(cases[i].text), 0);
        assert_int_equal(r.status, cases[i].status);
        snprintf(expected, sizeof expected, "HTTP/1.1 %s\r\n", cases[i].text);
        assert_head(expected);
        assert_int_equal(r.length, -1);
        fini(state);
    }
}

/* RFC 9112, 4: the reason may be empty, the space before it stays. */
static void test_status_without_reason(void **state)
{
    (void)state;
    assert_int_equal(start_with("200"), 0);
    assert_int_equal(r.status, 200);
    assert_head("HTTP/1.1 200 \r\n");
    assert_int_equal(start_with("404"), 0);
    assert_int_equal(add("X-A", "b"), 0);
    assert_head("HTTP/1.1 404 \r\nX-A: b\r\n");
}

static void test_bad_status(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "20",
        "20 OK",
        "2000 OK",
        "200OK",
        "abc OK",
        " 200 OK",
        "100 Continue",
        "101 Switching Protocols",
        "199 x",
        "099 x",
        "-20 x",
        "+20 x",
        "2a0 x",
        "200\tOK",
        "200 OK\r\nX: y",
        "200 O\nK",
        "200 O\rK",
        "200 \x01",
        "200 \x7f",
        "\xb2\xb0\xb0 OK",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (start_with(cases[i]) != FM_EINVAL)
            fail_msg("accepted: \"%s\"", cases[i]);
    const char *why = NULL;
    assert_int_equal(fm_response_start(&r, "200 O\0K", 7, &why), FM_EINVAL);
    assert_non_null(why);
}

static void test_starts_over(void **state)
{
    (void)state;
    assert_int_equal(start_with("200 OK"), 0);
    assert_int_equal(add("Content-Length", "5"), 0);
    assert_int_equal(add("Date", "today"), 0);
    assert_int_equal(add("Server", "x"), 0);
    assert_int_equal(add("Connection", "close"), 0);
    assert_int_equal(start_with("500 Oops"), 0);
    assert_head("HTTP/1.1 500 Oops\r\n");
    assert_int_equal(r.length, -1);
    assert_false(r.has_date || r.has_server || r.close);
    assert_int_equal(add("Content-Length", "6"), 0);
    assert_int_equal(r.length, 6);
}

/* ---- fields ---- */

static void test_fields(void **state)
{
    (void)state;
    assert_int_equal(start_with("200 OK"), 0);
    assert_int_equal(add("Content-Type", "text/html; charset=utf-8"), 0);
    assert_int_equal(add("X-Empty", ""), 0);
    assert_int_equal(add("Set-Cookie", "a=1"), 0);
    assert_int_equal(add("set-cookie", "b=2; \"\t\xff"), 0);
    assert_int_equal(add("t!#$%&'*+-.^_`|~9", " v "), 0);
    assert_head("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nX-Empty: \r\nSet-Cookie: a=1\r\n"
                "set-cookie: b=2; \"\t\xff\r\nt!#$%&'*+-.^_`|~9:  v \r\n");
    fini(state);
    assert_int_equal(start_with("200 OK"), 0);
    char value[5001];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    assert_int_equal(add("X-Long", value), 0);
    assert_int_equal(fm_buf_size(&r.head), 17 + 8 + 5000 + 2);
}

/* Nothing that ends a line early, in a name or in a value, at any place; and nothing is left of a refused field. */
static void test_bad_fields(void **state)
{
    (void)state;
    static const char tchar[] = "!#$%&'*+-.^_`|~0123456789"
                                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"; /* RFC 9110, 5.6.2 */
    assert_int_equal(start_with("200 OK"), 0);
    for (unsigned c = 0; c < 256; c++) {
        const char *why = NULL;
        char byte = (char)c;
        for (size_t pos = 0; pos < 3; pos++) {
            char name[] = "abc", value[] = "abc";
            name[pos] = value[pos] = byte;
            size_t len = fm_buf_size(&r.head);
            bool token = c < 0x80 && byte && strchr(tchar, (int)c);
            assert_int_equal(fm_response_add(&r, name, 3, "v", 1, &why), token ? 0 : FM_EINVAL);
            assert_int_equal(fm_buf_size(&r.head) - len, token ? 8 : 0);
            len = fm_buf_size(&r.head);
            bool text = c == '\t' || (c >= ' ' && c != 0x7f);
            assert_int_equal(fm_response_add(&r, "n", 1, value, 3, &why), text ? 0 : FM_EINVAL);
            assert_int_equal(fm_buf_size(&r.head) - len, text ? 8 : 0);
        }
    }
    assert_int_equal(add("", "v"), FM_EINVAL);
    assert_int_equal(add("X", "a\r\nSet-Cookie: b"), FM_EINVAL);
    assert_int_equal(add("Date", "a\nb"), FM_EINVAL);
    assert_false(r.has_date);
    assert_int_equal(add("Transfer-Encoding", "a\nb"), FM_EINVAL); /* dropping it would hide the mistake */
}

static void test_hop_by_hop(void **state)
{
    (void)state;
    static const char *const names[] = {
        "Connection", "keep-alive", "Keep-Alive", "Proxy-Authenticate", "PROXY-AUTHORIZATION", "proxy-connection",
        "TE",         "Trailer",    "Trailers",   "Transfer-Encoding",  "transfer-encodinG",   "Upgrade",
    };
    assert_int_equal(start_with("200 OK"), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(add(names[i], "x"), 1);
    assert_head("HTTP/1.1 200 OK\r\n");
    static const char *const others[] = {"T", "TEE", "Upgrades", "X-Upgrade", "Keep_Alive", "Connectio", "Trailerss"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(add(others[i], "x"), 0);
}

static void test_connection(void **state)
{
    (void)state;
    const struct {
        const char *value;
        bool close;
    } cases[] = {
        {"close", true},      {"Close", true},    {"keep-alive, CLOSE", true},
        {"a,close,b", true},  {" close\t", true}, {"keep-alive", false},
        {"", false},          {",,", false},      {"closed", false},
        {"not-close", false}, {"clos", false},    {"close;x", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(start_with("200 OK"), 0);
        assert_int_equal(add("Connection", cases[i].value), cases[i].close ? 0 : 1);
        assert_int_equal(r.close, cases[i].close);
        assert_head("HTTP/1.1 200 OK\r\n"); /* it is written at the end, by the server's own decision */
    }
}

static void test_content_length(void **state)
{
    (void)state;
    const struct {
        const char *value;
        int64_t length;
    } good[] = {{"0", 0}, {"1", 1}, {"007", 7}, {"4294967296", 4294967296}, {"999999999999999999", 999999999999999999}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char expected[64];
        assert_int_equal(start_with("200 OK"), 0);
        assert_int_equal(add("content-LENGTH", good[i].value), 0);
        assert_int_equal(r.length, good[i].length);
        snprintf(expected, sizeof expected, "HTTP/1.1 200 OK\r\ncontent-LENGTH: %s\r\n", good[i].value);
        assert_head(expected);
        assert_int_equal(add("Content-Length", good[i].value), 0); /* repeated, it is said once */
        assert_int_equal(add("Content-Length", "12345"), FM_EINVAL);
        assert_int_equal(r.length, good[i].length);
        assert_head(expected);
    }
    static const char *const blanks[] = {"7", " 7", "7 ", "\t 7 \t", "007"};
    assert_int_equal(start_with("200 OK"), 0);
    for (size_t i = 0; i < sizeof blanks / sizeof *blanks; i++)
        assert_int_equal(add("Content-Length", blanks[i]), 0);
    assert_int_equal(r.length, 7);
    assert_head("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n");
    assert_int_equal(start_with("200 OK"), 0);
    assert_int_equal(add("Content-Length", " \t7\t"), 0);
    assert_head("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n");
    static const char *const bad[] = {"",
                                      " ",
                                      "-1",
                                      "+1",
                                      "\t",
                                      "1 1",
                                      "1,1",
                                      "1, 1",
                                      "0x10",
                                      "1.0",
                                      "1e3",
                                      "ten",
                                      "\xb2",
                                      "9223372036854775808",
                                      "1000000000000000000000"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(start_with("200 OK"), 0);
        if (add("Content-Length", bad[i]) != FM_EINVAL)
            fail_msg("accepted: \"%s\"", bad[i]);
        assert_int_equal(r.length, -1);
        assert_head("HTTP/1.1 200 OK\r\n");
    }
    assert_int_equal(start_with("204 No Content"), 0);
    assert_int_equal(add("Content-Length", "5"), 0); /* RFC 9110, 8.6: not sent */
    assert_head("HTTP/1.1 204 No Content\r\n");
    assert_int_equal(start_with("304 Not Modified"), 0);
    assert_int_equal(add("Content-Length", "5"), 0); /* of what was not sent: allowed */
    assert_head("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n");
}

/* ---- the end ---- */

static void test_finish(void **state)
{
    (void)state;
    const struct {
        enum fm_framing framing;
        int64_t length;
        bool keep;
        int minor;
        const char *rest;
    } cases[] = {
        {FM_FRAME_LENGTH, 0, true, 1, "Content-Length: 0\r\n"},
        {FM_FRAME_LENGTH, 12345, true, 1, "Content-Length: 12345\r\n"},
        {FM_FRAME_LENGTH, INT64_MAX, true, 1, "Content-Length: 9223372036854775807\r\n"},
        {FM_FRAME_LENGTH, 5, false, 1, "Content-Length: 5\r\nConnection: close\r\n"},
        {FM_FRAME_LENGTH, 5, true, 0, "Content-Length: 5\r\nConnection: keep-alive\r\n"},
        {FM_FRAME_LENGTH, 5, false, 0, "Content-Length: 5\r\nConnection: close\r\n"},
        {FM_FRAME_CHUNKED, -1, true, 1, "Transfer-Encoding: chunked\r\n"},
        {FM_FRAME_CHUNKED, -1, false, 1, "Transfer-Encoding: chunked\r\nConnection: close\r\n"},
        {FM_FRAME_CLOSE, -1, false, 0, "Connection: close\r\n"},
        {FM_FRAME_NONE, -1, true, 1, ""},
        {FM_FRAME_NONE, 7, true, 1, "Content-Length: 7\r\n"}, /* HEAD */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[256];
        assert_int_equal(start_with("200 OK"), 0);
        fm_response_finish(&r, cases[i].framing, cases[i].length, cases[i].keep, cases[i].minor);
        snprintf(expected, sizeof expected, "HTTP/1.1 200 OK\r\n" SERVER "%s\r\n", cases[i].rest);
        assert_string_equal(without_date(&r.head), expected);
    }
}

static void test_finish_keeps_what_was_given(void **state)
{
    (void)state;
    assert_int_equal(start_with("200 OK"), 0);
    assert_int_equal(add("date", "yesterday"), 0);
    assert_int_equal(add("SERVER", "mine"), 0);
    assert_int_equal(add("Content-Length", "3"), 0);
    fm_response_finish(&r, FM_FRAME_LENGTH, 3, true, 1);
    assert_head("HTTP/1.1 200 OK\r\ndate: yesterday\r\nSERVER: mine\r\nContent-Length: 3\r\n\r\n");
}

static void test_statuses_with_a_body(void **state)
{
    (void)state;
    for (int status = 200; status < 1000; status++)
        assert_int_equal(fm_status_has_body(status), status != 204 && status != 205 && status != 304);
}

static void test_reasons(void **state)
{
    (void)state;
    const struct {
        int status;
        const char *reason;
    } cases[] = {
        {400, "Bad Request"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {417, "Expectation Failed"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {200, "OK"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(fm_status_reason(cases[i].status), cases[i].reason);
    assert_true(*fm_status_reason(418) != '\0');
}

static void test_plain(void **state)
{
    (void)state;
    struct fm_buf b = FM_BUF_INIT;
    for (int is_head = 0; is_head < 2; is_head++) {
        char answer[FM_PLAIN_SIZE], expected[256];
        fm_buf_clear(&b);
        fm_buf_append(&b, answer, fm_response_plain(answer, 504, is_head));
        const char *text = without_date(&b);
        snprintf(expected, sizeof expected,
                 "HTTP/1.1 504 Gateway Timeout\r\n" SERVER "Content-Type: text/plain\r\nContent-Length: 16\r\n"
                 "Connection: close\r\n\r\n%s",
                 is_head ? "" : "Gateway Timeout\n");
        assert_string_equal(text, expected);
    }
    fm_buf_clear(&b);
    char answer[FM_PLAIN_SIZE];
    fm_buf_append(&b, answer, fm_response_plain(answer, 503, false)); /* only what passes says when to come again */
    assert_string_equal(without_date(&b), "HTTP/1.1 503 Service Unavailable\r\n" SERVER "Content-Type: text/plain\r\n"
                                          "Content-Length: 20\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
                                          "Service Unavailable\n");
    fm_buf_fini(&b);
}

#define TEST(name) cmocka_unit_test_teardown(name, fini)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_status),
        TEST(test_status_without_reason),
        TEST(test_bad_status),
        TEST(test_starts_over),
        TEST(test_fields),
        TEST(test_bad_fields),
        TEST(test_hop_by_hop),
        TEST(test_connection),
        TEST(test_content_length),
        TEST(test_finish),
        TEST(test_finish_keeps_what_was_given),
        TEST(test_statuses_with_a_body),
        TEST(test_reasons),
        TEST(test_plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

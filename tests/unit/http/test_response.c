/* Status and fields of a response: what an application may say, what is dropped, what is added. */
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

static void assert_lines(const char *expected)
{
    fm_buf_append(&r.lines, "", 1);
    assert_string_equal(fm_buf_head(&r.lines), expected);
    r.lines.len--;
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
        snprintf(expected, sizeof expected, "%s\r\n", cases[i].text);
        assert_lines(expected);
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
    assert_lines("200 \r\n");
    assert_int_equal(start_with("404"), 0);
    assert_int_equal(add("X-A", "b"), 0);
    assert_lines("404 \r\nX-A: b\r\n");
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
    assert_lines("500 Oops\r\n");
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
    assert_lines("200 OK\r\nContent-Type: text/html; charset=utf-8\r\nX-Empty: \r\nSet-Cookie: a=1\r\n"
                 "set-cookie: b=2; \"\t\xff\r\nt!#$%&'*+-.^_`|~9:  v \r\n");
    fini(state);
    assert_int_equal(start_with("200 OK"), 0);
    char value[5001];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    assert_int_equal(add("X-Long", value), 0);
    assert_int_equal(fm_buf_size(&r.lines), 8 + 8 + 5000 + 2);
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
            size_t len = fm_buf_size(&r.lines);
            bool token = c < 0x80 && byte && strchr(tchar, (int)c);
            assert_int_equal(fm_response_add(&r, name, 3, "v", 1, &why), token ? 0 : FM_EINVAL);
            assert_int_equal(fm_buf_size(&r.lines) - len, token ? 8 : 0);
            len = fm_buf_size(&r.lines);
            bool text = c == '\t' || (c >= ' ' && c != 0x7f);
            assert_int_equal(fm_response_add(&r, "n", 1, value, 3, &why), text ? 0 : FM_EINVAL);
            assert_int_equal(fm_buf_size(&r.lines) - len, text ? 8 : 0);
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
    assert_lines("200 OK\r\n");
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
        assert_lines("200 OK\r\n"); /* it is the framer's to say, by the server's own decision */
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
        snprintf(expected, sizeof expected, "200 OK\r\ncontent-LENGTH: %s\r\n", good[i].value);
        assert_lines(expected);
        assert_int_equal(add("Content-Length", good[i].value), 0); /* repeated, it is said once */
        assert_int_equal(add("Content-Length", "12345"), FM_EINVAL);
        assert_int_equal(r.length, good[i].length);
        assert_lines(expected);
    }
    static const char *const blanks[] = {"7", " 7", "7 ", "\t 7 \t", "007"};
    assert_int_equal(start_with("200 OK"), 0);
    for (size_t i = 0; i < sizeof blanks / sizeof *blanks; i++)
        assert_int_equal(add("Content-Length", blanks[i]), 0);
    assert_int_equal(r.length, 7);
    assert_lines("200 OK\r\nContent-Length: 7\r\n");
    assert_int_equal(start_with("200 OK"), 0);
    assert_int_equal(add("Content-Length", " \t7\t"), 0);
    assert_lines("200 OK\r\nContent-Length: 7\r\n");
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
        assert_lines("200 OK\r\n");
    }
    assert_int_equal(start_with("204 No Content"), 0);
    assert_int_equal(add("Content-Length", "5"), 0); /* RFC 9110, 8.6: not sent */
    assert_lines("204 No Content\r\n");
    assert_int_equal(start_with("304 Not Modified"), 0);
    assert_int_equal(add("Content-Length", "5"), 0); /* of what was not sent: allowed */
    assert_lines("304 Not Modified\r\nContent-Length: 5\r\n");
}

/* ---- names and values, for a framer that does not take lines ---- */

static void test_iteration(void **state)
{
    (void)state;
    static const char *const fields[][2] = {
        {"Content-Type", "text/html; charset=utf-8"},
        {"X-Empty", ""},
        {"a", "b:c: d"},
        {"Set-Cookie", " padded\t"},
        {"Content-Length", "5"},
    };
    assert_int_equal(start_with("200 O: K"), 0);
    struct fm_response_fields it = fm_response_fields(&r);
    assert_false(fm_response_next(&it));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        assert_int_equal(add(fields[i][0], fields[i][1]), 0);
        assert_int_equal(add("Upgrade", "dropped"), 1);
    }
    it = fm_response_fields(&r);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        assert_true(fm_response_next(&it));
        assert_int_equal(it.name_len, strlen(fields[i][0]));
        assert_memory_equal(it.name, fields[i][0], it.name_len);
        assert_int_equal(it.value_len, strlen(fields[i][1]));
        assert_memory_equal(it.value, fields[i][1], it.value_len);
    }
    assert_false(fm_response_next(&it));
    assert_false(fm_response_next(&it));
}

/* ---- what every response says ---- */

static void test_complete(void **state)
{
    (void)state;
    const struct {
        int64_t length;
        const char *rest;
    } cases[] = {
        {0, "Content-Length: 0\r\n"},
        {12345, "Content-Length: 12345\r\n"},
        {INT64_MAX, "Content-Length: 9223372036854775807\r\n"},
        {-1, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[256];
        assert_int_equal(start_with("200 OK"), 0);
        fm_response_complete(&r, cases[i].length);
        snprintf(expected, sizeof expected, "200 OK\r\n" FM_SERVER_FIELD "Date: %s\r\n%s", fm_http_date(),
                 cases[i].rest);
        if (strncmp(fm_buf_head(&r.lines), expected, fm_buf_size(&r.lines)) != 0) /* a second has passed */
            snprintf(expected, sizeof expected, "200 OK\r\n" FM_SERVER_FIELD "Date: %s\r\n%s", fm_http_date(),
                     cases[i].rest);
        assert_lines(expected);
    }
}

static void test_complete_keeps_what_was_given(void **state)
{
    (void)state;
    assert_int_equal(start_with("200 OK"), 0);
    assert_int_equal(add("date", "yesterday"), 0);
    assert_int_equal(add("SERVER", "mine"), 0);
    assert_int_equal(add("Content-Length", "3"), 0);
    fm_response_complete(&r, 3);
    assert_lines("200 OK\r\ndate: yesterday\r\nSERVER: mine\r\nContent-Length: 3\r\n");
}

/* ---- statuses ---- */

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
        TEST(test_iteration),
        TEST(test_complete),
        TEST(test_complete_keeps_what_was_given),
        TEST(test_statuses_with_a_body),
        TEST(test_reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The strict reading of lines.  What whole requests show is in tests/http; here are the tables behind it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "fermata/util/err.h"
#include "http/h1/strict.h"

/* ---- lines ---- */

static int line(const char *text, size_t len, size_t limit, size_t *seen, enum fm_refusal *why)
{
    char *exact = malloc(len ? len : 1); /* a sanitizer sees a byte read after it */
    memcpy(exact, text, len);
    int rc = fm_strict_line(exact, len, limit, seen, why);
    free(exact);
    return rc;
}

static void test_line_results(void **state)
{
    (void)state;
    const struct {
        const char *text;
        size_t limit, seen;
        int rc;
        enum fm_refusal why;
    } cases[] = {
        {"", 10, 0, 0, 0},
        {"\r", 10, 0, 0, 0},
        {"\r\n", 0, 0, 1, 0},
        {"abc\r\n", 3, 3, 1, 0},
        {"abc\r\nxyz", 10, 3, 1, 0},
        {"abc\r", 3, 3, 0, 0},
        {"abc", 3, 3, 0, 0},
        {"abcd", 3, 4, FM_ELIMIT, 0},
        {"a\tb c\xff\x80\r\n", 10, 7, 1, 0},
        {"abc\n", 10, 3, FM_EINVAL, FM_REFUSE_BARE_LF},
        {"abc\r\r\n", 10, 3, FM_EINVAL, FM_REFUSE_BARE_CR},
        {"abc\x01", 10, 3, FM_EINVAL, FM_REFUSE_CONTROL_CHAR},
        {"abc\x7f", 10, 3, FM_EINVAL, FM_REFUSE_CONTROL_CHAR},
        {"abc\x01", 3, 3, FM_EINVAL, FM_REFUSE_CONTROL_CHAR},
        {"abcd\x01", 3, 4, FM_ELIMIT, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum fm_refusal why = FM_REFUSE_NOTHING;
        size_t seen = 0;
        assert_int_equal(line(cases[i].text, strlen(cases[i].text), cases[i].limit, &seen, &why), cases[i].rc);
        assert_int_equal(why, cases[i].why);
        assert_int_equal(seen, cases[i].seen);
    }
}

/* Every byte at every offset of the eight that are looked at together, with every neighbour. */
static void test_line_every_byte(void **state)
{
    (void)state;
    char text[24];
    for (unsigned c = 0; c < 256; c++)
        for (size_t pos = 0; pos < 18; pos++)
            for (unsigned fill = 0; fill < 3; fill++) {
                enum fm_refusal why = FM_REFUSE_NOTHING;
                size_t seen = 0;
                bool ok = c == '\t' || (c >= ' ' && c != 0x7f);
                memset(text, "a\x80\t"[fill], sizeof text);
                text[pos] = (char)c;
                text[22] = '\r';
                text[23] = '\n';
                assert_int_equal(line(text, sizeof text, 100, &seen, &why), ok ? 1 : FM_EINVAL);
                assert_int_equal(seen, ok ? 22 : pos);
            }
}

static void test_line_resumes(void **state)
{
    (void)state;
    const char text[] = "GET /something\tlonger than eight bytes\r\n";
    size_t len = sizeof text - 1, seen = 0;
    enum fm_refusal why = FM_REFUSE_NOTHING;
    for (size_t n = 0; n < len; n++) {
        assert_int_equal(line(text, n, 100, &seen, &why), 0);
        assert_int_equal(seen, n < len - 1 ? n : len - 2);
    }
    assert_int_equal(line(text, len, 100, &seen, &why), 1);
    assert_int_equal(seen, len - 2);
}

/* ---- request lines ---- */

static void assert_span(const char *text, struct fm_span s, const char *value)
{
    assert_int_equal(s.len, strlen(value));
    assert_memory_equal(text + s.off, value, s.len);
}

static void test_request_line_parts(void **state)
{
    (void)state;
    const struct {
        const char *text, *method, *target, *path, *query, *authority;
        int minor;
    } cases[] = {
        {"GET / HTTP/1.1", "GET", "/", "/", "", "", 1},
        {"GET / HTTP/1.2", "GET", "/", "/", "", "", 1},
        {"GET / HTTP/1.9", "GET", "/", "/", "", "", 1},
        {"M-SEARCH /a?b?c HTTP/1.0", "M-SEARCH", "/a?b?c", "/a", "b?c", "", 0},
        {"GET /? HTTP/1.1", "GET", "/?", "/", "", "", 1},
        {"OPTIONS * HTTP/1.1", "OPTIONS", "*", "*", "", "", 1},
        {"GET http://a HTTP/1.1", "GET", "http://a", "/", "", "a", 1},
        {"GET http://a:1/b?c/d HTTP/1.1", "GET", "http://a:1/b?c/d", "/b", "c/d", "a:1", 1},
        {"GET hTTps://a?c HTTP/1.1", "GET", "hTTps://a?c", "/", "c", "a", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_request_line out;
        const char *text = cases[i].text;
        assert_int_equal(fm_strict_request_line(text, strlen(text), &out), FM_REFUSE_NOTHING);
        assert_span(text, out.method, cases[i].method);
        assert_span(text, out.target, cases[i].target);
        assert_span(text, out.path, cases[i].path);
        assert_span(text, out.query, cases[i].query);
        assert_span(text, out.authority, cases[i].authority);
        assert_int_equal(out.minor, cases[i].minor);
    }
}

static void test_request_line_refusals(void **state)
{
    (void)state;
    const struct {
        const char *text;
        enum fm_refusal why;
    } cases[] = {
        {"", FM_REFUSE_BAD_REQUEST_LINE},
        {" ", FM_REFUSE_BAD_METHOD},
        {"GET", FM_REFUSE_BAD_REQUEST_LINE},
        {"GET ", FM_REFUSE_BAD_REQUEST_LINE},
        {"GET /", FM_REFUSE_BAD_REQUEST_LINE},
        {"GET / ", FM_REFUSE_BAD_VERSION},
        {"GET  HTTP/1.1", FM_REFUSE_BAD_REQUEST_LINE},
        {"GET / HTTP/1.1 ", FM_REFUSE_BAD_VERSION},
        {"GET /\t HTTP/1.1", FM_REFUSE_BAD_TARGET},
        {"GET # HTTP/1.1", FM_REFUSE_BAD_TARGET},
        {"GET / HTTP/2.0", FM_REFUSE_VERSION_NOT_SUPPORTED},
        {"GET / HTTP/2.0", FM_REFUSE_VERSION_NOT_SUPPORTED},
        {"CONNECT a:1 HTTP/1.1", FM_REFUSE_CONNECT},
        {"CONNECT a:1 HTTP/2.0", FM_REFUSE_VERSION_NOT_SUPPORTED},
        {"GET h HTTP/1.1", FM_REFUSE_BAD_TARGET},
        {"GET http:/ HTTP/1.1", FM_REFUSE_BAD_TARGET},
        {"GET http:// HTTP/1.1", FM_REFUSE_BAD_HOST},
        {"GET http://?a HTTP/1.1", FM_REFUSE_BAD_HOST},
        {"GET https//a HTTP/1.1", FM_REFUSE_BAD_TARGET},
        {"OPTIONS *? HTTP/1.1", FM_REFUSE_BAD_TARGET},
        {"OPTIONSX * HTTP/1.1", FM_REFUSE_BAD_TARGET},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_request_line out;
        assert_int_equal(fm_strict_request_line(cases[i].text, strlen(cases[i].text), &out), cases[i].why);
    }
}

/* ---- fields ---- */

static void test_fields(void **state)
{
    (void)state;
    const struct {
        const char *text;
        enum fm_refusal why;
        size_t name_len;
        const char *value;
    } cases[] = {
        {"a:", FM_REFUSE_NOTHING, 1, ""},
        {"Content-Length: 5", FM_REFUSE_NOTHING, 14, "5"},
        {"a_b:c:d", FM_REFUSE_NOTHING, 3, "c:d"},
        {"a: \t b \tc\t ", FM_REFUSE_NOTHING, 1, "b \tc"},
        {"a: \t", FM_REFUSE_NOTHING, 1, ""},
        {"a", FM_REFUSE_BAD_FIELD_NAME, 0, NULL},
        {":", FM_REFUSE_BAD_FIELD_NAME, 0, NULL},
        {": b", FM_REFUSE_BAD_FIELD_NAME, 0, NULL},
        {"a/b: c", FM_REFUSE_BAD_FIELD_NAME, 0, NULL},
        {" a: b", FM_REFUSE_OBS_FOLD, 0, NULL},
        {"\ta", FM_REFUSE_OBS_FOLD, 0, NULL},
        {"a : b", FM_REFUSE_SPACE_BEFORE_COLON, 0, NULL},
        {"a\t:", FM_REFUSE_SPACE_BEFORE_COLON, 0, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_field f;
        assert_int_equal(fm_strict_field(cases[i].text, strlen(cases[i].text), &f), cases[i].why);
        if (cases[i].why != FM_REFUSE_NOTHING)
            continue;
        assert_int_equal(f.name_len, cases[i].name_len);
        assert_int_equal(f.value_len, strlen(cases[i].value));
        assert_memory_equal(cases[i].text + f.value_off, cases[i].value, f.value_len);
    }
}

static void test_lengths(void **state)
{
    (void)state;
    int64_t n = 0;
    assert_true(fm_strict_length("0", 1, &n) && n == 0);
    assert_true(fm_strict_length("0012", 4, &n) && n == 12);
    assert_true(fm_strict_length("9223372036854775807", 19, &n) && n == INT64_MAX);
    static const char *const bad[] = {"", "9223372036854775808", "18446744073709551617", "-1", "+1", "1 ", " 1", "1,1",
                                      "a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(fm_strict_length(bad[i], strlen(bad[i]), &n));
}

static void test_items(void **state)
{
    (void)state;
    const struct {
        const char *text, *joined;
    } cases[] = {
        {"", "<>"}, {"a", "<a>"}, {"a,b", "<a><b>"}, {" a\t, b c ,", "<a><b c><>"}, {",", "<><>"}, {" , ", "<><>"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char joined[64] = "";
        for (struct fm_items it = fm_items_of(cases[i].text, strlen(cases[i].text)); fm_items_next(&it);) {
            strcat(joined, "<");
            strncat(joined, it.item, it.len);
            strcat(joined, ">");
        }
        assert_string_equal(joined, cases[i].joined);
    }
}

/* ---- chunks ---- */

static void test_chunks(void **state)
{
    (void)state;
    const struct {
        const char *text;
        enum fm_refusal why;
        uint64_t size;
    } cases[] = {
        {"0", FM_REFUSE_NOTHING, 0},
        {"1aF", FM_REFUSE_NOTHING, 0x1af},
        {"00000000000000000000000000001", FM_REFUSE_NOTHING, 1},
        {"7fffffffffffffff", FM_REFUSE_NOTHING, INT64_MAX},
        {"5;a", FM_REFUSE_NOTHING, 5},
        {"5;a;b=c;d=\"\"", FM_REFUSE_NOTHING, 5},
        {"5;a=\"x\\\"y\";b", FM_REFUSE_NOTHING, 5},
        {"5\t;\ta\t=\t\"b\"\t;c", FM_REFUSE_NOTHING, 5},
        {"", FM_REFUSE_BAD_CHUNK, 0},
        {";a", FM_REFUSE_BAD_CHUNK, 0},
        {"g", FM_REFUSE_BAD_CHUNK, 0},
        {"0x5", FM_REFUSE_BAD_CHUNK, 0},
        {"+5", FM_REFUSE_BAD_CHUNK, 0},
        {"5 ", FM_REFUSE_BAD_CHUNK, 0},
        {"5 5", FM_REFUSE_BAD_CHUNK, 0},
        {"8000000000000000", FM_REFUSE_BAD_CHUNK, 0},
        {"ffffffffffffffffff", FM_REFUSE_BAD_CHUNK, 0},
        {"5;", FM_REFUSE_BAD_CHUNK_EXT, 0},
        {"5;;a", FM_REFUSE_BAD_CHUNK_EXT, 0},
        {"5;=a", FM_REFUSE_BAD_CHUNK_EXT, 0},
        {"5;a=", FM_REFUSE_BAD_CHUNK_EXT, 0},
        {"5;a=;b", FM_REFUSE_BAD_CHUNK_EXT, 0},
        {"5;a=\"", FM_REFUSE_BAD_CHUNK_EXT, 0},
        {"5;a=\"\\", FM_REFUSE_BAD_CHUNK_EXT, 0},
        {"5;a=\"b\"c", FM_REFUSE_BAD_CHUNK_EXT, 0},
        {"5;a b", FM_REFUSE_BAD_CHUNK_EXT, 0},
        {"5;a ", FM_REFUSE_BAD_CHUNK_EXT, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t size = 0;
        enum fm_refusal why = fm_strict_chunk(cases[i].text, strlen(cases[i].text), &size);
        if (why != cases[i].why)
            fail_msg("%s: %d", cases[i].text, why);
        assert_int_equal(size, cases[i].size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_results),
        cmocka_unit_test(test_line_every_byte),
        cmocka_unit_test(test_line_resumes),
        cmocka_unit_test(test_request_line_parts),
        cmocka_unit_test(test_request_line_refusals),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Lines of the access log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fermata/http/headers.h"
#include "fermata/http/logformat.h"
#include "fermata/util/clock.h"

#define LINE "GET /a%20b?c=d HTTP/1.1\r\n"
static const char head[] = LINE "Referer: http://e/\"\r\nUser-Agent: wget\xff\\\r\nX-Id: 1\r\nX-ID: 2\r\n"
                                "Authorization: Basic YW5uYTpzZWNyZXQ=\r\n\r\n";

static struct fm_request *make(void)
{
    static const char *const names[] = {"Referer", "User-Agent", "X-Id", "X-ID", "Authorization"};
    struct fm_field fields[5];
    for (unsigned i = 0; i < 5; i++) {
        const char *at = strstr(head, names[i]), *value = strchr(at, ':') + 2;
        fields[i] = (struct fm_field){.name_off = (uint32_t)(at - head),
                                      .name_len = (uint16_t)strlen(names[i]),
                                      .value_off = (uint32_t)(value - head),
                                      .value_len = (uint32_t)(strchr(value, '\r') - value),
                                      .id = (uint16_t)fm_header_lookup(names[i], strlen(names[i]))};
    }
    struct fm_request *r = fm_request_new(NULL, head, sizeof head - 1, fields, 5);
    r->minor = 1;
    r->method = (struct fm_span){0, 3};
    r->target = (struct fm_span){4, 10};
    r->path = (struct fm_span){4, 6};
    r->query = (struct fm_span){11, 3};
    return r;
}

static void check(const char *format, const struct fm_access_entry *e, const char *expected)
{
    const char *why = "";
    struct fm_buf line = FM_BUF_INIT;
    struct fm_logformat *f = fm_logformat_new(format, &why);
    if (!f)
        fail_msg("%s: %s", format, why);
    fm_logformat_line(f, &line, e, SIZE_MAX);
    fm_buf_append(&line, "", 1);
    size_t n = strlen(line.data);
    assert_int_equal(line.data[n - 1], '\n');
    line.data[n - 1] = '\0';
    if (strcmp(line.data, expected) != 0)
        fail_msg("%s makes\n%s instead of\n%s", format, line.data, expected);
    fm_buf_fini(&line);
    fm_logformat_free(f);
}

static void test_atoms(void **state)
{
    (void)state;
    struct fm_request *r = make();
    struct fm_access_entry e = {
        .remote = "192.0.2.1", .request = r, .status = 200, .bytes = 12, .took = 1234567890, .end = '+'};
    char pid[32];
    memcpy(r->made_id, "an-id", 5);
    r->id_len = 5;
    sprintf(pid, "<%ld>", (long)getpid());
    const struct {
        const char *format, *expected;
    } cases[] = {
        {"%(h)s", "192.0.2.1"},
        {"%(l)s", "-"},
        {"%(u)s", "anna"},
        {"%(r)s", "GET /a%20b?c=d HTTP/1.1"},
        {"%(m)s", "GET"},
        {"%(U)s", "/a%20b"},
        {"%(q)s", "c=d"},
        {"%(H)s", "HTTP/1.1"},
        {"%(s)s", "200"},
        {"%(B)s", "12"},
        {"%(b)s", "12"},
        {"%(f)s", "http://e/\\x22"},
        {"%(a)s", "wget\\xff\\x5c"},
        {"%(T)s", "1"},
        {"%(M)s", "1234"},
        {"%(D)s", "1234567"},
        {"%(L)s", "1.234567"},
        {"%(p)s", pid},
        {"%(X)s", "+"},
        {"%(request_id)s", "an-id"},
        {"%(trace_id)s", "-"},
        {"%({x-id}i)s", "1, 2"},
        {"%({Referer}i)s", "http://e/\\x22"},
        {"%({Cookie}i)s", "-"},
        {"a%%b%(s)s%%", "a%b200%"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(cases[i].format, &e, cases[i].expected);
    char expected[256];
    snprintf(expected, sizeof expected,
             "192.0.2.1 - anna [%s] \"GET /a%%20b?c=d HTTP/1.1\" 200 12 \"http://e/\\x22\" "
             "\"wget\\xff\\x5c\" +",
             fm_clf_date());
    check(FM_LOGFORMAT_DEFAULT, &e, expected);
    fm_request_free(r);
}

/* Of the field only the id of the trace. */
static void test_trace(void **state)
{
    (void)state;
    static const char of_trace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    struct fm_request *r = fm_request_new(NULL, of_trace, sizeof of_trace - 1, NULL, 0);
    struct fm_access_entry e = {.remote = "", .request = r, .status = 200, .end = '+'};
    struct fm_logformat *f = fm_logformat_json();
    struct fm_buf line = FM_BUF_INIT;
    r->trace_off = 3;
    check("%(trace_id)s", &e, "0af7651916cd43dd8448eb211c80319c");
    fm_logformat_line(f, &line, &e, SIZE_MAX);
    fm_buf_append(&line, "", 1);
    assert_non_null(strstr(line.data, ", \"trace_id\": \"0af7651916cd43dd8448eb211c80319c\"}\n"));
    fm_buf_fini(&line);
    fm_logformat_free(f);
    fm_request_free(r);
}

/* Refused before its head was whole. */
static void test_no_request(void **state)
{
    (void)state;
    struct fm_access_entry e = {.remote = "", .line = "GET\x01", .line_len = 4, .status = 400, .end = '-'};
    check("%(h)s %(u)s %(m)s %(U)s %(H)s %(b)s %(B)s %(f)s %({X}i)s %(X)s %(request_id)s %(trace_id)s", &e,
          "- - - - - - 0 - - - - -");
    check("%(r)s", &e, "GET\\x01");
    e.line_len = 0;
    check("%(r)s", &e, "-");
}

/* Where a line may only have so many bytes its texts are cut, and JSON stays JSON. */
static void test_long_lines(void **state)
{
    (void)state;
    static char large[9000];
    const char *why;
    struct fm_access_entry e = {
        .remote = "192.0.2.1", .line = large, .line_len = sizeof large, .status = 400, .end = '-'};
    struct fm_logformat *formats[] = {fm_logformat_json(), fm_logformat_new("%(r)s %(s)s", &why),
                                      fm_logformat_new("%(r)s%(r)s%(r)s%(r)s%(r)s%(r)s%(r)s%(r)s%(r)s%(r)s%(r)s%(r)s",
                                                       &why)};
    static const char *const ends[] = {"\\u0001...\", \"method\": null", "\\x01... 400\n", "...\n"};
    memset(large, 1, sizeof large);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        struct fm_buf line = FM_BUF_INIT;
        fm_buf_puts(&line, "before\n");
        fm_logformat_line(formats[i], &line, &e, SIZE_MAX);
        assert_true(fm_buf_size(&line) > 4 * sizeof large);
        fm_buf_clear(&line);
        fm_buf_puts(&line, "before\n");
        fm_logformat_line(formats[i], &line, &e, 4096);
        assert_true(fm_buf_size(&line) <= 4096 + 7);
        fm_buf_append(&line, "", 1);
        assert_int_equal(strncmp(line.data, "before\n", 7), 0);
        assert_non_null(strstr(line.data, ends[i]));
        assert_ptr_equal(strchr(line.data + 7, '\n'), line.data + line.len - 2);
        fm_buf_fini(&line);
        fm_logformat_free(formats[i]);
    }
}

static void test_bad_formats(void **state)
{
    (void)state;
    static const char *const bad[] = {"%",       "%(", "%(h", "%(h)",       "%(h)d",    "%()s",     "%(x)s", "%(hh)s",
                                      "%({}i)s", "%h", "% ",  "%({a b}i)s", "%({a}o)s", "%({a}e)s", "100%"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *why = NULL;
        if (fm_logformat_new(bad[i], &why))
            fail_msg("%s is no format", bad[i]);
        assert_non_null(strstr(why, "%(NAME)s"));
    }
}

static void test_json(void **state)
{
    (void)state;
    struct fm_request *r = make();
    struct fm_access_entry e = {.remote = "::1", .request = r, .status = 200, .bytes = 12, .took = 2500000, .end = '-'};
    struct fm_logformat *f = fm_logformat_json();
    struct fm_buf line = FM_BUF_INIT;
    fm_logformat_line(f, &line, &e, SIZE_MAX);
    fm_buf_append(&line, "", 1);
    assert_non_null(strstr(line.data, "{\"time\": \"20"));
    assert_non_null(strstr(
        line.data,
        "Z\", \"remote_addr\": \"::1\", \"user\": \"anna\", \"request\": \"GET /a%20b?c=d HTTP/1.1\", "
        "\"method\": \"GET\", \"path\": \"/a%20b\", \"query\": \"c=d\", \"protocol\": \"HTTP/1.1\", "
        "\"status\": 200, \"bytes\": 12, \"duration\": 0.002500, \"referer\": \"http://e/\\\"\", "
        "\"user_agent\": \"wget\\u00ff\\\\\", \"connection\": \"-\", \"request_id\": null, \"trace_id\": null}\n"));
    fm_buf_clear(&line);
    e = (struct fm_access_entry){.remote = "", .status = 400, .end = '-'};
    fm_logformat_line(f, &line, &e, SIZE_MAX);
    fm_buf_append(&line, "", 1);
    assert_non_null(strstr(line.data, "\"remote_addr\": null, \"user\": null, \"request\": null, \"method\": null"));
    fm_buf_fini(&line);
    fm_logformat_free(f);
    fm_request_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_atoms), cmocka_unit_test(test_no_request), cmocka_unit_test(test_bad_formats),
        cmocka_unit_test(test_json),  cmocka_unit_test(test_long_lines), cmocka_unit_test(test_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

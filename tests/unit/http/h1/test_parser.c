/* The parser as its callers see it: what is answered when, what was taken, what is left.  What is accepted and refused
 * is in tests/http. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "replay.h"

static const struct fm_http_limits limits = {.request_line = 100, .fields = 10, .field_size = 100, .body = 4 << 20};

#define GET "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
#define CHUNKED "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

/* Feeds a text and expects an answer and how much was taken. */
static void feed(struct fm_parser *p, const char *text, enum fm_parse want, size_t want_used)
{
    size_t used = SIZE_MAX;
    assert_int_equal(fm_parser_feed(p, text, strlen(text), &used), want);
    if (want != FM_PARSE_ERROR)
        assert_int_equal(used, want_used);
}

static void test_head_then_done(void **state)
{
    (void)state;
    struct fm_parser *p = fm_parser_new(&limits);
    feed(p, "", FM_PARSE_MORE, 0);
    assert_false(fm_parser_started(p));
    assert_null(fm_parser_request(p));
    assert_null(fm_parser_take(p));
    feed(p, GET "rest", FM_PARSE_HEAD, strlen(GET));
    assert_true(fm_parser_started(p));
    const struct fm_request *r = fm_parser_request(p);
    assert_non_null(r);
    feed(p, "rest", FM_PARSE_DONE, 0);
    feed(p, "", FM_PARSE_DONE, 0); /* until it is taken */
    struct fm_request *taken = fm_parser_take(p);
    assert_ptr_equal(taken, r);
    assert_null(fm_parser_request(p));
    assert_null(fm_parser_take(p));
    assert_false(fm_parser_started(p));
    fm_request_free(taken);
    feed(p, GET, FM_PARSE_HEAD, strlen(GET)); /* and again */
    feed(p, "", FM_PARSE_DONE, 0);
    fm_parser_free(p); /* with a request that was not taken */
    fm_parser_free(NULL);
}

static void test_data_may_be_null(void **state)
{
    (void)state;
    struct fm_parser *p = fm_parser_new(&limits);
    size_t used;
    assert_int_equal(fm_parser_feed(p, NULL, 0, &used), FM_PARSE_MORE);
    assert_int_equal(used, 0);
    feed(p, POST, FM_PARSE_HEAD, strlen(POST));
    assert_int_equal(fm_parser_feed(p, NULL, 0, &used), FM_PARSE_MORE);
    fm_parser_free(p);
}

static void test_head_comes_before_the_body(void **state)
{
    (void)state;
    struct fm_parser *p = fm_parser_new(&limits);
    feed(p, POST "hello" GET, FM_PARSE_HEAD, strlen(POST));
    assert_int_equal(fm_parser_request(p)->body.size, 0);
    assert_int_equal(fm_parser_request(p)->content_length, 5);
    assert_null(fm_parser_take(p));
    feed(p, "", FM_PARSE_MORE, 0);
    feed(p, "hel", FM_PARSE_MORE, 3);
    feed(p, "lo" GET, FM_PARSE_DONE, 2);
    struct fm_request *r = fm_parser_take(p);
    assert_int_equal(r->body.size, 5);
    fm_request_free(r);
    feed(p, GET, FM_PARSE_HEAD, strlen(GET));
    fm_parser_free(p);
}

static void test_head_in_two_parts(void **state)
{
    (void)state;
    struct fm_parser *p = fm_parser_new(&limits);
    feed(p, "POST /x HTTP/1.1\r\nHost: a\r\nContent-", FM_PARSE_MORE, 35);
    assert_true(fm_parser_started(p));
    feed(p, "Length: 5\r\n\r\nhello", FM_PARSE_HEAD, 13);
    feed(p, "hello", FM_PARSE_DONE, 5);
    fm_parser_free(p);
}

static void test_chunks_in_parts(void **state)
{
    (void)state;
    struct fm_parser *p = fm_parser_new(&limits);
    feed(p, CHUNKED, FM_PARSE_HEAD, strlen(CHUNKED));
    assert_true(fm_parser_request(p)->chunked);
    feed(p, "1", FM_PARSE_MORE, 1);
    feed(p, "0;ext\r", FM_PARSE_MORE, 6);
    feed(p, "\n0123456789abcdef\r", FM_PARSE_MORE, 18);
    feed(p, "\n0\r\nX-Trailer: y\r\n\r", FM_PARSE_MORE, 19);
    feed(p, "\nGET", FM_PARSE_DONE, 1);
    struct fm_request *r = fm_parser_take(p);
    char *body = replay_body(r);
    assert_string_equal(body, "0123456789abcdef");
    assert_int_equal(r->content_length, -1);
    assert_int_equal(r->nfields, 2);
    free(body);
    fm_request_free(r);
    fm_parser_free(p);
}

/* An empty line after a request, as old browsers send it, does not begin the next one. */
static void test_empty_line_is_no_start(void **state)
{
    (void)state;
    struct fm_parser *p = fm_parser_new(&limits);
    feed(p, "\r\n", FM_PARSE_MORE, 2);
    assert_false(fm_parser_started(p));
    feed(p, "G", FM_PARSE_MORE, 1);
    assert_true(fm_parser_started(p));
    fm_parser_free(p);
}

static void test_error_stays(void **state)
{
    (void)state;
    struct fm_parser *p = fm_parser_new(&limits);
    assert_null(fm_parser_error(p));
    feed(p, "GET /\n", FM_PARSE_ERROR, 0);
    assert_int_equal(fm_parser_error(p)->id, FM_REFUSE_BARE_LF);
    assert_int_equal(fm_parser_error(p)->status, 400);
    feed(p, GET, FM_PARSE_ERROR, 0);
    feed(p, "", FM_PARSE_ERROR, 0);
    assert_null(fm_parser_take(p));
    assert_null(fm_parser_request(p));
    fm_parser_free(p);
}

/* Once its head was reported, a refused request can still be logged; before that it is not to be known. */
static void test_request_of_an_error(void **state)
{
    (void)state;
    struct fm_parser *p = fm_parser_new(&limits);
    feed(p, CHUNKED, FM_PARSE_HEAD, strlen(CHUNKED));
    feed(p, "nonsense\r\n", FM_PARSE_ERROR, 0);
    assert_non_null(fm_parser_request(p));
    assert_null(fm_parser_take(p));
    fm_parser_free(p);
    p = fm_parser_new(&limits);
    feed(p, "GET / HTTP/1.1\r\n\r\n", FM_PARSE_ERROR, 0);
    assert_int_equal(fm_parser_error(p)->id, FM_REFUSE_HOST_MISSING);
    assert_null(fm_parser_request(p));
    fm_parser_free(p);
}

/* Each text is refused with its last byte, not earlier and not later. */
static void test_refused_at_once(void **state)
{
    (void)state;
    static const struct fm_http_limits small = {.request_line = 20, .fields = 2, .field_size = 10, .body = 9};
    static const char *const texts[] = {
        "\n",
        "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r", /* a ninth empty line */
        "\r\n\n",
        "\r\n\r\r",
        "\rG",
        "\x16",
        "GET /\n",
        "GET /\rx",
        "GET /01234567890 HTTP", /* the 21st byte */
        "GET / HTTP/2.0\r\n",
        "G( / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a\n",
        "GET / HTTP/1.1\r\nX\x01",
        "GET / HTTP/1.1\r\nX: 34567890",
        "GET / HTTP/1.1\r\nX y\r\n",
        "GET / HTTP/1.1\r\nA:\r\nB:\r\nC:\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: @\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct fm_parser *p = fm_parser_new(&small);
        size_t len = strlen(texts[i]), used;
        for (size_t n = 0; n < len; n++) {
            enum fm_parse got = fm_parser_feed(p, texts[i] + n, 1, &used);
            if (got != (n + 1 < len ? FM_PARSE_MORE : FM_PARSE_ERROR))
                fail_msg("\"%s\" at %zu: %d", texts[i], n, got);
        }
        fm_parser_free(p);
    }
}

static void test_describe(void **state)
{
    (void)state;
    static const struct {
        const char *stream, *text;
    } cases[] = {
        {"", ""},
        {"\r\n", ""},
        {"GE", "GE"},
        {"GET /some", "GET /some"},
        {"GET /some?secret=1", "GET /some"},
        {"GET /some HTTP", "GET /some"},
        {"GET /some HTTP/1.1\r\nHost: x", "GET /some"},
        {"GET /some\nthing", "GET /some"},
        {"GET /some HTTP/3.0\r\n", "GET /some"},
        {POST, "POST /x"},
        {GET "\r\nPUT /y", "PUT /y"}, /* the next one */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (unsigned bytewise = 0; bytewise < 2; bytewise++) {
            struct fm_parser *p = fm_parser_new(&limits);
            const char *s = cases[i].stream;
            char text[64];
            for (size_t left = strlen(s), used; left > 0; left -= used, s += used) {
                enum fm_parse got = fm_parser_feed(p, s, bytewise ? 1 : left, &used);
                if (got == FM_PARSE_ERROR)
                    break;
                if (got == FM_PARSE_DONE)
                    fm_request_free(fm_parser_take(p));
            }
            fm_parser_describe(p, text, sizeof text);
            assert_string_equal(text, cases[i].text);
            fm_parser_describe(p, text, 4);
            assert_int_equal(strlen(text), strlen(cases[i].text) < 3 ? strlen(cases[i].text) : 3);
            fm_parser_describe(p, text, 0);
            fm_parser_free(p);
        }
}

/* A body that goes to a file on its way, in all framings and piece sizes. */
static void test_large_body(void **state)
{
    (void)state;
    struct fm_http_limits large = limits;
    large.body = 2 * FM_BODY_MEMORY;
    size_t size = FM_BODY_MEMORY + 54321, head_len;
    char *stream = malloc(size + 200), head[200];
    for (int chunked = 0; chunked < 2; chunked++) {
        snprintf(head, sizeof head,
                 chunked ? CHUNKED "%zx\r\n" : "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", size);
        head_len = strlen(head);
        memcpy(stream, head, head_len);
        for (size_t i = 0; i < size; i++)
            stream[head_len + i] = (char)(i * 7 + (i >> 9));
        size_t len = head_len + size;
        if (chunked) {
            memcpy(stream + len, "\r\n0\r\n\r\n", 7);
            len += 7;
        }
        for (size_t step = 1000; step <= len * 10; step *= 10) {
            unsigned char *cut = calloc(1, len);
            for (size_t i = step; i < len; i += step)
                cut[i] = 1;
            struct replay got;
            replay(&got, &large, stream, len, cut);
            assert_null(got.error);
            assert_int_equal(got.nrequests, 1);
            assert_true(got.requests[0]->body.fd >= 0);
            char *body = replay_body(got.requests[0]);
            assert_int_equal(got.requests[0]->body.size, size);
            assert_memory_equal(body, stream + head_len, size);
            free(body);
            replay_fini(&got);
            free(cut);
        }
    }
    free(stream);
}

/* A head of many lines that comes byte by byte; a scan that begins anew each time would take minutes. */
static void test_slow_head_is_linear(void **state)
{
    (void)state;
    static const struct fm_http_limits large = {.request_line = 1 << 20,
                                                .fields = 60000,
                                                .field_size = 1 << 20,
                                                .body = 1};
    struct fm_parser *p = fm_parser_new(&large);
    size_t used;
    feed(p, "GET / HTTP/1.1\r\n", FM_PARSE_MORE, 16);
    for (unsigned i = 0; i < 1 << 20; i++)
        assert_int_equal(fm_parser_feed(p, i == 0 ? "A" : i == 1 ? ":" : "x", 1, &used), FM_PARSE_MORE);
    feed(p, "x", FM_PARSE_ERROR, 0);
    assert_int_equal(fm_parser_error(p)->status, 431);
    fm_parser_free(p);
    p = fm_parser_new(&large);
    feed(p, "GET / HTTP/1.1\r\nHost: a\r\n", FM_PARSE_MORE, 25);
    for (unsigned i = 0; i < 59999; i++)
        feed(p, "X-Some-Name: and a value\r\n", FM_PARSE_MORE, 26);
    feed(p, "\r\n", FM_PARSE_HEAD, 2); /* far over http-parser's own limit */
    assert_int_equal(fm_parser_request(p)->nfields, 60000);
    fm_parser_free(p);
}

/* Limits that the field table could not hold are not trusted. */
static void test_limits_of_the_table(void **state)
{
    (void)state;
    static const struct fm_http_limits huge = {.request_line = UINT32_MAX,
                                               .fields = UINT32_MAX,
                                               .field_size = UINT32_MAX,
                                               .body = UINT64_MAX};
    struct fm_parser *p = fm_parser_new(&huge);
    feed(p, "GET / HTTP/1.1\r\n", FM_PARSE_MORE, 16);
    for (unsigned i = 0; i < 65535; i++)
        feed(p, "A:\r\n", FM_PARSE_MORE, 4);
    feed(p, "A:\r\n", FM_PARSE_ERROR, 0);
    assert_int_equal(fm_parser_error(p)->id, FM_REFUSE_TOO_MANY_FIELDS);
    fm_parser_free(p);
    char *name = malloc(65540);
    for (unsigned over = 0; over < 2; over++) {
        p = fm_parser_new(&huge);
        memset(name, 'a', 65540);
        memcpy(name + 65535 + over, ":", 2);
        feed(p, "GET / HTTP/1.1\r\nHost: a\r\n", FM_PARSE_MORE, 25);
        feed(p, name, FM_PARSE_MORE, 65536 + over);
        feed(p, "\r\n\r\n", over ? FM_PARSE_ERROR : FM_PARSE_HEAD, 4);
        if (!over)
            assert_int_equal(fm_parser_request(p)->fields[1].name_len, 65535);
        fm_parser_free(p);
    }
    free(name);
}

/* The largest chunk there is must not overflow anything. */
static void test_huge_body_limit(void **state)
{
    (void)state;
    static const struct fm_http_limits huge = {.request_line = 100, .fields = 9, .field_size = 100, .body = UINT64_MAX};
    struct fm_parser *p = fm_parser_new(&huge);
    feed(p, CHUNKED, FM_PARSE_HEAD, strlen(CHUNKED));
    feed(p, "1\r\nx\r\n7fffffffffffffff\r\nabc", FM_PARSE_MORE, 27);
    fm_parser_free(p);
    p = fm_parser_new(&huge);
    feed(p, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n", FM_PARSE_HEAD, 64);
    feed(p, "abc", FM_PARSE_MORE, 3);
    fm_parser_free(p);
}

/* Bytes that lie where fm_parser_buffer said are taken in place; the next request's are never asked there. */
static void test_buffer(void **state)
{
    (void)state;
    static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n";
    struct fm_parser *p = fm_parser_new(&limits);
    char piece[70000];
    size_t used, len = 5, sent = sizeof piece;
    for (size_t i = 0; i < sizeof piece; i++)
        piece[i] = (char)(i * 3);
    assert_null(fm_parser_buffer(p, &len));
    assert_int_equal(fm_parser_feed(p, head, sizeof head - 1, &used), FM_PARSE_HEAD);
    assert_null(fm_parser_buffer(p, &len)); /* a mere announcement takes no memory */
    assert_int_equal(len, 5);
    assert_int_equal(fm_parser_feed(p, piece, sizeof piece, &used), FM_PARSE_MORE);
    for (char *to; (to = fm_parser_buffer(p, &len)); sent += used) {
        size_t n = len < 50000 ? len : 50000;
        assert_true(len <= 300000 - sent);
        for (size_t i = 0; i < n; i++)
            to[i] = (char)((sent + i) * 3);
        fm_parser_feed(p, to, n, &used);
        assert_int_equal(used, n);
    }
    assert_true(sent > 250000);
    while (sent < 300000) { /* the small rest comes in the ordinary way */
        char c = (char)(sent++ * 3);
        fm_parser_feed(p, &c, 1, &used);
    }
    struct fm_request *r = fm_parser_take(p);
    assert_non_null(r);
    assert_int_equal(r->body.size, 300000);
    assert_int_equal(r->body.fd, -1);
    for (size_t i = sizeof piece; i < 300000; i++)
        assert_true(r->body.data[i] == (char)(i * 3));
    assert_null(fm_parser_buffer(p, &len));
    fm_request_free(r);
    fm_parser_free(p);
}

/* The disk is full (here: the file size limit reached): 500, and it is our fault. */
static void test_body_not_stored(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit small = {FM_BODY_MEMORY, FM_BODY_MEMORY};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &small);
        struct fm_http_limits large = limits;
        large.body = 2 * FM_BODY_MEMORY;
        struct fm_parser *p = fm_parser_new(&large);
        char *piece = calloc(1, FM_BODY_MEMORY);
        size_t used;
        const char *head = "POST / HTTP/1.0\r\nContent-Length: 9000000\r\n\r\n";
        bool ok = fm_parser_feed(p, head, strlen(head), &used) == FM_PARSE_HEAD &&
                  fm_parser_feed(p, piece, FM_BODY_MEMORY, &used) == FM_PARSE_MORE &&
                  fm_parser_feed(p, piece, 100000, &used) == FM_PARSE_ERROR &&
                  fm_parser_error(p)->id == FM_REFUSE_BODY_STORE && fm_parser_error(p)->status == 503;
        fm_parser_free(p);
        free(piece);
        _exit(ok ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_refusals(void **state)
{
    (void)state;
    assert_null(fm_refusal_error(FM_REFUSE_NOTHING));
    assert_null(fm_refusal_error(FM_REFUSALS_END));
    for (int i = 1; i < FM_REFUSALS_END; i++) {
        const struct fm_http_error *e = fm_refusal_error((enum fm_refusal)i);
        assert_int_equal(e->id, i);
        assert_true(e->status >= 400 && e->status <= 505);
        assert_int_equal(strspn(e->slug, "abcdefghijklmnopqrstuvwxyz_0123456789"), strlen(e->slug));
        for (int j = 1; j < i; j++)
            assert_string_not_equal(e->slug, fm_refusal_error((enum fm_refusal)j)->slug);
    }
    assert_int_equal(fm_refusal_error(FM_REFUSE_HEADER_TIMEOUT)->status, 408);
    assert_string_equal(fm_refusal_error(FM_REFUSE_BODY_TIMEOUT)->slug, "body_timeout");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_then_done),
        cmocka_unit_test(test_data_may_be_null),
        cmocka_unit_test(test_head_comes_before_the_body),
        cmocka_unit_test(test_head_in_two_parts),
        cmocka_unit_test(test_chunks_in_parts),
        cmocka_unit_test(test_empty_line_is_no_start),
        cmocka_unit_test(test_error_stays),
        cmocka_unit_test(test_request_of_an_error),
        cmocka_unit_test(test_refused_at_once),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_large_body),
        cmocka_unit_test(test_buffer),
        cmocka_unit_test(test_slow_head_is_linear),
        cmocka_unit_test(test_limits_of_the_table),
        cmocka_unit_test(test_huge_body_limit),
        cmocka_unit_test(test_body_not_stored),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The writer: framing, corking, and which side may still say something, with a sink that writes down what it is given.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../util/threads.h"
#include "fermata/http/h1/framer.h"
#include "fermata/http/writer.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"

static struct {
    struct fm_buf out;
    unsigned sends;
    const void *bases[4]; /* of the last send */
    size_t lens[4];
    int n;
    bool borrow;
    enum fm_sent answer;
    uint64_t pending;
    bool may_keep;
    int file_fd;
    int64_t file_pos, file_len;
} sink;

static struct fm_writer w;

static enum fm_sent sink_send(void *s, const struct iovec *pieces, int n, bool borrow)
{
    CHECK(s == &sink && n <= 4);
    sink.sends++;
    sink.n = n;
    sink.borrow = borrow;
    for (int i = 0; i < n; i++) {
        sink.bases[i] = pieces[i].iov_base;
        sink.lens[i] = pieces[i].iov_len;
        fm_buf_append(&sink.out, pieces[i].iov_base, pieces[i].iov_len);
    }
    return sink.answer;
}

static enum fm_sent sink_send_file(void *s, const struct iovec *head, int fd, int64_t pos, int64_t len)
{
    char *p = malloc((size_t)len);
    CHECK(s == &sink && len > 0);
    sink.sends++;
    sink.file_fd = fd;
    sink.file_pos = pos;
    sink.file_len = len;
    fm_buf_append(&sink.out, head->iov_base, head->iov_len);
    CHECK(pread(fd, p, (size_t)len, pos) == len);
    fm_buf_append(&sink.out, p, (size_t)len);
    free(p);
    return sink.answer;
}

static bool sink_may_keep(void *s)
{
    CHECK(s == &sink);
    return sink.may_keep;
}

static bool sink_takes_files(void *s) { return s == &sink; }
static uint64_t sink_pending(void *s) { return s == &sink ? sink.pending : 0; }

static const struct fm_sink_ops ops = {
    .framer = &fm_h1_framer,
    .send = sink_send,
    .send_file = sink_send_file,
    .takes_files = sink_takes_files,
    .pending = sink_pending,
    .may_keep = sink_may_keep,
};

static int start(void **state)
{
    (void)state;
    memset(&sink, 0, sizeof sink);
    sink.may_keep = true;
    sink.file_fd = -1;
    fm_writer_init(&w, &ops, &sink);
    fm_writer_reset(&w, 1, false, true);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    fm_writer_fini(&w);
    fm_buf_fini(&sink.out);
    return 0;
}

/* The next request on the same writer and sink. */
static void next(int minor, bool is_head, bool keep_alive)
{
    fm_buf_clear(&sink.out);
    sink.sends = 0;
    fm_writer_reset(&w, minor, is_head, keep_alive);
}

/* The application calls start_response; length NULL: no Content-Length. */
static int respond(const char *status, const char *length)
{
    const char *why;
    struct fm_response r = {.length = -1};
    assert_int_equal(fm_response_start(&r, status, strlen(status), &why), 0);
    assert_int_equal(fm_response_add(&r, "Server", 6, "s", 1, &why), 0);
    assert_int_equal(fm_response_add(&r, "Date", 4, "d", 1, &why), 0);
    if (length)
        assert_int_equal(fm_response_add(&r, "Content-Length", 14, length, strlen(length), &why), 0);
    int rc = fm_writer_set_response(&w, &r);
    if (rc == 0)
        assert_null(r.lines.data); /* moved */
    fm_response_fini(&r);
    return rc;
}

static enum fm_sent block(const char *text) { return fm_writer_block(&w, text, strlen(text), false); }

/* The end of a body that is shorter than its Content-Length. */
static void assert_ends_short(void)
{
    assert_int_not_equal(fm_writer_end(&w), FM_SENT_GONE);
    assert_true(fm_writer_is_short(&w));
    assert_false(w.framer.keep);
}

#define HEAD(status) "HTTP/1.1 " status "\r\nServer: s\r\nDate: d\r\n"

static void assert_sent(const char *expected)
{
    fm_buf_append(&sink.out, "", 1);
    assert_string_equal(fm_buf_head(&sink.out), expected);
    sink.out.len--;
}

/* ---- framing ---- */

static void test_single_block_has_a_length(void **state)
{
    (void)state;
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(block("hello"), FM_SENT_ALL);
    assert_int_equal(sink.sends, 0); /* corked */
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 5\r\n\r\nhello");
    assert_int_equal(sink.sends, 1);
    assert_true(w.framer.keep);
    assert_true(fm_writer_head_left(&w));
}

static void test_no_block(void **state)
{
    (void)state;
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 0\r\n\r\n");
    next(1, false, true);
    assert_int_equal(respond("200 OK", "0"), 0);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 0\r\n\r\n");
    assert_true(w.framer.keep);
}

static void test_two_blocks_are_chunked(void **state)
{
    (void)state;
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(block("hello, "), FM_SENT_ALL);
    assert_int_equal(block("this is a longer one"), FM_SENT_ALL);
    assert_int_equal(sink.sends, 0);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(
        HEAD("200 OK") "Transfer-Encoding: chunked\r\n\r\n7\r\nhello, \r\n14\r\nthis is a longer one\r\n0\r\n\r\n");
    assert_int_equal(sink.sends, 1); /* head, blocks and end in one */
    assert_true(w.framer.keep);
}

/* A caller that knows how much there will be says it before: then several blocks are no chunks. */
static void test_expected_length(void **state)
{
    (void)state;
    for (int minor = 0; minor < 2; minor++)
        for (int flushed = 0; flushed < 2; flushed++) {
            char expected[256];
            next(minor, false, true);
            assert_int_equal(respond("200 OK", NULL), 0);
            fm_writer_expect(&w, 6);
            assert_int_equal(block("abc"), FM_SENT_ALL);
            if (flushed)
                fm_writer_flush(&w, UINT64_MAX);
            assert_int_equal(block(""), FM_SENT_ALL);
            assert_int_equal(block("def"), FM_SENT_ALL);
            assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
            snprintf(expected, sizeof expected, HEAD("200 OK") "Content-Length: 6\r\n%s\r\nabcdef",
                     minor ? "" : "Connection: keep-alive\r\n");
            assert_sent(expected);
            assert_true(w.framer.keep);
            assert_false(w.cut);
            assert_int_equal(sink.sends, 1 + flushed); /* the last block is known as such, and waits for nothing */
        }
}

static void test_expected_length_is_no_more_than_that(void **state)
{
    (void)state;
    const struct {
        const char *status, *length;
        bool is_head;
        int before; /* blocks before it is known, and flushed if there are two */
        const char *expected;
    } cases[] = {
        {"200 OK", "8", false, 0, HEAD("200 OK") "Content-Length: 8\r\n\r\nabcdef"}, /* the application's counts */
        {"200 OK", NULL, true, 0, HEAD("200 OK") "Content-Length: 6\r\n\r\n"},
        {"204 No", NULL, false, 0, HEAD("204 No") "\r\n"},
        {"304 No", NULL, false, 0, HEAD("304 No") "\r\n"},
        {"205 No", NULL, false, 0, HEAD("205 No") "Content-Length: 0\r\n\r\n"},
        {"200 OK", NULL, false, 1, HEAD("200 OK") "Content-Length: 9\r\n\r\nabcabcdef"},
        {"200 OK", NULL, false, 2,
         HEAD("200 OK") "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        next(1, cases[i].is_head, true);
        assert_int_equal(respond(cases[i].status, cases[i].length), 0);
        for (int b = 0; b < cases[i].before; b++)
            assert_int_equal(block("abc"), FM_SENT_ALL);
        if (cases[i].before > 1)
            fm_writer_flush(&w, UINT64_MAX);
        fm_writer_expect(&w, 6);
        assert_int_equal(block("abc"), FM_SENT_ALL);
        assert_int_equal(block("def"), FM_SENT_ALL);
        assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
        assert_int_equal(fm_writer_is_short(&w), cases[i].length != NULL);
        assert_sent(cases[i].expected);
        assert_false(w.cut);
    }
    next(1, false, true); /* nothing of it is left for the next response */
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(block("a"), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 1\r\n\r\na");
}

static void test_1_0_ends_with_the_connection(void **state)
{
    (void)state;
    next(0, false, true);
    assert_int_equal(respond("200 OK", NULL), 0);
    block("a");
    block("b");
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Connection: close\r\n\r\nab");
    assert_false(w.framer.keep);
    next(0, false, true); /* with a length it may go on */
    assert_int_equal(respond("200 OK", NULL), 0);
    block("ab");
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 2\r\nConnection: keep-alive\r\n\r\nab");
    assert_true(w.framer.keep);
    next(0, false, false);
    assert_int_equal(respond("200 OK", "2"), 0);
    block("a");
    block("b");
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 2\r\nConnection: close\r\n\r\nab");
}

static void test_connection_close(void **state)
{
    (void)state;
    const char *why;
    for (int who = 0; who < 3; who++) { /* the client, the server, the application */
        next(1, false, who != 0);
        sink.may_keep = who != 1;
        struct fm_response r = {.length = -1};
        fm_response_start(&r, "200 OK", 6, &why);
        fm_response_add(&r, "Server", 6, "s", 1, &why);
        fm_response_add(&r, "Date", 4, "d", 1, &why);
        if (who == 2)
            fm_response_add(&r, "Connection", 10, "close", 5, &why);
        assert_int_equal(fm_writer_set_response(&w, &r), 0);
        block("x");
        assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
        assert_sent(HEAD("200 OK") "Content-Length: 1\r\nConnection: close\r\n\r\nx");
        assert_false(w.framer.keep);
    }
}

static void test_head_request(void **state)
{
    (void)state;
    const struct {
        const char *length;
        int blocks;
        const char *expected;
    } cases[] = {
        {NULL, 0, ""}, /* nothing yielded for HEAD says nothing about GET */
        {NULL, 1, "Content-Length: 3\r\n"},
        {NULL, 2, ""},
        {"100", 0, "Content-Length: 100\r\n"},
        {"100", 1, "Content-Length: 100\r\n"},
        {"3", 3, "Content-Length: 3\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[256];
        next(1, true, true);
        assert_int_equal(respond("200 OK", cases[i].length), 0);
        for (int b = 0; b < cases[i].blocks; b++)
            assert_int_equal(block("abc"), FM_SENT_ALL);
        assert_int_equal(fm_writer_end(&w), FM_SENT_ALL); /* too short does not matter here */
        snprintf(expected, sizeof expected, HEAD("200 OK") "%s\r\n", cases[i].expected);
        assert_sent(expected);
        assert_true(w.framer.keep);
        assert_false(w.cut);
    }
    char *large = calloc(1, 100000);
    next(1, true, true);
    assert_int_equal(respond("200 OK", NULL), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(fm_writer_block(&w, large, 100000, true), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "\r\n");
    free(large);
}

static void test_statuses_without_body(void **state)
{
    (void)state;
    static const char *const statuses[] = {"204 No Content", "304 Not Modified"};
    for (int i = 0; i < 2; i++)
        for (int blocks = 0; blocks < 3; blocks++) {
            char expected[256];
            next(1, false, true);
            assert_int_equal(respond(statuses[i], NULL), 0);
            for (int b = 0; b < blocks; b++)
                assert_int_equal(block("abc"), FM_SENT_ALL);
            assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
            snprintf(expected, sizeof expected, "HTTP/1.1 %s\r\nServer: s\r\nDate: d\r\n\r\n", statuses[i]);
            assert_sent(expected);
            assert_true(w.framer.keep);
        }
    next(1, false, true);
    assert_int_equal(respond("304 Not Modified", "5"), 0);
    assert_int_equal(block("abc"), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("304 Not Modified") "Content-Length: 5\r\n\r\n");
}

/* An empty block is no chunk: that would be the end. */
static void test_empty_blocks(void **state)
{
    (void)state;
    assert_int_equal(respond("200 OK", NULL), 0);
    block("");
    block("ab");
    block("");
    block("c");
    fm_writer_flush(&w, UINT64_MAX);
    block("");
    fm_writer_flush(&w, UINT64_MAX);
    block("d");
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n1\r\nd\r\n0\r\n\r\n");
}

/* Takes a chunked body apart: its bytes into *body.  Fails unless it is complete. */
static void unchunk(const char *p, const char *end, struct fm_buf *body)
{
    for (;;) {
        char *after;
        size_t n = strtoul(p, &after, 16);
        assert_memory_equal(after, "\r\n", 2);
        p = after + 2;
        assert_true((size_t)(end - p) >= n + 2);
        fm_buf_append(body, p, n);
        assert_memory_equal(p + n, "\r\n", 2);
        p += n + 2;
        if (n == 0)
            break;
    }
    assert_ptr_equal(p, end);
}

/* Any sizes in any order, flushed or not: the bytes are the same, and the framing is sound. */
static void test_random_blocks(void **state)
{
    (void)state;
    uint64_t seed = new_seed();
    char *data = malloc(200000);
    for (unsigned i = 0; i < 200000; i++)
        data[i] = (char)(i * 7 + i / 251);
    for (unsigned round = 0; round < ROUNDS(2000); round++) {
        struct fm_buf body = FM_BUF_INIT;
        size_t total = 0, blocks = rnd(&seed) % 12;
        char length[32];
        size_t sizes[12];
        for (size_t i = 0; i < blocks; i++) {
            sizes[i] = rnd(&seed) % 3 ? rnd(&seed) % 300 : rnd(&seed) % 17000;
            total += sizes[i];
        }
        bool given = rnd(&seed) % 2, known = rnd(&seed) % 2;
        snprintf(length, sizeof length, "%zu", total);
        next(1, false, true);
        assert_int_equal(respond("200 OK", given ? length : NULL), 0);
        if (known)
            fm_writer_expect(&w, (int64_t)total);
        size_t at = 0;
        for (size_t i = 0; i < blocks; i++) {
            assert_int_equal(fm_writer_block(&w, data + at, sizes[i], rnd(&seed) % 2), FM_SENT_ALL);
            at += sizes[i];
            if (rnd(&seed) % 4 == 0)
                assert_false(fm_writer_flush(&w, UINT64_MAX));
            assert_true(fm_buf_size(&w.corked) + fm_buf_size(&w.first) <= 2 * FM_WRITER_CORK);
        }
        assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
        fm_buf_append(&sink.out, "", 1);
        sink.out.len--;
        char *head = fm_buf_head(&sink.out), *p = strstr(head, "\r\n\r\n") + 4;
        assert_true(!(given || known) || !strstr(head, "chunked"));
        if (strstr(head, "Transfer-Encoding: chunked\r\n"))
            unchunk(p, head + fm_buf_size(&sink.out), &body);
        else
            fm_buf_append(&body, p, fm_buf_size(&sink.out) - (size_t)(p - head));
        assert_int_equal(fm_buf_size(&body), total);
        if (total > 0)
            assert_memory_equal(fm_buf_head(&body), data, total);
        assert_int_equal(w.body, total);
        fm_buf_fini(&body);
    }
    free(data);
}

/* ---- Content-Length ---- */

static void test_declared_length(void **state)
{
    (void)state;
    assert_int_equal(respond("200 OK", "6"), 0);
    assert_int_equal(block("abc"), FM_SENT_ALL);
    assert_int_equal(sink.sends, 0);
    assert_int_equal(block("def"), FM_SENT_ALL);
    assert_int_equal(sink.sends, 1); /* complete: nothing to wait for */
    assert_sent(HEAD("200 OK") "Content-Length: 6\r\n\r\nabcdef");
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 6\r\n\r\nabcdef");
    assert_false(w.cut);
    assert_true(w.framer.keep);
}

static void test_too_long_is_cut(void **state)
{
    (void)state;
    assert_int_equal(respond("200 OK", "4"), 0);
    assert_int_equal(block("abc"), FM_SENT_ALL);
    assert_false(w.cut);
    assert_int_equal(block("def"), FM_SENT_ALL);
    assert_true(w.cut);
    assert_int_equal(block("ghi"), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 4\r\n\r\nabcd");
    assert_int_equal(w.body, 4);
    assert_true(w.framer.keep); /* the response is sound */
    next(1, false, true);
    assert_int_equal(respond("200 OK", "0"), 0);
    assert_int_equal(block("abc"), FM_SENT_ALL);
    assert_true(w.cut);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 0\r\n\r\n");
    next(1, false, true);
    assert_int_equal(respond("200 OK", "2"), 0);
    assert_int_equal(fm_writer_whole(&w, "abc", 3, false), FM_SENT_ALL);
    assert_true(w.cut);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 2\r\n\r\nab");
}

static void test_too_short_is_an_error(void **state)
{
    (void)state;
    for (int blocks = 0; blocks < 4; blocks++) {
        next(1, false, true);
        assert_int_equal(respond("200 OK", "10"), 0);
        for (int b = 0; b < blocks; b++)
            assert_int_equal(block("abc"), FM_SENT_ALL);
        assert_ends_short();
    }
    next(1, false, true);
    assert_int_equal(respond("200 OK", "10"), 0);
    assert_int_equal(fm_writer_whole(&w, "abc", 3, false), FM_SENT_ALL);
    assert_ends_short();
}

/* ---- corking ---- */

static void test_cork_limit(void **state)
{
    (void)state;
    char *p = calloc(1, FM_WRITER_CORK + 1);
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_block(&w, p, FM_WRITER_CORK, false), FM_SENT_ALL);
    assert_int_equal(sink.sends, 0);
    assert_true(w.corked_since != 0);
    assert_int_equal(fm_writer_block(&w, p, 1, false), FM_SENT_ALL);
    assert_int_equal(sink.sends, 1); /* together they are over it */
    assert_int_equal(w.corked_since, 0);
    assert_int_equal(fm_writer_block(&w, p, 1000, false), FM_SENT_ALL);
    assert_int_equal(sink.sends, 1);
    assert_int_equal(fm_writer_block(&w, p, FM_WRITER_CORK - 1000, false), FM_SENT_ALL);
    assert_int_equal(sink.sends, 2);
    next(1, false, true);
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_block(&w, p, FM_WRITER_CORK + 1, false), FM_SENT_ALL);
    assert_int_equal(sink.sends, 1); /* too large to be corked from the start */
    next(1, false, true);
    assert_int_equal(respond("200 OK", NULL), 0);
    for (int i = 0; i < 100000; i++) /* the framing of tiny blocks counts, too */
        assert_int_equal(fm_writer_block(&w, p, 1, false), FM_SENT_ALL);
    assert_true(sink.sends > 100000 * 6 / FM_WRITER_CORK - 10);
    free(p);
}

static void test_flush(void **state)
{
    (void)state;
    assert_false(fm_writer_flush(&w, UINT64_MAX)); /* nothing there */
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_false(fm_writer_flush(&w, UINT64_MAX)); /* a head alone does not leave */
    assert_int_equal(sink.sends, 0);
    uint64_t before = fm_now();
    block("abc");
    assert_true(w.corked_since >= before && w.corked_since <= fm_now());
    assert_true(fm_writer_flush(&w, before - 1)); /* too young: still corked */
    assert_int_equal(sink.sends, 0);
    assert_false(fm_writer_flush(&w, w.corked_since));
    assert_sent(HEAD("200 OK") "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    assert_false(fm_writer_flush(&w, UINT64_MAX));
    assert_int_equal(sink.sends, 1);
    block("de");
    uint64_t since = w.corked_since;
    assert_true(since > 0);
    block("fg");
    assert_int_equal(w.corked_since, since); /* the oldest counts */
    assert_true(fm_writer_flush(&w, since - 1));
    assert_false(fm_writer_flush(&w, since));
    assert_int_equal(sink.sends, 2);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n2\r\nfg\r\n0\r\n\r\n");
    assert_false(fm_writer_flush(&w, UINT64_MAX));
}

/* ---- blocks as they are ---- */

static void test_large_blocks_are_not_copied(void **state)
{
    (void)state;
    char *p = calloc(1, 100000);
    assert_int_equal(respond("200 OK", NULL), 0);
    sink.answer = FM_SENT_BORROWED;
    assert_int_equal(fm_writer_block(&w, p, 100000, true), FM_SENT_BORROWED);
    assert_ptr_equal(sink.bases[1], p);
    assert_int_equal(sink.lens[1], 100000);
    assert_int_equal(sink.lens[2], 2); /* its framing behind it */
    assert_true(sink.borrow);
    assert_int_equal(fm_writer_block(&w, p + 1, 50000, false), FM_SENT_BORROWED);
    assert_ptr_equal(sink.bases[1], p + 1);
    assert_false(sink.borrow);
    next(1, false, true);
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_whole(&w, p, 100000, true), FM_SENT_BORROWED);
    assert_ptr_equal(sink.bases[1], p);
    assert_int_equal(sink.lens[1], 100000);
    assert_int_equal(sink.lens[2], 0);
    assert_true(sink.borrow);
    free(p);
}

static void test_whole(void **state)
{
    (void)state;
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_whole(&w, "hello", 5, false), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 5\r\n\r\nhello");
    assert_int_equal(sink.sends, 1);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_int_equal(sink.sends, 1);
    next(1, false, true);
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_whole(&w, "", 0, false), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 0\r\n\r\n");
    next(1, true, true);
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_whole(&w, "hello", 5, false), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 5\r\n\r\n");
}

/* write() came first (PEP 3333), corked or already gone: the list of one block is the rest of the body, not all of it.
 */
static void test_whole_after_a_block(void **state)
{
    (void)state;
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(block("one,"), FM_SENT_ALL);
    assert_int_equal(fm_writer_whole(&w, "two", 3, false), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 7\r\n\r\none,two");
    next(1, false, true);
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(block("one,"), FM_SENT_ALL);
    fm_writer_flush(&w, UINT64_MAX);
    assert_int_equal(fm_writer_whole(&w, "two", 3, false), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Transfer-Encoding: chunked\r\n\r\n4\r\none,\r\n3\r\ntwo\r\n0\r\n\r\n");
}

/* ---- files ---- */

static int file_of(const char *text)
{
    char path[] = "/tmp/fermata-unit-writer-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    unlink(path);
    return fd;
}

static void test_file(void **state)
{
    (void)state;
    int fd = file_of("0123456789");
    sink.answer = FM_SENT_BORROWED;
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_file(&w, fd, 2, 5), FM_SENT_BORROWED);
    assert_sent(HEAD("200 OK") "Content-Length: 5\r\n\r\n23456");
    assert_int_equal(sink.file_fd, fd);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_int_equal(sink.sends, 1);
    sink.answer = FM_SENT_ALL;
    next(1, false, true); /* the application's length counts */
    assert_int_equal(respond("200 OK", "4"), 0);
    assert_int_equal(fm_writer_file(&w, fd, 0, 10), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 4\r\n\r\n0123");
    next(1, false, true);
    assert_int_equal(respond("200 OK", "20"), 0);
    assert_int_equal(fm_writer_file(&w, fd, 0, 10), FM_SENT_ALL);
    assert_ends_short();
    next(1, false, true); /* nothing of it: no sendfile */
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_file(&w, fd, 10, 0), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 0\r\n\r\n");
    next(1, true, true);
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_file(&w, fd, 0, 10), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 10\r\n\r\n");
    next(1, false, true);
    assert_int_equal(respond("304 Not Modified", NULL), 0);
    assert_int_equal(fm_writer_file(&w, fd, 0, 10), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("304 Not Modified") "\r\n");
    next(0, false, true);
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_file(&w, fd, 0, 10), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 10\r\nConnection: keep-alive\r\n\r\n0123456789");
    close(fd);
}

/* A block that is still corked: the length of both is known. */
static void test_file_after_a_corked_block(void **state)
{
    (void)state;
    int fd = file_of("0123456789");
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(block("abc"), FM_SENT_ALL);
    assert_int_equal(fm_writer_file(&w, fd, 0, 10), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 13\r\n\r\nabc0123456789");
    next(1, false, true);
    assert_int_equal(respond("200 OK", "8"), 0);
    assert_int_equal(block("abc"), FM_SENT_ALL);
    assert_int_equal(fm_writer_file(&w, fd, 0, 10), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Content-Length: 8\r\n\r\nabc01234");
    close(fd);
}

/* The head said chunked when an earlier block left: the file is a chunk, or the rest is no HTTP. */
static void test_file_in_a_chunked_response(void **state)
{
    (void)state;
    int fd = file_of("0123456789ABCDEFGHIJ");
    for (int flushed = 0; flushed < 2; flushed++) {
        struct fm_buf body = FM_BUF_INIT;
        next(1, false, true);
        assert_int_equal(respond("200 OK", NULL), 0);
        assert_int_equal(block("abc"), FM_SENT_ALL);
        if (flushed)
            fm_writer_flush(&w, UINT64_MAX);
        else
            assert_int_equal(block("def"), FM_SENT_ALL);
        assert_int_equal(fm_writer_file(&w, fd, 0, 20), FM_SENT_ALL);
        assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
        fm_buf_append(&sink.out, "", 1);
        sink.out.len--;
        char *head = fm_buf_head(&sink.out), *p = strstr(head, "\r\n\r\n") + 4;
        assert_non_null(strstr(head, "Transfer-Encoding: chunked\r\n"));
        unchunk(p, head + fm_buf_size(&sink.out), &body);
        fm_buf_append(&body, "", 1);
        assert_string_equal(fm_buf_head(&body), flushed ? "abc0123456789ABCDEFGHIJ" : "abcdef0123456789ABCDEFGHIJ");
        fm_buf_fini(&body);
    }
    close(fd);
}

static void test_file_after_a_block_1_0(void **state)
{
    (void)state;
    int fd = file_of("0123456789");
    next(0, false, true);
    assert_int_equal(respond("200 OK", NULL), 0);
    block("abc");
    fm_writer_flush(&w, UINT64_MAX);
    assert_int_equal(fm_writer_file(&w, fd, 0, 10), FM_SENT_ALL);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_sent(HEAD("200 OK") "Connection: close\r\n\r\nabc0123456789");
    assert_false(w.framer.keep);
    close(fd);
}

/* ---- which side may still say something ---- */

static void test_claim_before_anything(void **state)
{
    (void)state;
    for (int with_head = 0; with_head < 2; with_head++) {
        next(1, false, true);
        if (with_head)
            assert_int_equal(respond("200 OK", NULL), 0);
        assert_true(fm_writer_claim(&w));
        assert_false(fm_writer_claim(&w)); /* one answer only */
        assert_false(w.framer.keep);
        int fd = file_of("x");
        respond("200 OK", NULL);
        assert_int_equal(block("abc"), FM_SENT_GONE);
        assert_int_equal(fm_writer_whole(&w, "abc", 3, false), FM_SENT_GONE);
        assert_int_equal(fm_writer_file(&w, fd, 0, 1), FM_SENT_GONE);
        assert_false(fm_writer_flush(&w, UINT64_MAX));
        assert_int_equal(fm_writer_end(&w), FM_SENT_GONE);
        assert_int_equal(sink.sends, 0);
        close(fd);
    }
}

/* A block that was given counts as sent, whether it has left or not. */
static void test_claim_after_a_block(void **state)
{
    (void)state;
    for (int blocks = 1; blocks < 3; blocks++)
        for (int flushed = 0; flushed < 2; flushed++) {
            next(1, false, true);
            assert_int_equal(respond("200 OK", NULL), 0);
            for (int b = 0; b < blocks; b++)
                block("abc");
            if (flushed)
                fm_writer_flush(&w, UINT64_MAX);
            assert_false(fm_writer_claim(&w));
            assert_true(w.framer.keep);
            assert_int_equal(block("def"), FM_SENT_ALL); /* and it goes on */
            assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
            assert_true(sink.sends > 0);
        }
}

static void test_claim_after_the_end(void **state)
{
    (void)state;
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_false(fm_writer_claim(&w));
    next(1, true, true); /* HEAD, nothing of a body */
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_false(fm_writer_claim(&w));
    next(1, false, true);
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_whole(&w, "", 0, false), FM_SENT_ALL);
    assert_false(fm_writer_claim(&w));
}

static void test_set_response(void **state)
{
    (void)state;
    assert_int_equal(respond("200 OK", "100"), 0);
    assert_int_equal(respond("500 Oops", NULL), 0); /* with exc_info: nothing was given yet */
    assert_int_equal(block("x"), FM_SENT_ALL);
    assert_int_equal(respond("501 Late", NULL), FM_ECLOSED); /* corked counts as sent */
    fm_writer_flush(&w, UINT64_MAX);
    assert_int_equal(respond("502 Later", NULL), FM_ECLOSED);
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    assert_int_equal(respond("503 Too late", NULL), FM_ECLOSED);
    assert_sent(HEAD("500 Oops") "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
}

static void test_ended_twice(void **state)
{
    (void)state;
    assert_int_equal(respond("200 OK", NULL), 0);
    block("a");
    block("b");
    assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
    unsigned sends = sink.sends;
    size_t size = fm_buf_size(&sink.out);
    assert_int_equal(fm_writer_end(&w), FM_SENT_GONE);
    assert_int_equal(sink.sends, sends);
    assert_int_equal(fm_buf_size(&sink.out), size);
}

static void test_closed_sink(void **state)
{
    (void)state;
    char *p = calloc(1, 20000);
    sink.answer = FM_SENT_GONE;
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(fm_writer_block(&w, p, 20000, true), FM_SENT_GONE);
    assert_int_equal(fm_writer_end(&w), FM_SENT_GONE);
    next(1, false, true);
    assert_int_equal(respond("200 OK", NULL), 0);
    assert_int_equal(block("small"), FM_SENT_ALL); /* corked: it is not known yet */
    assert_int_equal(fm_writer_end(&w), FM_SENT_GONE);
    free(p);
}

static void test_what_is_kept_is_told(void **state)
{
    (void)state;
    sink.answer = FM_SENT_KEPT;
    sink.pending = 12345;
    assert_int_equal(respond("200 OK", NULL), 0);
    block("a");
    assert_int_equal(fm_writer_end(&w), FM_SENT_KEPT);
    assert_int_equal(fm_writer_pending(&w), 12345);
    next(1, false, true);
    assert_int_equal(respond("200 OK", "2"), 0);
    assert_int_equal(block("a"), FM_SENT_ALL); /* corked */
    assert_int_equal(block("b"), FM_SENT_KEPT);
    assert_true(fm_writer_takes_files(&w));
}

/* ---- the monitor flushes while the application writes ---- */

static atomic_bool flushing;

static void *flush_all_the_time(void *arg)
{
    while (atomic_load(&flushing))
        fm_writer_flush(&w, fm_now() - *(uint64_t *)arg);
    return NULL;
}

static void test_flush_from_another_thread(void **state)
{
    (void)state;
    uint64_t seed = new_seed(), age = 1000;
    atomic_store(&flushing, true);
    pthread_t thread = spawn(flush_all_the_time, &age);
    for (unsigned round = 0; round < ROUNDS(500); round++) {
        struct fm_buf expected = FM_BUF_INIT, body = FM_BUF_INIT;
        fm_mutex_lock(&w.lock);
        fm_buf_clear(&sink.out);
        fm_mutex_unlock(&w.lock);
        /* The server resets a writer that no other thread has. */
        atomic_store(&flushing, false);
        join(thread);
        fm_writer_reset(&w, 1, false, true);
        assert_int_equal(respond("200 OK", NULL), 0);
        atomic_store(&flushing, true);
        thread = spawn(flush_all_the_time, &age);
        for (unsigned blocks = 2 + (unsigned)(rnd(&seed) % 20); blocks > 0; blocks--) {
            char text[400];
            size_t n = 1 + rnd(&seed) % sizeof text;
            memset(text, (int)('a' + blocks % 26), n);
            fm_buf_append(&expected, text, n);
            assert_int_equal(fm_writer_block(&w, text, n, false), FM_SENT_ALL);
            if (rnd(&seed) % 4 == 0)
                sched_yield();
        }
        assert_int_equal(fm_writer_end(&w), FM_SENT_ALL);
        char *head = fm_buf_head(&sink.out), *p = memmem(head, fm_buf_size(&sink.out), "\r\n\r\n", 4);
        unchunk(p + 4, head + fm_buf_size(&sink.out), &body);
        assert_int_equal(fm_buf_size(&body), fm_buf_size(&expected));
        assert_memory_equal(fm_buf_head(&body), fm_buf_head(&expected), fm_buf_size(&body));
        fm_buf_fini(&expected);
        fm_buf_fini(&body);
    }
    atomic_store(&flushing, false);
    join(thread);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_single_block_has_a_length),
        TEST(test_no_block),
        TEST(test_two_blocks_are_chunked),
        TEST(test_expected_length),
        TEST(test_expected_length_is_no_more_than_that),
        TEST(test_1_0_ends_with_the_connection),
        TEST(test_connection_close),
        TEST(test_head_request),
        TEST(test_statuses_without_body),
        TEST(test_empty_blocks),
        TEST(test_random_blocks),
        TEST(test_declared_length),
        TEST(test_too_long_is_cut),
        TEST(test_too_short_is_an_error),
        TEST(test_cork_limit),
        TEST(test_flush),
        TEST(test_large_blocks_are_not_copied),
        TEST(test_whole),
        TEST(test_whole_after_a_block),
        TEST(test_file),
        TEST(test_file_after_a_corked_block),
        TEST(test_file_in_a_chunked_response),
        TEST(test_file_after_a_block_1_0),
        TEST(test_claim_before_anything),
        TEST(test_claim_after_a_block),
        TEST(test_claim_after_the_end),
        TEST(test_set_response),
        TEST(test_ended_twice),
        TEST(test_closed_sink),
        TEST(test_what_is_kept_is_told),
        TEST(test_flush_from_another_thread),
    };
    no_longer_than(300);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A response on its way to a slow client: the writer over the stream over a socket that takes just as many bytes as the
 * test says.  Whatever it takes, and whenever the application comes back with more, the client's body is the
 * application's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "fermata/http/h1/framer.h"
#include "fermata/http/writer.h"
#include "fermata/net/stream.h"
#include "fermata/util/err.h"
#include "fermata/util/files.h"
#include "fermata/wsgi/call.h" /* only for the marks */
#include "loopback.h"

static struct fm_loop l;
static struct fm_stream s;
static struct fm_writer w;
static int peer;

/* ---- a socket that takes what it is told to: send(2) and sendmsg(2) of the program ---- */

static uint64_t seed;
static size_t (*accepts)(size_t n); /* of n bytes: how many; 0: it is full */
static struct fm_buf received;

static ssize_t take(const struct iovec *pieces, size_t n)
{
    size_t total = 0, left;
    for (size_t i = 0; i < n; i++)
        total += pieces[i].iov_len;
    left = total ? accepts(total) : 0;
    if (total > 0 && left == 0) {
        errno = EAGAIN;
        return -1;
    }
    size_t taken = left;
    for (size_t i = 0; i < n; i++) {
        size_t k = left < pieces[i].iov_len ? left : pieces[i].iov_len;
        fm_buf_append(&received, pieces[i].iov_base, k);
        left -= k;
    }
    return (ssize_t)taken;
}

ssize_t __wrap_send(int fd, const void *p, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *p, size_t n, int flags)
{
    struct iovec piece = {(void *)(uintptr_t)p, n};
    CHECK(fd == fm_stream_fd(&s) && (flags & MSG_NOSIGNAL));
    return take(&piece, 1);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    CHECK(fd == fm_stream_fd(&s) && (flags & MSG_NOSIGNAL));
    return take(msg->msg_iov, msg->msg_iovlen);
}

/* ---- the connection, as the server has it ---- */

static void on_data(struct fm_stream *x, const char *data, size_t len) { (void)x, (void)data, (void)len; }
static void on_end(struct fm_stream *x, int err) { (void)x, (void)err; }
static void on_output(struct fm_stream *x) { (void)x; }
static const struct fm_stream_ops stream_ops = {NULL, on_data, on_end, on_output};

static enum fm_sent sink_send(void *sink, const struct iovec *pieces, int n, bool borrow)
{
    return fm_stream_send(sink, pieces, n, borrow ? FM_SEND_BORROW : 0);
}

static enum fm_sent sink_send_file(void *sink, const struct iovec *head, int fd, int64_t pos, int64_t len)
{
    return fm_stream_send_file(sink, head, fd, pos, len);
}

static bool sink_may_keep(void *sink) { return sink != NULL; }
static uint64_t sink_pending(void *sink) { return fm_stream_pending(sink); }
static const struct fm_sink_ops sink_ops = {
    .framer = &fm_h1_framer,
    .send = sink_send,
    .send_file = sink_send_file,
    .pending = sink_pending,
    .may_keep = sink_may_keep,
};

static int start(void **state)
{
    int fd[2];
    (void)state;
    fm_role_take_loop();
    CHECK(fm_loop_init(&l) == 0);
    tcp_pair(fd);
    peer = fd[1];
    CHECK(fm_stream_init(&s, &l, fm_plain(fd[0]), &stream_ops) == 0);
    fm_writer_init(&w, &sink_ops, &s);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    fm_writer_fini(&w);
    fm_stream_fini(&s);
    fm_buf_fini(&received);
    close(peer);
    fm_loop_fini(&l);
    fm_role_drop_loop();
    return 0;
}

static bool has_room(void)
{
    fm_mutex_lock(&s.lock);
    bool room = fm_stream_has_room(&s, FM_OUTPUT_LOW);
    fm_mutex_unlock(&s.lock);
    return room;
}

/* ---- an application ---- */

static char at(uint64_t pos) { return (char)(pos * 131 + (pos >> 9) * 7 + (pos >> 17)); }

/* One block; waits as a step does that is parked on output, and no longer. */
static void yield_block(uint64_t pos, size_t n)
{
    char *p = malloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = at(pos + i);
    enum fm_sent sent = fm_writer_block(&w, p, n, true);
    CHECK(sent != FM_SENT_GONE);
    if (sent == FM_SENT_BORROWED || fm_writer_pending(&w) > FM_OUTPUT_HIGH)
        TURN_UNTIL(&l, has_room());
    memset(p, 0xdd, n); /* it is the application's again */
    free(p);
}

static void respond(int minor, uint64_t length)
{
    const char *why;
    struct fm_response r = {.length = -1};
    char text[24];
    fm_writer_reset(&w, minor, false, true);
    CHECK(fm_response_start(&r, "200 OK", 6, &why) == 0);
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)length);
    if (length > 0)
        CHECK(fm_response_add(&r, "Content-Length", 14, text, (size_t)n, &why) == 0);
    CHECK(fm_writer_set_response(&w, &r) == 0);
    fm_response_fini(&r);
}

/* ---- the client ---- */

/* Takes the chunks apart: the body, in place; its length. */
static size_t unchunk(char *p, size_t n)
{
    size_t in = 0, out = 0;
    for (;;) {
        char *end;
        size_t len = strtoul(p + in, &end, 16);
        in = (size_t)(end - p);
        CHECK(in + 2 <= n && memcmp(end, "\r\n", 2) == 0);
        in += 2;
        CHECK(in + len + 2 <= n && memcmp(p + in + len, "\r\n", 2) == 0);
        memmove(p + out, p + in, len);
        in += len + 2;
        out += len;
        if (len == 0)
            break;
    }
    CHECK(in == n);
    return out;
}

static void assert_body(uint64_t length)
{
    fm_buf_append(&received, "", 1);
    received.len--;
    char *p = fm_buf_head(&received), *body = strstr(p, "\r\n\r\n");
    CHECK(body);
    body += 4;
    size_t n = fm_buf_size(&received) - (size_t)(body - p);
    *(body - 1) = '\0'; /* the head is text */
    if (strstr(p, "chunked"))
        n = unchunk(body, n);
    assert_int_equal(n, length);
    for (size_t i = 0; i < n; i++)
        if (body[i] != at(i))
            fail_msg("byte %zu is not the application's", i);
    fm_buf_fini(&received);
}

static void end_response(void)
{
    CHECK(fm_writer_end(&w) != FM_SENT_GONE && !fm_writer_is_short(&w));
    TURN_UNTIL(&l, fm_stream_pending(&s) == 0);
    fm_mutex_lock(&s.lock);
    CHECK(s.q.n == 0 && s.q.bytes.cap == 0);
    fm_mutex_unlock(&s.lock);
}

/* ---- every split of a block, its end, and what comes behind it ---- */

static size_t stops[2], passed; /* positions in the response where the socket is full once */

static size_t up_to_stops(size_t n)
{
    for (unsigned i = 0; i < 2; i++) {
        if (passed == stops[i]) {
            stops[i] = SIZE_MAX;
            return 0;
        }
        if (passed < stops[i] && n > stops[i] - passed)
            n = stops[i] - passed;
    }
    passed += n;
    return n;
}

/* Large blocks in chunks.  The socket is full before the first one, so that all of it is borrowed, and once more at
 * each byte around its end. */
static void test_full_at_each_byte(void **state)
{
    (void)state;
    enum { BODY = FM_STREAM_BORROW + 1000, AROUND = 24, TIMES = 5 };
    accepts = up_to_stops;
    size_t head = 0;
    for (int i = -1; i < 2 * AROUND; i++) {
        stops[0] = i < 0 ? SIZE_MAX : head;
        stops[1] = i < 0 ? SIZE_MAX : head + BODY + (size_t)i - AROUND / 2;
        passed = 0;
        respond(1, 0);
        for (uint64_t pos = 0; pos < TIMES * BODY; pos += BODY)
            yield_block(pos, BODY);
        end_response();
        if (i < 0) { /* where the head ends */
            fm_buf_append(&received, "", 1);
            received.len--;
            head = (size_t)(strstr(fm_buf_head(&received), "\r\n\r\n") + 4 - fm_buf_head(&received));
        }
        assert_body(TIMES * BODY);
    }
}

/* ---- random blocks, random acceptances ---- */

static size_t random_part(size_t n)
{
    switch (rnd(&seed) % 8) {
    case 0: return 0;
    case 1: return 1;
    case 2: return 1 + rnd(&seed) % (n < 10 ? n : 10);
    case 3: return n > 2 ? n - 2 : n; /* all but a chunk's end */
    case 4: return n > 1 ? n - 1 : n;
    case 5: return n;
    default: return 1 + rnd(&seed) % n;
    }
}

static size_t random_block(void)
{
    switch (rnd(&seed) % 4) {
    case 0: return 1 + rnd(&seed) % 100;
    case 1: return 1 + rnd(&seed) % 20000;
    case 2: return FM_STREAM_BORROW - 3 + rnd(&seed) % 6;
    default: return 1 + rnd(&seed) % (3 * FM_STREAM_BORROW);
    }
}

static void test_random(void **state)
{
    (void)state;
    seed = new_seed();
    accepts = random_part;
    for (unsigned round = 0; round < ROUNDS(400); round++) {
        size_t blocks[12], n = 1 + rnd(&seed) % 12;
        uint64_t total = 0, pos = 0;
        for (size_t i = 0; i < n; i++)
            total += blocks[i] = random_block();
        unsigned framing = rnd(&seed) % 3; /* chunked, by length, until the end of the connection */
        respond(framing < 2, framing == 1 ? total : 0);
        for (size_t i = 0; i < n; i++) {
            yield_block(pos, blocks[i]);
            pos += blocks[i];
            if (rnd(&seed) % 4 == 0)
                fm_writer_flush(&w, UINT64_MAX); /* the monitor */
            for (uint64_t turns = rnd(&seed) % 3; turns > 0; turns--)
                fm_loop_turn(&l, false);
        }
        end_response();
        assert_body(total);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full_at_each_byte, start, finish),
        cmocka_unit_test_setup_teardown(test_random, start, finish),
    };
    no_longer_than(300);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

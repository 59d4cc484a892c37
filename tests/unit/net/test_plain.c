/* A socket as a transport: what each operation answers, and what the peer sees of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "fermata/net/transport.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "loopback.h"

static struct fm_transport t;
static int peer;

static int start(void **state)
{
    int fd[2];
    (void)state;
    tcp_pair(fd);
    t = fm_plain(fd[0]);
    peer = fd[1];
    return 0;
}

static int finish(void **state)
{
    (void)state;
    if (t.fd >= 0)
        t.ops->close(&t, false);
    if (peer >= 0)
        close(peer);
    return 0;
}

static void wait_for_bytes(int fd) { assert_int_equal(wait_readable(fd, 30000), 1); }

/* ---- receiving ---- */

static void test_receive(void **state)
{
    (void)state;
    char text[4];
    assert_int_equal(t.ops->receive(&t, text, sizeof text), FM_EAGAIN);
    assert_false(t.ops->has_unread(&t));
    assert_int_equal(write(peer, "abcdef", 6), 6);
    wait_for_bytes(t.fd);
    assert_true(t.ops->has_unread(&t));
    assert_int_equal(t.ops->receive(&t, text, sizeof text), 4);
    assert_memory_equal(text, "abcd", 4);
    assert_int_equal(t.ops->receive(&t, text, sizeof text), 2);
    assert_false(t.ops->has_unread(&t));
    assert_int_equal(shutdown(peer, SHUT_WR), 0);
    wait_for_bytes(t.fd);
    assert_int_equal(t.ops->receive(&t, text, sizeof text), 0);
    assert_false(t.ops->has_unread(&t));
    assert_int_equal(t.ops->error(&t), 0);
}

static void test_receive_after_a_reset(void **state)
{
    (void)state;
    char text[4];
    reset(peer);
    peer = -1;
    wait_for_bytes(t.fd);
    assert_int_equal(t.ops->receive(&t, text, sizeof text), -ECONNRESET);
    assert_int_equal(t.ops->error(&t), 0); /* it has been told */
}

static void test_error_is_told_once(void **state)
{
    (void)state;
    reset(peer);
    peer = -1;
    wait_for_bytes(t.fd);
    assert_int_equal(t.ops->error(&t), -ECONNRESET);
    assert_int_equal(t.ops->error(&t), 0);
}

/* ---- sending ---- */

static void test_send(void **state)
{
    (void)state;
    char text[16];
    struct iovec pieces[3] = {{"one", 3}, {NULL, 0}, {"two", 3}};
    assert_int_equal(t.ops->send(&t, pieces, 3, false), 6);
    assert_int_equal(t.ops->send(&t, pieces, 1, false), 3);
    assert_int_equal(recv(peer, text, 9, MSG_WAITALL), 9);
    assert_memory_equal(text, "onetwoone", 9);
}

/* Until the socket is full: what it took, then that it takes nothing, and what the peer has not acknowledged. */
static void test_send_to_a_slow_peer(void **state)
{
    (void)state;
    size_t n = 4000000, sent = 0;
    char *p = calloc(1, n);
    struct iovec piece = {p, n};
    ssize_t k;
    while ((k = t.ops->send(&t, &piece, 1, false)) > 0)
        sent += (size_t)k;
    assert_int_equal(k, FM_EAGAIN);
    assert_true(sent > 0);
    uint64_t under_way = t.ops->unacknowledged(&t);
    assert_true(under_way > 0 && under_way <= sent);
    for (size_t got = 0; got < sent;) {
        k = recv(peer, p, n, 0);
        assert_true(k > 0);
        got += (size_t)k;
    }
    for (uint64_t end = fm_now() + 30 * FM_SEC; t.ops->unacknowledged(&t) > 0 && fm_now() < end;)
        usleep(1000);
    assert_int_equal(t.ops->unacknowledged(&t), 0);
    free(p);
}

static void test_send_to_no_peer(void **state)
{
    (void)state;
    struct iovec piece = {"x", 1};
    reset(peer);
    peer = -1;
    wait_for_bytes(t.fd);
    assert_int_equal(t.ops->send(&t, &piece, 1, false), FM_ECLOSED); /* and no SIGPIPE */
    assert_int_equal(t.ops->send(&t, &piece, 1, false), FM_ECLOSED);
}

/* ---- files ---- */

static int file_of(size_t n)
{
    char path[] = "/tmp/fermata-unit-plain-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)n) == 0 && pwrite(fd, "begin", 5, 0) == 5);
    unlink(path);
    return fd;
}

static void test_send_file(void **state)
{
    (void)state;
    char text[16];
    size_t sent = 1;
    off_t pos = 2;
    int fd = file_of(100);
    assert_int_equal(t.ops->send_file(&t, fd, &pos, 10, &sent), 0);
    assert_int_equal(sent, 11); /* what was there, and ten more */
    assert_int_equal(pos, 12);
    assert_int_equal(recv(peer, text, 10, MSG_WAITALL), 10);
    assert_memory_equal(text, "gin\0\0\0\0\0\0\0", 10);
    close(fd);
}

static void test_send_file_that_is_too_short(void **state)
{
    (void)state;
    size_t sent = 0;
    off_t pos = 95;
    int fd = file_of(100);
    assert_int_equal(t.ops->send_file(&t, fd, &pos, 10, &sent), -ENODATA);
    assert_int_equal(sent, 5);
    close(fd);
    assert_int_equal(t.ops->send_file(&t, fd, &pos, 10, &sent), -EBADF);
}

static void test_send_file_to_a_slow_peer(void **state)
{
    (void)state;
    size_t sent = 0, n = 64 << 20;
    off_t pos = 0;
    int fd = file_of(n);
    assert_int_equal(t.ops->send_file(&t, fd, &pos, n, &sent), FM_EAGAIN);
    assert_true(sent > 0 && sent < n);
    assert_int_equal(pos, sent);
    reset(peer);
    peer = -1;
    wait_for_bytes(t.fd);
    assert_int_equal(t.ops->send_file(&t, fd, &pos, n - sent, &sent), FM_ECLOSED);
    close(fd);
}

/* ---- the end ---- */

static void test_shutdown(void **state)
{
    (void)state;
    char c;
    t.ops->shutdown(&t);
    assert_int_equal(recv(peer, &c, 1, 0), 0);
    assert_int_equal(write(peer, "x", 1), 1);
    wait_for_bytes(t.fd);
    assert_int_equal(t.ops->receive(&t, &c, 1), 1);
}

static void test_close(void **state)
{
    (void)state;
    char c;
    int fd = t.fd;
    t.ops->close(&t, false);
    assert_int_equal(t.fd, -1);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(recv(peer, &c, 1, 0), 0);
    assert_false(t.ops->has_unread(&t)); /* what may still be asked of a closed one */
    assert_int_equal(t.ops->unacknowledged(&t), 0);
    t.ops->shutdown(&t);
    t.ops->be_patient(&t, FM_SEC);
}

static void test_reset(void **state)
{
    (void)state;
    char c;
    t.ops->close(&t, true);
    assert_int_equal(recv(peer, &c, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
}

static int user_timeout(void)
{
    int ms = -1;
    socklen_t len = sizeof ms;
    CHECK(getsockopt(t.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &len) == 0);
    return ms;
}

/* TCP's own timeout is put off, never brought forward, and left alone where there is none. */
static void test_patience(void **state)
{
    (void)state;
    int ms = 30000;
    t.ops->be_patient(&t, 60 * FM_SEC);
    assert_int_equal(user_timeout(), 0);
    CHECK(setsockopt(t.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms) == 0);
    t.ops->be_patient(&t, 20 * FM_SEC);
    assert_int_equal(user_timeout(), 30000);
    t.ops->be_patient(&t, 60 * FM_SEC);
    assert_int_equal(user_timeout(), 60000);
    t.ops->be_patient(&t, UINT64_MAX);
    assert_int_equal(user_timeout(), INT32_MAX);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_receive),
        TEST(test_receive_after_a_reset),
        TEST(test_error_is_told_once),
        TEST(test_send),
        TEST(test_send_to_a_slow_peer),
        TEST(test_send_to_no_peer),
        TEST(test_send_file),
        TEST(test_send_file_that_is_too_short),
        TEST(test_send_file_to_a_slow_peer),
        TEST(test_shutdown),
        TEST(test_close),
        TEST(test_reset),
        TEST(test_patience),
    };
    signal(SIGPIPE, SIG_IGN); /* as the server has it: sendfile(2) knows no MSG_NOSIGNAL */
    no_longer_than(300);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Sending to daemons: addresses, datagrams and streams, and that one that was started again is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "fermata/util/dial.h"
#include "threads.h"

static char path[64];
static struct fm_dial_to to;
static struct fm_dial dial;

static int start(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/fermata-unit-dial-%ld", (long)getpid());
    unlink(path);
    memset(&to, 0, sizeof to);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    fm_dial_close(&dial);
    unlink(path);
    return 0;
}

/* A daemon at path. */
static int serve(int type)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    strcpy(addr.sun_path, path);
    int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 5), 0);
    return fd;
}

static void call(enum fm_dial_kind kind)
{
    assert_true(fm_dial_parse_path(&to, path, kind));
    fm_dial_init(&dial, &to);
}

static int say(const char *text) { return fm_dial_send(&dial, text, strlen(text)); }

static const char *heard(int fd)
{
    static char text[4096];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void test_hosts(void **state)
{
    static const char *const bad[] = {"",     "h",     ":1",    "h:",    "h:0",  "h:65536", "h:1x",
                                      "h:-1", "::1:1", "a b:1", "a/b:1", "[]:1", "[::1]",   "h:123456"};
    static const struct {
        const char *text, *host, *port;
    } good[] = {{"localhost:514", "localhost", "514"},
                {"[::1]:8125", "::1", "8125"},
                {"192.0.2.1:65535", "192.0.2.1", "65535"}};
    char longest[300];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (fm_dial_parse_host(&to, bad[i], FM_DIAL_UDP))
            fail_msg("%s is taken", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(fm_dial_parse_host(&to, good[i].text, FM_DIAL_UDP));
        assert_string_equal(to.host, good[i].host);
        assert_string_equal(to.port, good[i].port);
    }
    memset(longest, 'h', sizeof longest);
    strcpy(longest + 290, ":1");
    assert_false(fm_dial_parse_host(&to, longest, FM_DIAL_UDP));
    assert_false(fm_dial_parse_path(&to, "", FM_DIAL_DATAGRAM));
    longest[290] = 'h';
    assert_false(fm_dial_parse_path(&to, longest, FM_DIAL_DATAGRAM));
}

static void test_datagrams(void **state)
{
    (void)state;
    call(FM_DIAL_EITHER);
    assert_int_equal(say("nothing is there"), -ENOENT);
    int fd = serve(SOCK_DGRAM);
    assert_int_equal(say("one"), 0);
    assert_int_equal(say("two\n2"), 0);
    assert_string_equal(heard(fd), "one");
    assert_string_equal(heard(fd), "two\n2");
    /* It ends, and another one begins. */
    close(fd);
    unlink(path);
    assert_int_equal(say("nobody"), -ENOENT);
    fd = serve(SOCK_DGRAM);
    assert_int_equal(say("three"), 0);
    close(fd);
    unlink(path);
    fd = serve(SOCK_DGRAM);
    assert_int_equal(say("four"), 0); /* at once: the old socket refuses */
    assert_string_equal(heard(fd), "four");
    close(fd);
}

static void test_streams(void **state)
{
    (void)state;
    call(FM_DIAL_EITHER);
    int listening = serve(SOCK_STREAM);
    assert_int_equal(say("one"), 0);
    assert_int_equal(say("two"), 0);
    int fd = accept(listening, NULL, NULL);
    assert_string_equal(heard(fd), "one\ntwo\n");
    close(fd);
    assert_int_equal(say("three"), 0); /* another connection */
    fd = accept(listening, NULL, NULL);
    assert_string_equal(heard(fd), "three\n");
    close(fd);
    close(listening);
}

static void test_wrong_type(void **state)
{
    (void)state;
    call(FM_DIAL_DATAGRAM);
    int fd = serve(SOCK_STREAM);
    assert_int_equal(say("x"), -EPROTOTYPE);
    close(fd);
}

static void test_udp(void **state)
{
    (void)state;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    char text[64];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(addr.sin_port));
    assert_true(fm_dial_parse_host(&to, text, FM_DIAL_UDP));
    fm_dial_init(&dial, &to);
    assert_int_equal(say("one"), 0);
    assert_string_equal(heard(fd), "one");
    /* What no datagram can carry is said to be so, and the next one goes. */
    static char large[70000];
    assert_int_equal(fm_dial_send(&dial, large, sizeof large), -EMSGSIZE);
    assert_int_equal(say("two"), 0);
    assert_string_equal(heard(fd), "two");
    close(fd);
}

/* The application closes the descriptor, and the number becomes a client's: nothing goes there. */
static void test_number_of_another(void **state)
{
    (void)state;
    int pair[2];
    char c;
    call(FM_DIAL_DATAGRAM);
    int fd = serve(SOCK_DGRAM);
    assert_int_equal(say("one"), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    int number = dial.fd;
    assert_int_equal(dup2(pair[0], number), number);
    assert_int_equal(say("two"), 0);
    assert_int_not_equal(dial.fd, number);
    assert_int_equal(recv(pair[1], &c, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);
    assert_true(fcntl(number, F_GETFD) >= 0);
    assert_string_equal(heard(fd), "one");
    assert_string_equal(heard(fd), "two");
    close(number);
    close(pair[0]);
    close(pair[1]);
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)
    const struct CMUnitTest tests[] = {
        TEST(test_hosts),      TEST(test_datagrams), TEST(test_streams),
        TEST(test_wrong_type), TEST(test_udp),       TEST(test_number_of_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

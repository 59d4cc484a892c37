/* Addresses: what is read, what is refused and why, and how they are printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "fermata/net/addr.h"
#include "fermata/util/err.h"

#define LONG_LABEL "a123456789b123456789c123456789d123456789e123456789f123456789g123456789"
#define PATH_50 "/23456789012345678901234567890123456789012345678901"
#define PATH_107 PATH_50 PATH_50 "12345"

static void test_valid(void **state)
{
    (void)state;
    const struct {
        const char *text, *host;
        unsigned port;
        int family;
        const char *url;
    } cases[] = {
        {"127.0.0.1:80", "127.0.0.1", 80, AF_INET, "http://127.0.0.1:80"},
        {"127.0.0.1:0", "127.0.0.1", 0, AF_INET, "http://127.0.0.1:0"},
        {"127.0.0.1:65535", "127.0.0.1", 65535, AF_INET, "http://127.0.0.1:65535"},
        {"127.0.0.1:00080", "127.0.0.1", 80, AF_INET, "http://127.0.0.1:80"},
        {"0.0.0.0:1", "0.0.0.0", 1, AF_INET, "http://0.0.0.0:1"},
        {":8080", "0.0.0.0", 8080, AF_INET, "http://0.0.0.0:8080"},
        {"[::1]:8080", "::1", 8080, AF_INET6, "http://[::1]:8080"},
        {"[::]:0", "::", 0, AF_INET6, "http://[::]:0"},
        {"[2001:db8::0:1]:443", "2001:db8::1", 443, AF_INET6, "http://[2001:db8::1]:443"},
        {"[2001:db8:1111:2222:3333:4444:5555:6666]:65535", "2001:db8:1111:2222:3333:4444:5555:6666", 65535, AF_INET6,
         "http://[2001:db8:1111:2222:3333:4444:5555:6666]:65535"},
        {"[::ffff:10.1.2.3]:80", "10.1.2.3", 80, AF_INET6, "http://10.1.2.3:80"}, /* as a peer is shown */
        {"unix:/run/x.sock", "", 0, AF_UNIX, "unix:/run/x.sock"},
        {"unix:relative", "", 0, AF_UNIX, "unix:relative"},
        {"unix:with:colon", "", 0, AF_UNIX, "unix:with:colon"},
        {"unix:" PATH_107, "", 0, AF_UNIX, "unix:" PATH_107},
        {"unix:@name", "", 0, AF_UNIX, "unix:@name"},
        {"unix:@a@b/c", "", 0, AF_UNIX, "unix:@a@b/c"},
        {"unix:./@name", "", 0, AF_UNIX, "unix:./@name"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_addr a;
        char text[FM_ADDR_TEXT];
        const char *why = NULL;
        memset(&a, 0xff, sizeof a);
        if (fm_addr_parse(cases[i].text, &a, &why) != 0)
            fail_msg("%s: %s", cases[i].text, why);
        assert_int_equal(a.u.sa.sa_family, cases[i].family);
        assert_true(a.len > sizeof a.u.sa.sa_family && a.len <= sizeof a.u);
        assert_int_equal(fm_addr_host(&a.u, text), cases[i].port);
        assert_string_equal(text, cases[i].host);
        fm_addr_url(&a, text);
        assert_string_equal(text, cases[i].url);
    }
}

static void test_invalid(void **state)
{
    (void)state;
    static const char ipv6[] = "an IPv6 address is written [ADDRESS]:PORT";
    static const char port[] = "the port is a number from 0 to 65535";
    static const char literal[] = "there is no IPv6 address between the brackets";
    static const char unresolved[] = "the host name cannot be resolved";
    const struct {
        const char *text, *why;
    } cases[] = {
        {"::1", ipv6},
        {"::1:80", ipv6},
        {"1:2:3", ipv6},
        {"2001:db8::1", ipv6},
        {"[::1", ipv6},
        {"[::1:80", ipv6},
        {"[::1]80", ipv6},
        {"[::1]x:80", ipv6},
        {"", port},
        {"127.0.0.1", port},
        {"localhost", port},
        {"[::1]", port},
        {"127.0.0.1:", port},
        {"127.0.0.1:65536", port},
        {"127.0.0.1:99999", port},
        {"127.0.0.1:100000", port},
        {"127.0.0.1:4294967376", port}, /* 80 in 32 bits */
        {"127.0.0.1:-1", port},
        {"127.0.0.1:+80", port},
        {"127.0.0.1: 80", port},
        {"127.0.0.1:80 ", port},
        {"127.0.0.1:http", port},
        {"127.0.0.1:8x", port},
        {"127.0.0.1:0x50", port},
        {"[::1]:", port},
        {"[::1]:x", port},
        {":", port},
        {"[::1::2]:80", literal},
        {"[:::]:80", literal},
        {"a..b:80", unresolved},
        {LONG_LABEL ".example:80", unresolved},
        {LONG_LABEL "localhost:80", unresolved},
        {LONG_LABEL LONG_LABEL LONG_LABEL LONG_LABEL ":80", "the host name is too long"},
        {"unix:", "the path is empty"},
        {"unix:@", "the name is empty"},
        {"unix:" PATH_107 "6", "the path is too long for a unix socket (107 bytes)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_addr a;
        const char *why = "";
        int rc = fm_addr_parse(cases[i].text, &a, &why);
        if (rc != FM_EINVAL || strcmp(why, cases[i].why) != 0)
            fail_msg("\"%s\": %d, %s", cases[i].text, rc, why);
    }
}

/* Brackets hold an IPv6 address, and an address has something in it: nothing is not "all IPv4 interfaces". */
static void test_brackets_hold_ipv6_only(void **state)
{
    (void)state;
    static const char *const texts[] = {"[]:80", "[127.0.0.1]:80", "[localhost]:80"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct fm_addr a;
        const char *why = "";
        if (fm_addr_parse(texts[i], &a, &why) == 0 && a.u.sa.sa_family != AF_INET6)
            fail_msg("\"%s\" is read as an address that is not IPv6", texts[i]);
    }
}

/* RFC 6761, 6.3: loopback whatever resolvers say, and where there is none. */
static void test_localhost(void **state)
{
    (void)state;
    static const char *const names[] = {"localhost", "LocalHost", "localhost.", "api.localhost", "a.b.LOCALHOST."};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct fm_addr a;
        char text[FM_ADDR_TEXT], host[FM_ADDR_TEXT];
        const char *why;
        snprintf(text, sizeof text, "%s:81", names[i]);
        if (fm_addr_parse(text, &a, &why) != 0)
            fail_msg("%s: %s", text, why);
        assert_int_equal(fm_addr_host(&a.u, host), 81);
        assert_string_equal(host, "127.0.0.1");
        assert_true(a.is_localhost);
        struct fm_addr other, again;
        fm_addr_other_localhost(&a, 82, &other);
        assert_int_equal(fm_addr_host(&other.u, host), 82);
        assert_string_equal(host, "::1");
        fm_addr_other_localhost(&other, 83, &again);
        assert_int_equal(fm_addr_port(&again), 83);
        assert_int_equal(again.u.in.sin_addr.s_addr, a.u.in.sin_addr.s_addr);
    }
}

/* unix(7): the name is what the length says, NUL in front, and without one at its end. */
static void test_abstract(void **state)
{
    (void)state;
    struct fm_addr a;
    const char *why;
    assert_int_equal(fm_addr_parse("unix:@name", &a, &why), 0);
    assert_false(fm_addr_is_path(&a));
    assert_int_equal(a.len, offsetof(struct sockaddr_un, sun_path) + 5);
    assert_memory_equal(a.u.un.sun_path, "\0name", 6);
    assert_int_equal(fm_addr_parse("unix:name", &a, &why), 0);
    assert_true(fm_addr_is_path(&a));
    assert_int_equal(fm_addr_parse("127.0.0.1:1", &a, &why), 0);
    assert_false(fm_addr_is_path(&a));
    assert_false(a.is_localhost);
}

/* A peer of a unix socket has no name: the kernel gives a family and nothing else. */
static void test_peer_without_a_name(void **state)
{
    (void)state;
    union fm_sockaddr u;
    char host[FM_ADDR_TEXT] = "x";
    memset(&u, 0, sizeof u);
    u.sa.sa_family = AF_UNIX;
    assert_int_equal(fm_addr_host(&u, host), 0);
    assert_string_equal(host, "");
    u.sa.sa_family = AF_UNSPEC;
    assert_int_equal(fm_addr_host(&u, host), 0);
    assert_string_equal(host, "");
}

static void test_descriptors(void **state)
{
    (void)state;
    static const char *const wrong[] = {"fd://",   "fd://x",  "fd://-1",          "fd://+1",
                                        "fd:// 1", "fd://1 ", "fd://99999999999", "fd://1048577"};
    struct fm_addr a;
    const char *why = NULL;
    char text[FM_ADDR_TEXT];
    assert_int_equal(fm_addr_parse("fd://1048576", &a, &why), 0);
    assert_int_equal(a.fd, 1048576);
    assert_int_equal(fm_addr_parse("fd://007", &a, &why), 0);
    assert_true(a.is_fd);
    assert_int_equal(a.fd, 7);
    assert_false(fm_addr_is_path(&a));
    assert_int_equal(fm_addr_port(&a), 0);
    fm_addr_url(&a, text);
    assert_string_equal(text, "fd://7");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        why = NULL;
        assert_int_equal(fm_addr_parse(wrong[i], &a, &why), FM_EINVAL);
        assert_string_equal(why, "behind fd:// comes the number of a descriptor");
    }
}

/* Every number of digits in every place. */
static void test_ipv4_text(void **state)
{
    (void)state;
    static const unsigned char octets[] = {0, 7, 10, 42, 99, 100, 128, 199, 200, 255};
    enum { N = sizeof octets };
    for (unsigned i = 0; i < N * N * N * N; i++) {
        union fm_sockaddr u = {.in = {.sin_family = AF_INET, .sin_port = htons(8)}};
        unsigned char bytes[4] = {octets[i % N], octets[i / N % N], octets[i / N / N % N], octets[i / N / N / N]};
        char host[FM_ADDR_TEXT], want[INET_ADDRSTRLEN];
        memcpy(&u.in.sin_addr, bytes, 4);
        assert_int_equal(fm_addr_host(&u, host), 8);
        assert_string_equal(host, inet_ntop(AF_INET, bytes, want, sizeof want));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),     cmocka_unit_test(test_ipv4_text),
        cmocka_unit_test(test_invalid),   cmocka_unit_test(test_brackets_hold_ipv6_only),
        cmocka_unit_test(test_localhost), cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_abstract),  cmocka_unit_test(test_peer_without_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

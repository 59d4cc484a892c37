/* Addresses, networks, and sets of peers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "fermata/util/ip.h"

static struct fm_ip ip(const char *text)
{
    struct fm_ip found;
    if (!fm_ip_parse(text, strlen(text), &found))
        fail_msg("%s is an address", text);
    return found;
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *again;
    } good[] = {
        {"192.0.2.1", "192.0.2.1"},        {"2001:DB8::1", "2001:db8::1"}, {"::1", "::1"}, {"::", "::"},
        {"::ffff:192.0.2.1", "192.0.2.1"}, {"0.0.0.0", "0.0.0.0"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char text[FM_IP_TEXT];
        struct fm_ip found = ip(good[i].text);
        fm_ip_text(&found, text);
        assert_string_equal(text, good[i].again);
    }
}

static void test_no_addresses(void **state)
{
    (void)state;
    static const char *const bad[] = {"",          "1.2.3",     "1.2.3.4.5",
                                      "01.2.3.4",  "1.2.3.256", "1.2.3.4:80",
                                      "[::1]",     "::1%1",     "fe80::1%lo",
                                      "localhost", " 1.2.3.4",  "1.2.3.4 ",
                                      "12345::",   "unknown",   "0x7f.1",
                                      "1.2.3.4/8", "::1/128",   "1111:2222:3333:4444:5555:6666:7777:8888:9999:0:0"};
    struct fm_ip found;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (fm_ip_parse(bad[i], strlen(bad[i]), &found))
            fail_msg("\"%s\" is no address", bad[i]);
    assert_false(fm_ip_parse("1.2.3.4\0", 8, &found));
}

static void test_sets(void **state)
{
    (void)state;
    static const struct {
        const char *set, *peer;
        bool is_in;
    } cases[] = {
        {"127.0.0.1", "127.0.0.1", true},
        {"127.0.0.1", "127.0.0.2", false},
        {"127.0.0.1", "::ffff:127.0.0.1", true},
        {"::ffff:127.0.0.1", "127.0.0.1", true},
        {"127.0.0.1,::1", "::1", true},
        {" 10.0.0.0/8 , 192.168.0.0/16", "192.168.255.255", true},
        {"10.0.0.0/8", "11.0.0.0", false},
        {"10.0.0.0/8", "::a00:1", false},
        {"172.16.0.0/12", "172.31.255.255", true},
        {"172.16.0.0/12", "172.32.0.0", false},
        {"192.0.2.128/25", "192.0.2.127", false},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"::/0", "203.0.113.9", true},
        {"2001:db8::/32", "2001:db8:ffff::1", true},
        {"2001:db8::/32", "2001:db9::1", false},
        {"*", "203.0.113.9", true},
        {"unix", "127.0.0.1", false},
        {"", "127.0.0.1", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_peers set;
        struct fm_ip peer = ip(cases[i].peer);
        assert_null(fm_peers_parse(&set, cases[i].set));
        if (fm_peers_has(&set, &peer) != cases[i].is_in)
            fail_msg("%s in \"%s\"", cases[i].peer, cases[i].set);
    }
    struct fm_peers set;
    assert_null(fm_peers_parse(&set, "unix,127.0.0.1"));
    assert_true(set.unix_sockets && !set.any && set.n == 1);
}

static void test_bad_sets(void **state)
{
    (void)state;
    static const char *const bad[] = {"localhost",     "127.0.0.1,", ",127.0.0.1", "127.0.0.1,,::1", " ",
                                      "10.0.0.0/33",   "::1/129",    "10.0.0.0/",  "10.0.0.0/+8",    "10.0.0.0/8 8",
                                      "10.0.0.0/0008", "**",         "UNIX"};
    struct fm_peers set;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!fm_peers_parse(&set, bad[i]))
            fail_msg("\"%s\" is no list of peers", bad[i]);
    char many[65 * 10 + 1] = "";
    for (int i = 0; i < 65; i++)
        strcat(many, i ? ",127.0.0.1" : "127.0.0.1");
    assert_string_equal(fm_peers_parse(&set, many), "takes at most 64 addresses and networks");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_no_addresses),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_bad_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

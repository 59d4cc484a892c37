/* The PROXY protocol's two versions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/net/proxy_protocol.h"
#include "fermata/util/err.h"

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define BOTH (FM_PROXY_V1 | FM_PROXY_V2)
#define NOTE(text) text, sizeof text - 1

static void describe(const struct fm_proxied *p, char *to)
{
    char client[FM_IP_TEXT], server[FM_IP_TEXT];
    fm_ip_text(&p->client, client);
    fm_ip_text(&p->server, server);
    if (p->told)
        sprintf(to, "%s %u %s %u%s", client, p->client_port, server, p->server_port, p->tls ? " tls" : "");
    else
        strcpy(to, "nothing");
}

static const struct {
    const char *bytes;
    size_t len;
    const char *expected; /* NULL: it is no header */
} cases[] = {
    {NOTE("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"), "192.0.2.1 56324 198.51.100.2 443"},
    {NOTE("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"), "2001:db8::1 1 ::1 65535"},
    {NOTE("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 65535\r\n"),
     "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535"},
    {NOTE("PROXY UNKNOWN\r\n"), "nothing"},
    {NOTE("PROXY UNKNOWN ffff::1 whatever\r\n"), "nothing"},
    {NOTE("PROXY\r\n"), NULL},
    {NOTE("PROXY \r\n"), NULL},
    {NOTE("PROXY TCP4\r\n"), NULL},
    {NOTE("PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n"), NULL},
    {NOTE("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n"), NULL},
    {NOTE("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 1\r\n"), NULL},
    {NOTE("PROXY TCP4 192.0.2.1  198.51.100.2 56324 443\r\n"), NULL},
    {NOTE("PROXY TCP4 192.0.2.1 198.51.100.2 56324 65536\r\n"), NULL},
    {NOTE("PROXY TCP4 192.0.2.1 198.51.100.2 056 443\r\n"), NULL},
    {NOTE("PROXY TCP4 2001:db8::1 ::1 1 2\r\n"), NULL},
    {NOTE("PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n"), NULL},
    {NOTE("PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n"), NULL},
    {NOTE("PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n"), NULL},
    {NOTE("PROXY TCP4 192.0.2.1 198.51.100.2 1 2\rx"), NULL},
    {NOTE("PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n"), NULL},
    {NOTE("proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n"), NULL},
    {NOTE("GET / HTTP/1.1\r\n"), NULL},
    {NOTE("\r\nGET / HTTP/1.1\r\n"), NULL},
    {NOTE(V2 "\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\xdc\4\1\xbb"), "192.0.2.1 56324 198.51.100.2 443"},
    {NOTE(V2 "\x21\x21\0\x24\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\1\xff\xff"),
     "2001:db8::1 1 ::1 65535"},
    {NOTE(V2 "\x20\0\0\0"), "nothing"},
    {NOTE(V2 "\x20\x11\0\3abc"), "nothing"},
    {NOTE(V2 "\x21\0\0\0"), "nothing"},
    {NOTE(V2 "\x21\x31\0\2ab"), "nothing"}, /* a unix socket */
    {NOTE(V2 "\x21\x11\0\x14\xc0\0\2\1\xc6\x33\x64\2\xdc\4\1\xbb\x20\0\5\1\0\0\0\0"),
     "192.0.2.1 56324 198.51.100.2 443 tls"},
    {NOTE(V2 "\x21\x11\0\x14\xc0\0\2\1\xc6\x33\x64\2\xdc\4\1\xbb\x20\0\5\0\0\0\0\0"),
     "192.0.2.1 56324 198.51.100.2 443"},
    {NOTE(V2 "\x21\x11\0\x10\xc0\0\2\1\xc6\x33\x64\2\xdc\4\1\xbb\4\0\1x"), "192.0.2.1 56324 198.51.100.2 443"},
    {NOTE(V2 "\x21\x11\0\x10\xc0\0\2\1\xc6\x33\x64\2\xdc\4\1\xbb\4\0\2x"), NULL},
    {NOTE(V2 "\x21\x11\0\x0e\xc0\0\2\1\xc6\x33\x64\2\xdc\4\1\xbb\4\0"), NULL},
    {NOTE(V2 "\x21\x11\0\x0b\xc0\0\2\1\xc6\x33\x64\2\xdc\4\1"), NULL},
    {NOTE(V2 "\x11\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\xdc\4\1\xbb"), NULL}, /* version 1 in a binary header */
    {NOTE(V2 "\x22\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\xdc\4\1\xbb"), NULL},
    {NOTE(V2 "\x21\x11\xff\xff"), NULL}, /* too long to be read */
};

static void test_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_proxied found;
        char text[2 * FM_IP_TEXT + 32];
        int n = fm_proxy_header(cases[i].bytes, cases[i].len, BOTH, &found);
        if (!cases[i].expected) {
            if (n >= 0)
                fail_msg("case %zu is no header: %d", i, n);
            continue;
        }
        assert_int_equal(n, cases[i].len);
        describe(&found, text);
        assert_string_equal(text, cases[i].expected);
    }
}

/* As much as there is of it, byte by byte, in memory that ends there; and with a request behind it. */
static void test_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_proxied found;
        int whole = fm_proxy_header(cases[i].bytes, cases[i].len, BOTH, &found);
        for (size_t n = 0; n < cases[i].len; n++) {
            char *piece = malloc(n ? n : 1);
            memcpy(piece, cases[i].bytes, n);
            int is = fm_proxy_header(piece, n, BOTH, &found);
            if (is > 0 || (whole > 0 && is != 0))
                fail_msg("%zu bytes of case %zu: %d", n, i, is);
            free(piece);
        }
        char more[256];
        memcpy(more, cases[i].bytes, cases[i].len);
        memcpy(more + cases[i].len, "GET / HTTP/1.1\r\n", 16);
        int is = fm_proxy_header(more, cases[i].len + 16, BOTH, &found);
        if (whole > 0)
            assert_int_equal(is, whole);
        else
            assert_true(is < 0);
    }
    char endless[200] = "PROXY TCP4 ";
    memset(endless + 11, '1', sizeof endless - 11);
    struct fm_proxied found;
    assert_int_equal(fm_proxy_header(endless, 106, BOTH, &found), 0);
    assert_int_equal(fm_proxy_header(endless, 107, BOTH, &found), FM_EINVAL);
}

static void test_versions(void **state)
{
    (void)state;
    static const char one[] = "PROXY UNKNOWN\r\n", two[] = V2 "\x20\0\0\0";
    struct fm_proxied found;
    assert_true(fm_proxy_header(one, sizeof one - 1, FM_PROXY_V1, &found) > 0);
    assert_int_equal(fm_proxy_header(one, sizeof one - 1, FM_PROXY_V2, &found), FM_EINVAL);
    assert_int_equal(fm_proxy_header(two, sizeof two - 1, FM_PROXY_V1, &found), FM_EINVAL);
    assert_true(fm_proxy_header(two, sizeof two - 1, FM_PROXY_V2, &found) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

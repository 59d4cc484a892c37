/* Which peers are believed about a request's client, scheme, host, port and prefix, and which try to be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "fermata/http/forwarded.h"
#include "fermata/http/headers.h"

#define ALL (FM_FORWARDED_PROTO | FM_FORWARDED_FOR | FM_FORWARDED_HOST | FM_FORWARDED_PORT | FM_FORWARDED_PREFIX)

/* Fields as they stand in a head. */
static struct fm_request *request_of(const char *lines)
{
    struct fm_field fields[64];
    uint16_t n = 0;
    for (const char *at = lines; *at; at = strchr(at, '\n') + 1) {
        const char *colon = strchr(at, ':'), *end = strchr(at, '\n');
        fields[n++] = (struct fm_field){.name_off = (uint32_t)(at - lines),
                                        .name_len = (uint16_t)(colon - at),
                                        .value_off = (uint32_t)(colon + 2 - lines),
                                        .value_len = (uint32_t)(end - colon - 2),
                                        .id = (uint16_t)fm_header_lookup(at, (size_t)(colon - at))};
    }
    return fm_request_new(NULL, lines, (uint32_t)strlen(lines), fields, n);
}

/* What is believed, in the order client, port of the client, scheme, host, port, prefix; - where nothing was told. */
static void describe(const struct fm_request *r, const struct fm_forwarded *f, char *to, size_t size)
{
    static const char *const schemes[] = {"-", "http", "https"};
    char client[FM_IP_TEXT] = "-";
    if (f->has_client)
        fm_ip_text(&f->client, client);
    snprintf(to, size, "%s %u %s %.*s %u %.*s", client, f->has_client ? f->client_port : 0u, schemes[f->scheme],
             f->host.len ? (int)f->host.len : 1, f->host.len ? fm_request_text(r, f->host) : "-", f->port,
             f->prefix.len ? (int)f->prefix.len : 1, f->prefix.len ? fm_request_text(r, f->prefix) : "-");
}

static void check(const char *trusted, const char *peer, unsigned parts, bool rfc7239, const char *lines,
                  const char *expected)
{
    struct fm_proxy_rules rules = {.parts = parts, .rfc7239 = rfc7239};
    struct fm_request *r = request_of(lines);
    struct fm_forwarded found = {.port = 0};
    char text[512];
    assert_null(fm_peers_parse(&rules.trusted, trusted));
    bool any = fm_forwarded_read(&rules, r, peer, &found);
    describe(r, &found, text, sizeof text);
    if (strcmp(text, expected) != 0)
        fail_msg("%sfrom %s, of whom %s is trusted: %s instead of %s", lines, peer, trusted, text, expected);
    assert_int_equal(any, strcmp(expected, "- 0 - - 0 -") != 0);
    fm_request_free(r);
}

static const char nothing[] = "- 0 - - 0 -";

static void test_x_forwarded(void **state)
{
    (void)state;
    static const struct {
        const char *lines, *expected;
    } cases[] = {
        {"Host: a\n", nothing},
        {"X-Forwarded-For: 203.0.113.9\n", "203.0.113.9 0 - - 0 -"},
        {"X-Forwarded-For: 203.0.113.9:4711\n", "203.0.113.9 4711 - - 0 -"},
        {"X-Forwarded-For: 2001:db8::9\n", "2001:db8::9 0 - - 0 -"},
        {"X-Forwarded-For: [2001:db8::9]\n", "2001:db8::9 0 - - 0 -"},
        {"X-Forwarded-For: [2001:db8::9]:4711\n", "2001:db8::9 4711 - - 0 -"},
        {"X-Forwarded-For: ::ffff:203.0.113.9\n", "203.0.113.9 0 - - 0 -"},
        {"X-Forwarded-Proto: https\n", "- 0 https - 0 -"},
        {"X-Forwarded-Proto: HTTPS\n", "- 0 https - 0 -"},
        {"X-Forwarded-Proto: http\n", "- 0 http - 0 -"},
        {"X-Forwarded-Proto: ws\n", nothing},
        {"X-Forwarded-Proto: https\"\n", nothing},
        {"X-Forwarded-Ssl: on\n", "- 0 https - 0 -"},
        {"X-Forwarded-Ssl: off\n", "- 0 http - 0 -"},
        {"X-Forwarded-Protocol: ssl\n", "- 0 https - 0 -"},
        {"X-Forwarded-Proto: http\nX-Forwarded-Ssl: on\n", nothing}, /* which of them is the client's? */
        {"X-Forwarded-Proto: https\nX-Forwarded-Ssl: off\n", nothing},
        {"X-Forwarded-Proto: https\nX-Forwarded-Ssl: on\n", "- 0 https - 0 -"},
        {"X-Forwarded-Host: shop.example:8443\nX-Forwarded-Port: 8443\nX-Forwarded-Prefix: /shop/\n",
         "- 0 - shop.example:8443 8443 /shop"},
        {"X-Forwarded-Host: a b\nX-Forwarded-Port: 0\nX-Forwarded-Prefix: shop\n", nothing},
        {"X-Forwarded-Port: 65536\nX-Forwarded-Prefix: //evil.example\n", nothing},
        {"X-Forwarded-Prefix: /\n", nothing},
        {"X-Forwarded-Prefix: /a?b\n", nothing},
        /* several proxies, in one line or several */
        {"X-Forwarded-For: 203.0.113.9, 10.0.0.2\n", "203.0.113.9 0 - - 0 -"},
        {"X-Forwarded-For: 203.0.113.9\nX-Forwarded-For: 10.0.0.2\n", "203.0.113.9 0 - - 0 -"},
        {"X-Forwarded-For: 203.0.113.9,,\t10.0.0.2 ,\n", "203.0.113.9 0 - - 0 -"},
        {"X-Forwarded-For: 203.0.113.9, 10.0.0.2\nX-Forwarded-Proto: https, http\n", "203.0.113.9 0 https - 0 -"},
        {"X-Forwarded-For: 203.0.113.9, 10.0.0.2\nX-Forwarded-Proto: https\n", "203.0.113.9 0 https - 0 -"},
        {"X-Forwarded-For: 203.0.113.9\nX-Forwarded-Proto: https, http\n", "203.0.113.9 0 http - 0 -"},
        {"X-Forwarded-For: 10.0.0.3, 10.0.0.2\n", "10.0.0.3 0 - - 0 -"}, /* all of them trusted: the first one */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check("127.0.0.1,10.0.0.0/8", "127.0.0.1", ALL, false, cases[i].lines, cases[i].expected);
}

/* Each of them is written by a client, and none is believed. */
static void test_spoofs(void **state)
{
    (void)state;
    static const struct {
        const char *lines, *expected;
    } cases[] = {
        {"X-Forwarded-For: 127.0.0.1, 203.0.113.9\n", "203.0.113.9 0 - - 0 -"},
        {"X-Forwarded-For: 10.0.0.1\nX-Forwarded-For: 203.0.113.9\n", "203.0.113.9 0 - - 0 -"},
        {"X-Forwarded-For: 1.2.3.4, 203.0.113.9, 10.0.0.2\n", "203.0.113.9 0 - - 0 -"},
        {"X-Forwarded-For: 127.0.0.1, unknown, 10.0.0.2\n", "10.0.0.2 0 - - 0 -"},
        {"X-Forwarded-For: 127.0.0.1, _hidden\n", nothing},
        {"X-Forwarded-For: 127.0.0.1, 203.0.113.9%0d\n", nothing},
        {"X-Forwarded-For: 127.0.0.1, 203.0.113.9:0\n", nothing},
        {"X-Forwarded-For: 127.0.0.1, [203.0.113.9]\n", nothing},
        {"X-Forwarded-For: 127.0.0.1, [2001:db8::9\n", nothing},
        {"X-Forwarded-For: 127.0.0.1, [2001:db8::9]x\n", nothing},
        {"X-Forwarded-For: 127.0.0.1, fe80::1%eth0\n", nothing},
        {"X-Forwarded-For: 127.0.0.1, localhost\n", nothing},
        {"X-Forwarded-For: 127.0.0.1, 0x7f.1\n", nothing},
        {"X-Forwarded-For: \"127.0.0.1, 203.0.113.9\n", "203.0.113.9 0 - - 0 -"}, /* quotes mean nothing here */
        {"X-Forwarded-Proto: https, http\nX-Forwarded-For: 127.0.0.1, 203.0.113.9\n", "203.0.113.9 0 http - 0 -"},
        {"X-Forwarded-Proto: https\nX-Forwarded-Proto: http\n", "- 0 http - 0 -"},
        {"X-Forwarded-Host: evil.example, shop.example\n", "- 0 - shop.example 0 -"},
        {"Forwarded: for=127.0.0.1;proto=https\n", nothing},
        {"Forwarded: for=127.0.0.1\nX-Forwarded-For: 203.0.113.9\n", "203.0.113.9 0 - - 0 -"},
        {"X-Real-IP: 127.0.0.1\n", nothing},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check("127.0.0.1,10.0.0.0/8", "127.0.0.1", ALL, false, cases[i].lines, cases[i].expected);
}

static void test_forwarded(void **state)
{
    (void)state;
    static const struct {
        const char *lines, *expected;
    } cases[] = {
        {"X-Forwarded-For: 203.0.113.9\nX-Forwarded-Proto: https\n", nothing},
        {"Forwarded: for=203.0.113.9\n", "203.0.113.9 0 - - 0 -"},
        {"Forwarded: For=\"[2001:db8:cafe::17]:4711\"\n", "2001:db8:cafe::17 4711 - - 0 -"},
        {"Forwarded: for=192.0.2.60;proto=https;by=203.0.113.43;host=shop.example\n",
         "192.0.2.60 0 https shop.example 0 -"},
        {"Forwarded: proto=\"https\" ; host=\"shop.example:81\"\n", "- 0 https shop.example:81 0 -"},
        {"Forwarded: for=192.0.2.43;proto=https, for=10.0.0.1;proto=http\n", "192.0.2.43 0 https - 0 -"},
        {"Forwarded: for=192.0.2.43;proto=https\nForwarded: for=198.51.100.17;proto=http\n",
         "198.51.100.17 0 http - 0 -"},
        {"Forwarded: for=127.0.0.1, for=unknown;proto=https\n", "- 0 https - 0 -"},
        {"Forwarded: for=127.0.0.1, for=_gazonk\n", nothing},
        {"Forwarded: for=127.0.0.1, for=\"a\\\"b\"\n", nothing},
        {"Forwarded: host=\"a, b\", for=203.0.113.9\n", "203.0.113.9 0 - - 0 -"},
        {"Forwarded: for=203.0.113.9;host=\"a,b;proto=https\"\n", "203.0.113.9 0 - a,b;proto=https 0 -"},
        /* an open quote, so that what the proxy appends should belong to it */
        {"Forwarded: for=\"127.0.0.1, for=203.0.113.9;proto=http\n", "203.0.113.9 0 http - 0 -"},
        {"Forwarded: for=203.0.113.9;proto=https;proto=http\n", "203.0.113.9 0 - - 0 -"},
        {"Forwarded: for=127.0.0.1;for=203.0.113.9\n", nothing},
        {"Forwarded: for=127.0.0.1;x=\"\\\", for=203.0.113.9;proto=http;y=\"a\\\"b\"\n", nothing},
        {"Forwarded: for\n", nothing},
        {"Forwarded: =x;;\n", nothing},
        {"Forwarded: for=\n", nothing},
        {"Forwarded: ,;,\n", nothing},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check("127.0.0.1,10.0.0.0/8", "127.0.0.1", ALL, true, cases[i].lines, cases[i].expected);
}

static void test_peers(void **state)
{
    (void)state;
    static const char lines[] = "X-Forwarded-For: 1.2.3.4, 203.0.113.9\nX-Forwarded-Proto: https\n";
    check("127.0.0.1,::1,unix", "127.0.0.1", ALL, false, lines, "203.0.113.9 0 https - 0 -");
    check("127.0.0.1,::1,unix", "::1", ALL, false, lines, "203.0.113.9 0 https - 0 -");
    check("127.0.0.1,::1,unix", "", ALL, false, lines, "203.0.113.9 0 https - 0 -");
    check("127.0.0.1,::1,unix", "127.0.0.2", ALL, false, lines, nothing);
    check("127.0.0.1,::1", "", ALL, false, lines, nothing);
    check("", "127.0.0.1", ALL, false, lines, nothing);
    /* any peer, but one hop: never the leftmost */
    check("*", "198.51.100.1", ALL, false, lines, "203.0.113.9 0 https - 0 -");
    check("*", "", ALL, false, lines, "203.0.113.9 0 https - 0 -");
}

static void test_parts(void **state)
{
    (void)state;
    static const char lines[] = "X-Forwarded-For: 203.0.113.9\nX-Forwarded-Proto: https\nX-Forwarded-Host: a\n"
                                "X-Forwarded-Port: 81\nX-Forwarded-Prefix: /b\n";
    static const struct {
        const char *parts, *expected;
    } cases[] = {
        {"off", nothing},
        {"proto", "- 0 https - 0 -"},
        {"for", "203.0.113.9 0 - - 0 -"},
        {"host", "- 0 - a 0 -"},
        {"port", "- 0 - - 81 -"},
        {"prefix", "- 0 - - 0 /b"},
        {"proto,for,host,port,prefix", "203.0.113.9 0 https a 81 /b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned parts;
        assert_null(fm_forwarded_parse_parts(&parts, cases[i].parts));
        check("127.0.0.1", "127.0.0.1", parts, false, lines, cases[i].expected);
    }
    static const char *const bad[] = {"", ",", "proto,", "proto,off", "Proto", "proto, for", "all"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        unsigned parts;
        assert_non_null(fm_forwarded_parse_parts(&parts, bad[i]));
    }
}

/* A list without end is read for 32 hops. */
static void test_many_hops(void **state)
{
    (void)state;
    char lines[4096] = "X-Forwarded-For: 203.0.113.9";
    for (int i = 0; i < 40; i++)
        sprintf(lines + strlen(lines), ", 10.0.0.%d", 100 - i);
    strcat(lines, "\n");
    check("127.0.0.1,10.0.0.0/8", "127.0.0.1", ALL, false, lines, "10.0.0.92 0 - - 0 -");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_x_forwarded), cmocka_unit_test(test_spoofs), cmocka_unit_test(test_forwarded),
        cmocka_unit_test(test_peers),       cmocka_unit_test(test_parts),  cmocka_unit_test(test_many_hops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

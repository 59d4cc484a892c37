/* Hosts with and without a port. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "fermata/http/host.h"

static void test_hosts(void **state)
{
    (void)state;
    static const char *const good[] = {"a",           "a.b-c_d~e",   "%41%aF",       "a:",      "a:0",
                                       "a:65535",     "a:000080",    "[::1]",        "[::]:80", "[::1]:",
                                       "[::1.2.3.4]", "127.0.0.1:1", "a!$&'()*+,;=b"};
    static const char *const bad[] = {"",
                                      ":",
                                      ":80",
                                      "a:65536",
                                      "a:99999999999999999999",
                                      "a:8 0",
                                      "a:+1",
                                      "a:80:80",
                                      "a b",
                                      "a/b",
                                      "a@b",
                                      "a?",
                                      "a#",
                                      "%",
                                      "%4",
                                      "%4g",
                                      "a%zz",
                                      "[",
                                      "[]",
                                      "[::1",
                                      "::1",
                                      "[a]",
                                      "[::g]",
                                      "[v1.a]",
                                      "[::1]80",
                                      "[::1]]",
                                      "a]",
                                      "a\\b",
                                      "\xc3\xa4",
                                      "a\tb",
                                      "[1:2:3:4:5:6:7:8:9]",
                                      "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0]"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!fm_is_host(good[i], strlen(good[i])))
            fail_msg("%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (fm_is_host(bad[i], strlen(bad[i])))
            fail_msg("%s", bad[i]);
    assert_false(fm_is_host("[::1\0]", 6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hosts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

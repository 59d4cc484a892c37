/* Which server is asked: addresses as they are written, and processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fermata/admin/published.h"
#include "fermata/command/target.h"
#include "fermata/util/fds.h"

static struct fm_target target;
static char why[FM_SENTENCE];

static const char *is(const char *text) { return fm_target_parse(&target, text, why) ? target.text : NULL; }

static void test_addresses(void **state)
{
    (void)state;
    assert_string_equal(is("127.0.0.1:8001"), "http://127.0.0.1:8001");
    assert_string_equal(target.host, "127.0.0.1:8001");
    assert_int_equal(fm_addr_port(&target.addr), 8001);
    assert_string_equal(is("http://127.0.0.1:8001"), "http://127.0.0.1:8001");
    assert_string_equal(is("http://[::1]:8001/"), "http://[::1]:8001");
    assert_string_equal(target.host, "[::1]:8001");
    assert_string_equal(is("http://127.0.0.1/"), "http://127.0.0.1:80");
    assert_string_equal(is("http://[::1]"), "http://[::1]:80");
    assert_int_equal(fm_addr_port(&target.addr), 80);
    assert_string_equal(is("localhost:1"), "http://localhost:1");
    assert_true(target.addr.is_localhost);
    assert_string_equal(is(":8001"), "http://localhost:8001"); /* as --admin-bind may have it */
    assert_string_equal(target.host, "localhost:8001");
    assert_string_equal(is("unix:/run/app/admin"), "unix:/run/app/admin");
    assert_string_equal(target.host, "localhost");
    assert_true(fm_addr_is_path(&target.addr));
}

static void test_what_is_none(void **state)
{
    char text[FM_TARGET_TEXT * 2];
    static const char *const wrong[] = {"",
                                        "127.0.0.1",
                                        "http://",
                                        "http://127.0.0.1:1/status.txt",
                                        "fd://3",
                                        "https://127.0.0.1",
                                        "unix:",
                                        "http://127.0.0.1:99999",
                                        "[::1]",
                                        ":",
                                        "::1:80",
                                        "http://[::1:1",
                                        "http://127.0.0.1:1?x"};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        *why = '\0';
        assert_null(is(wrong[i]));
        assert_true(*why);
    }
    for (size_t n = 300; n < sizeof text; n++) { /* up to any length, and beyond */
        memset(text, 'x', n);
        text[n] = '\0';
        assert_null(is(text));
        memcpy(text, "unix:", 5);
        assert_null(is(text));
        memcpy(text, "http://", 7);
        assert_null(is(text));
    }
}

static void test_of_a_process(void **state)
{
    const char *reason;
    struct fm_addr addr;
    (void)state;
    assert_false(fm_target_of_process(&target, getpid(), why));
    assert_non_null(strstr(why, "has no admin port"));
    assert_int_equal(fm_addr_parse("127.0.0.1:8001", &addr, &reason), 0);
    int fd = fm_published_make(&addr);
    assert_true(fd >= 0 && fm_fds_is_own(fd));
    assert_true(fm_target_of_process(&target, getpid(), why));
    assert_string_equal(target.text, "http://127.0.0.1:8001");
    fm_fds_close(fd);
    assert_false(fm_target_of_process(&target, getpid(), why));
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    assert_false(fm_target_of_process(&target, child, why));
    assert_non_null(strstr(why, "there is no process"));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_addresses),
    cmocka_unit_test(test_what_is_none),
    cmocka_unit_test(test_of_a_process),
};

int main(void) { return cmocka_run_group_tests(tests, NULL, NULL); }

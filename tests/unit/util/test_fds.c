/* util/fds: what a forked child closes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fermata/util/fds.h"

static bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

static int exit_code_of(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_own_until_closed(void **state)
{
    (void)state;
    int fd = eventfd(0, EFD_CLOEXEC);
    assert_false(fm_fds_is_own(fd));
    fm_fds_own(fd);
    assert_true(fm_fds_is_own(fd));
    fm_fds_close(fd);
    assert_false(fm_fds_is_own(fd));
    assert_false(is_open(fd));
}

static void test_numbers_out_of_range(void **state)
{
    (void)state;
    fm_fds_own(-1);
    fm_fds_own(1 << 20);
    assert_false(fm_fds_is_own(-1));
    assert_false(fm_fds_is_own(1 << 20));
    fm_fds_own((1 << 20) - 1);
    assert_true(fm_fds_is_own((1 << 20) - 1));
    fm_fds_close((1 << 20) - 1);
    assert_false(fm_fds_is_own((1 << 20) - 1));
}

static void test_child_has_none_of_them(void **state)
{
    (void)state;
    int own[200], other = eventfd(0, 0);
    for (int i = 0; i < 200; i++)
        fm_fds_own(own[i] = eventfd(0, 0));
    assert_false(atomic_load(&fm_forked));
    pid_t pid = fork();
    if (pid == 0) {
        bool good = atomic_load(&fm_forked) && is_open(other);
        for (int i = 0; i < 200; i++)
            good = good && !is_open(own[i]) && !fm_fds_is_own(own[i]);
        _exit(good ? 7 : 1);
    }
    assert_int_equal(exit_code_of(pid), 7);
    assert_false(atomic_load(&fm_forked));
    for (int i = 0; i < 200; i++) {
        assert_true(is_open(own[i]));
        fm_fds_close(own[i]);
    }
    close(other);
}

int main(void)
{
    pthread_atfork(NULL, NULL, fm_fds_in_child);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_until_closed),
        cmocka_unit_test(test_numbers_out_of_range),
        cmocka_unit_test(test_child_has_none_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

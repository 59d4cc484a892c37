/* util/vital: what the end looks like when a descriptor is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fermata/util/log.h"
#include "fermata/util/vital.h"

static int exit_code_of(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_wake(void **state)
{
    (void)state;
    eventfd_t count = 0;
    int fd = eventfd(0, EFD_NONBLOCK);
    fm_vital_wake(fd);
    assert_int_equal(eventfd_read(fd, &count), 0);
    assert_int_equal(count, 1);
    assert_int_equal(eventfd_write(fd, UINT64_MAX - 1), 0);
    fm_vital_wake(fd); /* as full as it gets: it wakes all the same */
    close(fd);
}

static void test_wake_of_what_is_gone(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        fm_log_open("/dev/null");
        int fd = eventfd(0, EFD_NONBLOCK);
        close(fd);
        fm_vital_wake(fd);
        _exit(9);
    }
    assert_int_equal(exit_code_of(pid), 1);
}

/* Another file has got the number. */
static void test_another_file_is_no_eventfd(void **state)
{
    (void)state;
    int fd = eventfd(0, EFD_NONBLOCK);
    fm_vital_check_wake(fd);
    pid_t pid = fork();
    if (pid == 0) {
        fm_log_open("/dev/null");
        int ends[2];
        if (pipe(ends) != 0 || dup2(ends[1], fd) != fd)
            _exit(8);
        fm_vital_check_wake(fd);
        _exit(9);
    }
    assert_int_equal(exit_code_of(pid), 1);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wake),
        cmocka_unit_test(test_wake_of_what_is_gone),
        cmocka_unit_test(test_another_file_is_no_eventfd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

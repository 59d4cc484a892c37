/* What processes use: this one, a child, one that is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fermata/util/clock.h"
#include "fermata/util/usage.h"
#include "threads.h"

static void compute(void)
{
    clock_t until = clock() + CLOCKS_PER_SEC / 10;
    while (clock() < until)
        ;
}

static void test_own(void **state)
{
    (void)state;
    struct fm_usage before, after;
    struct rlimit most;
    assert_true(fm_usage_read(0, &before));
    assert_true(before.memory > 100000 && before.memory < before.size);
    assert_true(before.started / 1000 <= (uint64_t)time(NULL));
    assert_true(before.started / 1000 + 3600 > (uint64_t)time(NULL));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &most), 0);
    assert_int_equal(before.most, most.rlim_cur);
    int fds[2] = {dup(1), dup(1)};
    compute();
    assert_true(fm_usage_read(0, &after));
    assert_int_equal(after.open, before.open + 2);
    assert_true(after.cpu >= before.cpu + 50 * FM_MS);
    close(fds[0]);
    close(fds[1]);
}

static void test_a_child(void **state)
{
    (void)state;
    struct fm_usage u;
    int status;
    uint64_t ended = fm_usage_ended();
    pid_t child = fork();
    if (child == 0) {
        compute();
        pause();
        _exit(0);
    }
    assert_true(child > 0);
    do
        assert_true(fm_usage_read(child, &u));
    while (u.cpu < 50 * FM_MS);
    assert_true(u.open >= 3);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(fm_usage_read(child, &u));
    assert_int_equal(u.cpu + u.memory + u.open, 0);
    assert_true(fm_usage_ended() >= ended + 50 * FM_MS);
}

static void test_sums(void **state)
{
    (void)state;
    struct fm_usage u = {.cpu = 1, .started = 5, .memory = 10, .size = 20, .open = 50, .most = 100};
    const struct fm_usage less = {.cpu = 2, .started = 9, .memory = 30, .size = 40, .open = 400, .most = 1000};
    const struct fm_usage more = {.cpu = 4, .started = 9, .memory = 50, .size = 60, .open = 6, .most = 10};
    const struct fm_usage untold = {.open = 7};
    fm_usage_add(&u, &less);
    assert_int_equal(u.open, 50);
    fm_usage_add(&u, &more);
    fm_usage_add(&u, &untold);
    assert_int_equal(u.cpu, 7);
    assert_int_equal(u.started, 5);
    assert_int_equal(u.memory, 90);
    assert_int_equal(u.size, 120);
    assert_int_equal(u.open, 6);
    assert_int_equal(u.most, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own),
        cmocka_unit_test(test_a_child),
        cmocka_unit_test(test_sums),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

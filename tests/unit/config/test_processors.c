/* config/processors: what a cgroup leaves for workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/config/processors.h"

static char directory[] = "/tmp/fermata-test-XXXXXX";

static void put(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void make(const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static bool memory_counts; /* which is for workers alone */

static unsigned found(unsigned processors)
{
    char path[200];
    snprintf(path, sizeof path, "%s/cgroup", directory);
    unsigned usable = fm_processors_usable_of(path, directory, processors),
             n = fm_processors_of(path, directory, processors, 256);
    assert_true(usable == n || (usable > n && (memory_counts || n == 256)));
    return n;
}

static int start(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    make("pod");
    make("pod/app");
    return 0;
}

static int stop(void **state)
{
    static const char *const names[] = {"pod/app/cpu.max", "pod/app", "pod/cpu.max", "pod/memory.max", "pod",
                                        "cgroup",          "cpu.max", "memory.max"};
    char path[200];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        remove(path);
    }
    return rmdir(directory);
}

static void test_without_limits(void **state)
{
    (void)state;
    assert_int_equal(found(6), 6); /* there is no file at all */
    put("cgroup", "12:cpu:/other\n0::/pod/app\n");
    assert_int_equal(found(6), 6);
    put("pod/app/cpu.max", "max 100000\n");
    assert_int_equal(found(6), 6);
    assert_int_equal(found(1000), 256);
}

static void test_time(void **state)
{
    (void)state;
    put("pod/app/cpu.max", "250000 100000\n");
    assert_int_equal(found(6), 3); /* two and a half */
    assert_int_equal(found(2), 2);
    put("pod/cpu.max", "100000 100000\n"); /* that of the pod is less */
    assert_int_equal(found(6), 1);
    put("pod/cpu.max", "10000 100000\n");
    assert_int_equal(found(6), 1);
    put("pod/cpu.max", "rubbish\n");
    put("cpu.max", "200000 100000\n"); /* the root of a container */
    assert_int_equal(found(6), 2);
    put("cpu.max", "max 100000\n");
    put("pod/app/cpu.max", "max 100000\n");
}

static void test_memory(void **state)
{
    (void)state;
    memory_counts = true;
    put("pod/memory.max", "536870912\n");
    assert_int_equal(found(6), 4);
    put("pod/memory.max", "1000\n");
    assert_int_equal(found(6), 1);
    put("pod/memory.max", "max\n");
    assert_int_equal(found(6), 6);
}

static void test_here(void **state)
{
    (void)state;
    unsigned n = fm_processors(256);
    assert_true(n >= 1 && n <= 256);
    assert_int_equal(fm_processors(1), 1);
    assert_true(fm_processors_usable() >= n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_limits),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_here),
    };
    return cmocka_run_group_tests(tests, start, stop);
}

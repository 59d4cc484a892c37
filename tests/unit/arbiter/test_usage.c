/* What the kernel says of memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fermata/arbiter/usage.h"
#include "fermata/util/clock.h"

static void test_private_memory(void **state)
{
    (void)state;
    assert_int_equal(fm_usage_parse("55d0-7ffe ---p 00000000 00:00 0    [rollup]\nRss:   40000 kB\n"
                                    "Shared_Clean: 300 kB\nPrivate_Clean:        12 kB\nPrivate_Dirty:   3000 kB\n"),
                     3012 * 1024);
    assert_int_equal(fm_usage_parse("Rss: 1 kB\n"), FM_USAGE_UNKNOWN);
    assert_int_equal(fm_usage_parse("Private_Clean: 1 kB\nPrivate_Dirty:\n"), FM_USAGE_UNKNOWN);
    assert_int_equal(fm_usage_parse(""), FM_USAGE_UNKNOWN);
}

static void test_this_process(void **state)
{
    (void)state;
    enum { MORE = 32 << 20 };
    uint64_t before = fm_usage_private(getpid());
    assert_int_not_equal(before, FM_USAGE_UNKNOWN);
    char *memory = mmap(NULL, MORE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    memset(memory, 1, MORE);
    uint64_t after = fm_usage_private(getpid());
    munmap(memory, MORE);
    /* Libraries that other processes begin or cease to map are less or more its own; a sanitizer has memory for it,
     * too. */
    assert_true(after > before + MORE / 2 && after - before < 8 * MORE);
    assert_int_equal(fm_usage_private(1 << 22), FM_USAGE_UNKNOWN); /* there is no such process */
}

/* ---- memory.events ---- */

static char path[] = "/tmp/test_usage_XXXXXX";

static void put(unsigned kills)
{
    FILE *f = fopen(path, "w");
    fprintf(f, "low 0\nhigh 0\nmax 12\noom 3\noom_kill %u\noom_group_kill 0\n", kills);
    fclose(f);
}

static struct fm_oom watched(unsigned kills)
{
    struct fm_oom o = {.killed = kills, .fd = -1};
    snprintf(o.path, sizeof o.path, "%s", path);
    put(kills);
    return o;
}

static void test_a_kill(void **state)
{
    (void)state;
    struct fm_oom o = watched(5);
    assert_false(fm_oom_has_killed(&o, 10 * FM_SEC)); /* by hand */
    put(6);
    assert_true(fm_oom_has_killed(&o, 11 * FM_SEC));
    assert_false(fm_oom_has_killed(&o, 11 * FM_SEC));
    put(8); /* two at once */
    assert_true(fm_oom_has_killed(&o, 12 * FM_SEC));
    assert_true(fm_oom_has_killed(&o, 12 * FM_SEC));
    assert_false(fm_oom_has_killed(&o, 12 * FM_SEC));
}

/* Of another process of the cgroup, long before a worker is killed by hand. */
static void test_a_kill_of_long_ago(void **state)
{
    (void)state;
    struct fm_oom o = watched(5);
    int fd = fm_oom_watch(&o);
    assert_true(fd >= 0);
    put(6);
    fm_oom_changed(&o, 20 * FM_SEC);
    assert_false(fm_oom_has_killed(&o, 60 * FM_SEC));
    put(7);
    fm_oom_changed(&o, 70 * FM_SEC);
    assert_true(fm_oom_has_killed(&o, 70 * FM_SEC)); /* told before the end of the process is */
    assert_false(fm_oom_has_killed(&o, 70 * FM_SEC));
    close(fd);
}

/* ---- of version 1 ---- */

/* A kill is told before it is counted: here by a pipe in place of the kernel's eventfd. */
static void test_told_before_it_is_counted(void **state)
{
    (void)state;
    int ends[2];
    struct fm_oom o = watched(5);
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    o.version1 = true;
    o.fd = ends[0];
    assert_int_equal(write(ends[1], "12345678", 8), 8);
    fm_oom_changed(&o, 20 * FM_SEC);
    put(6);
    assert_false(fm_oom_has_killed(&o, 60 * FM_SEC)); /* it was another process, and this one was ended by hand */
    assert_int_equal(write(ends[1], "12345678", 8), 8);
    put(7);
    assert_true(fm_oom_has_killed(&o, 70 * FM_SEC)); /* the end is seen first */
    assert_int_equal(write(ends[1], "12345678", 8), 8);
    fm_oom_changed(&o, 80 * FM_SEC);
    put(8);
    assert_true(fm_oom_has_killed(&o, 81 * FM_SEC));
    assert_false(fm_oom_has_killed(&o, 81 * FM_SEC));
    close(ends[0]);
    close(ends[1]);
}

static void make(const char *root, const char *directory, const char *file)
{
    char name[300];
    snprintf(name, sizeof name, "mkdir -p %s%s && echo 'oom_kill 4' > %s%s/%s", root, directory, root, directory, file);
    assert_int_equal(system(name), 0);
}

static void test_which_cgroup(void **state)
{
    (void)state;
    char root[] = "/tmp/test_usage_XXXXXX", name[300];
    struct fm_oom o;
    assert_non_null(mkdtemp(root));
    static const char both[] = "9:name=systemd:/x\n4:cpu,memoryish:/y\n3:memory:/a/b\n0::/c\n";
    fm_oom_find(&o, root, both);
    assert_string_equal(o.path, "");
    assert_int_equal(fm_oom_watch(&o), -1);
    make(root, "/memory", "memory.oom_control"); /* as a container has it */
    fm_oom_find(&o, root, both);
    snprintf(name, sizeof name, "%s/memory/memory.oom_control", root);
    assert_string_equal(o.path, name);
    make(root, "/memory/a/b", "memory.oom_control");
    fm_oom_find(&o, root, both);
    snprintf(name, sizeof name, "%s/memory/a/b/memory.oom_control", root);
    assert_string_equal(o.path, name);
    assert_true(o.version1);
    assert_int_equal(o.killed, 4);
    assert_int_equal(fm_oom_watch(&o), -1); /* there is no kernel behind it */
    make(root, "/c", "memory.events");
    fm_oom_find(&o, root, both);
    snprintf(name, sizeof name, "%s/c/memory.events", root);
    assert_string_equal(o.path, name);
    assert_false(o.version1);
    fm_oom_find(&o, root, "");
    assert_string_equal(o.path, "");
    snprintf(name, sizeof name, "rm -r %s", root);
    assert_int_equal(system(name), 0);
}

/* No guess. */
static void test_nothing_to_be_read(void **state)
{
    (void)state;
    struct fm_oom o = {.path = "/nonexistent/memory.events", .fd = -1};
    assert_false(fm_oom_has_killed(&o, FM_SEC));
    assert_int_equal(fm_oom_watch(&o), -1);
    *o.path = '\0';
    assert_false(fm_oom_has_killed(&o, FM_SEC));
    assert_int_equal(fm_oom_watch(&o), -1);
}

static void test_of_this_process(void **state)
{
    (void)state;
    struct fm_oom o;
    fm_oom_init(&o);
    assert_true(!*o.path || access(o.path, R_OK) == 0);
    assert_false(fm_oom_has_killed(&o, FM_SEC));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_private_memory),
        cmocka_unit_test(test_this_process),
        cmocka_unit_test(test_a_kill),
        cmocka_unit_test(test_a_kill_of_long_ago),
        cmocka_unit_test(test_told_before_it_is_counted),
        cmocka_unit_test(test_which_cgroup),
        cmocka_unit_test(test_nothing_to_be_read),
        cmocka_unit_test(test_of_this_process),
    };
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}

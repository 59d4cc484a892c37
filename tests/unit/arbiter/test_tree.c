/* How files look, and what counts as a change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/arbiter/tree.h"

static char dir[64];
static struct fm_tree t;

static const char *in(const char *name)
{
    static char paths[4][PATH_MAX];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(in(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void make_dir(const char *name) { assert_int_equal(mkdir(in(name), 0700), 0); }

static int begin(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/fermata-tree-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int end(void **state)
{
    char command[128];
    (void)state;
    fm_tree_fini(&t);
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

static void check_changed(const char *name)
{
    const char *path = fm_tree_look(&t);
    assert_non_null(path);
    assert_string_equal(path, in(name));
    assert_null(fm_tree_look(&t));
}

static void test_names(void **state)
{
    (void)state;
    assert_true(fm_tree_is_source("app.py"));
    assert_false(fm_tree_is_source(".#app.py"));
    assert_false(fm_tree_is_source(".py"));
    assert_false(fm_tree_is_source("app.py~"));
    assert_false(fm_tree_is_source("app.pyc"));
    assert_false(fm_tree_is_source("4913"));
}

static void test_changes(void **state)
{
    (void)state;
    write_file("a.py", "1");
    write_file("b.py", "1");
    fm_tree_add(&t, dir, NULL);
    fm_tree_add(&t, dir, NULL);
    assert_int_equal(t.ndirectories, 1);
    assert_null(fm_tree_look(&t)); /* what was there when it was added */
    write_file("b.py", "22");
    check_changed("b.py");
    write_file("c.py", "1");
    check_changed("c.py");
    write_file("a.log", "1");
    write_file("new", "1");
    assert_null(fm_tree_look(&t));
    assert_int_equal(rename(in("new"), in("a.py")), 0); /* the same text in another file */
    check_changed("a.py");
    assert_int_equal(unlink(in("a.py")), 0);
    check_changed("a.py");
    struct timespec times[2] = {{1, 0}, {1, 0}};
    assert_int_equal(utimensat(AT_FDCWD, in("b.py"), times, 0), 0);
    check_changed("b.py");
}

/* What another directory brings is no change, and what was there is compared with how it was. */
static void test_a_directory_that_comes_later(void **state)
{
    (void)state;
    make_dir("one");
    make_dir("two");
    write_file("one/a.py", "1");
    write_file("two/b.py", "1");
    fm_tree_add(&t, in("one"), NULL);
    write_file("one/a.py", "22");
    fm_tree_add(&t, in("two"), NULL);
    check_changed("one/a.py");
    write_file("two/b.py", "22");
    check_changed("two/b.py");
    fm_tree_add(&t, in("three"), NULL); /* that is not there */
    assert_null(fm_tree_look(&t));
    make_dir("three");
    write_file("three/c.py", "1");
    check_changed("three/c.py");
}

/* It was written after the application was read. */
static void test_what_is_newer(void **state)
{
    struct timespec before = {1000, 5}, times[2] = {{1000, 5}, {1000, 5}};
    (void)state;
    write_file("a.py", "1");
    write_file("b.py", "1");
    assert_int_equal(utimensat(AT_FDCWD, in("a.py"), times, 0), 0);
    times[1].tv_nsec = 6;
    assert_int_equal(utimensat(AT_FDCWD, in("b.py"), times, 0), 0);
    fm_tree_add(&t, dir, &before);
    check_changed("b.py");
}

static void test_a_new_package(void **state)
{
    (void)state;
    fm_tree_add(&t, dir, NULL);
    make_dir("shop");
    write_file("shop/other.py", "1");
    assert_null(fm_tree_look(&t));
    write_file("shop/__init__.py", "1");
    check_changed("shop/__init__.py");
}

static void test_patterns(void **state)
{
    char toml[PATH_MAX], all[PATH_MAX];
    (void)state;
    make_dir("templates");
    make_dir("templates/deep");
    write_file("templates/deep/a.html", "1");
    write_file("a.toml", "1");
    snprintf(toml, sizeof toml, "%s/*.toml", dir);
    snprintf(all, sizeof all, "%s/templates", dir);
    fm_tree_add_pattern(&t, toml);
    fm_tree_add_pattern(&t, all);
    assert_null(fm_tree_look(&t));
    write_file("a.toml", "22");
    check_changed("a.toml");
    write_file("b.toml", "1");
    check_changed("b.toml");
    write_file("templates/deep/a.html", "22");
    check_changed("templates/deep/a.html");
    make_dir("templates/more");
    write_file("templates/more/b.html", "1");
    check_changed("templates/more/b.html");
    write_file("templates/.hidden", "1");
    assert_null(fm_tree_look(&t));
}

static unsigned seen;
static char names[16][PATH_MAX];

static void see(void *ctx, const char *directory)
{
    (void)ctx;
    if (seen < 16)
        snprintf(names[seen++], PATH_MAX, "%s", directory);
}

static bool has(const char *name)
{
    for (unsigned i = 0; i < seen; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static void test_where_changes_can_be(void **state)
{
    char all[PATH_MAX];
    (void)state;
    make_dir("app");
    make_dir("app/sub");
    make_dir("app/sub/deeper");
    make_dir("app/.git");
    make_dir("templates");
    make_dir("templates/one");
    make_dir("templates/one/two");
    snprintf(all, sizeof all, "%s/templates", dir);
    fm_tree_add(&t, in("app"), NULL);
    fm_tree_add_pattern(&t, all);
    seen = 0;
    fm_tree_each(&t, see, NULL);
    assert_true(has(in("app")) && has(in("app/sub")));
    assert_false(has(in("app/sub/deeper")) || has(in("app/.git")));
    assert_true(has(in("templates")) && has(in("templates/one/two")) && has(dir));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),    TEST(test_changes),       TEST(test_a_directory_that_comes_later),
        TEST(test_what_is_newer),        TEST(test_a_new_package), TEST(test_patterns),
        TEST(test_where_changes_can_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

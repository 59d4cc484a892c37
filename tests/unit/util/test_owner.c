/* Files for the user that the server is going to be.  What takes root is passed over for others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/util/owner.h"

#define WHO 4711

static char dir[64];

static const char *at(const char *name)
{
    static char path[2][128];
    static int i;
    i = !i;
    snprintf(path[i], sizeof path[i], "%s/%s", dir, name);
    return path[i];
}

static uid_t owner_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st.st_uid;
}

static int make(const char *path)
{
    int fd = fm_owner_open(path, O_WRONLY | O_CREAT | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? fd : 0;
}

static int start(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/fermata-test-XXXXXX");
    return mkdtemp(dir) && chmod(dir, 0755) == 0 ? 0 : -1;
}

static int finish(void **state)
{
    static const char *const names[] = {"a", "b", "link", "precious"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(at(names[i]));
    return rmdir(dir);
}

/* First, because there is no way back. */
static void test_none(void **state)
{
    (void)state;
    struct fm_owner before;
    assert_false(fm_owner_enter(&before));
    assert_int_equal(make(at("a")), 0);
    assert_int_equal(owner_of(at("a")), geteuid());
    assert_int_equal(fm_owner_give(at("a")), 0);
    assert_int_equal(owner_of(at("a")), geteuid());
    assert_int_equal(make(at("nowhere/a")), -ENOENT);
}

static void test_where_the_user_may(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    fm_owner_set(WHO, WHO);
    assert_int_equal(chown(dir, WHO, WHO), 0);
    assert_int_equal(make(at("a")), 0);
    assert_int_equal(owner_of(at("a")), WHO);
    assert_int_equal(make(at("a")), 0); /* again */
}

static void test_where_the_user_may_not(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    fm_owner_set(WHO, WHO);
    assert_int_equal(make(at("a")), 0);
    assert_int_equal(owner_of(at("a")), WHO);
    int fd = open(at("b"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(make(at("b")), 0); /* it was there, and stays root's */
    assert_int_equal(owner_of(at("b")), 0);
    assert_int_equal(fm_owner_give(at("b")), 0);
    assert_int_equal(owner_of(at("b")), WHO);
}

/* In a directory of the user's a name leads no further than the user may go. */
static void test_links(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    fm_owner_set(WHO, WHO);
    int fd = open(at("precious"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(chown(dir, WHO, WHO), 0);
    assert_int_equal(symlink(at("precious"), at("link")), 0);
    assert_int_equal(make(at("link")), -ELOOP);
    assert_int_equal(owner_of(at("precious")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_none, start, finish),
        cmocka_unit_test_setup_teardown(test_where_the_user_may, start, finish),
        cmocka_unit_test_setup_teardown(test_where_the_user_may_not, start, finish),
        cmocka_unit_test_setup_teardown(test_links, start, finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

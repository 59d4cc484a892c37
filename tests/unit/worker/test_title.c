/* What ps shows, in memory of the test's and in that which the kernel shows. */
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

#include "fermata/worker/title.h"

/* As the kernel lays them out. */
static struct {
    char area[256];
    char *argv[8], *environ_[8];
    char **environ_before;
} given;

static char *lay(char *to, const char *const *texts, char **pointers)
{
    size_t n = 0;
    for (; texts[n]; n++) {
        pointers[n] = to;
        to = stpcpy(to, texts[n]) + 1;
    }
    pointers[n] = NULL;
    return to;
}

static char **take(const char *const *arguments, const char *const *variables, int argc)
{
    memset(&given, 'x', sizeof given.area);
    lay(lay(given.area, arguments, given.argv), variables, given.environ_);
    given.environ_before = environ;
    environ = given.environ_;
    return fm_title_take(argc, given.argv);
}

static void give_back(char **argv)
{
    char **variables = environ;
    environ = given.environ_before;
    free(argv);
    free(variables);
}

static void test_take(void **state)
{
    static const char *const arguments[] = {"fermata", "-w", "2", "app:app", NULL}, *const variables[] = {"A=1",
                                                                                                          "B=", NULL};
    (void)state;
    char **argv = take(arguments, variables, 4);
    fm_title_set("worker 1", NULL);
    assert_true(fm_title_is_set());
    assert_string_equal(given.area, "fermata: worker 1");
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(argv[i], arguments[i]);
    assert_null(argv[4]);
    assert_string_equal(environ[0], "A=1");
    assert_string_equal(environ[1], "B=");
    assert_null(environ[2]);
    assert_string_equal(getenv("A"), "1");
    give_back(argv);
}

/* Of the command: what is behind the title is cleared.  The byte behind the environment is never written. */
static void test_room(void **state)
{
    static const char *const arguments[] = {"f", NULL}, *const variables[] = {"LONG=0123456789", NULL};
    (void)state;
    char **argv = take(arguments, variables, 1);
    fm_title_set("worker 1", "a name that is longer than there is room for");
    assert_memory_equal(given.area, "fermata: worker 1", 17);
    assert_int_equal(given.area[17], '\0');
    assert_int_equal(given.area[18], 'x');
    assert_string_equal(environ[0], "LONG=0123456789");
    give_back(argv);
}

static void test_shorter_again(void **state)
{
    static const char *const arguments[] = {"fermata", "an argument that has enough room", NULL}, *const variables[] = {
                                                                                                      NULL};
    (void)state;
    char **argv = take(arguments, variables, 2);
    fm_title_set("worker 1", "shop");
    fm_title_parked(1234567);
    assert_string_equal(given.area, "fermata: worker 1 [shop] (1234567 parked"); /* as far as it goes */
    fm_title_parked(9);
    assert_string_equal(given.area, "fermata: worker 1 [shop] (9 parked)");
    fm_title_parked(0);
    assert_string_equal(given.area, "fermata: worker 1 [shop]");
    for (size_t i = strlen(given.area); i < 41; i++)
        assert_int_equal(given.area[i], '\0');
    assert_int_equal(given.area[41], 'x');
    give_back(argv);
}

/* A command that was executed without any argument, not even its name. */
static void test_no_arguments(void **state)
{
    (void)state;
    char *none[] = {NULL};
    char **before = environ;
    assert_ptr_equal(fm_title_take(0, none), none);
    assert_ptr_equal(environ, before);
}

/* ---- in that of this process ---- */

static char *shown(char *text, size_t size)
{
    FILE *f = fopen("/proc/self/cmdline", "r");
    size_t n = f ? fread(text, 1, size - 1, f) : 0;
    text[n] = '\0';
    if (f)
        fclose(f);
    return text;
}

static int find_in_child(void)
{
    char text[4096];
    const char *before = getenv("PATH");
    char *copy = before ? strdup(before) : NULL;
    setenv("SET_SINCE", "then", 1);
    fm_title_find();
    fm_title_set("server", "shop");
    if (strcmp(shown(text, sizeof text), "fermata: server [shop]") != 0)
        return 1;
    if (copy && strcmp(getenv("PATH"), copy) != 0)
        return 2;
    if (strcmp(getenv("SET_SINCE"), "then") != 0 || setenv("SET_LATER", "now", 1) != 0)
        return 3;
    free(copy);
    return strcmp(getenv("SET_LATER"), "now") == 0 && getenv("SET_SINCE") ? 0 : 4;
}

static void test_find(void **state)
{
    int status;
    (void)state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(find_in_child());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take),         cmocka_unit_test(test_room), cmocka_unit_test(test_shorter_again),
        cmocka_unit_test(test_no_arguments), cmocka_unit_test(test_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Error texts, the way to die, and allocation that does not fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "threads.h"

static void test_texts(void **state)
{
    (void)state;
    const int ours[] = {FM_OK, FM_EAGAIN, FM_EINVAL, FM_ELIMIT, FM_ECLOSED};
    enum { N = sizeof ours / sizeof *ours };
    for (size_t i = 0; i < N; i++) {
        const char *text = fm_strerror(ours[i]);
        assert_true(strlen(text) > 0);
        assert_null(strstr(text, "nknown"));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(text, fm_strerror(ours[j]));
    }
    assert_string_equal(fm_strerror(-ENOENT), "No such file or directory");
    assert_string_equal(fm_strerror(-EADDRINUSE), "Address already in use");
    assert_non_null(strstr(fm_strerror(-123456), "123456"));
}

/* Ours are none of the system's. */
static void test_numbers_are_apart(void **state)
{
    (void)state;
    for (int err = FM_ECLOSED; err <= FM_EAGAIN; err++)
        assert_non_null(strstr(strerror(-err), "Unknown"));
}

static void *other_text(void *arg)
{
    (void)arg;
    CHECK(strstr(fm_strerror(-777777), "777777"));
    return NULL;
}

static void test_text_is_the_threads_own(void **state)
{
    (void)state;
    const char *text = fm_strerror(-888888);
    join(spawn(other_text, NULL));
    assert_non_null(strstr(text, "888888"));
}

static void die_into(void *path)
{
    if (fm_log_open(path) == 0)
        fm_die("broken: %d of %s", 3, "four\nlines");
}

static void test_die(void **state)
{
    (void)state;
    char path[] = "/tmp/fermata-unit-err-XXXXXX", text[512];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(dies(die_into, path));
    ssize_t n = read(fd, text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "[CRITICAL] broken: 3 of four\\x0alines\n"));
    close(fd);
    unlink(path);
}

static void test_allocation(void **state)
{
    (void)state;
    char *p = fm_malloc(0);
    assert_non_null(p);
    p = fm_realloc(p, 10);
    memcpy(p, "012345678", 10);
    p = fm_realloc(p, 10000);
    assert_string_equal(p, "012345678");
    free(p);
    free(fm_realloc(NULL, 0));
    free(fm_calloc(0, 0));
    p = fm_calloc(33, 3);
    for (int i = 0; i < 99; i++)
        assert_int_equal(p[i], 0);
    free(p);
    p = fm_strdup("");
    assert_string_equal(p, "");
    free(p);
    p = fm_strdup("abc");
    assert_string_equal(p, "abc");
    free(p);
    p = fm_strndup("abcdef", 3);
    assert_string_equal(p, "abc");
    free(p);
    p = fm_strndup("abcdef", 0);
    assert_string_equal(p, "");
    free(p);
}

#if !defined(TESTS_ASAN) && !defined(TESTS_TSAN) /* their allocators end the process themselves */
static volatile size_t huge = SIZE_MAX / 2;
static void malloc_huge(void *arg) { *(void *volatile *)arg = fm_malloc(huge); }
static void calloc_huge(void *arg) { *(void *volatile *)arg = fm_calloc(huge, 8); }
static void realloc_huge(void *arg) { *(void *volatile *)arg = fm_realloc(NULL, huge); }

static void test_out_of_memory(void **state)
{
    (void)state;
    void *p = NULL;
    assert_true(dies(malloc_huge, &p));
    assert_true(dies(calloc_huge, &p));
    assert_true(dies(realloc_huge, &p));
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_numbers_are_apart),
        cmocka_unit_test(test_text_is_the_threads_own),
        cmocka_unit_test(test_die),
        cmocka_unit_test(test_allocation),
#if !defined(TESTS_ASAN) && !defined(TESTS_TSAN)
        cmocka_unit_test(test_out_of_memory),
#endif
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Memory is given back after a wave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../util/threads.h"
#include "fermata/util/trim.h"

enum { MANY = 4000, SIZE = 65536 };

static long resident(void)
{
    long size, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &size, &pages), 2);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

/* Large blocks with a small one that stays behind each: freeing them gives nothing back by itself. */
static void test_wave(void **state)
{
    (void)state;
#if defined(TESTS_TSAN) || defined(TESTS_ASAN)
    skip(); /* they have a malloc of their own */
#endif
    static char *large[MANY], *small[MANY];
    for (int round = 0; round < 2; round++) {
        fm_trim();
        long before = resident();
        for (int i = 0; i < MANY; i++) {
            large[i] = malloc(SIZE);
            small[i] = malloc(100);
            assert_true(large[i] && small[i]);
            memset(large[i], 'x', SIZE);
        }
        long wave = resident() - before;
        fm_trim(); /* of what is in use nothing can be given back; only later */
        assert_true(wave > (long)MANY * SIZE * 9 / 10);
        for (int i = 0; i < MANY; i++)
            free(large[i]);
        fm_trim();
        assert_true(resident() - before < wave / 4);
        fm_trim(); /* and nothing is left to do */
        assert_true(resident() - before < wave / 4);
        for (int i = 0; i < MANY; i++)
            free(small[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_wave)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

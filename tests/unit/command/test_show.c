/* Text of others on a terminal: only line feeds are obeyed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "../util/threads.h"
#include "fermata/command/show.h"

static void check(const char *text, size_t len, const char *expected)
{
    struct fm_buf from = FM_BUF_INIT;
    fm_buf_append(&from, text, len);
    struct fm_buf to = fm_show_safe(&from);
    assert_false(to.failed);
    assert_int_equal(fm_buf_size(&to), strlen(expected));
    if (*expected)
        assert_memory_equal(fm_buf_head(&to), expected, strlen(expected));
    fm_buf_fini(&from);
    fm_buf_fini(&to);
}

static void test_texts(void **state)
{
    (void)state;
    check("", 0, "");
    check("\n\n", 2, "\n\n");
    check("a\nb", 3, "a\nb");
    check("caf\xc3\xa9 \\x1b\n", 11, "caf\xc3\xa9 \\x1b\n"); /* what has been made safe stays as it is */
    check("\x1b[2J\r\t\x7f\x9b\xe2\x80\xae\n", 12, "\\x1b[2J\\x0d\\x09\\x7f\\x9b\\xe2\\x80\\xae\n");
    check("a\0b\nc", 5, "a\\x00...\nc");
}

/* Of any bytes nothing is left that a terminal would obey, and what is safe stays the same. */
static void test_any_bytes(void **state)
{
    uint64_t seed = 7;
    (void)state;
    for (int round = 0; round < ROUNDS(2000); round++) {
        struct fm_buf from = FM_BUF_INIT;
        for (int i = 0; i < 40; i++) {
            char byte = (char)rnd(&seed);
            fm_buf_append(&from, &byte, 1);
        }
        struct fm_buf once = fm_show_safe(&from), twice = fm_show_safe(&once);
        for (size_t i = 0; i < fm_buf_size(&once); i++) {
            unsigned char c = (unsigned char)fm_buf_head(&once)[i];
            assert_true(c == '\n' || (c >= 0x20 && c != 0x7f));
        }
        assert_int_equal(fm_buf_size(&once), fm_buf_size(&twice));
        if (fm_buf_size(&once))
            assert_memory_equal(fm_buf_head(&once), fm_buf_head(&twice), fm_buf_size(&once));
        fm_buf_fini(&from);
        fm_buf_fini(&once);
        fm_buf_fini(&twice);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_texts),
    cmocka_unit_test(test_any_bytes),
};

int main(void) { return cmocka_run_group_tests(tests, NULL, NULL); }

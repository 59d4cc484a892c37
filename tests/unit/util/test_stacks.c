/* Stacks as text: what of it says where a frame is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "../util/threads.h"
#include "fermata/util/stacks.h"

static void check(const char *text, const char *expected)
{
    struct fm_stack stack = {.text = FM_BUF_INIT};
    fm_stack_take(&stack, text, strlen(text));
    assert_int_equal(fm_buf_size(&stack.text), strlen(expected));
    if (*expected)
        assert_memory_equal(fm_buf_head(&stack.text), expected, strlen(expected));
    fm_buf_fini(&stack.text);
}

#define BELOW                                                                                                          \
    "  File \"/usr/lib/python3.11/threading.py\", line 982 in run\n"                                                   \
    "  File \"/usr/lib/python3.11/threading.py\", line 1045 in _bootstrap_inner\n"                                     \
    "  File \"/usr/lib/python3.11/threading.py\", line 1002 in _bootstrap\n"

static void test_frames(void **state)
{
    (void)state;
    check("", "");
    check("Stack (most recent call first):\n  <no Python frame>\n", "");
    check("Current thread 0x00007f (most recent call first):\n  File \"/a.py\", line 3 in f\n" BELOW,
          "  File \"/a.py\", line 3 in f\n");
    check("  File \"/a.py\", line 3 in f\n  ...\n", "  File \"/a.py\", line 3 in f\n  ...\n");
    check("  File \"/a.py\", line 3 in f", "  File \"/a.py\", line 3 in f\n"); /* it was cut */
    check(BELOW, "");
    /* What of threading is not at the end is what the application calls. */
    check("  File \"/t/threading.py\", line 1 in wait\n  File \"/a.py\", line 3 in run\n" BELOW,
          "  File \"/t/threading.py\", line 1 in wait\n  File \"/a.py\", line 3 in run\n");
    check("\n\n  Fil", "");
}

/* Any text, cut anywhere: each line that is kept is one of those. */
static void test_any_text(void **state)
{
    static const char *const parts[] = {
        "  File \"", "x\", line 3 in run", "threading.py\", line ", "  ...", "\n", " in _bootstrap", "\xff"};
    uint64_t seed = 11;
    (void)state;
    for (int round = 0; round < ROUNDS(3000); round++) {
        char text[600] = "";
        for (int i = 0; i < 16; i++)
            strcat(text, parts[rnd(&seed) % (sizeof parts / sizeof *parts)]);
        struct fm_stack stack = {.text = FM_BUF_INIT};
        fm_stack_take(&stack, text, rnd(&seed) % (strlen(text) + 1));
        size_t n = fm_buf_size(&stack.text);
        assert_true(n == 0 || fm_buf_head(&stack.text)[n - 1] == '\n');
        for (size_t at = 0; at < n;) {
            const char *line = fm_buf_head(&stack.text) + at;
            assert_true(strncmp(line, "  File ", 7) == 0 || strncmp(line, "  ...", 5) == 0);
            at += (size_t)((const char *)memchr(line, '\n', n - at) - line) + 1;
        }
        fm_buf_fini(&stack.text);
    }
}

static void test_is_freed(void **state)
{
    (void)state;
    fm_stacks_free(NULL);
    struct fm_stacks *s = fm_stacks_new();
    assert_non_null(s);
    s->n = FM_STACKS_MOST;
    for (unsigned i = 0; i < s->n; i++)
        fm_stack_take(&s->all[i], "  File \"/a.py\", line 3 in f\n", 28);
    fm_stacks_free(s);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_frames),
    cmocka_unit_test(test_any_text),
    cmocka_unit_test(test_is_freed),
};

int main(void) { return cmocka_run_group_tests(tests, NULL, NULL); }

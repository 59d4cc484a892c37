/* The growing buffer: each verb, and a long random history against a plain array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "fermata/util/buf.h"
#include "threads.h"

static void assert_holds(const struct fm_buf *b, const char *text, size_t n)
{
    assert_int_equal(fm_buf_size(b), n);
    if (n > 0)
        assert_memory_equal(fm_buf_head(b), text, n);
    assert_true(b->off <= b->len && b->len <= b->cap);
}

static void test_empty(void **state)
{
    (void)state;
    struct fm_buf b = FM_BUF_INIT;
    assert_holds(&b, "", 0);
    assert_null(fm_buf_head(&b));
    fm_buf_append(&b, NULL, 0);
    fm_buf_puts(&b, "");
    fm_buf_printf(&b, "%s", "");
    fm_buf_consume(&b, 0);
    fm_buf_clear(&b);
    assert_holds(&b, "", 0);
    fm_buf_fini(&b);
    fm_buf_fini(&b); /* harmless */
    fm_buf_puts(&b, "usable afterwards");
    assert_holds(&b, "usable afterwards", 17);
    fm_buf_fini(&b);
    assert_int_equal(b.cap, 0);
    assert_null(b.data);
}

static void test_append_grows(void **state)
{
    (void)state;
    struct fm_buf b = FM_BUF_INIT;
    char *expected = malloc(100000);
    size_t n = 0;
    for (unsigned i = 0; n < 90000; i++) {
        char piece[977];
        memset(piece, (int)('a' + i % 26), sizeof piece);
        size_t k = i * 37 % sizeof piece;
        memcpy(expected + n, piece, k);
        n += k;
        fm_buf_append(&b, piece, k);
        assert_int_equal(fm_buf_size(&b), n);
    }
    assert_holds(&b, expected, n);
    fm_buf_fini(&b);
    free(expected);
}

static void test_reserve(void **state)
{
    (void)state;
    struct fm_buf b = FM_BUF_INIT;
    fm_buf_puts(&b, "head");
    for (size_t n = 1; n < 3000; n += 250) {
        char *to = fm_buf_reserve(&b, n);
        assert_ptr_equal(to, b.data + b.len);
        assert_true(b.cap - b.len >= n);
        memset(to, 'x', n); /* a sanitizer sees what is not ours */
    }
    assert_holds(&b, "head", 4); /* nothing is added by reserving */
    size_t cap = b.cap;
    char *data = b.data;
    memcpy(fm_buf_reserve(&b, 5), " more", 5);
    b.len += 5;
    assert_holds(&b, "head more", 9);
    assert_int_equal(b.cap, cap);
    assert_ptr_equal(b.data, data);
    fm_buf_fini(&b);
}

static void test_reserve_nothing(void **state)
{
    (void)state;
    struct fm_buf b = FM_BUF_INIT;
    fm_buf_reserve(&b, 0);
    assert_holds(&b, "", 0);
    fm_buf_fini(&b);
}

static void test_consumed_room_is_used_again(void **state)
{
    (void)state;
    struct fm_buf b = FM_BUF_INIT;
    char text[256];
    memset(text, 'a', sizeof text);
    fm_buf_append(&b, text, sizeof text);
    size_t cap = b.cap;
    for (int i = 0; i < 1000; i++) { /* a queue that never holds much */
        fm_buf_consume(&b, 100);
        fm_buf_append(&b, text, 100);
    }
    assert_int_equal(b.cap, cap);
    assert_holds(&b, text, sizeof text);
    fm_buf_fini(&b);
}

static void test_consume(void **state)
{
    (void)state;
    struct fm_buf b = FM_BUF_INIT;
    fm_buf_puts(&b, "abcdef");
    fm_buf_consume(&b, 2);
    assert_holds(&b, "cdef", 4);
    fm_buf_puts(&b, "gh");
    assert_holds(&b, "cdefgh", 6);
    fm_buf_consume(&b, 6);
    assert_holds(&b, "", 0);
    assert_int_equal(b.off, 0); /* an empty buffer starts at the front again */
    assert_int_equal(b.len, 0);
    size_t cap = b.cap;
    fm_buf_puts(&b, "again");
    fm_buf_clear(&b);
    assert_holds(&b, "", 0);
    assert_int_equal(b.cap, cap);
    fm_buf_fini(&b);
}

static void test_printf(void **state)
{
    (void)state;
    struct fm_buf b = FM_BUF_INIT;
    fm_buf_printf(&b, "%d-%s", -12, "abc");
    assert_holds(&b, "-12-abc", 7);
    fm_buf_clear(&b);
    for (size_t n = 250; n < 262; n++) { /* around the first capacity */
        char text[300], expected[300];
        memset(text, 'y', n);
        text[n] = '\0';
        fm_buf_fini(&b);
        fm_buf_printf(&b, "%s!", text);
        memcpy(expected, text, n);
        expected[n] = '!';
        assert_holds(&b, expected, n + 1);
    }
    fm_buf_clear(&b);
    fm_buf_printf(&b, "%*d", 5000, 7);
    assert_int_equal(fm_buf_size(&b), 5000);
    assert_int_equal(fm_buf_head(&b)[4999], '7');
    fm_buf_fini(&b);
}

static void test_random_history(void **state)
{
    (void)state;
    enum { MOST = 20000 };
    uint64_t seed = new_seed();
    struct fm_buf b = FM_BUF_INIT;
    char *model = malloc(MOST), *piece = malloc(MOST);
    size_t n = 0;
    for (unsigned i = 0; i < 20000; i++) {
        size_t k = rnd(&seed) % 10 ? rnd(&seed) % 50 : rnd(&seed) % 3000;
        switch (rnd(&seed) % 5) {
        case 0:
        case 1:
            k = k > MOST - n ? MOST - n : k;
            memset(piece, (int)(i & 0xff), k);
            memcpy(model + n, piece, k);
            n += k;
            fm_buf_append(&b, piece, k);
            break;
        case 2:
            if (n + 12 <= MOST) {
                n += (size_t)snprintf(model + n, MOST - n, "<%u>", i);
                fm_buf_printf(&b, "<%u>", i);
            }
            break;
        case 3:
            k = k > n ? n : k;
            memmove(model, model + k, n - k);
            n -= k;
            fm_buf_consume(&b, k);
            break;
        default:
            if (rnd(&seed) % 100 == 0) {
                n = 0;
                fm_buf_fini(&b);
            } else if (n + k + 1 <= MOST) {
                memset(fm_buf_reserve(&b, k + 1), 'r', k + 1);
                b.len += k;
                memset(model + n, 'r', k);
                n += k;
            }
        }
        assert_holds(&b, model, n);
    }
    fm_buf_fini(&b);
    free(model);
    free(piece);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_append_grows),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_reserve_nothing),
        cmocka_unit_test(test_consumed_room_is_used_again),
        cmocka_unit_test(test_consume),
        cmocka_unit_test(test_printf),
        cmocka_unit_test(test_random_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

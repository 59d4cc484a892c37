/* The output queue: what leaves is what was put in, in that order, however little the socket takes at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "../util/threads.h"
#include "fermata/net/outq.h"

enum { BLOCK = 64, COPY = SIZE_MAX, FILE_FD = 77 };

static struct fm_outq q;

static char at(uint64_t pos) { return (char)(pos * 131 + (pos >> 8) * 7); }

static char *bytes(uint64_t pos, size_t n)
{
    char *p = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        p[i] = at(pos + i);
    return p;
}

/* Takes up to n bytes off as a socket and a file would, and checks that they go on from pos; how many. */
static uint64_t leave(uint64_t pos, uint64_t n)
{
    struct iovec iov[FM_OUTQ_PIECES];
    uint64_t file = fm_outq_file_front(&q), seen = 0;
    if (file > 0) {
        n = n < file ? n : file;
        assert_int_equal(q.file, FILE_FD);
        assert_int_equal(q.file_pos, pos); /* a file whose bytes lie where they come in the sequence */
    } else {
        int k = fm_outq_front(&q, iov);
        for (int i = 0; i < k; i++)
            for (size_t j = 0; j < iov[i].iov_len && seen < n; j++, seen++)
                assert_int_equal(((char *)iov[i].iov_base)[j], at(pos + seen));
        n = seen;
    }
    fm_outq_sent(&q, n);
    return n;
}

static void add(uint64_t pos, size_t n, size_t borrow, char **borrowed)
{
    char *p = bytes(pos, n);
    struct iovec piece = {p, n};
    bool before = q.borrowed;
    assert_int_equal(fm_outq_add(&q, &piece, 1, 0, borrow), 0);
    if (q.borrowed && !before)
        *borrowed = p;
    else
        free(p);
}

static void test_empty(void **state)
{
    (void)state;
    struct iovec iov[FM_OUTQ_PIECES], none[2] = {{NULL, 0}, {"", 0}};
    fm_outq_init(&q);
    assert_int_equal(fm_outq_add(&q, none, 2, 0, 0), 0);
    fm_outq_add_file(&q, FILE_FD, 5, 0);
    assert_int_equal(q.size, 0);
    assert_int_equal(q.n, 0);
    assert_int_equal(fm_outq_front(&q, iov), 0);
    assert_int_equal(fm_outq_file_front(&q), 0);
    assert_false(fm_outq_borrows(&q));
    fm_outq_sent(&q, 0);
    fm_outq_clear(&q);
}

/* A head, a borrowed block, its CRLF, the next chunk's line while the CRLF is still there, a file, and text behind it:
 * each number of bytes that the first send takes, and each that the second one does. */
static void test_each_split(void **state)
{
    (void)state;
    enum { HEAD = 5, TAIL = 2, LINE = 4, FILE_LEN = 9, END = 3, ALL = HEAD + BLOCK + TAIL + LINE + FILE_LEN + END };
    for (uint64_t first = 0; first <= HEAD + BLOCK + TAIL; first++) {
        for (uint64_t second = 1; second <= ALL; second++) {
            char *borrowed = NULL, *p = bytes(0, HEAD + BLOCK + TAIL);
            struct iovec pieces[3] = {{p, HEAD}, {p + HEAD, BLOCK}, {p + HEAD + BLOCK, TAIL}};
            uint64_t pos = 0;
            fm_outq_init(&q);
            assert_int_equal(fm_outq_add(&q, pieces, 3, 0, BLOCK), 0);
            while (pos < first)
                pos += leave(pos, first - pos);
            add(HEAD + BLOCK + TAIL, LINE, COPY, &borrowed); /* the writer comes back in between */
            fm_outq_add_file(&q, FILE_FD, HEAD + BLOCK + TAIL + LINE, FILE_LEN);
            add(ALL - END, END, COPY, &borrowed);
            assert_int_equal(q.size, ALL - first);
            while (pos < ALL)
                pos += leave(pos, second);
            assert_int_equal(q.size, 0);
            assert_false(fm_outq_borrows(&q));
            assert_int_equal(q.bytes.cap, 0);
            free(p);
        }
    }
}

/* What the socket has taken of the pieces already is not queued. */
static void test_skip(void **state)
{
    (void)state;
    char *p = bytes(0, 100);
    struct iovec pieces[3] = {{p, 10}, {p + 10, 80}, {p + 90, 10}};
    for (size_t skip = 0; skip <= 100; skip++) {
        fm_outq_init(&q);
        assert_int_equal(fm_outq_add(&q, pieces, 3, skip, BLOCK), 0);
        assert_int_equal(q.size, 100 - skip);
        assert_int_equal(q.borrowed != NULL, skip <= 90 - BLOCK); /* enough of it is left */
        for (uint64_t pos = skip; pos < 100;)
            pos += leave(pos, 7);
        fm_outq_clear(&q);
    }
    free(p);
}

static void test_one_block_is_borrowed(void **state)
{
    (void)state;
    char *borrowed = NULL;
    fm_outq_init(&q);
    add(0, BLOCK - 1, BLOCK, &borrowed);
    assert_null(q.borrowed);
    add(BLOCK - 1, BLOCK, BLOCK, &borrowed);
    assert_ptr_equal(q.borrowed, borrowed);
    add(2 * BLOCK - 1, BLOCK, BLOCK, &borrowed); /* the second one is copied */
    assert_ptr_equal(q.borrowed, borrowed);
    assert_int_equal(q.n, 3);
    fm_outq_clear(&q);
    assert_int_equal(q.size, 0);
    assert_null(q.borrowed);
    free(borrowed);
}

/* Random pieces of all kinds, random acceptances. */
static void test_random(void **state)
{
    (void)state;
    uint64_t seed = new_seed(), in = 0, out = 0;
    char *borrowed = NULL;
    fm_outq_init(&q);
    for (unsigned round = 0; round < ROUNDS(200000); round++) {
        size_t n = (size_t)(rnd(&seed) % (rnd(&seed) % 4 ? 20 : 200));
        switch (rnd(&seed) % 4) {
        case 0:
            add(in, n, rnd(&seed) % 2 ? BLOCK : COPY, &borrowed);
            in += n;
            break;
        case 1:
            if (q.file < 0 && rnd(&seed) % 4 == 0) {
                fm_outq_add_file(&q, FILE_FD, (int64_t)in, (int64_t)n);
                in += n;
            }
            break;
        default: out += leave(out, n);
        }
        assert_int_equal(q.size, in - out);
        if (!q.borrowed) {
            free(borrowed);
            borrowed = NULL;
        }
    }
    while (out < in)
        out += leave(out, 1 + rnd(&seed) % 50);
    assert_int_equal(q.bytes.cap, 0);
    free(borrowed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),  cmocka_unit_test(test_each_split),
        cmocka_unit_test(test_skip),   cmocka_unit_test(test_one_block_is_borrowed),
        cmocka_unit_test(test_random),
    };
    no_longer_than(300);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The memory that heads and bodies share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/http/quota.h"
#include "fermata/http/h1/parser.h"

static void test_a_little_is_free(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++)
        assert_true(fm_quota_move(FM_QUOTA_HEADS, 0, FM_QUOTA_FREE));
    assert_true(fm_quota_move(FM_QUOTA_HEADS, 0, FM_QUOTA_FREE + FM_QUOTA)); /* nothing was taken */
    assert_false(fm_quota_move(FM_QUOTA_HEADS, 0, FM_QUOTA_FREE + 1));
    assert_true(fm_quota_move(FM_QUOTA_HEADS, 0, FM_QUOTA_FREE));
    assert_true(fm_quota_move(FM_QUOTA_HEADS, FM_QUOTA_FREE + FM_QUOTA, 0));
}

static void test_as_much_as_there_is(void **state)
{
    (void)state;
    size_t size = FM_QUOTA_FREE;
    assert_true(fm_quota_move(FM_QUOTA_HEADS, 0, size));
    assert_true(fm_quota_move(FM_QUOTA_HEADS, size, size + FM_QUOTA - 1));
    size += FM_QUOTA - 1;
    assert_false(fm_quota_move(FM_QUOTA_HEADS, size, size + 2));
    assert_true(fm_quota_move(FM_QUOTA_HEADS, size, size + 1)); /* what was refused took nothing */
    assert_true(fm_quota_move(FM_QUOTA_HEADS, size + 1, size / 2));
    assert_true(fm_quota_move(FM_QUOTA_HEADS, size / 2, size));
    assert_true(fm_quota_move(FM_QUOTA_HEADS, size, 100));
    assert_true(fm_quota_move(FM_QUOTA_HEADS, 100, 0));
    assert_true(fm_quota_move(FM_QUOTA_HEADS, 0, FM_QUOTA_FREE + FM_QUOTA)); /* all of it is back */
    assert_true(fm_quota_move(FM_QUOTA_HEADS, FM_QUOTA_FREE + FM_QUOTA, 0));
}

static const struct fm_http_limits limits = {4094, 100, 8190, 1 << 20};

/* Feeds a line; what comes of it. */
static enum fm_parse feed(struct fm_parser *p, const char *text, size_t len)
{
    size_t used;
    return fm_parser_feed(p, text, len, &used);
}

/* Many clients whose heads are as large as they may be, and do not end: some are refused, so that all of them together
 * have what there is; usual ones are served nevertheless, and when they have gone all is as before. */
static void test_heads_that_do_not_end(void **state)
{
    (void)state;
    enum { LINES = 98, MANY = 400 };
    static struct fm_parser *p[MANY];
    static char line[8190];
    memset(line, 'v', sizeof line);
    memcpy(line, "X: ", 3);
    memcpy(line + sizeof line - 2, "\r\n", 2);
    const char *usual = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (int round = 0; round < 2; round++) {
        int refused = 0;
        for (int i = 0; i < MANY; i++) {
            p[i] = fm_parser_new(&limits);
            enum fm_parse got = feed(p[i], usual, strlen(usual) - 2);
            for (int n = 0; n < LINES && got == FM_PARSE_MORE; n++)
                got = feed(p[i], line, sizeof line);
            if (got == FM_PARSE_ERROR) {
                assert_int_equal(fm_parser_error(p[i])->id, FM_REFUSE_NO_MEMORY);
                assert_int_equal(fm_parser_error(p[i])->status, 503);
                refused++;
            } else {
                assert_int_equal(got, FM_PARSE_MORE);
            }
        }
        assert_true(refused > MANY / 2 && refused < MANY - 50); /* a megabyte each: 64 can stay */
        struct fm_parser *other = fm_parser_new(&limits);
        assert_int_equal(feed(other, usual, 10), FM_PARSE_MORE);
        assert_int_equal(feed(other, usual + 10, strlen(usual) - 10), FM_PARSE_HEAD);
        fm_parser_free(other);
        for (int i = 0; i < MANY; i++)
            fm_parser_free(p[i]);
        assert_true(fm_quota_move(FM_QUOTA_HEADS, 0, FM_QUOTA_FREE + FM_QUOTA));
        assert_true(fm_quota_move(FM_QUOTA_HEADS, FM_QUOTA_FREE + FM_QUOTA, 0));
    }
}

/* Bodies that take all they may leave the heads theirs, and the other way round. */
static void test_shares(void **state)
{
    (void)state;
    for (int share = 0; share < FM_QUOTA_SHARES; share++) {
        int other = FM_QUOTA_SHARES - 1 - share;
        assert_true(fm_quota_move(share, 0, FM_QUOTA_FREE + FM_QUOTA));
        assert_false(fm_quota_move(share, 0, FM_QUOTA_FREE + 1));
        assert_true(fm_quota_move(other, 0, FM_QUOTA_FREE + FM_QUOTA));
        assert_true(fm_quota_move(other, FM_QUOTA_FREE + FM_QUOTA, 0));
        assert_true(fm_quota_move(share, FM_QUOTA_FREE + FM_QUOTA, 0));
    }
}

/* A whole head stays in the quota as long as its request lives. */
static void test_heads_of_requests(void **state)
{
    (void)state;
    size_t size = 60000, had = 0;
    char *head = malloc(size + 100);
    int n = sprintf(head, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 10; i++) {
        n += sprintf(head + n, "X-%d: ", i);
        memset(head + n, 'v', 6000);
        n += 6000;
        n += sprintf(head + n, "\r\n");
    }
    n += sprintf(head + n, "\r\n");
    struct fm_parser *p = fm_parser_new(&limits);
    assert_int_equal(feed(p, head, (size_t)n), FM_PARSE_HEAD);
    struct fm_request *r = fm_parser_take(p);
    assert_true(r->block > size);
    while (fm_quota_move(FM_QUOTA_HEADS, had, had + (1 << 16)))
        had += 1 << 16;
    assert_true(had <= FM_QUOTA_FREE + FM_QUOTA - (r->block - FM_QUOTA_FREE));
    fm_parser_give_back(p, r);
    assert_true(fm_quota_move(FM_QUOTA_HEADS, had, had + (1 << 16)));
    assert_true(fm_quota_move(FM_QUOTA_HEADS, had + (1 << 16), 0));
    fm_parser_free(p);
    free(head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_little_is_free),
        cmocka_unit_test(test_as_much_as_there_is),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_heads_that_do_not_end),
        cmocka_unit_test(test_heads_of_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

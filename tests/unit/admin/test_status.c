/* What is gathered for the status pages: groups and medians, pages of the oldest; and text of others in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "../util/threads.h"
#include "fermata/admin/render.h"
#include "fermata/admin/status.h"
#include "fermata/util/clock.h"
#include "fermata/util/inquiry.h"

static const struct fm_status_query any = {.place = -1, .state = -1, .limit = 10};

static void see(struct fm_status *s, uint64_t number, enum fm_status_state state, uint16_t place, uint64_t age)
{
    const struct fm_status_seen seen = {.number = number,
                                        .age = age,
                                        .in_state = age,
                                        .state = state,
                                        .place = place,
                                        .method = "GETTER",
                                        .method_len = 3,
                                        .path = "/path?query",
                                        .path_len = 5,
                                        .client = "192.0.2.1"};
    fm_status_see(s, &seen);
}

static void test_groups(void **state)
{
    (void)state;
    struct fm_status *s = fm_status_new(&any);
    assert_non_null(s);
    for (unsigned i = 0; i < 5; i++)
        see(s, i, FM_STATUS_PARKED_FUTURE, 7, (i + 1) * FM_SEC);
    for (unsigned i = 0; i < 9; i++)
        see(s, 100 + i, FM_STATUS_PARKED_FUTURE, 4095, 20 * FM_MS);
    see(s, 200, FM_STATUS_PARKED_CLIENT, 7, FM_SEC);
    see(s, 201, FM_STATUS_RUNNING, 7, FM_SEC);
    fm_status_finish(s);
    assert_int_equal(s->ngroups, 3);
    assert_int_equal(s->groups[0].place, 4095);
    assert_int_equal(s->groups[0].n, 9);
    assert_int_equal(s->groups[1].place, 7);
    assert_int_equal(s->groups[1].n, 5);
    assert_int_equal(s->groups[1].oldest, 5 * FM_SEC);
    assert_int_equal(s->groups[1].example, 4);
    assert_in_range(s->groups[1].median, 2700 * FM_MS, 3300 * FM_MS);
    assert_int_equal(s->groups[2].state, FM_STATUS_PARKED_CLIENT);
    assert_int_equal(s->in[FM_STATUS_PARKED_FUTURE].n, 14);
    assert_int_equal(s->in[FM_STATUS_PARKED_FUTURE].oldest, 5 * FM_SEC);
    assert_int_equal(s->nrunning, 1);
    fm_status_free(s);
}

/* The median of many ages of all sizes is told within a tenth. */
static void test_medians(void **state)
{
    (void)state;
    for (uint64_t age = 2 * FM_MS; age < 30 * 24 * 3600 * FM_SEC; age += age / 3) {
        struct fm_status *s = fm_status_new(&any);
        assert_non_null(s);
        see(s, 1, FM_STATUS_PARKED_FUTURE, 1, 0);
        see(s, 2, FM_STATUS_PARKED_FUTURE, 1, age);
        see(s, 3, FM_STATUS_PARKED_FUTURE, 1, UINT64_MAX / 2);
        fm_status_finish(s);
        assert_in_range(s->groups[0].median, age - age / 10, age + age / 10);
        fm_status_free(s);
    }
}

/* Every place there can be, in any order. */
static void test_all_places(void **state)
{
    (void)state;
    struct fm_status *s = fm_status_new(&any);
    assert_non_null(s);
    for (unsigned i = 0; i < 3 * FM_PLACES; i++)
        see(s, i, FM_STATUS_PARKED_FUTURE, (uint16_t)(i * 7 % FM_PLACES), FM_SEC);
    fm_status_finish(s);
    assert_int_equal(s->ngroups, FM_STATUS_MOST_GROUPS);
    for (unsigned i = 0; i < s->ngroups; i++)
        assert_int_equal(s->groups[i].n, 3);
    assert_int_equal(s->more_groups, FM_PLACES - FM_STATUS_MOST_GROUPS);
    assert_int_equal(s->in_more, 3 * (FM_PLACES - FM_STATUS_MOST_GROUPS));
    fm_status_free(s);
}

/* The largest of very many are shown, with their own medians; the pages stay small. */
static void test_the_largest_places(void **state)
{
    (void)state;
    uint64_t number = 0;
    struct fm_status *s = fm_status_new(&any);
    struct fm_buf page = FM_BUF_INIT;
    assert_non_null(s);
    for (unsigned place = 1; place < FM_PLACES; place++)
        for (unsigned i = 0; i < 1 + (place % 40 == 0) * place; i++)
            see(s, ++number, FM_STATUS_PARKED_FUTURE, (uint16_t)place, place * FM_SEC);
    fm_status_finish(s);
    assert_int_equal(s->ngroups, FM_STATUS_MOST_GROUPS);
    uint64_t all = s->in_more;
    for (unsigned i = 0; i < s->ngroups; i++) {
        assert_int_equal(s->groups[i].place, 4080 - 40 * i);
        assert_int_equal(s->groups[i].n, 4081 - 40 * i);
        assert_in_range(s->groups[i].median, s->groups[i].oldest * 9 / 10, s->groups[i].oldest);
        all += s->groups[i].n;
    }
    assert_int_equal(all, number);
    assert_int_equal(s->more_groups, FM_PLACES - 1 - FM_STATUS_MOST_GROUPS);
    fm_render_json(&page, s);
    fm_render_html(&page, s);
    fm_render_text(&page, s);
    assert_in_range(fm_buf_size(&page), 1, 64 * 1024);
    fm_buf_fini(&page);
    fm_status_free(s);
}

static bool fits(const struct fm_status_query *q, uint64_t number, enum fm_status_state state, uint16_t place)
{
    return number > q->after && (q->state < 0 || q->state == (int)state) &&
           (q->place < 0 || (state == FM_STATUS_PARKED_FUTURE && place == q->place));
}

/* Those with the smallest numbers, however they come. */
static void test_pages(void **state)
{
    (void)state;
    enum { MANY = 500 };
    uint64_t seed = 3;
    for (int round = 0; round < ROUNDS(300); round++) {
        struct fm_status_query q = {.place = rnd(&seed) % 3 ? -1 : (int)(rnd(&seed) % 4),
                                    .state = rnd(&seed) % 3 ? -1 : (int)(rnd(&seed) % FM_STATUS_STATE_COUNT),
                                    .after = rnd(&seed) % 2 ? 0 : rnd(&seed) % MANY,
                                    .limit = (unsigned)(rnd(&seed) % 40)};
        struct fm_status *s = fm_status_new(&q);
        bool wanted[MANY + 1] = {false};
        unsigned n = 0, found = 0;
        assert_non_null(s);
        for (uint64_t k = 1; k <= MANY; k++) {
            uint64_t number = k * 7 % (MANY + 1); /* each once: the two have no factor in common */
            enum fm_status_state in = (enum fm_status_state)(rnd(&seed) % FM_STATUS_STATE_COUNT);
            uint16_t place = (uint16_t)(rnd(&seed) % 4);
            wanted[number] = fits(&q, number, in, place);
            n += wanted[number];
            see(s, number, in, place, FM_SEC);
        }
        fm_status_finish(s);
        assert_int_equal(s->nrequests, n < q.limit ? n : q.limit);
        assert_int_equal(s->nrequests + s->more, n);
        for (uint64_t number = 0; number <= MANY && found < s->nrequests; number++)
            if (wanted[number])
                assert_int_equal(s->requests[found++].number, number);
        assert_int_equal(found, s->nrequests);
        fm_status_free(s);
    }
}

static void test_texts_are_cut(void **state)
{
    (void)state;
    char path[1000];
    struct fm_status_request r;
    memset(path, 'x', sizeof path);
    const struct fm_status_seen seen = {
        .method = path, .method_len = 300, .path = path, .path_len = 1000, .client = "192.0.2.1"};
    fm_status_take(&r, &seen);
    assert_int_equal(strlen(r.path), FM_STATUS_PATH);
    assert_int_equal(strlen(r.method), FM_STATUS_METHOD);
    assert_string_equal(r.client, "192.0.2.1");
}

/* ---- text of others ---- */

static const struct {
    const char *text, *json, *html, *plain;
} escaped[] = {
    {"", "", "", ""},
    {"/a-b_c.d~e%20", "/a-b_c.d~e%20", "/a-b_c.d~e%20", "/a-b_c.d~e%20"},
    {"<script>", "\\u003cscript\\u003e", "&#60;script&#62;", "<script>"},
    {"\"'&\\", "\\\"\\u0027\\u0026\\\\", "&#34;&#39;&#38;\\", "\"'&\\"},
    {"\x1b[31m\n\t\x7f", "\\u001b[31m\\u000a\\u0009\\u007f", "\\x1b[31m\\x0a\\x09\\x7f", "\\x1b[31m\\x0a\\x09\\x7f"},
    {"\xc3\xbc \xe2\x82\xac \xf0\x9f\x8d\xa9", "\xc3\xbc \xe2\x82\xac \xf0\x9f\x8d\xa9",
     "\xc3\xbc \xe2\x82\xac \xf0\x9f\x8d\xa9", "\xc3\xbc \xe2\x82\xac \xf0\x9f\x8d\xa9"},
    /* no UTF-8: alone, cut off, too long, a surrogate, beyond the last */
    {"\xff\xc3", "\\\\xff\\\\xc3", "\\xff\\xc3", "\\xff\\xc3"},
    {"\xc0\xaf", "\\\\xc0\\\\xaf", "\\xc0\\xaf", "\\xc0\\xaf"},
    {"\xe0\x80\xaf", "\\\\xe0\\\\x80\\\\xaf", "\\xe0\\x80\\xaf", "\\xe0\\x80\\xaf"},
    {"\xed\xa0\x80", "\\\\xed\\\\xa0\\\\x80", "\\xed\\xa0\\x80", "\\xed\\xa0\\x80"},
    {"\xf4\x90\x80\x80", "\\\\xf4\\\\x90\\\\x80\\\\x80", "\\xf4\\x90\\x80\\x80", "\\xf4\\x90\\x80\\x80"},
    /* C1, and what turns text around */
    {"\xc2\x9b", "\\u009b", "\\xc2\\x9b", "\\xc2\\x9b"},
    {"\xe2\x80\xae", "\\u202e", "\\xe2\\x80\\xae", "\\xe2\\x80\\xae"},
};

static void check(void (*escape)(struct fm_buf *, const char *), const char *text, const char *expected)
{
    struct fm_buf buf = FM_BUF_INIT;
    escape(&buf, text);
    assert_int_equal(fm_buf_size(&buf), strlen(expected));
    if (*expected)
        assert_memory_equal(fm_buf_head(&buf), expected, strlen(expected));
    fm_buf_fini(&buf);
}

static void test_escapes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof escaped / sizeof *escaped; i++) {
        check(fm_escape_json, escaped[i].text, escaped[i].json);
        check(fm_escape_html, escaped[i].text, escaped[i].html);
        check(fm_escape_text, escaped[i].text, escaped[i].plain);
    }
}

/* ---- what requests wait for ---- */

static int begin_nothing(struct fm_inquiry *q)
{
    (void)q;
    return 0;
}

static struct fm_status *told(struct fm_inquiry *q, const char *text, uint64_t now)
{
    struct fm_buf answer = FM_BUF_INIT;
    struct fm_status *s = fm_status_new(&any);
    assert_non_null(s);
    if (text) {
        fm_inquiry_ask(q, 5 * FM_SEC);
        fm_buf_puts(&answer, text);
        fm_inquiry_answer(q, FM_ANSWER_TEXT, &answer);
    }
    fm_status_take_kinds(s, q, now);
    return s;
}

static void test_kinds(void **state)
{
    struct fm_inquiry q = FM_INQUIRY_INIT(begin_nothing);
    unsigned n, looked_at;
    (void)state;
    struct fm_status *s = told(&q, NULL, 6 * FM_SEC);
    assert_true(s->python.asked && !s->python.answered && s->python.silent == 0);
    assert_null(fm_status_kinds_at(s, 0, &n, &looked_at));
    fm_status_free(s);
    s = told(&q, "7\t12\tone kind\n7\t8\tanother, \xc3\xbc\n0\t1\t\n", 6 * FM_SEC);
    assert_true(s->python.answered && s->python.age == FM_SEC && s->python.silent == 0);
    const struct fm_status_kind *kind = fm_status_kinds_at(s, 7, &n, &looked_at);
    assert_int_equal(n, 2);
    assert_int_equal(looked_at, 20);
    assert_string_equal(kind[0].text, "one kind");
    assert_string_equal(kind[1].text, "another, \xc3\xbc");
    assert_string_equal(fm_status_kinds_at(s, 0, &n, &looked_at)->text, "");
    assert_null(fm_status_kinds_at(s, 8, &n, &looked_at));
    fm_status_free(s);
    fm_inquiry_ask(&q, 7 * FM_SEC); /* of which nothing comes */
    s = told(&q, NULL, 7 * FM_SEC + 150 * FM_MS);
    assert_int_equal(s->python.silent, 0);
    assert_int_equal(s->python.nkinds, 3);
    fm_status_free(s);
    s = told(&q, NULL, 11 * FM_SEC);
    assert_int_equal(s->python.silent, 4 * FM_SEC);
    assert_int_equal(s->python.age, 6 * FM_SEC);
    fm_status_free(s);
    fm_buf_fini(&q.text);
}

/* What is no line of the agreed form ends it, and harms nobody. */
static void test_kinds_that_are_none(void **state)
{
    static const char *const texts[] = {"",           "\n",          "7",
                                        "7\t",        "7\t1",        "7\t1\n",
                                        "7\t\tx",     "x\t1\ty",     "4096\t1\tx\n",
                                        "-1\t1\tx\n", "7 1\tkind\n", "\t\t\t\t\n"};
    unsigned n, looked_at;
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct fm_inquiry q = FM_INQUIRY_INIT(begin_nothing);
        struct fm_status *s = told(&q, texts[i], 6 * FM_SEC);
        assert_null(fm_status_kinds_at(s, 7, &n, &looked_at));
        fm_status_free(s);
        fm_buf_fini(&q.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_medians),
        cmocka_unit_test(test_all_places),
        cmocka_unit_test(test_the_largest_places),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_texts_are_cut),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_kinds_that_are_none),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

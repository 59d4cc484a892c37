/* What stands behind the question mark. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "fermata/admin/query.h"
#include "fermata/admin/status.h"
#include "fermata/http/request.h"
#include "fermata/util/places.h"

/* Behind it in the head stands what must not be read. */
static struct fm_request with(const char *query)
{
    static char text[200];
    snprintf(text, sizeof text, "%s worker=9&x", query);
    return (struct fm_request){.head = text, .query = {0, (uint32_t)strlen(query)}};
}

static long worker(const char *query)
{
    struct fm_request r = with(query);
    unsigned slot = 77;
    bool wrong = false;
    if (!fm_query_worker(&r, &slot, &wrong))
        return -1;
    return wrong ? -2 : (long)slot;
}

static void test_worker(void **state)
{
    static const struct {
        const char *query;
        long is;
    } all[] = {
        {"", -1},
        {"worker=0", 0},
        {"worker=12", 12},
        {"worker=65535", 65535},
        {"place=1&worker=3", 3},
        {"&&worker=3&", 3},
        {"worker=3&worker=4", 3},
        {"worker=", -2},
        {"worker=x", -2},
        {"worker=-1", -2},
        {"worker=1x", -2},
        {"worker=65536", -2},
        {"worker", -1},
        {"workers=1", -1},
        {"Worker=1", -1},
        {"xworker=1", -1},
        {"after=worker=1", -1},
        {"worker=1%30", -2},
        {"worker=+1", -2},
        {"worker=99999999999999999999999", -2},
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (worker(all[i].query) != all[i].is)
            fail_msg("%s: %ld", all[i].query, worker(all[i].query));
}

static bool read(const char *query, struct fm_status_query *q)
{
    struct fm_request r = with(query);
    *q = (struct fm_status_query){.place = -1, .state = -1, .limit = 200};
    return fm_query_requests(&r, q);
}

static void test_requests(void **state)
{
    static const char *const wrong[] = {"limit=1001", "limit=x",    "limit=",   "limit",    "state=nothing",
                                        "state=",     "place=4096", "place=-1", "other=1",  "after=-1",
                                        "=1",         "limit=1&x",  "worker",   "limit=1 0"};
    struct fm_status_query q;
    (void)state;
    assert_true(read("", &q));
    assert_int_equal(q.limit, 200);
    assert_true(read("state=parked_future&place=4095&after=7&limit=1000", &q));
    assert_int_equal(q.state, FM_STATUS_PARKED_FUTURE);
    assert_int_equal(q.place, FM_PLACES - 1);
    assert_int_equal(q.after, 7);
    assert_int_equal(q.limit, 1000);
    assert_true(read("&worker=1&limit=0&", &q));
    assert_int_equal(q.limit, 0);
    assert_true(read("worker=anything", &q)); /* whoever is asked has been found */
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (read(wrong[i], &q))
            fail_msg("%s", wrong[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_worker), cmocka_unit_test(test_requests)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

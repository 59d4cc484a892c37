/* Which worker a client is given to, and what it is told where there is none that takes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fermata/arbiter/over.h"
#include "fermata/util/err.h"

static struct fm_roster roster;
static pid_t given_to;
static int answer;

int fm_children_give(struct fm_children *c, pid_t pid, int fd, const char *head, size_t len)
{
    assert_null(c);
    assert_int_equal(fd, 5);
    assert_int_equal(len, 4);
    assert_memory_equal(head, "head", 4);
    given_to = pid;
    return answer;
}

static void have(unsigned place, pid_t pid, unsigned slot, enum fm_worker_state state, uint64_t since)
{
    roster.workers[place] =
        (struct fm_roster_worker){.pid = pid, .slot = slot, .state = (uint8_t)state, .since = since};
}

static int begin(void **state)
{
    (void)state;
    memset(&roster, 0, sizeof roster);
    roster.wanted = 3;
    answer = 0;
    given_to = 0;
    have(7, 101, 0, FM_WORKER_READY, 10);
    have(2, 102, 1, FM_WORKER_LOADING, 20);
    return 0;
}

/* The status, with the text in said. */
static char said[300];

static int give(unsigned slot)
{
    struct fm_buf text = FM_BUF_INIT;
    int status = fm_over_give(&roster, NULL, slot, 5, "head", 4, &text);
    snprintf(said, sizeof said, "%.*s", (int)fm_buf_size(&text), fm_buf_size(&text) ? fm_buf_head(&text) : "");
    fm_buf_fini(&text);
    return status;
}

static void test_given(void **state)
{
    (void)state;
    assert_int_equal(give(0), 0);
    assert_int_equal(given_to, 101);
    assert_string_equal(said, "");
}

static void test_which_of_a_slot(void **state)
{
    (void)state;
    have(1, 103, 0, FM_WORKER_DRAINING, 30);
    have(9, 104, 0, FM_WORKER_LOADING, 40);
    assert_int_equal(fm_over_find(&roster, 0)->pid, 101); /* it serves */
    roster.workers[7].state = FM_WORKER_DRAINING;
    assert_int_equal(fm_over_find(&roster, 0)->pid, 103); /* the one that has drained for less time */
    assert_int_equal(give(0), 0);
    assert_int_equal(given_to, 103);
    roster.workers[7].state = roster.workers[1].state = FM_WORKER_KILLED;
    assert_int_equal(fm_over_find(&roster, 0)->pid, 104);
    roster.workers[9].pid = 0;
    assert_int_equal(give(0), 503);
    assert_string_equal(said, "worker 0 (pid 103) is being killed\n");
    assert_null(fm_over_find(&roster, 2));
}

static void test_none(void **state)
{
    (void)state;
    assert_int_equal(give(1), 503);
    assert_string_equal(said, "worker 1 (pid 102) is being started\n");
    assert_int_equal(give(2), 503); /* it is wanted */
    assert_string_equal(said, "worker 2 has ended, and is about to be started again: /workers says more\n");
    assert_int_equal(give(3), 404);
    assert_string_equal(said, "there is no worker 3, but there are 0, 1\n");
    assert_int_equal(give(65535), 404);
    assert_int_equal(given_to, 0);
}

static void test_what_does_not_take_it(void **state)
{
    static const struct {
        int err;
        const char *why;
    } all[] = {{FM_EINVAL, "was started by another version of fermata"},
               {FM_EBUSY, "does not answer"},
               {-EAGAIN, "is asked by too many at once"},
               {-EPIPE, "is about to end"},
               {-ECONNRESET, "is about to end"},
               {-ETOOMANYREFS, "Too many references"}};
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        answer = all[i].err;
        assert_int_equal(give(0), 503);
        assert_memory_equal(said, "worker 0 (pid 101) ", 19);
        if (!strstr(said, all[i].why))
            fail_msg("%s", said);
        assert_int_equal(said[strlen(said) - 1], '\n');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_given, begin),
        cmocka_unit_test_setup(test_which_of_a_slot, begin),
        cmocka_unit_test_setup(test_none, begin),
        cmocka_unit_test_setup(test_what_does_not_take_it, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

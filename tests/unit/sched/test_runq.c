/* The run queue: first come, first served within a line, and the lines take turns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fermata/sched/runq.h"

enum { MANY = 6 };

static struct fm_runq queue;
static struct fm_task fresh[MANY], going_on[MANY];

static int start(void **state)
{
    (void)state;
    fm_runq_init(&queue);
    for (unsigned i = 0; i < MANY; i++) {
        fm_task_init(&fresh[i]);
        fm_task_init(&going_on[i]);
        going_on[i].begun = true;
    }
    return 0;
}

static void push(struct fm_task *tasks, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        fm_runq_push(&queue, &tasks[i], 7);
}

static void expect(struct fm_task *t) { assert_ptr_equal(fm_runq_pop(&queue), t); }

static void test_empty(void **state)
{
    (void)state;
    assert_int_equal(fm_runq_length(&queue), 0);
    expect(NULL);
    expect(NULL);
    assert_int_equal(fm_runq_length(&queue), 0);
}

static void test_one_line_alone(void **state)
{
    (void)state;
    struct fm_task *const lines[] = {fresh, going_on};
    for (unsigned line = 0; line < 2; line++) {
        push(lines[line], MANY);
        assert_int_equal(fm_runq_length(&queue), MANY);
        for (unsigned i = 0; i < MANY; i++) {
            expect(&lines[line][i]);
            assert_int_equal(lines[line][i].queued_at, 7);
        }
        expect(NULL);
    }
}

static void test_lines_take_turns(void **state)
{
    (void)state;
    push(going_on, 4);
    push(fresh, 2);
    expect(&fresh[0]);
    expect(&going_on[0]);
    expect(&fresh[1]);
    expect(&going_on[1]);
    expect(&going_on[2]);
    expect(&going_on[3]);
    expect(NULL);
}

/* One that comes when the other line has had many turns in a row is next, and has no more than its one turn. */
static void test_who_has_waited_for_nobody_is_next(void **state)
{
    (void)state;
    push(going_on, MANY);
    for (unsigned i = 0; i < 3; i++)
        expect(&going_on[i]);
    push(fresh, 3);
    expect(&fresh[0]);
    expect(&going_on[3]);
    expect(&fresh[1]);
    expect(&going_on[4]);
    expect(&fresh[2]);
    expect(&going_on[5]);
    push(fresh, 3);
    expect(&fresh[0]);
    expect(&fresh[1]);
    push(going_on, 1);
    expect(&going_on[0]);
    expect(&fresh[2]);
}

static void test_remove(void **state)
{
    (void)state;
    push(fresh, 3);
    push(going_on, 1);
    fm_runq_remove(&queue, &fresh[0]);
    fm_runq_remove(&queue, &fresh[2]);
    assert_int_equal(fm_runq_length(&queue), 2);
    assert_int_equal(queue.length[FM_UNSTARTED], 1);
    expect(&fresh[1]);
    expect(&going_on[0]);
    expect(NULL);
}

static void test_append(void **state)
{
    (void)state;
    struct fm_runq more;
    fm_runq_init(&more);
    fm_runq_append(&queue, &more, 9);
    expect(NULL);
    push(fresh, 1);
    push(going_on, 1);
    for (unsigned i = 1; i < 3; i++) {
        fm_runq_push(&more, &fresh[i], 0);
        fm_runq_push(&more, &going_on[i], 0);
    }
    fm_runq_append(&queue, &more, 9);
    assert_int_equal(fm_runq_length(&more), 0);
    assert_null(fm_runq_pop(&more));
    assert_int_equal(fm_runq_length(&queue), 6);
    for (unsigned i = 0; i < 3; i++) {
        expect(&fresh[i]);
        expect(&going_on[i]);
        assert_int_equal(fresh[i].queued_at, i == 0 ? 7 : 9);
        assert_int_equal(going_on[i].queued_at, i == 0 ? 7 : 9);
    }
    expect(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_empty, start),
        cmocka_unit_test_setup(test_one_line_alone, start),
        cmocka_unit_test_setup(test_lines_take_turns, start),
        cmocka_unit_test_setup(test_who_has_waited_for_nobody_is_next, start),
        cmocka_unit_test_setup(test_remove, start),
        cmocka_unit_test_setup(test_append, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

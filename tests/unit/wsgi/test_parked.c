/* The list of what is parked: looked at by another thread while requests are parked and go on. */
#include "gateway.h"

#include "fermata/wsgi/inquiries.h"
#include "fermata/wsgi/report.h"
#include "wsgi/parked.h"

#define MANY 1200 /* more than there are in a part of the walk */

/* The futures that the walk comes to, in parts of so many. */
static unsigned walk(unsigned most, unsigned stop_after)
{
    struct fm_parked_walk w;
    struct fm_parked part[64];
    unsigned n, all = 0;
    fm_parked_begin(&w);
    while (all < stop_after && (n = fm_parked_next(&w, part, most)) > 0) {
        for (unsigned i = 0; i < n; i++) {
            assert_true(PyObject_TypeCheck(part[i].future, fm_wsgi.future_type));
            Py_DECREF(part[i].future);
        }
        all += n;
    }
    fm_parked_end(&w);
    return all;
}

static void go_on(struct exchange *x, unsigned n)
{
    PY("while waiting: waiting.pop().set_result(None)");
    run_steps();
    for (unsigned i = 0; i < n; i++)
        end(&x[i], FM_OUTCOME_DONE);
}

static struct exchange *park(unsigned n)
{
    struct exchange *x = calloc(n, sizeof *x);
    assert_non_null(x);
    for (unsigned i = 0; i < n; i++) {
        begin(&x[i], GET);
        assert_int_equal(state_of(&x[i]), FM_TASK_PARKED);
    }
    return x;
}

#define PARKS                                                                                                          \
    APP("waiting = []\n"                                                                                               \
        "def app(environ, start_response):\n"                                                                          \
        "    ok(start_response)\n"                                                                                     \
        "    waiting.append(Future())\n"                                                                               \
        "    yield waiting[-1]\n"                                                                                      \
        "    yield b'x'\n")

static void test_all_are_seen_once(void **state)
{
    (void)state;
    PARKS;
    assert_int_equal(walk(64, UINT_MAX), 0);
    struct exchange *x = park(MANY);
    assert_int_equal(walk(64, UINT_MAX), MANY);
    assert_int_equal(walk(1, UINT_MAX), MANY);
    assert_int_equal(walk(7, 100), 105); /* a walk may end before; what it has left behind is no run */
    assert_int_equal(walk(64, UINT_MAX), MANY);
    go_on(x, MANY);
    assert_int_equal(walk(64, UINT_MAX), 0);
    free(x);
}

/* Those that go on between two parts are not seen any more, wherever the walk stands. */
static void test_some_go_on_meanwhile(void **state)
{
    struct fm_parked_walk w;
    struct fm_parked part[4];
    (void)state;
    PARKS;
    struct exchange *x = park(20);
    fm_parked_begin(&w);
    assert_int_equal(fm_parked_next(&w, part, 4), 4);
    PY("first = waiting[:4]; behind = waiting[4:12]; del waiting[:12]\n"
       "for f in behind: f.set_result(None)");
    run_steps();
    for (unsigned i = 0; i < 4; i++)
        Py_DECREF(part[i].future);
    unsigned rest = 0;
    for (unsigned n; (n = fm_parked_next(&w, part, 4)) > 0; rest += n)
        for (unsigned i = 0; i < n; i++)
            Py_DECREF(part[i].future);
    fm_parked_end(&w);
    assert_int_equal(rest, 8);
    PY("waiting += first");
    go_on(x, 20);
    free(x);
}

/* A future whose add_done_callback fails parks nothing. */
static void test_none_is_left_of_what_could_not_be_parked(void **state)
{
    struct exchange x;
    (void)state;
    APP("class Unwilling(Future):\n"
        "    def add_done_callback(self, fn): raise ValueError('no')\n"
        "def app(environ, start_response):\n"
        "    ok(start_response)\n"
        "    yield Unwilling()\n");
    begin(&x, GET);
    assert_int_equal(x.answered, 500);
    end(&x, FM_OUTCOME_DONE);
    assert_int_equal(walk(64, UINT_MAX), 0);
    logged();
}

/* ---- the answer ---- */

static const char *ask(void)
{
    static struct fm_buf text;
    struct fm_inquiry_seen seen;
    fm_buf_fini(&text);
    assert_int_equal(fm_inquiry_ask(fm_inquiry_of_futures(), fm_now()), 0);
    Py_BEGIN_ALLOW_THREADS
    fm_report_wait(30);
    Py_END_ALLOW_THREADS
    fm_inquiry_read(fm_inquiry_of_futures(), &seen, &text);
    assert_int_equal(seen.how, FM_ANSWER_TEXT);
    fm_buf_append(&text, "", 1);
    return fm_buf_head(&text);
}

static void test_kinds(void **state)
{
    (void)state;
    PARKS;
    assert_string_equal(ask(), "");
    struct exchange *x = park(3);
    assert_string_equal(ask(), "0\t3\tFuture\n");
    PY("import concurrent.futures.thread; waiting[0]._state = 'RUNNING'");
    const char *said = ask();
    assert_true(has(said, "0\t2\tFuture\n") && has(said, "0\t1\tThreadPoolExecutor, running\n"));
    go_on(x, 3);
    free(x);
    x = park(MANY);
    assert_string_equal(ask(), "0\t20\tFuture\n");
    PY("counts = {sys.getrefcount(f) for f in waiting}\n"
       "assert len(counts) == 1, counts"); /* none is kept */
    go_on(x, MANY);
    free(x);
}

/* For the sanitizers: requests are parked and go on while a thread asks and asks. */
static void test_while_requests_come_and_go(void **state)
{
    (void)state;
    PARKS;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(fm_inquiry_ask(fm_inquiry_of_futures(), fm_now()), 0);
        struct exchange *x = park(50);
        Py_BEGIN_ALLOW_THREADS
        sched_yield();
        Py_END_ALLOW_THREADS
        go_on(x, 50);
        free(x);
    }
    Py_BEGIN_ALLOW_THREADS
    fm_report_wait(30); /* the last one may be of before */
    Py_END_ALLOW_THREADS
    assert_string_equal(ask(), "");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_all_are_seen_once),
    cmocka_unit_test(test_some_go_on_meanwhile),
    cmocka_unit_test(test_none_is_left_of_what_could_not_be_parked),
    cmocka_unit_test(test_kinds),
    cmocka_unit_test(test_while_requests_come_and_go),
};

int main(void)
{
    start_gateway();
    fm_wsgi.config.futures = true;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    stop_gateway();
    return failed;
}

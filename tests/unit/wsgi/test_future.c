/* Futures: what is one, how a task is parked on one and woken, in each order of events, and how it ended. */
#include "gateway.h"

static struct exchange x;
static struct fm_run *run;
static PyObject *future;

/* A running task, as within a step, and a future. */
static int start(void **state)
{
    (void)state;
    make_call(&x, GET);
    fm_task_move(&x.call.task, FM_TASK_IDLE, FM_TASK_QUEUED);
    fm_task_move(&x.call.task, FM_TASK_QUEUED, FM_TASK_RUNNING);
    run = fm_run_new(&x.call);
    PY("future = Future()");
    future = py_get("future");
    return run == NULL || x.call.run != run;
}

static int over(void **state)
{
    (void)state;
    Py_CLEAR(run);
    Py_CLEAR(future);
    x.call.run = NULL;
    fm_task_move(&x.call.task, FM_TASK_RUNNING, FM_TASK_DONE);
    drop_call(&x);
    return 0;
}

static struct fm_task *queued(void)
{
    fm_mutex_lock(&sched.lock);
    struct fm_task *t = fm_runq_pop(&sched.runq);
    fm_mutex_unlock(&sched.lock);
    return t;
}

static void test_what_is_a_future(void **state)
{
    static const struct {
        const char *value;
        bool is;
    } cases[] = {
        {"Future()", true}, {"type('Mine', (Future,), {})()", true}, {"Future", false}, {"None", false},
        {"b'x'", false},    {"__import__('asyncio').Future", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        PyObject *o = py_get(cases[i].value);
        assert_int_equal(fm_is_future(o), cases[i].is);
        Py_DECREF(o);
    }
}

static void test_done(void **state)
{
    (void)state;
    assert_int_equal(fm_future_done(future), 0);
    PY("future.set_result(1)");
    assert_int_equal(fm_future_done(future), 1);
    PyObject *odd = py_get("type('Odd', (Future,), {'done': lambda self: 1 / 0})()");
    assert_int_equal(fm_future_done(odd), -1);
    assert_raised(PyExc_ZeroDivisionError, "");
    Py_DECREF(odd);
}

static void test_parked_then_done(void **state)
{
    (void)state;
    assert_int_equal(fm_future_park(run, future), 0);
    assert_int_equal(state_of(&x), FM_TASK_PARKING);
    assert_true(fm_task_let_go(&x.call.task, fm_future_wait(run)));
    assert_int_equal(state_of(&x), FM_TASK_PARKED);
    assert_null(queued());
    PY("future.set_result(1)");
    assert_int_equal(state_of(&x), FM_TASK_QUEUED);
    assert_ptr_equal(queued(), &x.call.task);
    fm_task_move(&x.call.task, FM_TASK_QUEUED, FM_TASK_RUNNING);
    fm_future_unpark(run);
    assert_null(run->wakeup);
    fm_future_unpark(run); /* nothing to do */
    assert_int_equal(atomic_load(&fm_wsgi.waking), 0);
}

/* In add_done_callback, and between it and letting go. */
static void test_done_before_it_is_let_go(void **state)
{
    (void)state;
    PY("future.set_result(1)");
    assert_int_equal(fm_future_park(run, future), 0);
    assert_int_equal(state_of(&x), FM_TASK_WOKEN);
    assert_false(fm_task_let_go(&x.call.task, fm_future_wait(run)));
    fm_future_unpark(run);
    Py_CLEAR(run->future);
    PyObject *next = py_get("Future()");
    py_set("next", Py_NewRef(next));
    assert_int_equal(fm_future_park(run, next), 0);
    PY("next.cancel()");
    assert_false(fm_task_let_go(&x.call.task, fm_future_wait(run)));
    assert_int_equal(state_of(&x), FM_TASK_RUNNING);
    assert_null(queued());
    fm_future_unpark(run);
    Py_DECREF(next);
}

/* The request has gone on without the callback, which may come any time, or several times. */
static void test_late_callback(void **state)
{
    (void)state;
    assert_int_equal(fm_future_park(run, future), 0);
    PyObject *wakeup = Py_NewRef(run->wakeup);
    assert_true(fm_task_let_go(&x.call.task, fm_future_wait(run)));
    assert_int_equal(fm_task_abort(&x.call.task, &sched, false), FM_TASK_PARKED);
    assert_ptr_equal(queued(), &x.call.task);
    fm_task_move(&x.call.task, FM_TASK_QUEUED, FM_TASK_RUNNING);
    fm_future_unpark(run);
    PY("future.set_result(1)");
    for (int i = 0; i < 2; i++) {
        PyObject *none = PyObject_CallNoArgs(wakeup);
        assert_ptr_equal(none, Py_None);
        Py_DECREF(none);
    }
    assert_int_equal(state_of(&x), FM_TASK_RUNNING);
    assert_null(queued());
    Py_DECREF(wakeup);
}

static void test_cannot_register(void **state)
{
    (void)state;
    PyObject *odd = py_get("type('Odd', (Future,), {'add_done_callback': lambda self, f: 1 / 0})()");
    assert_int_equal(fm_future_park(run, odd), -1);
    assert_raised(PyExc_ZeroDivisionError, "");
    assert_int_equal(state_of(&x), FM_TASK_RUNNING);
    fm_future_unpark(run);
    Py_CLEAR(run->future);
    PY("class Odd(Future):\n" /* it fires, and fails */
       "    def add_done_callback(self, f): f(self); 1 / 0\n");
    py_set("odd", py_get("Odd()"));
    Py_DECREF(odd);
    odd = py_get("odd");
    assert_int_equal(fm_future_park(run, odd), -1);
    assert_raised(PyExc_ZeroDivisionError, "");
    assert_int_equal(state_of(&x), FM_TASK_RUNNING);
    assert_null(queued());
    fm_future_unpark(run);
    Py_DECREF(odd);
}

/* Another thread completes it while this one parks: the task is woken once, by the first of the two. */
static void test_against_another_thread(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS(300); i++) {
        PY("future = Future(); t = threading.Thread(target=future.set_result, args=(1,)); t.start()");
        PyObject *mine = py_get("future");
        assert_int_equal(fm_future_park(run, mine), 0);
        if (fm_task_let_go(&x.call.task, fm_future_wait(run))) {
            PY("t.join()");
            assert_ptr_equal(queued(), &x.call.task);
            fm_task_move(&x.call.task, FM_TASK_QUEUED, FM_TASK_RUNNING);
        }
        PY("t.join()");
        assert_null(queued());
        fm_future_unpark(run);
        Py_CLEAR(run->future);
        Py_DECREF(mine);
    }
}

static void test_outcomes(void **state)
{
    static const struct {
        const char *prepare;
        int outcome;
        const char *type;
    } cases[] = {
        {"f.set_result(1)", 0, NULL},
        {"f.set_result(KeyError())", 0, NULL},
        {"f.set_exception(KeyError('k'))", 1, "KeyError"},
        {"f.set_exception(StopIteration())", 1, "StopIteration"},
        {"f.set_exception(SystemExit())", 1, "SystemExit"},
        {"f.cancel()", 1, "concurrent.futures.CancelledError"},
        {"pass", 1, "concurrent.futures.TimeoutError"}, /* it is not done after all: it must not block us */
        {"f.exception = lambda timeout=None: 7", -1, "TypeError"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        PyObject *exc = NULL;
        PY("f = Future()");
        PY(cases[i].prepare);
        PyObject *f = py_get("f"), *type = cases[i].type ? py_get(cases[i].type) : NULL;
        assert_int_equal(fm_future_outcome(f, &exc), cases[i].outcome);
        if (cases[i].outcome == 1)
            assert_int_equal(PyObject_IsInstance(exc, type), 1);
        else
            assert_null(exc);
        if (cases[i].outcome == -1)
            assert_raised(type, "exception() returned int");
        assert_null(PyErr_Occurred());
        Py_XDECREF(type);
        Py_XDECREF(exc);
        Py_DECREF(f);
    }
}

static void test_wrong_items(void **state)
{
    static const char *const cases[][2] = {
        {"'text'", "yielded str, not bytes or a concurrent.futures.Future; encode text first"},
        {"7", "yielded int, not bytes or a concurrent.futures.Future"},
        {"(x for x in 'a')", "write yield from in place of yield"},
        {"[Future()]", "yield the futures one after the other"},
        {"(1, Future())", "yield the futures one after the other"},
        {"bytearray(b'x')", "make bytes of it first"},
        {"memoryview(b'x')", "make bytes of it first"},
        {"coroutine", "asyncio.run_coroutine_threadsafe()"},
        {"asyncio.Future(loop=loop)", "asyncio.run_coroutine_threadsafe()"},
    };
    (void)state;
    PY("import asyncio\n"
       "async def f(): pass\n"
       "coroutine = f()\n"
       "loop = asyncio.new_event_loop()\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        PyObject *item = py_get(cases[i][0]);
        fm_wrong_item(item);
        assert_raised(PyExc_TypeError, cases[i][1]);
        Py_DECREF(item);
    }
    PY("coroutine.close(); loop.close()");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start, over)

static const struct CMUnitTest tests[] = {
    TEST(test_what_is_a_future),         TEST(test_done),          TEST(test_parked_then_done),
    TEST(test_done_before_it_is_let_go), TEST(test_late_callback), TEST(test_cannot_register),
    TEST(test_against_another_thread),   TEST(test_outcomes),      TEST(test_wrong_items),
};

GATEWAY_MAIN(tests)

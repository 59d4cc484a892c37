/* A failure that is thrown into applications keeps the traceback that it had, however many it is thrown into, one after
 * the other or at the same time. */
#include "gateway.h"

#define RUNS 4

static struct exchange x[RUNS];
static struct fm_run *run[RUNS];
static PyObject *exc;

/* exc: an exception with a traceback of one frame. */
static int start(void **state)
{
    (void)state;
    PY("def fail():\n"
       "    try: raise KeyError('k')\n"
       "    except KeyError as e: return e\n"
       "def depth(e):\n"
       "    n, tb = 0, e.__traceback__\n"
       "    while tb: n, tb = n + 1, tb.tb_next\n"
       "    return n\n"
       "def throw(e):\n" /* as an application that lets it pass: adds a frame */
       "    try: raise e\n"
       "    except KeyError: pass\n"
       "exc = fail()\n");
    exc = py_get("exc");
    for (int i = 0; i < RUNS; i++) {
        make_call(&x[i], GET);
        run[i] = fm_run_new(&x[i].call);
    }
    return 0;
}

static int over(void **state)
{
    (void)state;
    assert_null(fm_wsgi.throwing);
    for (int i = 0; i < RUNS; i++) {
        Py_CLEAR(run[i]);
        drop_call(&x[i]);
    }
    Py_CLEAR(exc);
    PY("exc = None");
    return 0;
}

static void test_it_has_its_traceback_again(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        fm_failure_begin(run[0], exc);
        assert_py("depth(exc) == 1");
        PY("throw(exc)");
        assert_py("depth(exc) == 2");
        fm_failure_end(run[0]);
        assert_py("depth(exc) == 1");
    }
    PY("throw(exc)"); /* the application has kept it, and raises it again later */
    fm_failure_end(run[0]);
    assert_py("depth(exc) == 1");
}

static void test_without_a_traceback(void **state)
{
    (void)state;
    PY("exc.__traceback__ = None");
    fm_failure_begin(run[0], exc);
    PY("throw(exc)");
    fm_failure_end(run[0]);
    assert_py("depth(exc) == 0");
}

static void test_several_at_once(void **state)
{
    (void)state;
    fm_failure_begin(run[0], exc);
    PY("throw(exc)");
    fm_failure_begin(run[1], exc); /* what it had before the first */
    assert_py("depth(exc) == 1");
    PY("throw(exc)");
    fm_failure_end(run[0]);
    PY("throw(exc)");
    fm_failure_begin(run[2], exc); /* the first is no more, and the second knows */
    fm_failure_end(run[1]);
    fm_failure_end(run[2]);
    assert_py("depth(exc) == 1");
}

static void test_others_do_not_matter(void **state)
{
    (void)state;
    py_set("other", py_get("fail()"));
    PyObject *other = py_get("other");
    fm_failure_begin(run[0], exc);
    PY("throw(exc); throw(other)");
    fm_failure_begin(run[1], other);
    assert_py("depth(other) == 2");
    fm_failure_end(run[0]);
    assert_py("depth(exc) == 1 and depth(other) == 2");
    fm_failure_end(run[1]);
    Py_DECREF(other);
}

static void test_an_exception_that_is_set_stays(void **state)
{
    (void)state;
    fm_failure_begin(run[0], exc);
    PyErr_SetString(PyExc_ValueError, "mine");
    fm_failure_end(run[0]);
    assert_raised(PyExc_ValueError, "mine");
    fm_failure_end(run[1]); /* nothing was thrown into it */
}

/* Throws into a run of its own, again and again. */
static void *thrower(void *arg)
{
    struct fm_run *mine = arg;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *throw = PyDict_GetItemString(names, "throw");
    for (int i = 0; i < ROUNDS(2000); i++) {
        fm_failure_begin(mine, exc);
        PyObject *none = PyObject_CallOneArg(throw, exc);
        CHECK(none);
        Py_DECREF(none);
        if (i % 3 == 0) {
            Py_BEGIN_ALLOW_THREADS
            sched_yield();
            Py_END_ALLOW_THREADS
        }
        fm_failure_end(mine);
    }
    PyGILState_Release(state);
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[RUNS];
    (void)state;
    Py_BEGIN_ALLOW_THREADS
    for (int i = 0; i < RUNS; i++)
        threads[i] = spawn(thrower, run[i]);
    for (int i = 0; i < RUNS; i++)
        join(threads[i]);
    Py_END_ALLOW_THREADS
    assert_py("depth(exc) == 1");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start, over)

static const struct CMUnitTest tests[] = {
    TEST(test_it_has_its_traceback_again),
    TEST(test_without_a_traceback),
    TEST(test_several_at_once),
    TEST(test_others_do_not_matter),
    TEST(test_an_exception_that_is_set_stays),
    TEST(test_threads),
};

GATEWAY_MAIN(tests)

/* Stack reports: where a thread is, as soon as the GIL can be had, without waiting for it, and not too many at a time.
 */
#include "gateway.h"

#include "fermata/wsgi/report.h"

static void test_says_where_a_thread_is(void **state)
{
    (void)state;
    logged();
    PY("go = threading.Event()\n"
       "inside = threading.Event()\n"
       "def where_it_is(): inside.set(); go.wait()\n"
       "t = threading.Thread(target=where_it_is); t.start(); inside.wait()\n");
    PyObject *ident = py_get("t.ident");
    unsigned long id = PyLong_AsUnsignedLong(ident);
    Py_DECREF(ident);
    Py_BEGIN_ALLOW_THREADS
    fm_report_stack(id, "GET /slow");
    fm_report_wait(30);
    Py_END_ALLOW_THREADS
    PY("go.set(); t.join()");
    const char *said = logged();
    assert_true(has(said, "[WARNING] GET /slow: this is where its step is:\n") && has(said, "where_it_is"));
}

static void test_a_thread_that_is_no_more(void **state)
{
    (void)state;
    Py_BEGIN_ALLOW_THREADS
    fm_report_stack(1, "GET /over");
    fm_report_wait(30);
    Py_END_ALLOW_THREADS
    assert_true(has(logged(), "GET /over"));
    fm_report_stack(0, "no step runs");
    fm_report_wait(30);
    assert_string_equal(logged(), "");
}

/* While this thread has the GIL, reports wait; four of them do, and others are not made. */
static void test_no_more_than_a_few(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        fm_report_stack(1, "GET /many");
    fm_report_wait(0); /* does not wait */
    assert_string_equal(logged(), "");
    Py_BEGIN_ALLOW_THREADS
    fm_report_wait(30);
    Py_END_ALLOW_THREADS
    int n = 0;
    for (const char *at = logged(); (at = strstr(at, "GET /many")); at++)
        n++;
    assert_int_equal(n, 4);
}

static void test_long_names(void **state)
{
    char what[2000];
    (void)state;
    memset(what, 'x', sizeof what - 1);
    what[sizeof what - 1] = '\0';
    Py_BEGIN_ALLOW_THREADS
    fm_report_stack(1, what);
    fm_report_wait(30);
    Py_END_ALLOW_THREADS
    assert_true(strlen(logged()) < 1000);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_says_where_a_thread_is),
    cmocka_unit_test(test_a_thread_that_is_no_more),
    cmocka_unit_test(test_no_more_than_a_few),
    cmocka_unit_test(test_long_names),
};

GATEWAY_MAIN(tests)

/* Exceptions and stacks in the log: as text whatever they are, and never as something that looks like another record or
 * commands a terminal. */
#include "python.h"

#include "fermata/py/error.h"

/* Raises and logs: what was written. */
static const char *log_of(const char *code)
{
    logged();
    PyObject *none = PyRun_String(code, Py_file_input, names, names);
    assert_null(none);
    fm_py_log_exception(FM_LOG_ERROR, "Error in %s", "a test");
    assert_null(PyErr_Occurred());
    return logged();
}

static void test_traceback(void **state)
{
    (void)state;
    const char *said = log_of("def inner(): raise KeyError('k')\ninner()\n");
    assert_true(said[0] == '[' && has(said, "] [ERROR] Error in a test\nTraceback (most recent call last):\n"));
    assert_true(has(said, "in inner\n") && has(said, "\nKeyError: 'k'\n"));
}

static void test_chained(void **state)
{
    (void)state;
    const char *said = log_of("try: 1 / 0\nexcept ZeroDivisionError as e: raise KeyError('k') from e\n");
    assert_true(has(said, "ZeroDivisionError: division by zero\n") && has(said, "direct cause") &&
                has(said, "KeyError"));
    said = log_of("try: 1 / 0\nexcept ZeroDivisionError: raise KeyError('k')\n");
    assert_true(has(said, "During handling of the above exception") && has(said, "ZeroDivisionError"));
    said = log_of("try: 1 / 0\nexcept ZeroDivisionError: raise KeyError('k') from None\n");
    assert_false(has(said, "ZeroDivisionError:"));
#if PY_VERSION_HEX >= 0x030b0000
    said = log_of("e = ValueError('v'); e.add_note('a note'); raise ExceptionGroup('several', [e, KeyError('k')])\n");
    assert_true(has(said, "several") && has(said, "ValueError: v") && has(said, "a note") &&
                has(said, "KeyError: 'k'"));
#endif
}

static void test_not_instances_yet(void **state)
{
    (void)state;
    logged();
    PyErr_SetNone(PyExc_KeyError);
    fm_py_log_exception(FM_LOG_WARNING, "head");
    const char *said = logged();
    assert_true(has(said, "] [WARNING] head\n") && has(said, "KeyError"));
    PyErr_SetString(PyExc_ValueError, "text");
    fm_py_log_exception(FM_LOG_ERROR, "head");
    assert_true(has(logged(), "ValueError: text"));
    fm_py_log_exception(FM_LOG_ERROR, "no exception at all");
    assert_true(has(logged(), "no exception at all\n"));
    assert_null(PyErr_Occurred());
}

static void test_text_cannot_forge_a_record(void **state)
{
    (void)state;
    const char *said =
        log_of("raise ValueError('a\\n[2026-01-01] [7] [ERROR] forged\\r\\x1b[2J\\x00\\x85\\u2028\\x7f\\tb')\n");
    assert_true(has(said, "\n [2026-01-01] [7] [ERROR] forged") && !has(said, "\n[2026"));
    assert_true(has(said, "\\x0d\\x1b[2J\\x00\\xc2\\x85\\xe2\\x80\\xa8\\x7f\tb"));
}

static void test_surrogates(void **state)
{
    (void)state;
    assert_true(has(log_of("raise ValueError('\\xe4\\u2713\\udc80\\ud83d')\n"), "\xc3\xa4\xe2\x9c\x93\\udc80\\ud83d"));
}

static void test_long(void **state)
{
    (void)state;
    const char *said = log_of("raise ValueError('begin' + 'x' * 1000000 + 'end')\n");
    assert_true(has(said, "ValueError: beginxxx") && has(said, "xxxend\n") && has(said, " bytes are left out ...\n"));
    assert_true(strlen(said) < 80 * 1024);
    said = log_of("raise ValueError('\\x1b' * 1000000)\n");
    assert_true(strlen(said) < 400 * 1024);
}

/* What fails while it is shown is shown in its place. */
static void test_cannot_be_shown(void **state)
{
    (void)state;
    assert_true(has(log_of("class Odd(Exception):\n"
                           "    def __str__(self): raise KeyError\n"
                           "raise Odd()\n"),
                    "Odd: <"));
    PY("import sys, traceback\n"
       "whole, traceback.format_exception = traceback.format_exception, lambda *args: 1 / 0\n");
    assert_true(has(log_of("raise ValueError('v')\n"), "Error in a test (its traceback cannot be shown)\n"));
    PY("traceback.format_exception = lambda *args: [7]");
    assert_true(has(log_of("raise ValueError('v')\n"), "Error in a test (its traceback cannot be shown)\n"));
    PY("traceback.format_exception = whole");
}

static void test_level(void **state)
{
    (void)state;
    fm_log_set_level(FM_LOG_CRITICAL);
    assert_string_equal(log_of("raise ValueError('v')\n"), "");
    fm_log_set_level(FM_LOG_INFO);
}

static void test_stack(void **state)
{
    (void)state;
    logged();
    PY("import threading\n"
       "go, inside = threading.Event(), threading.Event()\n"
       "def where_it_is(): inside.set(); go.wait()\n"
       "t = threading.Thread(target=where_it_is); t.start(); inside.wait()\n");
    PyObject *ident = py_get("t.ident");
    fm_py_log_stack(PyLong_AsUnsignedLong(ident), "%s:", "GET /");
    Py_DECREF(ident);
    PY("go.set(); t.join()");
    const char *said = logged();
    assert_true(has(said, "] [WARNING] GET /:\n") && has(said, "in where_it_is"));
    fm_py_log_stack(1, "no such thread");
    assert_true(has(logged(), "] [WARNING] no such thread\n"));
    assert_null(PyErr_Occurred());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_traceback),
        cmocka_unit_test(test_chained),
        cmocka_unit_test(test_not_instances_yet),
        cmocka_unit_test(test_text_cannot_forge_a_record),
        cmocka_unit_test(test_surrogates),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_cannot_be_shown),
        cmocka_unit_test(test_level),
        cmocka_unit_test(test_stack),
    };
    start_python();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    stop_python();
    return failed;
}

/* The state of interpreter and threads: made and dropped as often as one likes, and nothing is left. */
#include "gateway.h"

static void test_names(void **state)
{
    (void)state;
    assert_true(PyUnicode_CompareWithASCIIString(fm_wsgi.name[FM_N_WSGI_INPUT], "wsgi.input") == 0);
    assert_true(PyUnicode_CompareWithASCIIString(fm_wsgi.name[FM_N_throw_], "throw") == 0);
    assert_true(PyUnicode_CompareWithASCIIString(fm_wsgi.header_key[FM_H_CONTENT_TYPE], "CONTENT_TYPE") == 0);
    assert_true(PyUnicode_CompareWithASCIIString(fm_wsgi.header_key[FM_H_USER_AGENT], "HTTP_USER_AGENT") == 0);
    for (int i = 0; i < FM_N_COUNT; i++)
        assert_non_null(fm_wsgi.name[i]);
}

/* They cannot be changed, nor made anew, by the application. */
static void test_types(void **state)
{
    PyTypeObject *const types[] = {
#define X(name) fm_wsgi.name##_type,
        FM_TYPES(X)
#undef X
    };
    (void)state;
    PY("def raises(f, *args):\n"
       "    try: f(*args)\n"
       "    except TypeError: return True\n");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        py_set("t", Py_NewRef((PyObject *)types[i]));
        assert_py("t.__module__ == 'fermata' and t.__doc__");
        assert_py("raises(setattr, t, 'x', 1) and raises(t) and raises(type, 'Sub', (t,), {})");
    }
    PY("t = None");
}

static void test_threads(void **state)
{
    (void)state;
    struct fm_wsgi_thread *first = fm_wsgi.threads, *one = fm_wsgi_thread_new(), *two = fm_wsgi_thread_new();
    assert_ptr_equal(fm_wsgi.threads, two);
    assert_ptr_equal(two->next, one);
    assert_ptr_equal(one->next, first);
    assert_null(one->environ.template);
}

static void serve_once(void)
{
    struct exchange x;
    APP("def app(environ, start_response):\n"
        "    ok(start_response, ('X-Name', 'v'))\n"
        "    return [b'x']\n");
    begin(&x, "GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: test\r\n\r\n");
    end(&x, FM_OUTCOME_DONE);
}

static void test_begin_and_end_again(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        serve_once();
        assert_non_null(fm_wsgi.threads);
        fm_wsgi_settle();
        fm_wsgi_fini();
        assert_null(fm_wsgi.threads);
        assert_null(fm_wsgi.application);
        assert_null(fm_wsgi.run_type);
        assert_null(fm_wsgi.name[0]);
        assert_int_equal(fm_wsgi_init(&(struct fm_wsgi_config){.multithread = i == 0, .end_child = _exit}), 0);
        sched.threads[0].user = fm_wsgi_thread_new();
    }
    serve_once();
    PyObject *template = fm_wsgi_of(&sched.threads[0])->environ.template;
    assert_ptr_equal(PyDict_GetItemString(template, "wsgi.multithread"), Py_False);
}

/* What the application keeps works on after the end. */
static void test_objects_outlive_it(void **state)
{
    struct exchange x;
    (void)state;
    APP("def app(environ, start_response):\n"
        "    global kept, future\n"
        "    ok(start_response)\n"
        "    kept = environ, start_response, environ['wsgi.file_wrapper'](io.BytesIO(b'abc'), 1)\n"
        "    future = Future()\n"
        "    yield future\n"
        "    yield b'x'\n");
    begin(&x, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    PyObject *wakeup = Py_NewRef(((struct fm_run *)x.call.run)->wakeup);
    fm_task_abort(&x.call.task, &sched, false);
    run_steps();
    end(&x, FM_OUTCOME_ABORTED);
    fm_wsgi_fini();
    PY("future.set_result(1)");
    assert_py("kept[0]['wsgi.input'].read() == b'abc' and kept[0]['PATH_INFO'] == '/'");
    PyObject *none = PyObject_CallNoArgs(wakeup);
    assert_ptr_equal(none, Py_None);
    Py_DECREF(none);
    Py_DECREF(wakeup);
    PY("kept = future = None; gc.collect()");
    assert_int_equal(fm_wsgi_init(&(struct fm_wsgi_config){.multithread = true, .end_child = _exit}), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_names),
    cmocka_unit_test(test_types),
    cmocka_unit_test(test_threads),
    cmocka_unit_test(test_begin_and_end_again),
    cmocka_unit_test(test_objects_outlive_it),
};

GATEWAY_MAIN(tests)

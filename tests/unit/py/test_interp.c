/* The embedded interpreter: how it starts, its threads, and its end. */
#include "python.h"

#include <signal.h>

#include "fermata/util/err.h"

/* ---- before it starts ---- */

static char venv[] = "/tmp/fermata-unit-venv-XXXXXX";

static void put(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", venv, name);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0755);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void dir(const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", venv, name);
    CHECK(mkdir(path, 0755) == 0);
}

/* It is refused, for this reason, and no interpreter is started. */
static void refused(const char *why)
{
    static char program[] = "test";
    const struct fm_interp_config config = {.venv = venv, .program = program};
    logged();
    assert_int_equal(fm_interp_start(&config), FM_EINVAL);
    assert_false(Py_IsInitialized());
    if (!has(logged(), why))
        fail_msg("%s, not: %s", log_content, why);
}

static void test_wrong_environments(void **state)
{
    char lib[64];
    (void)state;
    CHECK(mkdtemp(venv));
    refused("there is no bin/python in it");
    dir("bin");
    put("bin/python", "");
    refused("it is not for Python");
    dir("lib");
#ifdef Py_GIL_DISABLED
    const char *kind = "t";
#else
    const char *kind = "";
#endif
    snprintf(lib, sizeof lib, "lib/python%d.%d%s", PY_MAJOR_VERSION, PY_MINOR_VERSION, kind);
    dir(lib);
    refused("it is no virtual environment");
    put("pyvenv.cfg", "include-system-site-packages = false\nhome =\n");
    refused("it is no virtual environment");
    put("pyvenv.cfg", "homely = /x\n  HOME = /no/such/directory\r\n");
    refused("it was made with the Python in /no/such/directory, and this fermata is built with");
}

static void test_not_started(void **state)
{
    (void)state;
    assert_false(fm_interp_call(NULL, NULL));
    assert_true(strncmp(fm_interp_version(), "3.", 2) == 0 && strlen(fm_interp_version()) < 12);
}

/* ---- while it runs ---- */

static int start(void **state)
{
    static char program[] = "test", arg[] = "argument", *args[] = {arg};
    static char path[] = "/no/one,/no/two:/no/three,,";
    const struct fm_interp_config config = {.pythonpath = path, .program = program, .args = args, .nargs = 1};
    (void)state;
    CHECK(fm_interp_start(&config) == 0);
    names = PyDict_New();
    CHECK(names && PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()) == 0);
    PY("import atexit, os, signal, sys, threading, time");
    return 0;
}

static void test_arguments_and_path(void **state)
{
    (void)state;
    assert_py("sys.argv == ['test', 'argument']");
    assert_py("sys.path[:4] == ['/no/one', '/no/two', '/no/three', os.getcwd()]");
    assert_py("all(name in sys.modules for name in ('traceback', 'concurrent.futures', 'contextvars', 'threading'))");
    assert_py("sys.version.split()[0].startswith('3.')");
}

static struct {
    atomic_uint begun, done;
    atomic_bool end;
    void *states[3];
} seen;

static void pool_thread(void *arg, unsigned index)
{
    char name[16];
    CHECK(arg == &seen);
    CHECK(pthread_getname_np(pthread_self(), name, sizeof name) == 0 && strncmp(name, "unit-", 5) == 0);
    seen.states[index] = fm_interp_thread_state();
    atomic_fetch_add(&seen.begun, 1);
    for (int i = 0; i < 100; i++) { /* several take it in turns */
        fm_gil_take(fm_interp_thread_state());
        CHECK(PyGILState_Check() && PyThreadState_Get() == seen.states[index]);
        fm_gil_drop(fm_interp_thread_state());
    }
    while (!atomic_load(&seen.end))
        usleep(100);
    atomic_fetch_add(&seen.done, 1);
}

static void test_threads(void **state)
{
    (void)state;
    assert_null(fm_interp_thread_state());
    for (unsigned i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "unit-%u", i);
        assert_int_equal(fm_interp_spawn(name, pool_thread, &seen, i), 0);
    }
    Py_BEGIN_ALLOW_THREADS
    WAIT_FOR(atomic_load(&seen.begun) == 3);
    Py_END_ALLOW_THREADS
    assert_py("[t.name for t in threading.enumerate() if t.daemon] == ['unit-0', 'unit-1', 'unit-2']");
    assert_true(seen.states[0] && seen.states[0] != seen.states[1] && seen.states[1] != seen.states[2]);
    atomic_store(&seen.end, true);
    fm_interp_join();
    assert_int_equal(atomic_load(&seen.done), 3);
    assert_py("len(threading.enumerate()) == 1");
    fm_interp_join(); /* there is none */
}

static void test_cannot_spawn(void **state)
{
    (void)state;
    PY("whole = threading.Thread.start\n"
       "def start(self): raise RuntimeError(\"can't start new thread\")\n"
       "threading.Thread.start = start\n");
    assert_int_equal(fm_interp_spawn("none", pool_thread, &seen, 0), -1);
    assert_raised(PyExc_RuntimeError, "can't start");
    PY("threading.Thread.start = whole");
    fm_interp_join();
}

/* Those that the end would wait for. */
static void test_names_of_threads(void **state)
{
    char text[200] = "", small[10] = "";
    (void)state;
    PY("go = threading.Event()\n"
       "threads = [threading.Thread(target=go.wait, name=n, daemon=d) for n, d in (('one', 0), ('two', 1), ('three', "
       "0))]\n"
       "for t in threads: t.start()\n");
    fm_interp_name_threads(text, sizeof text);
    fm_interp_name_threads(small, sizeof small);
    PY("go.set()\n"
       "for t in threads: t.join()\n");
    py_set("text", PyUnicode_FromString(text));
    assert_py("text == f\"{threads[0].native_id} 'one', {threads[2].native_id} 'three'\"");
    assert_int_equal(strlen(small), 9);
}

static void call_from_outside(void *arg)
{
    CHECK(PyGILState_Check());
    PyObject *n = PyLong_FromLong(7);
    CHECK(PyDict_SetItemString(names, "called", n) == 0);
    Py_DECREF(n);
    *(bool *)arg = true;
}

static void *outside(void *arg)
{
    CHECK(fm_interp_call(call_from_outside, arg));
    return arg;
}

static void test_call_of_a_foreign_thread(void **state)
{
    bool called = false;
    (void)state;
    fm_interp_release();
    join(spawn(outside, &called));
    fm_interp_acquire();
    assert_true(called);
    assert_py("called == 7");
}

static void test_interrupt(void **state)
{
    (void)state;
    PY("seen = []\n"
       "signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))\n");
    fm_interp_interrupt();
    PY("for _ in range(1000): pass\n"
       "signal.signal(signal.SIGINT, signal.SIG_DFL)\n");
    assert_py("seen == [signal.SIGINT]");
}

static void test_flush(void **state)
{
    (void)state;
    PY("class Stream:\n"
       "    flushed = 0\n"
       "    def flush(self): Stream.flushed += 1; sys.stdout = None; return 1 / 0\n"
       "    def write(self, text): pass\n"
       "before = sys.stdout, sys.stderr\n"
       "sys.stdout = Stream()\n"
       "sys.stderr = Stream()\n");
    fm_interp_flush(); /* it replaces itself, and fails */
    assert_null(PyErr_Occurred());
    PY("del sys.stdout");
    fm_interp_flush();
    PY("sys.stdout, sys.stderr = before");
    assert_py("Stream.flushed == 3");
}

static void test_print_error(void **state)
{
    (void)state;
    fm_interp_print_error(); /* there is none */
    PY("import io\n"
       "before, sys.stderr = sys.stderr, io.StringIO()\n");
    PyErr_SetString(PyExc_KeyError, "k");
    fm_interp_print_error();
    PY("said, sys.stderr = sys.stderr.getvalue(), before");
    assert_null(PyErr_Occurred());
    assert_py("\"KeyError: 'k'\" in said");
}

/* ---- and how it ends ---- */

static void test_abandon(void **state)
{
    (void)state;
    PY("ended = []\n"
       "atexit.register(ended.append, 1)\n"
       "sys.stdout = Stream()\n"
       "Stream.flushed = 0\n");
    fm_interp_abandon();
    assert_py("ended == [1] and Stream.flushed == 1");
    PY("sys.stdout = before[0] if isinstance(before, tuple) else sys.__stdout__");
}

static int stop(void **state)
{
    (void)state;
    stop_python();
    CHECK(!Py_IsInitialized());
    assert_false(fm_interp_call(NULL, NULL));
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", venv);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest before[] = {cmocka_unit_test(test_wrong_environments), cmocka_unit_test(test_not_started)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments_and_path),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_cannot_spawn),
        cmocka_unit_test(test_names_of_threads),
        cmocka_unit_test(test_call_of_a_foreign_thread),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_flush),
        cmocka_unit_test(test_print_error),
        cmocka_unit_test(test_abandon),
    };
    no_longer_than(300);
    open_log();
    int failed = cmocka_run_group_tests(before, NULL, NULL);
    return failed + cmocka_run_group_tests(tests, start, stop);
}

/* Finding the application, and its signal handlers.  What the messages say is tested with the loader itself. */
#include "gateway.h"

#include <signal.h>

/* The main thread's signal handlers, as the server finds and leaves them. */
static int prepare(void **state)
{
    (void)state;
    assert_int_equal(fm_wsgi_prepare(), 0);
    PY("directory = tempfile.mkdtemp()\n"
       "sys.path.insert(0, directory)\n"
       "def module(name, text):\n"
       "    with open(f'{directory}/{name}.py', 'w') as f: f.write(text)\n"
       "    sys.modules.pop(name, None)\n"
       "class Quiet:\n"
       "    def __enter__(self): self.before, sys.stderr = sys.stderr, io.StringIO()\n"
       "    def __exit__(self, *exc): global said; said = sys.stderr.getvalue(); sys.stderr = self.before\n"
       "module('first', 'def app(e, s): return 1\\ndef other(): return app\\nnothing = 7\\n')\n"
       "module('broken', '1 / 0\\n')\n"
       "module('leaves', 'import sys; sys.exit(3)\\n')\n"
       "import importlib\n"
       "importlib.invalidate_caches()\n");
    return 0;
}

static int clean(void **state)
{
    (void)state;
    PY("import shutil\n"
       "sys.path.remove(directory)\n"
       "shutil.rmtree(directory)\n");
    return 0;
}

static void test_loads(void **state)
{
    static const char *const specs[] = {"first", "first:app", "first:other()"};
    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        Py_CLEAR(fm_wsgi.application);
        assert_int_equal(fm_wsgi_load(specs[i]), 0);
        py_set("loaded", Py_NewRef(fm_wsgi.application));
        assert_py("loaded is sys.modules['first'].app");
    }
}

static void test_cannot_load(void **state)
{
    static const char *const specs[][2] = {
        {"", "it must be MODULE[:CALLABLE]"},  {"no_such_module", "No module named"},
        {"first:nothing", "cannot be called"}, {"first:missing", "cannot load"},
        {"broken", "ZeroDivisionError"},       {"leaves", "SystemExit(3)"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        PY("quiet = Quiet(); quiet.__enter__()");
        int rc = fm_wsgi_load(specs[i][0]);
        PY("quiet.__exit__()");
        assert_int_equal(rc, -1);
        assert_null(PyErr_Occurred());
        py_set("wanted", PyUnicode_FromString(specs[i][1]));
        assert_py("wanted in said or print(said)");
    }
}

/* The simulated SIGINT interrupts an import, and only that. */
static void test_interrupted(void **state)
{
    (void)state;
    PY("module('forever', 'import signal\\nsignal.raise_signal(signal.SIGINT)\\nwhile True: pass\\n')");
    PY("quiet = Quiet(); quiet.__enter__()");
    int rc = fm_wsgi_load("forever");
    PY("quiet.__exit__()");
    assert_int_equal(rc, -1);
    assert_py("said == ''");
    fm_interp_interrupt();
    PY("for _ in range(1000): pass");
}

static void test_signal_fd(void **state)
{
    bool handlers = true;
    char byte;
    (void)state;
    PY("import signal");
    assert_int_equal(fm_wsgi_signal_fd(&handlers), -1);
    assert_false(handlers);
    PY("seen = []\n"
       "signal.signal(signal.SIGUSR2, lambda number, frame: seen.append(number))\n");
    int fd = fm_wsgi_signal_fd(&handlers);
    assert_true(fd >= 0 && handlers);
    assert_int_equal(read(fd, &byte, 1), -1);
    assert_int_equal(raise(SIGUSR2), 0);
    assert_int_equal(read(fd, &byte, 1), 1);
    assert_int_equal(byte, SIGUSR2);
    fm_interp_release();
    fm_wsgi_check_signals();
    fm_interp_acquire();
    assert_py("seen == [signal.SIGUSR2]");
    /* The application has a descriptor of its own for that. */
    assert_int_equal(fm_wsgi_signal_fd(&handlers), -1);
    assert_true(handlers);
    PY("writer = signal.set_wakeup_fd(-1); os.close(writer)\n"
       "signal.signal(signal.SIGUSR2, signal.SIG_DFL)\n");
    close(fd);
}

/* A handler that raises: there is no caller to raise to. */
static void test_handler_fails(void **state)
{
    (void)state;
    PY("unraisable = []\n"
       "sys.unraisablehook = lambda u: unraisable.append(u.exc_type)\n"
       "def handler(number, frame): 1 / 0\n"
       "signal.signal(signal.SIGUSR2, handler)\n");
    assert_int_equal(raise(SIGUSR2), 0);
    fm_interp_release();
    fm_wsgi_check_signals();
    fm_interp_acquire();
    assert_py("unraisable == [ZeroDivisionError]");
    PY("sys.unraisablehook = sys.__unraisablehook__\n"
       "signal.signal(signal.SIGUSR2, signal.SIG_DFL)\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads),     cmocka_unit_test(test_cannot_load),   cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_signal_fd), cmocka_unit_test(test_handler_fails),
    };
    start_gateway();
    int failed = cmocka_run_group_tests(tests, prepare, clean);
    stop_gateway();
    return failed;
}

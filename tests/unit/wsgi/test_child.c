/* A child that the application has forked and that comes back to a step: it ends there, with the exit code that Python
 * gives it, and nothing of it reaches the connection. */
#include "gateway.h"

#include "fermata/util/fds.h"

static struct exchange x;

static void test_how_it_ends(void **state)
{
    static const struct {
        const char *child; /* what it does */
        int code;
        const char *said;
    } cases[] = {
        {"sys.exit()", 0, ""},
        {"sys.exit(None)", 0, ""},
        {"sys.exit(3)", 3, ""},
        {"sys.exit('no reason')", 1, "no reason"},
        {"raise KeyError('k')", 1, "KeyError: 'k'"},
        {"return [b'of the child']", 1, "came back to the server; it ends here"},
        {"return iter([b'of the child'])", 1, "came back to the server"},
        {"os._exit(7)", 7, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char app[500];
        snprintf(app, sizeof app,
                 "def app(environ, start_response):\n"
                 "    global status\n"
                 "    ok(start_response)\n"
                 "    pid = os.fork()\n"
                 "    if pid == 0: %s\n"
                 "    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
                 "    return [b'of the parent']\n",
                 cases[i].child);
        APP(app);
        logged();
        begin(&x, GET);
        py_set("code", PyLong_FromLong(cases[i].code));
        assert_py("status == code");
        const char *said = logged();
        if (*cases[i].said ? !has(said, cases[i].said) : *said != '\0')
            fail_msg("%s: %s", cases[i].child, said);
        assert_true(has(sent(&x), "of the parent") && !has(sent(&x), "of the child"));
        end(&x, FM_OUTCOME_DONE);
    }
}

/* In each place where the application is called: it forks there, and both come back. */
static void test_wherever_it_comes_back(void **state)
{
    static const char *const apps[] = {
        "def app(environ, start_response):\n"
        "    ok(start_response)\n"
        "    fork()\n"
        "    yield b'x'\n",
        "class Iterable:\n"
        "    def __iter__(self): fork(); return iter([b'x'])\n"
        "def app(environ, start_response):\n"
        "    ok(start_response)\n"
        "    return Iterable()\n",
        "class Iterable(list):\n"
        "    def close(self): fork()\n"
        "def app(environ, start_response):\n"
        "    ok(start_response)\n"
        "    return Iterable([b'x'])\n",
        "class F(Future):\n"
        "    def done(self): fork(); return True\n"
        "    def exception(self, timeout=None): fork()\n"
        "def app(environ, start_response):\n"
        "    ok(start_response)\n"
        "    yield F()\n"
        "    yield b'x'\n",
        "class F(Future):\n"
        "    def add_done_callback(self, f): self.set_result(1); fork(); super().add_done_callback(f)\n"
        "def app(environ, start_response):\n"
        "    ok(start_response)\n"
        "    yield F()\n"
        "    yield b'x'\n",
        "class Last:\n"
        "    def __del__(self): fork()\n"
        "def app(environ, start_response):\n"
        "    ok(start_response)\n"
        "    last = Last()\n"
        "    yield b'x'\n",
    };
    (void)state;
    PY("def fork():\n"
       "    pid = os.fork()\n"
       "    if pid: codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n");
    for (size_t i = 0; i < sizeof apps / sizeof *apps; i++) {
        PY("codes = []");
        APP(apps[i]);
        begin(&x, GET);
        assert_py("codes and set(codes) == {1}");
        assert_true(has(sent(&x), "x"));
        end(&x, FM_OUTCOME_DONE);
    }
    logged();
}

/* start_response and a wake-up in a child that goes on with something else. */
static void test_what_it_must_not_use(void **state)
{
    (void)state;
    APP("def app(environ, start_response):\n"
        "    global status, future\n"
        "    write = ok(start_response)\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        said = []\n"
        "        for f, args in ((start_response, ('200 OK', [])), (write, (b'x',))):\n"
        "            try: f(*args)\n"
        "            except RuntimeError as e: said.append(str(e))\n"
        "        os._exit(['start_response called in a child of the process that serves the request',\n"
        "                  'write() called in a child of the process that serves the request'] != said)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
        "    future = Future()\n"
        "    yield future\n"
        "    yield b'x'\n");
    begin(&x, GET);
    assert_int_equal(state_of(&x), FM_TASK_PARKED);
    PY("pid = os.fork()");
    PyObject *is_child = py_get("pid == 0");
    if (is_child == Py_True) {
        PY("future.set_result(1)");
        _exit(state_of(&x) != FM_TASK_PARKED);
    }
    Py_DECREF(is_child);
    assert_py("os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0");
    PY("future.set_result(1)");
    run_steps();
    end(&x, FM_OUTCOME_DONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_how_it_ends),
        cmocka_unit_test(test_wherever_it_comes_back),
        cmocka_unit_test(test_what_it_must_not_use),
    };
    pthread_atfork(NULL, NULL, fm_fds_in_child);
    start_gateway();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    stop_gateway();
    return failed;
}

/* Steps: from the call of the application to the end of the response, with every way to suspend and to end on it. */
#include "gateway.h"

#include "fermata/util/counter.h"

static struct exchange x;

static void queue(struct exchange *e, const char *text)
{
    make_call(e, text);
    fm_task_move(&e->call.task, FM_TASK_IDLE, FM_TASK_QUEUED);
    fm_sched_push(&sched, &e->call.task);
}

/* The client has taken its output. */
static void drained(struct exchange *e)
{
    e->kept = 0;
    assert_true(fm_task_resume_writing(&e->call.task, &sched));
    run_steps();
}

static int define(void **state)
{
    (void)state;
    PY("class Iterable:\n" /* counts what is done with it */
       "    def __init__(self, items, close=lambda: None): self.items, self._close, self.closed = iter(items), close, "
       "0\n"
       "    def __iter__(self): return self\n"
       "    def __next__(self): return next(self.items)\n"
       "    def close(self): self.closed += 1; self._close()\n");
    return 0;
}

/* ---- responses ---- */

static void test_one_block(void **state)
{
    static const char *const bodies[] = {"[b'hello']", "(b'hello',)", "[b'hel', b'lo']", "(b'', b'hello')"};
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        char app[200];
        snprintf(app, sizeof app, "def app(environ, start_response):\n    ok(start_response)\n    return %s\n",
                 bodies[i]);
        APP(app);
        begin(&x, GET);
        assert_true(has(sent(&x), "HTTP/1.1 200 OK\r\n") && has(sent(&x), "\r\nContent-Length: 5\r\n"));
        assert_string_equal(strstr(sent(&x), "\r\n\r\n"), "\r\n\r\nhello");
        end(&x, FM_OUTCOME_DONE);
    }
}

static void test_blocks(void **state)
{
    (void)state;
    APP("def app(environ, start_response):\n"
        "    global iterable\n"
        "    ok(start_response)\n"
        "    iterable = Iterable([b'', b'one', b'', b'two'])\n"
        "    return iterable\n");
    begin(&x, GET);
    assert_true(has(sent(&x), "Transfer-Encoding: chunked\r\n") && has(sent(&x), "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"));
    assert_py("iterable.closed == 1");
    end(&x, FM_OUTCOME_DONE);
}

static void test_empty(void **state)
{
    static const char *const bodies[] = {"[]", "()", "iter([])", "[b'']", "iter([b'', b''])"};
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        char app[200];
        snprintf(app, sizeof app, "def app(environ, start_response):\n    ok(start_response)\n    return %s\n",
                 bodies[i]);
        APP(app);
        begin(&x, GET);
        assert_true(has(sent(&x), "\r\nContent-Length: 0\r\n"));
        end(&x, FM_OUTCOME_DONE);
    }
}

/* The block is lent to the connection, and is there until it has been sent. */
static void test_slow_client(void **state)
{
    static const char *const bodies[] = {"[block()]", "iter([block(), b'end'])"};
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        char app[300];
        snprintf(app, sizeof app,
                 "def block(): return b'x' * 100000\n"
                 "def app(environ, start_response):\n    ok(start_response)\n    return %s\n",
                 bodies[i]);
        APP(app);
        queue(&x, GET);
        x.kept = FM_OUTPUT_HIGH + 1;
        x.room = false;
        run_steps();
        assert_int_equal(state_of(&x), FM_TASK_WRITING);
        assert_true(x.borrowed && ((struct fm_run *)x.call.run)->block);
        assert_int_equal(x.finished, 0);
        drained(&x);
        assert_true(i == 0 || has(sent(&x), "end"));
        end(&x, FM_OUTCOME_DONE);
    }
}

/* There is room already when the task would wait for it: the step goes on. */
static void test_client_that_catches_up(void **state)
{
    (void)state;
    APP("def app(environ, start_response):\n"
        "    ok(start_response)\n"
        "    for _ in range(3): yield b'x' * 100000\n");
    queue(&x, GET);
    x.kept = FM_OUTPUT_HIGH + 1;
    run_steps();
    assert_true(fm_buf_size(&x.out) > 300000);
    end(&x, FM_OUTCOME_DONE);
}

static void test_client_is_gone(void **state)
{
    (void)state;
    APP("def app(environ, start_response):\n"
        "    global seen\n"
        "    ok(start_response)\n"
        "    try:\n"
        "        while True: yield b'x' * 10000\n"
        "    finally: seen = sys.exc_info()[0]\n");
    queue(&x, GET);
    x.gone = true;
    run_steps();
    assert_py("seen is GeneratorExit");
    end(&x, FM_OUTCOME_ABORTED);
}

static void test_content_length(void **state)
{
    (void)state;
    APP("def app(environ, start_response):\n"
        "    ok(start_response, ('Content-Length', '4'))\n"
        "    yield b'abc'\n"
        "    yield b'def'\n"
        "    global not_asked\n"
        "    not_asked = False\n"
        "not_asked = True\n");
    logged();
    begin(&x, GET);
    assert_string_equal(strstr(sent(&x), "\r\n\r\n"), "\r\n\r\nabcd");
    assert_true(has(logged(), "GET /: the application sent more than its Content-Length"));
    assert_py("not_asked");
    end(&x, FM_OUTCOME_DONE);
    APP("def app(environ, start_response):\n"
        "    ok(start_response, ('Content-Length', '4'))\n"
        "    return iter([b'abc'])\n");
    begin(&x, GET);
    assert_true(has(logged(), "the application sent 3 bytes, fewer than its Content-Length"));
    end(&x, FM_OUTCOME_BROKEN);
}

static void test_file(void **state)
{
    (void)state;
    PY("path = tempfile.mkstemp()[1]\n"
       "with open(path, 'wb') as f: f.write(b'0123456789' * 50000)\n");
    APP("def app(environ, start_response):\n"
        "    global file\n"
        "    ok(start_response)\n"
        "    file = open(path, 'rb'); file.seek(10)\n"
        "    return environ['wsgi.file_wrapper'](file)\n");
    queue(&x, GET);
    x.kept = 1; /* the file must stay open until all is sent */
    x.room = false;
    run_steps();
    assert_int_equal(x.file_pos, 10);
    assert_int_equal(x.file_len, 499990);
    assert_py("not file.closed");
    drained(&x);
    assert_py("file.closed");
    end(&x, FM_OUTCOME_DONE);
    PY("os.unlink(path)");
}

/* ---- futures ---- */

#define WAITS                                                                                                          \
    "def app(environ, start_response):\n"                                                                              \
    "    global future, got\n"                                                                                         \
    "    future, got = Future(), None\n"                                                                               \
    "    try: got = yield future\n"                                                                                    \
    "    except BaseException as e: got = e\n"                                                                         \
    "    ok(start_response)\n"                                                                                         \
    "    yield b'x'\n"

static void test_parks_and_resumes(void **state)
{
    (void)state;
    APP(WAITS);
    begin(&x, GET);
    assert_int_equal(state_of(&x), FM_TASK_PARKED);
    assert_int_equal(fm_buf_size(&x.out), 0);
    run_steps();
    assert_int_equal(x.finished, 0);
    PY("future.set_result(7)");
    run_steps();
    assert_py("got is None");
    end(&x, FM_OUTCOME_DONE);
}

/* What was yielded before is on its way while the request is parked. */
static void test_blocks_before_a_future(void **state)
{
    (void)state;
    APP("def app(environ, start_response):\n"
        "    global future\n"
        "    ok(start_response)\n"
        "    yield b'before'\n"
        "    future = Future()\n"
        "    yield future\n"
        "    yield b'after'\n");
    begin(&x, GET);
    assert_true(has(sent(&x), "before") && !has(sent(&x), "after"));
    PY("future.set_result(7)");
    run_steps();
    assert_true(has(sent(&x), "after"));
    end(&x, FM_OUTCOME_DONE);
}

static void test_failed_and_cancelled(void **state)
{
    static const char *const how[][2] = {
        {"future.set_exception(KeyError('k'))", "type(got) is KeyError"},
        {"future.cancel()", "type(got) is concurrent.futures.CancelledError"},
        {"future.set_exception(StopIteration(1))", "type(got) is StopIteration"},
        {"future.set_exception(SystemExit(1))", "type(got) is SystemExit"},
    };
    (void)state;
    APP(WAITS);
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        begin(&x, GET);
        PY(how[i][0]);
        run_steps();
        assert_py(how[i][1]);
        end(&x, FM_OUTCOME_DONE);
    }
    assert_null(fm_wsgi.throwing);
}

/* A failure that the application does not catch is an error of the request; so it is where there is no throw(). */
static void test_failure_is_not_caught(void **state)
{
    static const char *const apps[] = {
        "def app(environ, start_response):\n"
        "    global future\n"
        "    future = Future()\n"
        "    yield future\n",
        "def app(environ, start_response):\n"
        "    global future, iterable\n"
        "    future = Future()\n"
        "    iterable = Iterable([future])\n"
        "    return iterable\n",
    };
    (void)state;
    logged();
    for (size_t i = 0; i < sizeof apps / sizeof *apps; i++) {
        APP(apps[i]);
        begin(&x, GET);
        PY("future.set_exception(KeyError('k'))");
        run_steps();
        const char *said = logged();
        assert_true(has(said, "Error handling request GET /\n") && has(said, "KeyError: 'k'"));
        assert_int_equal(x.answered, 500);
        end(&x, FM_OUTCOME_DONE);
    }
    assert_py("iterable.closed == 1");
    assert_null(fm_wsgi.throwing);
}

/* Futures that are done already suspend nothing, but others get their turn after some of them. */
static void test_done_already(void **state)
{
    struct exchange other;
    (void)state;
    APP("order = []\n"
        "def app(environ, start_response):\n"
        "    f = Future(); f.set_result(1)\n"
        "    if environ['PATH_INFO'] == '/':\n"
        "        for n in range(200): order.append(n); yield f\n"
        "    else: order.append('other')\n"
        "    ok(start_response)\n"
        "    yield b'x'\n");
    queue(&x, GET);
    queue(&other, "GET /other HTTP/1.1\r\nHost: h\r\n\r\n");
    run_steps();
    assert_py("len(order) == 201 and 60 < order.index('other') < 140");
    end(&x, FM_OUTCOME_DONE);
    end(&other, FM_OUTCOME_DONE);
}

/* A future that completes while the request is parking: the step goes on, without the queue. */
static void test_completes_while_parking(void **state)
{
    (void)state;
    APP("class Soon(Future):\n"
        "    def add_done_callback(self, f): super().add_done_callback(f); self.set_result(1)\n"
        "def app(environ, start_response):\n"
        "    for n in range(200): yield Soon()\n"
        "    ok(start_response)\n"
        "    yield b'x'\n");
    begin(&x, GET);
    end(&x, FM_OUTCOME_DONE);
}

static void test_cannot_wait(void **state)
{
    static const char *const futures[] = {
        "type('Odd', (Future,), {'done': lambda self: 1 / 0})()",
        "type('Odd', (Future,), {'add_done_callback': lambda self, f: 1 / 0})()",
    };
    (void)state;
    for (size_t i = 0; i < sizeof futures / sizeof *futures; i++) {
        char app[300];
        snprintf(app, sizeof app, "def app(environ, start_response):\n    ok(start_response)\n    yield %s\n",
                 futures[i]);
        APP(app);
        logged();
        begin(&x, GET);
        assert_true(has(logged(), "ZeroDivisionError"));
        assert_int_equal(x.answered, 500);
        end(&x, FM_OUTCOME_DONE);
    }
}

static void test_context(void **state)
{
    (void)state;
    APP("v = contextvars.ContextVar('v', default=0)\n"
        "def app(environ, start_response):\n"
        "    global future, seen\n"
        "    seen = [v.get()]\n"
        "    v.set(7)\n"
        "    future = Future()\n"
        "    yield future\n"
        "    seen.append(v.get())\n"
        "    ok(start_response)\n"
        "    yield b'x'\n");
    for (int i = 0; i < 2; i++) {
        begin(&x, GET);
        assert_py("v.get() == 0");
        PY("future.set_result(1)");
        run_steps();
        assert_py("seen == [0, 7] and v.get() == 0");
        end(&x, FM_OUTCOME_DONE);
    }
}

/* ---- the end from outside ---- */

static void test_aborted_while_parked(void **state)
{
    (void)state;
    APP("def app(environ, start_response):\n"
        "    global future, seen\n"
        "    future = Future()\n"
        "    try: yield future\n"
        "    finally: seen = sys.exc_info()[0]\n");
    begin(&x, GET);
    assert_int_equal(fm_task_abort(&x.call.task, &sched, true), FM_TASK_PARKED);
    run_steps();
    assert_py("seen is GeneratorExit");
    end(&x, FM_OUTCOME_ABORTED);
    PY("future.set_result(1)"); /* the callback finds nothing to do */
    run_steps();
}

static void test_aborted_before_it_begins(void **state)
{
    (void)state;
    APP("called = False\n"
        "def app(environ, start_response):\n"
        "    global called\n"
        "    called = True\n");
    queue(&x, GET);
    fm_task_abort(&x.call.task, &sched, false);
    run_steps();
    assert_py("not called");
    end(&x, FM_OUTCOME_ABORTED);
}

/* abort(): as the loop would, from within the step. */
static PyObject *abort_it(PyObject *self, PyObject *ignored)
{
    (void)self, (void)ignored;
    fm_task_abort(&x.call.task, &sched, false);
    Py_RETURN_NONE;
}

static void test_aborted_in_a_step(void **state)
{
    static PyMethodDef abort_def = {"abort", abort_it, METH_NOARGS, NULL};
    static const char *const apps[] = {
        "def app(environ, start_response):\n"
        "    global iterable\n"
        "    abort()\n"
        "    ok(start_response)\n"
        "    iterable = Iterable([b'x'])\n"
        "    return iterable\n",
        "def app(environ, start_response):\n"
        "    global iterable\n"
        "    ok(start_response)\n"
        "    iterable = Iterable([b'x', abort, b'y'])\n"
        "    iterable.items = (item() or b'' if item is abort else item for item in [b'x', abort, b'y'])\n"
        "    return iterable\n",
        "def app(environ, start_response):\n"
        "    global iterable\n"
        "    abort()\n"
        "    iterable = Iterable([Future()])\n"
        "    return iterable\n",
    };
    (void)state;
    py_set("abort", PyCFunction_New(&abort_def, NULL));
    for (size_t i = 0; i < sizeof apps / sizeof *apps; i++) {
        APP(apps[i]);
        begin(&x, GET);
        assert_py("iterable.closed == 1");
        end(&x, FM_OUTCOME_ABORTED);
    }
}

/* ---- errors ---- */

static void test_errors(void **state)
{
    static const struct {
        const char *app, *said;
        int answered;
        enum fm_outcome outcome;
    } cases[] = {
        {"    raise KeyError('k')\n", "KeyError: 'k'", 500, FM_OUTCOME_DONE},
        {"    return [b'x']\n", "sent a body before it called start_response", 500, FM_OUTCOME_DONE},
        {"    return []\n", "ended without calling start_response", 500, FM_OUTCOME_DONE},
        {"    ok(start_response)\n    return None\n", "TypeError", 500, FM_OUTCOME_DONE},
        {"    ok(start_response)\n    return ['text']\n", "encode text first", 500, FM_OUTCOME_DONE},
        {"    ok(start_response)\n    return 'text'\n", "encode text first", 500, FM_OUTCOME_DONE},
        {"    ok(start_response)\n    return Iterable(map(int, ['x']))\n", "ValueError", 500, FM_OUTCOME_DONE},
        {"    ok(start_response)\n    return Iterable([b'block', 7])\n", "yielded int", 0, FM_OUTCOME_BROKEN},
        {"    raise SystemExit(3)\n", "SystemExit: 3", 500, FM_OUTCOME_DONE},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char app[300];
        snprintf(app, sizeof app, "def app(environ, start_response):\n%s", cases[i].app);
        APP(app);
        logged();
        begin(&x, GET);
        const char *said = logged();
        if (!has(said, "Error handling request GET /") || !has(said, cases[i].said))
            fail_msg("%s: %s", cases[i].app, said);
        assert_int_equal(x.answered, cases[i].answered);
        end(&x, cases[i].outcome);
    }
}

static void test_close_fails(void **state)
{
    (void)state;
    APP("def app(environ, start_response):\n"
        "    global iterable\n"
        "    ok(start_response)\n"
        "    iterable = Iterable([b'x'], lambda: 1 / 0)\n"
        "    return iterable\n");
    logged();
    begin(&x, GET);
    assert_true(has(logged(), "Error in close() after request GET /"));
    assert_py("iterable.closed == 1");
    end(&x, FM_OUTCOME_DONE);
}

/* Nothing of a request is kept, in whichever way it ends. */
static void test_nothing_is_kept(void **state)
{
    (void)state;
    APP("import weakref\n"
        "class Body(Iterable): pass\n"
        "refs = []\n"
        "def app(environ, start_response):\n"
        "    global future\n"
        "    future = Future()\n"
        "    body = Body([b'x', future, b'y'])\n"
        "    refs.append(weakref.ref(body)); refs.append(weakref.ref(future))\n"
        "    ok(start_response)\n"
        "    return body\n");
    for (int how = 0; how < 3; how++) {
        begin(&x, GET);
        if (how == 0)
            PY("future.set_result(1)");
        else if (how == 1)
            PY("future.set_exception(KeyError())");
        else
            fm_task_abort(&x.call.task, &sched, false);
        run_steps();
        end(&x, how == 0 ? FM_OUTCOME_DONE : how == 1 ? FM_OUTCOME_BROKEN : FM_OUTCOME_ABORTED);
    }
    PY("future = None; gc.collect()");
    assert_py("len(refs) == 6 and not any(ref() for ref in refs)");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_one_block),
    cmocka_unit_test(test_blocks),
    cmocka_unit_test(test_empty),
    cmocka_unit_test(test_slow_client),
    cmocka_unit_test(test_client_that_catches_up),
    cmocka_unit_test(test_client_is_gone),
    cmocka_unit_test(test_content_length),
    cmocka_unit_test(test_file),
    cmocka_unit_test(test_parks_and_resumes),
    cmocka_unit_test(test_blocks_before_a_future),
    cmocka_unit_test(test_failed_and_cancelled),
    cmocka_unit_test(test_failure_is_not_caught),
    cmocka_unit_test(test_done_already),
    cmocka_unit_test(test_completes_while_parking),
    cmocka_unit_test(test_cannot_wait),
    cmocka_unit_test(test_context),
    cmocka_unit_test(test_aborted_while_parked),
    cmocka_unit_test(test_aborted_before_it_begins),
    cmocka_unit_test(test_aborted_in_a_step),
    cmocka_unit_test(test_errors),
    cmocka_unit_test(test_close_fails),
    cmocka_unit_test(test_nothing_is_kept),
};

int main(void)
{
    start_gateway();
    int failed = cmocka_run_group_tests(tests, define, NULL);
    stop_gateway();
    return failed;
}

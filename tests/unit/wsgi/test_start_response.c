/* start_response and write(): what PEP 3333 lets an application do, and the exception for everything else. */
#include "gateway.h"

/* Calls start_response with these arguments in a step and ends the response properly if it can: `error` is what was
 * raised. */
static void call_with(const char *arguments)
{
    char app[1000];
    struct exchange x;
    snprintf(app, sizeof app,
             "error = None\n"
             "def app(environ, start_response):\n"
             "    global error\n"
             "    try: start_response(%s)\n"
             "    except Exception as e:\n"
             "        error = e\n"
             "        start_response('500 Error', [])\n"
             "    return [b'body']\n",
             arguments);
    APP(app);
    begin(&x, GET);
    py_set("sent", PyUnicode_FromString(sent(&x)));
    end(&x, FM_OUTCOME_DONE);
}

static void test_errors(void **state)
{
    static const struct {
        const char *arguments, *type, *text;
    } cases[] = {
        {"", "TypeError", "start_response(status, response_headers, exc_info=None)"},
        {"'200 OK'", "TypeError", "start_response(status"},
        {"'200 OK', [], None, 1", "TypeError", "start_response(status"},
        {"'200 OK', response_headers=[]", "TypeError", "start_response(status"},
        {"'200 OK', [], other=1", "TypeError", "start_response(status"},
        {"b'200 OK', []", "TypeError", "status must be str, not bytes"},
        {"200, []", "TypeError", "status must be str, not int"},
        {"'200 \\u2713', []", "ValueError", "status has characters outside latin-1"},
        {"'99', []", "ValueError", "status '99'"},
        {"'2000 OK', []", "ValueError", "status '2000 OK'"},
        {"'200 O\\nK', []", "ValueError", "status '200 O\\\\nK'"},
        {"'100 Continue', []", "ValueError", "status '100 Continue'"},
        {"'200 OK', None", "TypeError", "response headers must be a list"},
        {"'200 OK', 7", "TypeError", "response headers must be a list"},
        {"'200 OK', ['ab']", "TypeError", "a response header must be a (name, value) tuple, not 'ab'"},
        {"'200 OK', [('a',)]", "TypeError", "tuple, not ('a',)"},
        {"'200 OK', [['a', 'b', 'c']]", "TypeError", "tuple, not ['a', 'b', 'c']"},
        {"'200 OK', {'a': 'b'}", "TypeError", "tuple, not 'a'"},
        {"'200 OK', [(b'a', 'b')]", "TypeError", "a response header's name must be str, not bytes"},
        {"'200 OK', [('a', 1)]", "TypeError", "a response header's value must be str, not int"},
        {"'200 OK', [('a\\u2713', 'b')]", "ValueError", "name has characters outside latin-1"},
        {"'200 OK', [('a', '\\u2713')]", "ValueError", "value has characters outside latin-1"},
        {"'200 OK', [('a b', 'c')]", "ValueError", "response header 'a b': 'c': the name is not a token"},
        {"'200 OK', [('', 'c')]", "ValueError", "the name is not a token"},
        {"'200 OK', [('a:', 'c')]", "ValueError", "the name is not a token"},
        {"'200 OK', [('a', 'b\\r\\nc: d')]", "ValueError", "response header 'a'"},
        {"'200 OK', [('a', 'b\\0')]", "ValueError", "response header 'a'"},
        {"'200 OK', [('Content-Length', 'x')]", "ValueError", "response header 'Content-Length': 'x'"},
        {"'200 OK', [('Content-Length', '4'), ('Content-Length', '5')]", "ValueError", "'Content-Length': '5'"},
        {"'200 OK', [], 1", "TypeError", "exc_info must be a tuple as of sys.exc_info()"},
        {"'200 OK', [], (1, 2, 3)", "TypeError", "exc_info must be"},
        {"'200 OK', [], (ValueError, None)", "TypeError", "exc_info must be"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[300];
        call_with(cases[i].arguments);
        snprintf(text, sizeof text, "type(error) is %s and \"\"\"%s\"\"\" in str(error)", cases[i].type, cases[i].text);
        if (!PyObject_IsTrue(py_get(text)))
            fail_msg("start_response(%s): %s", cases[i].arguments, PyUnicode_AsUTF8(py_get("repr(error)")));
        assert_py("sent.startswith('HTTP/1.1 500 Error\\r\\n') and sent.endswith('\\r\\n\\r\\nbody')");
    }
}

static void test_accepted(void **state)
{
    static const char *const arguments[] = {
        "'200 OK', [('X-A', 'b')]",
        "'200 OK', (('X-A', 'b'),)",
        "'200 OK', [['X-A', 'b']]",
        "'200 OK', iter([('X-A', 'b')])",
        "'200 OK', [('X-A', 'b')], None",
        "'200 OK', [('X-A', 'b')], ()",
        "'200 OK', [('X-A', 'b')], (None, None, None)",
        "'200 OK', [('X-A', 'b')], exc_info=None",
        "'200 OK', [('X-A', 'b')], (ValueError, ValueError(), None)",
        "'200 OK', [('X-A', 'b')], exc_info=(ValueError, None, None)",
        "type('S', (str,), {})('200 OK'), [(type('S', (str,), {})('X-A'), 'b')]",
    };
    (void)state;
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++) {
        call_with(arguments[i]);
        assert_py("error is None and sent.startswith('HTTP/1.1 200 OK\\r\\nX-A: b\\r\\n')");
        assert_py("'\\r\\nContent-Length: 4\\r\\n' in sent and sent.endswith('\\r\\n\\r\\nbody')");
    }
    call_with("'404', []");
    assert_py("error is None and sent.startswith('HTTP/1.1 404 \\r\\n')");
}

static void test_hop_by_hop(void **state)
{
    (void)state;
    logged();
    for (int i = 0; i < 2; i++) {
        call_with("'200 OK', [('Upgrade', 'x'), ('X-A', 'b'), ('Connection', 'upgrade')]");
        assert_py("error is None and 'pgrade' not in sent and 'X-A: b' in sent");
    }
    const char *said = logged();
    assert_true(has(said, "the application sets Upgrade: hop-by-hop headers"));
    assert_null(strstr(strstr(said, "hop-by-hop") + 1, "hop-by-hop"));
}

/* Names are told by their address; one that has another meaning at the same address is another object. */
static void test_known_names(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        char arguments[100];
        snprintf(arguments, sizeof arguments, "'200 OK', [(''.join(['X-', '%d']), 'v'), ('Content-Type', 'a/b')]", i);
        call_with(arguments);
        snprintf(arguments, sizeof arguments, "error is None and '\\r\\nX-%d: v\\r\\nContent-Type: a/b\\r\\n' in sent",
                 i);
        assert_py(arguments);
    }
    call_with("'200 OK', [('X-A b', 'v')]");
    assert_py("type(error) is ValueError");
}

static void test_twice(void **state)
{
    struct exchange x;
    (void)state;
    APP("def app(environ, start_response):\n"
        "    global error\n"
        "    ok(start_response)\n"
        "    try: start_response('404 Not Found', [])\n"
        "    except AssertionError as e: error = str(e)\n"
        "    try: raise KeyError('k')\n"
        "    except KeyError: start_response('503 Later', [('X-A', 'b')], sys.exc_info())\n"
        "    return [b'x']\n");
    begin(&x, GET);
    assert_true(has(sent(&x), "HTTP/1.1 503 Later\r\nX-A: b\r\n"));
    assert_py("error == 'start_response called twice without exc_info'");
    end(&x, FM_OUTCOME_DONE);
}

/* A call that was rejected is as if it had not been made. */
static void test_rejected_then_accepted(void **state)
{
    struct exchange x;
    (void)state;
    APP("def app(environ, start_response):\n"
        "    for wrong in ('x', '200\\n'):\n"
        "        try: start_response(wrong, [])\n"
        "        except ValueError: pass\n"
        "    ok(start_response)\n"
        "    return [b'x']\n");
    begin(&x, GET);
    end(&x, FM_OUTCOME_DONE);
}

/* exc_info after the head has left: raised again, with its traceback. */
static void test_exc_info_when_it_is_too_late(void **state)
{
    struct exchange x;
    (void)state;
    APP("def app(environ, start_response):\n"
        "    global error\n"
        "    ok(start_response)\n"
        "    yield b'block'\n"
        "    try:\n"
        "        try: raise KeyError('k')\n"
        "        except KeyError: start_response('500 Error', [], sys.exc_info())\n"
        "    except KeyError as e: error = e\n"
        "    try: start_response('500 Error', [], (LookupError, None, None))\n"
        "    except LookupError: pass\n"
        "    yield b'end'\n");
    begin(&x, GET);
    assert_py("error.args == ('k',) and error.__traceback__ is not None");
    end(&x, FM_OUTCOME_DONE);
}

static void test_write(void **state)
{
    struct exchange x;
    (void)state;
    APP("def app(environ, start_response):\n"
        "    global errors\n"
        "    errors = []\n"
        "    write = ok(start_response)\n"
        "    for wrong in ('x', None, bytearray(b'x'), 7):\n"
        "        try: write(wrong)\n"
        "        except TypeError as e: errors.append(str(e))\n"
        "    assert write(b'') is None and write(b'one') is None and write(b'two') is None\n"
        "    return [b'three']\n");
    begin(&x, GET);
    assert_py("errors[0] == 'write() takes bytes, not str' and len(errors) == 4");
    assert_true(has(sent(&x), "one") && has(sent(&x), "two") && has(sent(&x), "three"));
    end(&x, FM_OUTCOME_DONE);
}

static void test_write_to_a_slow_client(void **state)
{
    struct exchange x;
    (void)state;
    APP("def app(environ, start_response):\n"
        "    ok(start_response)(b'x' * 100000)\n"
        "    return []\n");
    make_call(&x, GET);
    x.kept = FM_OUTPUT_HIGH + 1;
    fm_task_move(&x.call.task, FM_TASK_IDLE, FM_TASK_QUEUED);
    fm_sched_push(&sched, &x.call.task);
    run_steps();
    assert_int_equal(x.waited, 1);
    assert_false(x.borrowed); /* it is the application's, and may be gone after write() */
    if (x.finished == 0) {    /* the end waits for the client, too */
        fm_task_move(&x.call.task, FM_TASK_WRITING, FM_TASK_QUEUED);
        fm_sched_push(&sched, &x.call.task);
        run_steps();
    }
    end(&x, FM_OUTCOME_DONE);
}

static void test_write_when_the_client_is_gone(void **state)
{
    struct exchange x;
    (void)state;
    APP("def app(environ, start_response):\n"
        "    global error\n"
        "    try: ok(start_response)(b'x' * 100000)\n"
        "    except ConnectionAbortedError as e: error = e\n"
        "    return []\n");
    make_call(&x, GET);
    x.gone = true;
    fm_task_move(&x.call.task, FM_TASK_IDLE, FM_TASK_QUEUED);
    fm_sched_push(&sched, &x.call.task);
    run_steps();
    assert_py("type(error) is ConnectionAbortedError");
    end(&x, FM_OUTCOME_ABORTED);
}

static void test_write_too_much(void **state)
{
    struct exchange x;
    (void)state;
    APP("def app(environ, start_response):\n"
        "    global error\n"
        "    write = ok(start_response, ('Content-Length', '3'))\n"
        "    try: write(b'abcd')\n"
        "    except ValueError as e: error = str(e)\n"
        "    return []\n");
    begin(&x, GET);
    assert_py("error.startswith('write() of more than the Content-Length')");
    assert_true(has(sent(&x), "\r\n\r\nabc") && !has(sent(&x), "abcd"));
    end(&x, FM_OUTCOME_DONE);
}

static void test_outside_of_the_step(void **state)
{
    struct exchange x;
    (void)state;
    APP("kept = []\n"
        "def app(environ, start_response):\n"
        "    global elsewhere\n"
        "    def call():\n"
        "        for f, args in ((start_response, ('200 OK', [])), (start_response, (b'x',))):\n"
        "            try: f(*args)\n"
        "            except (RuntimeError, TypeError) as e: elsewhere.append(str(e))\n"
        "    elsewhere = []\n"
        "    for _ in range(2):\n"
        "        t = threading.Thread(target=call); t.start(); t.join()\n"
        "        if not kept: kept.append(ok(start_response))\n"
        "    assert kept[0] is start_response\n"
        "    return [b'x']\n");
    begin(&x, GET);
    end(&x, FM_OUTCOME_DONE);
    assert_py("elsewhere[0] == 'start_response called by another thread than the one that runs the request'");
    assert_py("elsewhere[1].startswith('start_response(status') and elsewhere[2] == elsewhere[0]");
    assert_py("elsewhere[3] == 'write() called by another thread than the one that runs the request'");
    PY("late = []\n"
       "for args in ((b'x',), ('200 OK', [])):\n"
       "    try: kept[0](*args)\n"
       "    except RuntimeError as e: late.append(str(e))\n");
    assert_py(
        "late == ['write() called after the request was over', 'start_response called after the request was over']");
    PY("kept.clear()");
}

/* Headers that change under our hands, by code of the application that runs while they are read. */
static void test_headers_change(void **state)
{
    (void)state;
    PY("class Evil(str):\n"
       "    def __repr__(self):\n"
       "        pairs.clear()\n"
       "        return 'evil'\n"
       "pairs = []\n");
    for (int i = 0; i < 3; i++) {
        PY("pairs[:] = [(Evil('a b'), Evil('c' * 1000)), ('d', 'e')]");
        call_with("'200 OK', pairs");
        assert_py("type(error) is ValueError and 'evil' in str(error)");
        PY("pairs[:] = [[Evil('a'), Evil('\\u2713')]]");
        call_with("'200 OK', pairs");
        assert_py("type(error) is ValueError and not pairs");
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_errors),
    cmocka_unit_test(test_accepted),
    cmocka_unit_test(test_hop_by_hop),
    cmocka_unit_test(test_known_names),
    cmocka_unit_test(test_twice),
    cmocka_unit_test(test_rejected_then_accepted),
    cmocka_unit_test(test_exc_info_when_it_is_too_late),
    cmocka_unit_test(test_write),
    cmocka_unit_test(test_write_to_a_slow_client),
    cmocka_unit_test(test_write_when_the_client_is_gone),
    cmocka_unit_test(test_write_too_much),
    cmocka_unit_test(test_outside_of_the_step),
    cmocka_unit_test(test_headers_change),
};

GATEWAY_MAIN(tests)

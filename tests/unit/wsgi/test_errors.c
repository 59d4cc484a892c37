/* wsgi.errors: whole lines go to the log at once, the rest when the request ends; requests do not mix. */
#include "gateway.h"

static void test_lines(void **state)
{
    struct exchange x;
    (void)state;
    logged();
    APP("def app(environ, start_response):\n"
        "    global first\n"
        "    e = environ['wsgi.errors']\n"
        "    assert e.write('one ') == 4 and e.write('two\\nthree') == 9\n"
        "    first = open(log).read()\n"
        "    print('!', file=e)\n"
        "    e.writelines(['a', 'b\\n', 'c'])\n"
        "    assert e.flush() is None\n"
        "    e.write('last')\n"
        "    ok(start_response)\n"
        "    return [b'']\n");
    begin(&x, GET);
    end(&x, FM_OUTCOME_DONE);
    assert_py("first == 'one two\\n'");
    assert_string_equal(logged(), "one two\nthree!\nab\nclast\n");
}

/* Lines of two requests that are both under way, in the same thread and in two. */
static void test_requests_do_not_mix(void **state)
{
    struct exchange x, y;
    (void)state;
    logged();
    APP("futures = []\n"
        "def app(environ, start_response):\n"
        "    e, name = environ['wsgi.errors'], environ['PATH_INFO'][1:]\n"
        "    e.write(name + ' begins, ')\n"
        "    futures.append(Future())\n"
        "    yield futures[-1]\n"
        "    t = threading.Thread(target=e.write, args=('of a thread\\n',)); t.start(); t.join()\n"
        "    e.write(name + ' ends\\n')\n"
        "    ok(start_response)\n"
        "    yield b'x'\n");
    begin(&x, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
    begin(&y, "GET /y HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_string_equal(logged(), "");
    PY("for f in futures: f.set_result(None)");
    run_steps();
    end(&x, FM_OUTCOME_DONE);
    end(&y, FM_OUTCOME_DONE);
    assert_string_equal(logged(), "of a thread\nx begins, x ends\nof a thread\ny begins, y ends\n");
    PY("futures.clear()");
}

static void test_long_lines(void **state)
{
    struct exchange x;
    (void)state;
    logged();
    APP("def app(environ, start_response):\n"
        "    global before, after\n"
        "    e = environ['wsgi.errors']\n"
        "    e.write('x' * 60000)\n"
        "    before = len(open(log).read())\n"
        "    e.write('y' * 60000)\n"
        "    after = len(open(log).read())\n"
        "    ok(start_response)\n"
        "    return [b'']\n");
    begin(&x, GET);
    end(&x, FM_OUTCOME_DONE);
    assert_py("before == 0 and after == 120000");
    logged();
}

static void test_text(void **state)
{
    (void)state;
    logged();
    py_set("e", fm_errors_new());
    PY("e.write('\\xe4\\u2713 \\udc80\\n')\n"
       "e.write('')\n"
       "def raises(error, f, *args):\n"
       "    try: f(*args)\n"
       "    except error as e: return str(e) or True\n"
       "assert raises(TypeError, e.write, b'x') == 'wsgi.errors takes str, not bytes'\n"
       "assert raises(TypeError, e.write) and raises(TypeError, e.write, 'a', 'b')\n"
       "assert raises(TypeError, e.writelines, ['good\\n', 7]) and raises(TypeError, e.writelines, 7)\n"
       "assert raises(ZeroDivisionError, e.writelines, (1 / 0 for _ in 'x'))\n"
       "assert raises(TypeError, type(e)) and raises(AttributeError, setattr, e, 'x', 1)\n");
    assert_string_equal(logged(), "\xc3\xa4\xe2\x9c\x93 \\udc80\ngood\n");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_lines),
    cmocka_unit_test(test_requests_do_not_mix),
    cmocka_unit_test(test_long_lines),
    cmocka_unit_test(test_text),
};

static int define(void **state)
{
    (void)state;
    py_set("log", PyUnicode_FromString(log_path));
    return 0;
}

int main(void)
{
    start_gateway();
    int failed = cmocka_run_group_tests(tests, define, NULL);
    stop_gateway();
    return failed;
}

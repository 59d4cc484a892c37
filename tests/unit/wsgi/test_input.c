/* wsgi.input reads as io.BytesIO does, from memory and from a file; threads that read at the same time each get bytes
 * of their own; what was closed says so. */
#include "gateway.h"

#include <errno.h>

/* make(content, in_file): an input with this body. */
static PyObject *make(PyObject *self, PyObject *args)
{
    const char *content;
    Py_ssize_t n;
    int in_file;
    struct fm_body body;
    (void)self;
    if (!PyArg_ParseTuple(args, "y#p", &content, &n, &in_file))
        return NULL;
    fm_body_init(&body);
    if (in_file) {
        char path[] = "/tmp/fermata-unit-body-XXXXXX";
        body.fd = mkstemp(path);
        unlink(path);
        CHECK(body.fd >= 0 && pwrite(body.fd, content, (size_t)n, 0) == n);
        body.size = (uint64_t)n;
    } else {
        CHECK(fm_body_append(&body, content, (size_t)n) == 0);
    }
    PyObject *input = fm_input_new(&body);
    CHECK(input && body.size == 0 && body.fd < 0 && !body.data);
    return input;
}

/* truncate(input): its file is cut short, as by a disk that fails. */
static PyObject *cut_file(PyObject *self, PyObject *ignored)
{
    (void)self, (void)ignored;
    for (int fd = 3; fd < 1024; fd++) { /* the only file without a name */
        struct stat st;
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 0)
            CHECK(ftruncate(fd, 10) == 0);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"make", make, METH_VARARGS, NULL},
    {"cut_file", cut_file, METH_NOARGS, NULL},
};

static int define(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        py_set(functions[i].ml_name, PyCFunction_New(&functions[i], NULL));
    PY("contents = [b'', b'x', b'\\n', b'one\\ntwo\\n\\nthree', b'a' * 70000 + b'\\n' + b'b' * 70000, b'\\n' * 200,\n"
       "            b''.join(b'%d\\n' % n for n in range(30000)), b'x' * 65536, b'y' * 65535 + b'\\nz']\n"
       "def both(content): return [make(content, False), make(content, True)]\n"
       "def raises(error, f, *args):\n"
       "    try: f(*args)\n"
       "    except error as e: return str(e) or True\n"
       "    return False\n");
    return 0;
}

/* Random calls answer what those of io.BytesIO do. */
static void test_as_bytesio(void **state)
{
    (void)state;
    PY("import random\n"
       "r = random.Random(1)\n"
       "sizes = [(), (None,), (-1,), (0,), (1,), (3,), (70000,), (1 << 40,)]\n"
       "calls = [(name, size) for name in ('read', 'read1', 'readline') for size in sizes]\n"
       "calls += [('readlines', s) for s in ((), (None,), (1,), (20,))]\n"
       "def call(f, name, args):\n"
       "    if name == 'into':\n"
       "        into = bytearray(b'.' * args[0])\n"
       "        return f.readinto(into), bytes(into)\n"
       "    if name == 'next': return next(f, None)\n"
       "    return getattr(f, name)(*args)\n"
       "calls += [('into', (0,)), ('into', (5,)), ('into', (100000,)), ('next', ()), ('next', ()), ('tell', ())]\n"
       "calls += [('seek', (0,)), ('seek', (2,)), ('seek', (0, 2)), ('seek', (65534,)), ('seek', (1 << 33,))]\n"
       "for content in contents:\n"
       "    for f in both(content):\n"
       "        g = io.BytesIO(content)\n"
       "        for n in range(150):\n"
       "            c = r.choice(calls)\n"
       "            a, b = call(f, *c), call(g, *c)\n"
       "            assert a == b, (content[:20], c, a, b)\n");
}

static void test_lines(void **state)
{
    (void)state;
    PY("for content in contents:\n"
       "    for f in both(content):\n"
       "        assert list(f) == io.BytesIO(content).readlines() and f.read() == b''\n"
       "    for f in both(content):\n"
       "        assert f.readlines(0) == io.BytesIO(content).readlines()\n");
}

static void test_as_a_stream_of_io(void **state)
{
    (void)state;
    PY("for content in contents:\n"
       "    for f in both(content):\n"
       "        assert io.BufferedReader(f, 100).read() == content and f.closed\n"
       "    for f in both(content):\n"
       "        text = io.TextIOWrapper(io.BufferedReader(f), 'ascii', newline='')\n"
       "        assert text.read() == content.decode()\n"
       "for f in both(b'abc'):\n"
       "    assert f.readable() and f.seekable() and not f.writable() and not f.isatty() and f.flush() is None\n"
       "    with f as g: assert g is f\n"
       "    assert f.closed and iter(f) is f\n");
}

static void test_seek(void **state)
{
    (void)state;
    PY("for f in both(b'abcdef'):\n"
       "    assert f.seek(-2, 2) == 4 and f.read() == b'ef' and f.seek(-3, 1) == 3 and f.tell() == 3\n"
       "    assert f.seek(100) == 100 and f.read() == b'' and f.readline() == b''\n"
       "    assert raises(ValueError, f.seek, -1) == 'seek to -1 from 0'\n"
       "    assert raises(ValueError, f.seek, -7, 2) and raises(ValueError, f.seek, -101, 1)\n"
       "    assert raises(ValueError, f.seek, 2**63 - 1, 1) and raises(ValueError, f.seek, 0, 3)\n"
       "    assert raises(OverflowError, f.seek, 2**63) and f.tell() == 100\n");
}

static void test_wrong_arguments(void **state)
{
    (void)state;
    PY("for f in both(b'abc'):\n"
       "    for name in ('read', 'readline', 'readlines'):\n"
       "        assert raises(TypeError, getattr(f, name), 'x') and raises(TypeError, getattr(f, name), 1, 2)\n"
       "        assert raises(OverflowError, getattr(f, name), 1 << 70)\n"
       "    assert raises((TypeError, BufferError), f.readinto, b'abc') and raises(TypeError, f.seek)\n"
       "    assert f.read() == b'abc'\n"
       "assert raises(TypeError, type(f)) and raises(TypeError, setattr, type(f), 'read', 1)\n");
}

static void test_closed(void **state)
{
    (void)state;
    PY("for f in both(b'abc'):\n"
       "    f.read(1); f.close(); f.close()\n"
       "    for name in ('read', 'read1', 'readline', 'readlines', 'tell', 'readable', 'seekable', 'writable', "
       "'isatty',\n"
       "                 'flush', '__enter__', '__next__'):\n"
       "        assert 'closed' in raises(ValueError, getattr(f, name)), name\n"
       "    assert 'closed' in raises(ValueError, f.seek, 0) and 'closed' in raises(ValueError, f.seek, 0, 9)\n"
       "    assert 'closed' in raises(ValueError, f.readinto, bytearray(2))\n");
}

static void test_disk_fails(void **state)
{
    (void)state;
    PY("f = make(b'x' * 200000, True)\n"
       "cut_file()\n"
       "assert raises(OSError, f.readline) and f.tell() == 0\n"
       "assert raises(OSError, f.read) and f.tell() == 0 and f.read(5) == b'xxxxx' and f.tell() == 5\n"
       "f.close()\n");
}

/* Each line goes to one reader, whole. */
static void test_threads_read_lines(void **state)
{
    (void)state;
    PY("lines = [b'%d %s\\n' % (n, b'x' * (n % 97)) for n in range(20000)]\n"
       "for f in both(b''.join(lines)):\n"
       "    got = [[], [], []]\n"
       "    def read(mine):\n"
       "        for line in f: mine.append(line)\n"
       "    threads = [threading.Thread(target=read, args=(mine,)) for mine in got]\n"
       "    for t in threads: t.start()\n"
       "    for t in threads: t.join()\n"
       "    assert sorted(sum(got, [])) == sorted(lines), [len(mine) for mine in got]\n"
       "    for mine in got: assert mine == sorted(mine, key=lambda line: int(line.split()[0]))\n");
}

static void test_threads_read_and_close(void **state)
{
    (void)state;
    PY("content = os.urandom(1 << 16) * 40\n"
       "for f in sum((both(content) for _ in range(5)), []):\n"
       "    got = []\n"
       "    def read():\n"
       "        try:\n"
       "            while data := f.read(30000): got.append(data)\n"
       "        except ValueError: pass\n"
       "    threads = [threading.Thread(target=read) for _ in range(3)]\n"
       "    for t in threads: t.start()\n"
       "    while not got and any(t.is_alive() for t in threads): time.sleep(0)\n"
       "    f.close()\n"
       "    for t in threads: t.join()\n"
       "    assert f.closed and got, (f.closed, len(got))\n"
       "    assert all(data in content for data in got), [content.find(data) for data in got]\n"
       "del f\n");
}

static void test_is_unused(void **state)
{
    (void)state;
    PyObject *in = py_get("make(b'', False)");
    assert_true(fm_input_is_unused(in));
    py_set("f", Py_NewRef(in));
    assert_false(fm_input_is_unused(in));
    PY("f.seek(1); del f");
    assert_false(fm_input_is_unused(in));
    py_set("f", Py_NewRef(in));
    PY("f.seek(0); del f");
    assert_true(fm_input_is_unused(in));
    py_set("f", Py_NewRef(in));
    PY("f.close(); del f");
    assert_false(fm_input_is_unused(in));
    Py_DECREF(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_bytesio),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_as_a_stream_of_io),
        cmocka_unit_test(test_seek),
        cmocka_unit_test(test_wrong_arguments),
        cmocka_unit_test(test_closed),
        cmocka_unit_test(test_disk_fails),
        cmocka_unit_test(test_threads_read_lines),
        cmocka_unit_test(test_threads_read_and_close),
        cmocka_unit_test(test_is_unused),
    };
    start_gateway();
    int failed = cmocka_run_group_tests(tests, define, NULL);
    stop_gateway();
    return failed;
}

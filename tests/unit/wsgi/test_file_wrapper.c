/* wsgi.file_wrapper: an iterable over anything that reads, and the region of a regular file where read() gives just
 * what lies in it. */
#include "gateway.h"

static int define(void **state)
{
    (void)state;
    py_set("FileWrapper", Py_NewRef((PyObject *)fm_wsgi.file_wrapper_type));
    PY("def raises(error, f, *args, **kwargs):\n"
       "    try: f(*args, **kwargs)\n"
       "    except error as e: return str(e) or True\n"
       "path = tempfile.mkstemp()[1]\n"
       "with open(path, 'wb') as f: f.write(b'0123456789' * 10)\n"
       "class Limited:\n"
       "    def __init__(self, file): self.file = file\n"
       "    def __getattr__(self, name): return getattr(self.file, name)\n"
       "def patched(name):\n"
       "    f = open(path, 'rb')\n"
       "    setattr(f, name, lambda *args: b'')\n"
       "    return f\n"
       "def raw_patched():\n"
       "    f = open(path, 'rb')\n"
       "    f.raw.readinto = lambda into: 0\n"
       "    return f\n"
       "def at(f, pos): f.seek(pos); return f\n"
       "def after(f, n): f.read(n); return f\n"
       "def closed(f): f.close(); return f\n"
       "def detached(f): global raw; raw = f.detach(); return f\n");
    return 0;
}

static int undefine(void **state)
{
    (void)state;
    PY("os.unlink(path)");
    return 0;
}

static void test_iterates(void **state)
{
    (void)state;
    PY("assert list(FileWrapper(io.BytesIO(b'abcdefg'), 3)) == [b'abc', b'def', b'g']\n"
       "assert list(FileWrapper(io.BytesIO(b''))) == []\n"
       "assert [len(b) for b in FileWrapper(filelike=io.BytesIO(bytes(20000)), blksize=8000)] == [8000, 8000, 4000]\n"
       "assert len(next(FileWrapper(io.BytesIO(bytes(20000))))) == 8192\n"
       "assert list(FileWrapper(io.StringIO('text'))) == ['text']\n" /* the gateway refuses it */
       "assert raises(AttributeError, next, FileWrapper(None))\n"
       "assert raises(ZeroDivisionError, next, FileWrapper(type('F', (), {'read': lambda self, n: 1 / 0})()))\n"
       "class Odd:\n"
       "    def __bool__(self): raise KeyError\n"
       "assert raises(KeyError, next, FileWrapper(type('F', (), {'read': lambda self, n: Odd()})()))\n");
}

static void test_arguments(void **state)
{
    (void)state;
    PY("for size in (0, -1): assert raises(ValueError, FileWrapper, io.BytesIO(), size) == 'blksize must be positive'\n"
       "assert raises(TypeError, FileWrapper) and raises(TypeError, FileWrapper, io.BytesIO(), 'x')\n"
       "assert raises(TypeError, FileWrapper, io.BytesIO(), 1, 2) and raises(TypeError, FileWrapper, file=1)\n"
       "assert raises(TypeError, type, 'Sub', (FileWrapper,), {})\n");
}

static void test_close(void **state)
{
    (void)state;
    PY("f = io.BytesIO(b'x'); w = FileWrapper(f); w.close(); w.close()\n"
       "assert f.closed\n"
       "assert FileWrapper(type('F', (), {'read': None})()).close() is None\n"
       "assert raises(ZeroDivisionError, FileWrapper(type('F', (), {'close': lambda self: 1 / 0})()).close)\n");
}

static void test_cycle_is_collected(void **state)
{
    (void)state;
    PY("import weakref\n"
       "class F: pass\n"
       "f = F(); f.wrapper = FileWrapper(f); seen = weakref.ref(f); del f\n"
       "gc.collect()\n"
       "assert seen() is None\n");
}

static void test_regions(void **state)
{
    static const struct {
        const char *file;
        int64_t pos, len; /* len 0: it is to be iterated */
    } cases[] = {
        {"open(path, 'rb')", 0, 100},
        {"open(path, 'rb', buffering=0)", 0, 100},
        {"open(path, 'r+b')", 0, 100},
        {"at(open(path, 'rb'), 30)", 30, 70},
        {"after(open(path, 'rb'), 3)", 3, 97}, /* more has been read ahead */
        {"at(open(path, 'rb'), 100)", 0, 0},
        {"at(open(path, 'rb'), 500)", 0, 0},
        {"open(path, 'ab')", 0, 0},
        {"open(path, 'r')", 0, 0},
        {"open('/proc/self/status', 'rb')", 0, 0},
        {"open('/dev/zero', 'rb')", 0, 0},
        {"io.BytesIO(b'abc')", 0, 0},
        {"__import__('gzip').open(path)", 0, 0},
        {"Limited(open(path, 'rb'))", 0, 0},
        {"type('Mine', (io.FileIO,), {})(path)", 0, 0},
        {"patched('read')", 0, 0},
        {"patched('fileno')", 0, 0},
        {"patched('tell')", 0, 0},
        {"raw_patched()", 0, 0},
        {"closed(open(path, 'rb'))", 0, 0},
        {"detached(open(path, 'rb'))", 0, 0},
        {"None", 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[200];
        int fd = -1;
        int64_t pos = -1, len = -1;
        snprintf(text, sizeof text, "FileWrapper(%s)", cases[i].file);
        PyObject *w = py_get(text);
        int is = fm_file_wrapper_region(w, &fd, &pos, &len);
        assert_null(PyErr_Occurred());
        if (is != (cases[i].len > 0) || (is && (pos != cases[i].pos || len != cases[i].len || fd < 0)))
            fail_msg("%s: %d, %lld bytes from %lld", cases[i].file, is, (long long)len, (long long)pos);
        Py_DECREF(w);
    }
    PyObject *file = py_get("open(path, 'rb')"); /* not wrapped */
    int fd;
    int64_t pos, len;
    assert_false(fm_is_file_wrapper(file));
    assert_int_equal(fm_file_wrapper_region(file, &fd, &pos, &len), 0);
    Py_DECREF(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_iterates),           cmocka_unit_test(test_arguments), cmocka_unit_test(test_close),
        cmocka_unit_test(test_cycle_is_collected), cmocka_unit_test(test_regions),
    };
    start_gateway();
    int failed = cmocka_run_group_tests(tests, define, undefine);
    stop_gateway();
    return failed;
}

/* wsgi.input: a request body that is complete, read with a position of its own (PEP 3333, "Input and Error Streams").
 *
 * It owns the body, so an application may keep environ for as long as it likes.  Reading never waits for the client. */
#include "internal.h"

#include <errno.h>
#include <string.h>

struct input {
    PyObject_HEAD
    struct fm_body body;
    uint64_t pos;
};

#define LINE_PIECE 8192

static PyObject *set_io_error(long err)
{
    errno = (int)-err;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* Up to n bytes from the position. */
static PyObject *read_bytes(struct input *in, uint64_t n)
{
    uint64_t left = in->body.size - in->pos;
    if (n > left)
        n = left;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
    if (!bytes)
        return NULL;
    long got;
    uint64_t pos = in->pos;
    in->pos += n; /* before the GIL is given up: threads that read at once each get bytes of their own */
    if (in->body.fd >= 0) { /* the disk may take its time */
        char *to = PyBytes_AS_STRING(bytes);
        Py_BEGIN_ALLOW_THREADS
        got = fm_body_read(&in->body, pos, to, (size_t)n);
        Py_END_ALLOW_THREADS
    } else {
        got = fm_body_read(&in->body, pos, PyBytes_AS_STRING(bytes), (size_t)n);
    }
    if ((got < 0 || (uint64_t)got < n) && in->pos == pos + n)
        in->pos = pos + (got > 0 ? (uint64_t)got : 0);
    if (got < 0) {
        Py_DECREF(bytes);
        return set_io_error(got);
    }
    if ((uint64_t)got < n && _PyBytes_Resize(&bytes, got) != 0)
        return NULL;
    return bytes;
}

/* How long the line at the position is, at most max bytes; -1 with an exception set. */
static int64_t line_length(struct input *in, uint64_t max)
{
    char piece[LINE_PIECE];
    uint64_t n = 0, left = in->body.size - in->pos;
    if (max > left)
        max = left;
    while (n < max) {
        size_t want = max - n < sizeof piece ? (size_t)(max - n) : sizeof piece;
        const char *p = piece, *newline;
        if (in->body.fd < 0) {
            p = in->body.data + in->pos + n;
            want = (size_t)(max - n);
        } else {
            long got = fm_body_read(&in->body, in->pos + n, piece, want);
            if (got < 0) {
                set_io_error(got);
                return -1;
            }
            if (got == 0)
                break;
            want = (size_t)got;
        }
        newline = memchr(p, '\n', want);
        if (newline)
            return (int64_t)(n + (uint64_t)(newline - p) + 1);
        n += want;
    }
    return (int64_t)n;
}

/* The optional size argument: None or negative is "all". */
static int parse_size(PyObject *const *args, Py_ssize_t nargs, uint64_t *size)
{
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "expected at most 1 argument, got %zd", nargs);
        return -1;
    }
    *size = UINT64_MAX;
    if (nargs == 0 || args[0] == Py_None)
        return 0;
    Py_ssize_t n = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
    if (n == -1 && PyErr_Occurred())
        return -1;
    if (n >= 0)
        *size = (uint64_t)n;
    return 0;
}

static PyObject *input_read(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t size;
    return parse_size(args, nargs, &size) == 0 ? read_bytes((struct input *)self, size) : NULL;
}

static PyObject *read_line(struct input *in, uint64_t max)
{
    int64_t n = line_length(in, max);
    return n < 0 ? NULL : read_bytes(in, (uint64_t)n);
}

static PyObject *input_readline(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t size;
    return parse_size(args, nargs, &size) == 0 ? read_line((struct input *)self, size) : NULL;
}

static PyObject *input_readlines(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    uint64_t hint, total = 0;
    if (parse_size(args, nargs, &hint) != 0)
        return NULL;
    if (hint == 0)
        hint = UINT64_MAX; /* as io's readlines(0) */
    PyObject *lines = PyList_New(0);
    while (lines && total < hint) {
        PyObject *line = read_line((struct input *)self, UINT64_MAX);
        if (!line || PyList_Append(lines, line) != 0) {
            Py_XDECREF(line);
            Py_CLEAR(lines);
            break;
        }
        Py_ssize_t n = PyBytes_GET_SIZE(line);
        Py_DECREF(line);
        if (n == 0) { /* the end: it was appended, take it off again */
            if (PyList_SetSlice(lines, PyList_GET_SIZE(lines) - 1, PyList_GET_SIZE(lines), NULL) != 0)
                Py_CLEAR(lines);
            break;
        }
        total += (uint64_t)n;
    }
    return lines;
}

static PyObject *input_next(PyObject *self)
{
    PyObject *line = read_line((struct input *)self, UINT64_MAX);
    if (line && PyBytes_GET_SIZE(line) == 0)
        Py_CLEAR(line); /* no exception: the end of iteration */
    return line;
}

static void input_dealloc(PyObject *self)
{
    fm_body_fini(&((struct input *)self)->body);
    PyObject_Free(self);
}

static PyMethodDef methods[] = {
    {"read", (PyCFunction)(void (*)(void))input_read, METH_FASTCALL, "read(size=-1): bytes, b'' at the end"},
    {"readline", (PyCFunction)(void (*)(void))input_readline, METH_FASTCALL, "readline(size=-1): one line"},
    {"readlines", (PyCFunction)(void (*)(void))input_readlines, METH_FASTCALL, "readlines(hint=-1): a list of lines"},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject input_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "fermata.Input",
    .tp_basicsize = sizeof(struct input),
    .tp_dealloc = input_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The request body; complete, so reading never waits for the client.",
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = input_next,
    .tp_methods = methods,
};

int fm_input_init(void) { return PyType_Ready(&input_type); }

PyObject *fm_input_new(struct fm_body *body)
{
    struct input *in = PyObject_New(struct input, &input_type);
    if (!in)
        return NULL;
    fm_body_move(&in->body, body);
    in->pos = 0;
    return (PyObject *)in;
}

/* wsgi.input: a request body that is complete, read with a position of its own (PEP 3333, "Input and Error Streams").
 *
 * It owns the body, so an application may keep environ for as long as it likes.  Reading never waits for the client. As
 * the whole body is there, it is also what io calls a raw stream: it can be sought in, wrapped and closed.
 *
 * Where the body lies in a file, the GIL is given up while the file is read: the disk may take its time.  Other threads
 * may read, seek and close meanwhile.  So a position is moved before the bytes are fetched, and each read gets bytes of
 * its own; a line is looked for again if the position has moved; and the file is closed by the last who reads it. */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define AHEAD (64 * 1024) /* bytes of a file that are read at once to find lines in them */

struct input {
    PyObject_HEAD
    struct fm_body body;
    uint64_t pos; /* may be beyond the end */
    char *ahead;  /* a copy of the file's bytes from ahead_pos on, or NULL */
    uint64_t ahead_pos;
    size_t ahead_len;
    unsigned readers; /* threads that read the file without the GIL */
    bool closed;
};

static PyObject *set_io_error(long err)
{
    errno = (int)-err;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* Gives up the body.  Freeing the blocks of a file may take long. */
static void release(struct input *in)
{
    struct fm_body body;
    fm_body_move(&body, &in->body);
    PyMem_RawFree(in->ahead);
    in->ahead = NULL;
    if (body.fd < 0) {
        fm_body_fini(&body);
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    fm_body_fini(&body);
    Py_END_ALLOW_THREADS
}

static int check_open(const struct input *in)
{
    if (in->closed)
        PyErr_SetString(PyExc_ValueError, "I/O operation on a wsgi.input that is closed");
    return in->closed ? -1 : 0;
}

static uint64_t left(const struct input *in) { return in->pos < in->body.size ? in->body.size - in->pos : 0; }

/* ---- bytes ---- */

/* As fm_body_read; without the GIL where that may take long.  The caller holds a reference to the input. */
static long fetch(struct input *in, uint64_t pos, char *to, size_t n)
{
    if (in->body.fd < 0)
        return fm_body_read(&in->body, pos, to, n);
    if (in->ahead && pos >= in->ahead_pos && n <= in->ahead_len && pos - in->ahead_pos <= in->ahead_len - n) {
        memcpy(to, in->ahead + (pos - in->ahead_pos), n);
        return (long)n;
    }
    long got;
    in->readers++;
    Py_BEGIN_ALLOW_THREADS
    got = fm_body_read(&in->body, pos, to, n);
    Py_END_ALLOW_THREADS
    if (--in->readers == 0 && in->closed)
        release(in);
    return got;
}

/* Up to n bytes from the position to `to`; how many, or -1 with an exception set. */
static Py_ssize_t take(struct input *in, char *to, size_t n)
{
    uint64_t pos = in->pos;
    if (n > left(in))
        n = (size_t)left(in);
    in->pos += n;
    long got = fetch(in, pos, to, n);
    if ((got < 0 || (size_t)got < n) && in->pos == pos + n)
        in->pos = pos + (got > 0 ? (uint64_t)got : 0);
    if (got < 0)
        set_io_error(got);
    return got < 0 ? -1 : (Py_ssize_t)got;
}

static PyObject *read_bytes(struct input *in, uint64_t n)
{
    if (check_open(in) != 0)
        return NULL;
    if (n > left(in))
        n = left(in);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
    if (!bytes)
        return NULL;
    Py_ssize_t got = take(in, PyBytes_AS_STRING(bytes), (size_t)n);
    if (got < 0)
        Py_CLEAR(bytes);
    else if ((uint64_t)got < n)
        _PyBytes_Resize(&bytes, got);
    return bytes;
}

/* ---- lines ---- */

/* The body's bytes from pos on, as many as are at hand; NULL if it lies in a file of which these have not been read. */
static const char *at_hand(const struct input *in, uint64_t pos, size_t *n)
{
    bool memory = in->body.fd < 0;
    uint64_t first = memory ? 0 : in->ahead_pos, len = memory ? in->body.size : in->ahead ? in->ahead_len : 0;
    if (pos < first || pos - first >= len)
        return NULL;
    *n = (size_t)(len - (pos - first));
    return (memory ? in->body.data : in->ahead) + (pos - first);
}

/* Has the file's bytes from pos on at hand.  1; 0 if another thread has been at work
 * meanwhile; -1 with an exception set. */
static int look_ahead(struct input *in, uint64_t pos)
{
    uint64_t before = in->pos;
    char *bytes = PyMem_RawMalloc(AHEAD);
    if (!bytes) {
        PyErr_NoMemory();
        return -1;
    }
    long got = fetch(in, pos, bytes, AHEAD);
    if (got <= 0 || in->closed) {
        PyMem_RawFree(bytes);
        if (!in->closed)
            set_io_error(got < 0 ? got : -EIO);
        return in->closed ? 0 : -1;
    }
    PyMem_RawFree(in->ahead);
    in->ahead = bytes;
    in->ahead_pos = pos;
    in->ahead_len = (size_t)got;
    return in->pos == before;
}

/* How long the line at the position is, at most max bytes; -1 with an exception set. */
static int64_t line_length(struct input *in, uint64_t max)
{
    uint64_t n = 0;
    while (check_open(in) == 0) {
        uint64_t most = max < left(in) ? max : left(in);
        size_t here;
        if (n >= most)
            return (int64_t)most;
        const char *p = at_hand(in, in->pos + n, &here);
        if (!p) {
            int same = look_ahead(in, in->pos + n);
            if (same < 0)
                return -1;
            if (!same)
                n = 0; /* from the beginning: the line may be another one */
            continue;
        }
        if (here > most - n)
            here = (size_t)(most - n);
        const char *newline = memchr(p, '\n', here);
        if (newline)
            return (int64_t)(n + (uint64_t)(newline - p) + 1);
        n += here;
    }
    return -1;
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

/* readinto(buffer): as many bytes as there are and fit; 0 at the end. */
static PyObject *input_readinto(PyObject *self, PyObject *buffer)
{
    struct input *in = (struct input *)self;
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) != 0)
        return NULL;
    Py_ssize_t got = check_open(in) == 0 ? take(in, view.buf, (size_t)view.len) : -1;
    PyBuffer_Release(&view);
    return got < 0 ? NULL : PyLong_FromSsize_t(got);
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

/* ---- as a stream of io ---- */

/* Moves the position, which may go beyond the end, as that of a file. */
static PyObject *input_seek(PyObject *self, PyObject *args)
{
    struct input *in = (struct input *)self;
    long long offset;
    int whence = SEEK_SET;
    if (!PyArg_ParseTuple(args, "L|i:seek", &offset, &whence) || check_open(in) != 0)
        return NULL;
    if (whence != SEEK_SET && whence != SEEK_CUR && whence != SEEK_END)
        return PyErr_Format(PyExc_ValueError, "whence must be 0, 1 or 2, not %d", whence);
    uint64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? in->pos : in->body.size;
    if (offset < 0 ? (uint64_t) - (offset + 1) + 1 > from : (uint64_t)offset > INT64_MAX - from)
        return PyErr_Format(PyExc_ValueError, "seek to %lld from %llu", offset, (unsigned long long)from);
    in->pos = from + (uint64_t)offset;
    return PyLong_FromUnsignedLongLong(in->pos);
}

static PyObject *input_tell(PyObject *self, PyObject *ignored)
{
    struct input *in = (struct input *)self;
    (void)ignored;
    return check_open(in) == 0 ? PyLong_FromUnsignedLongLong(in->pos) : NULL;
}

static PyObject *input_yes(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return check_open((struct input *)self) == 0 ? Py_NewRef(Py_True) : NULL;
}

static PyObject *input_no(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return check_open((struct input *)self) == 0 ? Py_NewRef(Py_False) : NULL;
}

static PyObject *input_flush(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return check_open((struct input *)self) == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *input_close(PyObject *self, PyObject *ignored)
{
    struct input *in = (struct input *)self;
    (void)ignored;
    bool first = !in->closed;
    in->closed = true;
    if (first && in->readers == 0)
        release(in);
    Py_RETURN_NONE;
}

static PyObject *input_enter(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return check_open((struct input *)self) == 0 ? Py_NewRef(self) : NULL;
}

static PyObject *input_exit(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    return input_close(self, NULL);
}

static PyObject *get_closed(PyObject *self, void *ignored)
{
    (void)ignored;
    return PyBool_FromLong(((struct input *)self)->closed);
}

static void input_dealloc(PyObject *self)
{
    release((struct input *)self);
    PyObject_Free(self);
}

static PyMethodDef methods[] = {
    {"read", (PyCFunction)(void (*)(void))input_read, METH_FASTCALL, "read(size=-1): bytes, b'' at the end"},
    {"read1", (PyCFunction)(void (*)(void))input_read, METH_FASTCALL, "read1(size=-1): the same"},
    {"readinto", input_readinto, METH_O, "readinto(buffer): how many bytes were put into it, 0 at the end"},
    {"readline", (PyCFunction)(void (*)(void))input_readline, METH_FASTCALL, "readline(size=-1): one line"},
    {"readlines", (PyCFunction)(void (*)(void))input_readlines, METH_FASTCALL, "readlines(hint=-1): a list of lines"},
    {"seek", input_seek, METH_VARARGS, "seek(offset, whence=0): the new position"},
    {"tell", input_tell, METH_NOARGS, "tell(): the position"},
    {"readable", input_yes, METH_NOARGS, "readable(): True"},
    {"seekable", input_yes, METH_NOARGS, "seekable(): True"},
    {"writable", input_no, METH_NOARGS, "writable(): False"},
    {"isatty", input_no, METH_NOARGS, "isatty(): False"},
    {"flush", input_flush, METH_NOARGS, "flush(): nothing, as nothing is written"},
    {"close", input_close, METH_NOARGS, "close(): gives up the body; reading raises ValueError from then on"},
    {"__enter__", input_enter, METH_NOARGS, "itself"},
    {"__exit__", input_exit, METH_VARARGS, "closes it"},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"closed", get_closed, NULL, "whether close() was called", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject input_type = {
    .ob_base = FM_TYPE_BASE,
    .tp_name = "fermata.Input",
    .tp_basicsize = sizeof(struct input),
    .tp_dealloc = input_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The request body; complete, so reading never waits for the client.",
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = input_next,
    .tp_methods = methods,
    .tp_getset = attributes,
};

int fm_input_init(void) { return PyType_Ready(&input_type); }

PyObject *fm_input_new(struct fm_body *body)
{
    struct input *in = PyObject_New(struct input, &input_type);
    if (!in)
        return NULL;
    fm_body_move(&in->body, body);
    in->pos = in->ahead_pos = 0;
    in->ahead = NULL;
    in->ahead_len = 0;
    in->readers = 0;
    in->closed = false;
    return (PyObject *)in;
}

bool fm_input_is_unused(PyObject *o)
{
    const struct input *in = (const struct input *)o;
    return Py_REFCNT(o) == 1 && in->pos == 0 && !in->closed;
}

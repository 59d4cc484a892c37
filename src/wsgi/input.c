/* wsgi.input: a request body that is complete, read with a position of its own (PEP 3333, "Input and Error Streams").
 *
 * It owns the body, so an application may keep environ for as long as it likes.  Reading never waits for the client. As
 * the whole body is there, it is also what io calls a raw stream: it can be sought in, wrapped and closed.
 *
 * Threads of the application may read, seek and close at the same time.  A reader claims its bytes under the lock: the
 * position is moved behind them, and the body stays until they have been fetched, which happens without the lock, and
 * where the body lies in a file without the GIL, for the disk may take its time.  So each read gets bytes of its own; a
 * line is looked for again if the position has moved; and the body is given up by the last of its readers. */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define AHEAD (64 * 1024) /* bytes of a file that are read at once to find lines in them */

struct input {
    PyObject_HEAD
    struct fm_body body;  /* does not change as long as there are readers, or may be: not closed */
    struct fm_mutex lock; /* a leaf: nothing of Python's is called under it; guards what follows */
    uint64_t pos;         /* may be beyond the end */
    char *ahead;          /* a copy of the file's bytes from ahead_pos on, or NULL */
    uint64_t ahead_pos;
    size_t ahead_len;
    unsigned readers; /* threads that fetch bytes */
    bool closed;
};

struct claim { /* bytes that a reader fetches */
    uint64_t pos;
    size_t len;
};

static PyObject *set_io_error(long err)
{
    errno = (int)-err;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static int set_closed_error(void)
{
    PyErr_SetString(PyExc_ValueError, "I/O operation on a wsgi.input that is closed");
    return -1;
}

/* Gives up the body, which has no readers.  Freeing the blocks of a file may take long. */
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

static int check_open(struct input *in)
{
    fm_mutex_lock(&in->lock);
    bool closed = in->closed;
    fm_mutex_unlock(&in->lock);
    return closed ? set_closed_error() : 0;
}

static uint64_t left(const struct input *in) FM_REQUIRES(in->lock)
{
    return in->pos < in->body.size ? in->body.size - in->pos : 0;
}

/* ---- bytes ---- */

/* The next bytes, n at most, are the caller's; it calls unclaim.  -1 with an exception set: it is closed. */
static int claim(struct input *in, uint64_t n, struct claim *c)
{
    fm_mutex_lock(&in->lock);
    bool closed = in->closed;
    if (!closed) {
        *c = (struct claim){in->pos, (size_t)(n < left(in) ? n : left(in))};
        in->pos += c->len;
        in->readers++;
    }
    fm_mutex_unlock(&in->lock);
    return closed ? set_closed_error() : 0;
}

/* So many of the claimed bytes have been fetched.  The others are there for the next reader, unless the position has
 * been moved meanwhile. */
static void unclaim(struct input *in, const struct claim *c, size_t got)
{
    fm_mutex_lock(&in->lock);
    if (got < c->len && in->pos == c->pos + c->len)
        in->pos = c->pos + got;
    bool last = --in->readers == 0 && in->closed;
    fm_mutex_unlock(&in->lock);
    if (last)
        release(in);
}

/* What has been read ahead, if all n bytes are among it. */
static bool copy_ahead(struct input *in, uint64_t pos, char *to, size_t n)
{
    fm_mutex_lock(&in->lock);
    bool has = in->ahead && pos >= in->ahead_pos && n <= in->ahead_len && pos - in->ahead_pos <= in->ahead_len - n;
    if (has)
        memcpy(to, in->ahead + (pos - in->ahead_pos), n);
    fm_mutex_unlock(&in->lock);
    return has;
}

/* As fm_body_read; without the GIL where that may take long.  The caller is a reader. */
static long fetch(struct input *in, uint64_t pos, char *to, size_t n)
{
    if (in->body.fd < 0)
        return fm_body_read(&in->body, pos, to, n);
    if (copy_ahead(in, pos, to, n))
        return (long)n;
    long got;
    Py_BEGIN_ALLOW_THREADS
    got = fm_body_read(&in->body, pos, to, n);
    Py_END_ALLOW_THREADS
    return got;
}

/* Fetches what was claimed, and unclaims it: how many bytes, or -1 with an exception set. */
static Py_ssize_t take(struct input *in, const struct claim *c, char *to)
{
    long got = fetch(in, c->pos, to, c->len);
    unclaim(in, c, got > 0 ? (size_t)got : 0);
    if (got < 0)
        set_io_error(got);
    return got < 0 ? -1 : (Py_ssize_t)got;
}

static PyObject *take_bytes(struct input *in, const struct claim *c)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)c->len);
    if (!bytes) {
        unclaim(in, c, 0);
        return NULL;
    }
    Py_ssize_t got = take(in, c, PyBytes_AS_STRING(bytes));
    if (got < 0)
        Py_CLEAR(bytes);
    else if ((size_t)got < c->len)
        _PyBytes_Resize(&bytes, got);
    return bytes;
}

static PyObject *read_bytes(struct input *in, uint64_t n)
{
    struct claim c;
    return claim(in, n, &c) == 0 ? take_bytes(in, &c) : NULL;
}

/* ---- lines ---- */

/* The body's bytes from pos on, as many as are at hand; NULL if it lies in a file of which these have not been read. */
static const char *at_hand(const struct input *in, uint64_t pos, size_t *n) FM_REQUIRES(in->lock)
{
    bool memory = in->body.fd < 0;
    uint64_t first = memory ? 0 : in->ahead_pos, len = memory ? in->body.size : in->ahead ? in->ahead_len : 0;
    if (pos < first || pos - first >= len)
        return NULL;
    *n = (size_t)(len - (pos - first));
    return (memory ? in->body.data : in->ahead) + (pos - first);
}

/* How long the line at the position is, at most max bytes, of which *n are known not to end it.  False: what comes
 * after *n bytes is not at hand. */
static bool find_line(const struct input *in, uint64_t max, uint64_t *n) FM_REQUIRES(in->lock)
{
    uint64_t most = max < left(in) ? max : left(in);
    size_t here;
    const char *p, *newline = NULL;
    while (!newline && *n < most) {
        if (!(p = at_hand(in, in->pos + *n, &here)))
            return false;
        if (here > most - *n)
            here = (size_t)(most - *n);
        newline = memchr(p, '\n', here);
        *n += newline ? (uint64_t)(newline - p) + 1 : here;
    }
    return true;
}

/* Has the file's bytes from pos on at hand; the caller is a reader, and is none afterwards.  -1 with an exception set.
 */
static int look_ahead(struct input *in, uint64_t pos)
{
    const struct claim none = {0, 0};
    char *before, *bytes = PyMem_RawMalloc(AHEAD);
    long got = bytes ? fetch(in, pos, bytes, AHEAD) : -ENOMEM;
    if (got > 0) {
        fm_mutex_lock(&in->lock);
        before = in->ahead;
        in->ahead = bytes;
        in->ahead_pos = pos;
        in->ahead_len = (size_t)got;
        fm_mutex_unlock(&in->lock);
        bytes = before;
    }
    PyMem_RawFree(bytes);
    unclaim(in, &none, 0);
    if (got == -ENOMEM)
        PyErr_NoMemory();
    else if (got <= 0)
        set_io_error(got < 0 ? got : -EIO);
    return got > 0 ? 0 : -1;
}

/* Claims the next line, max bytes of it at most.  -1 with an exception set. */
static int claim_line(struct input *in, uint64_t max, struct claim *c)
{
    uint64_t n = 0, from = 0;
    for (;;) {
        fm_mutex_lock(&in->lock);
        bool closed = in->closed, found = false;
        if (in->pos != from) /* from the beginning: the line may be another one */
            n = 0;
        from = in->pos;
        if (!closed) {
            found = find_line(in, max, &n);
            *c = (struct claim){from, (size_t)n};
            in->pos += found ? n : 0;
            in->readers++;
        }
        fm_mutex_unlock(&in->lock);
        if (closed)
            return set_closed_error();
        if (found)
            return 0;
        if (look_ahead(in, from + n) != 0)
            return -1;
    }
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
    struct claim c;
    return claim_line(in, max, &c) == 0 ? take_bytes(in, &c) : NULL;
}

/* readinto(buffer): as many bytes as there are and fit; 0 at the end. */
static PyObject *input_readinto(PyObject *self, PyObject *buffer)
{
    struct input *in = (struct input *)self;
    struct claim c;
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) != 0)
        return NULL;
    Py_ssize_t got = claim(in, (uint64_t)view.len, &c) == 0 ? take(in, &c, view.buf) : -1;
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
    if (!PyArg_ParseTuple(args, "L|i:seek", &offset, &whence))
        return NULL;
    if (whence != SEEK_SET && whence != SEEK_CUR && whence != SEEK_END) {
        if (check_open(in) == 0)
            PyErr_Format(PyExc_ValueError, "whence must be 0, 1 or 2, not %d", whence);
        return NULL;
    }
    fm_mutex_lock(&in->lock);
    bool closed = in->closed;
    uint64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? in->pos : in->body.size, to = from;
    bool fits = offset < 0 ? (uint64_t) - (offset + 1) + 1 <= from : (uint64_t)offset <= INT64_MAX - from;
    if (fits && !closed)
        in->pos = to = from + (uint64_t)offset;
    fm_mutex_unlock(&in->lock);
    if (closed)
        set_closed_error();
    else if (!fits)
        PyErr_Format(PyExc_ValueError, "seek to %lld from %llu", offset, (unsigned long long)from);
    return closed || !fits ? NULL : PyLong_FromUnsignedLongLong(to);
}

static PyObject *input_tell(PyObject *self, PyObject *ignored)
{
    struct input *in = (struct input *)self;
    (void)ignored;
    fm_mutex_lock(&in->lock);
    uint64_t pos = in->pos;
    bool closed = in->closed;
    fm_mutex_unlock(&in->lock);
    if (closed)
        set_closed_error();
    return closed ? NULL : PyLong_FromUnsignedLongLong(pos);
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
    fm_mutex_lock(&in->lock);
    bool last = !in->closed && in->readers == 0;
    in->closed = true;
    fm_mutex_unlock(&in->lock);
    if (last)
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
    struct input *in = (struct input *)self;
    (void)ignored;
    fm_mutex_lock(&in->lock);
    bool closed = in->closed;
    fm_mutex_unlock(&in->lock);
    return PyBool_FromLong(closed);
}

static void input_dealloc(PyObject *self)
{
    struct input *in = (struct input *)self;
    PyTypeObject *type = Py_TYPE(self);
    release(in);
    fm_mutex_fini(&in->lock);
    PyObject_Free(self);
    Py_DECREF(type);
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

static PyType_Slot slots[] = {
    {Py_tp_dealloc, input_dealloc},
    {Py_tp_doc, "The request body; complete, so reading never waits for the client."},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, input_next},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {0, NULL},
};

PyType_Spec fm_input_spec = {
    .name = "fermata.Input",
    .basicsize = sizeof(struct input),
    .flags = FM_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

PyObject *fm_input_new(struct fm_body *body)
{
    struct input *in = PyObject_New(struct input, fm_wsgi.input_type);
    if (!in)
        return NULL;
    fm_body_move(&in->body, body);
    fm_mutex_init(&in->lock);
    in->pos = in->ahead_pos = 0;
    in->ahead = NULL;
    in->ahead_len = 0;
    in->readers = 0;
    in->closed = false;
    return (PyObject *)in;
}

/* While there is one reference, which is the caller's, no other thread can look at it.  What the last one has done to
 * it is seen by whoever has the GIL since, or takes the lock that it was done under. */
bool fm_input_is_unused(PyObject *o)
{
    struct input *in = (struct input *)o;
    if (Py_REFCNT(o) != 1)
        return false;
#ifdef Py_GIL_DISABLED
    fm_mutex_lock(&in->lock);
    bool unused = in->pos == 0 && !in->closed;
    fm_mutex_unlock(&in->lock);
    return unused;
#else
    return in->pos == 0 && !in->closed;
#endif
}

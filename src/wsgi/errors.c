/* wsgi.errors (PEP 3333, "Input and Error Streams"): text to the error log, line by line.  Each request has a stream of
 * its own, so what requests on different threads write piecemeal (print() makes several writes a line) never mixes
 * within a line.  A last line without an end goes out when the stream is flushed or dropped. */
#include "internal.h"

#include "fermata/util/buf.h"
#include "fermata/util/log.h"

#define LONGEST_LINE (64 * 1024) /* kept back at most */

struct errors {
    PyObject_HEAD
    struct fm_buf line; /* what came since the last newline */
};

/* Writes the first n bytes of what is kept.  They are taken out first: without the GIL another thread may write too. */
static void put_out(struct errors *e, size_t n)
{
    struct fm_buf rest = FM_BUF_INIT, out = e->line;
    fm_buf_append(&rest, fm_buf_head(&out) + n, fm_buf_size(&out) - n);
    e->line = rest;
    Py_BEGIN_ALLOW_THREADS
    fm_log_raw(fm_buf_head(&out), n);
    Py_END_ALLOW_THREADS
    fm_buf_fini(&out);
}

static int write_text(struct errors *e, PyObject *text)
{
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "wsgi.errors takes str, not %.200s", Py_TYPE(text)->tp_name);
        return -1;
    }
    PyObject *bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    if (!bytes)
        return -1;
    fm_buf_append(&e->line, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    Py_DECREF(bytes);
    size_t n = fm_buf_size(&e->line);
    const char *newline = n ? memrchr(fm_buf_head(&e->line), '\n', n) : NULL;
    if (newline)
        put_out(e, (size_t)(newline - fm_buf_head(&e->line)) + 1);
    else if (n > LONGEST_LINE)
        put_out(e, n);
    return 0;
}

static PyObject *errors_write(PyObject *self, PyObject *text)
{
    if (write_text((struct errors *)self, text) != 0)
        return NULL;
    return PyLong_FromSsize_t(PyUnicode_GET_LENGTH(text));
}

static PyObject *errors_writelines(PyObject *self, PyObject *lines)
{
    PyObject *line, *it = PyObject_GetIter(lines);
    if (!it)
        return NULL;
    while ((line = PyIter_Next(it))) {
        int err = write_text((struct errors *)self, line);
        Py_DECREF(line);
        if (err != 0)
            break;
    }
    Py_DECREF(it);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *errors_flush(PyObject *self, PyObject *ignored)
{
    struct errors *e = (struct errors *)self;
    (void)ignored;
    if (fm_buf_size(&e->line) > 0)
        put_out(e, fm_buf_size(&e->line));
    Py_RETURN_NONE;
}

static void errors_dealloc(PyObject *self)
{
    struct errors *e = (struct errors *)self;
    if (fm_buf_size(&e->line) > 0) {
        fm_buf_append(&e->line, "\n", 1);
        fm_log_raw(fm_buf_head(&e->line), fm_buf_size(&e->line));
    }
    fm_buf_fini(&e->line);
    PyObject_Free(self);
}

static PyMethodDef methods[] = {
    {"write", errors_write, METH_O, "write(text): to the error log, once the line is complete"},
    {"writelines", errors_writelines, METH_O, "writelines(iterable of str)"},
    {"flush", errors_flush, METH_NOARGS, "flush(): an incomplete line too"},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject errors_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "fermata.Errors",
    .tp_basicsize = sizeof(struct errors),
    .tp_dealloc = errors_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "A request's way to the error log.",
    .tp_methods = methods,
};

int fm_errors_init(void) { return PyType_Ready(&errors_type); }

PyObject *fm_errors_new(void)
{
    struct errors *e = PyObject_New(struct errors, &errors_type);
    if (e)
        e->line = (struct fm_buf)FM_BUF_INIT;
    return (PyObject *)e;
}

/* wsgi.errors (PEP 3333, "Input and Error Streams"): text to the error log, line by line.
 *
 * The stream object has no state, and a thread has one for all its requests, so it costs a request nothing.  What is
 * written piecemeal (print() makes several writes a line) is gathered in the request that the writing thread runs, so
 * lines of requests on different threads never mix.  A last line without an end goes out when the stream is flushed or
 * the request ends. A thread of the application's own has its text written at once. */
#include "internal.h"

#include "fermata/util/buf.h"
#include "fermata/util/list.h"
#include "fermata/util/log.h"

#define LONGEST_LINE (64 * 1024) /* kept back at most */

/* Where the calling thread's unfinished line is, or NULL.  It is this thread's alone: only the holder of the task comes
 * here with it. */
static struct fm_buf *own_line(void)
{
    struct fm_run *run = fm_run_of(fm_thread_self());
    return run ? &run->errors : NULL;
}

static void log_text(const char *p, size_t n)
{
    Py_BEGIN_ALLOW_THREADS
    fm_log_raw(p, n);
    Py_END_ALLOW_THREADS
}

/* Writes the first n bytes of what is kept. */
static void put_out(struct fm_buf *line, size_t n)
{
    log_text(fm_buf_head(line), n);
    fm_buf_consume(line, n);
    if (fm_buf_size(line) == 0)
        fm_buf_fini(line);
}

static int write_text(PyObject *text)
{
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "wsgi.errors takes str, not %.200s", Py_TYPE(text)->tp_name);
        return -1;
    }
    PyObject *bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    if (!bytes)
        return -1;
    struct fm_buf *line = own_line();
    if (!line) {
        log_text(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
        Py_DECREF(bytes);
        return 0;
    }
    fm_buf_append(line, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    if (line->failed) { /* at once, in pieces */
        put_out(line, fm_buf_size(line));
        log_text(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
        fm_buf_clear(line);
    }
    Py_DECREF(bytes);
    size_t n = fm_buf_size(line);
    const char *newline = n ? memrchr(fm_buf_head(line), '\n', n) : NULL;
    if (newline)
        put_out(line, (size_t)(newline - fm_buf_head(line)) + 1);
    else if (n > LONGEST_LINE)
        put_out(line, n);
    return 0;
}

static PyObject *errors_write(PyObject *self, PyObject *text)
{
    (void)self;
    if (write_text(text) != 0)
        return NULL;
    return PyLong_FromSsize_t(PyUnicode_GET_LENGTH(text));
}

static PyObject *errors_writelines(PyObject *self, PyObject *lines)
{
    (void)self;
    PyObject *line, *it = PyObject_GetIter(lines);
    if (!it)
        return NULL;
    while ((line = PyIter_Next(it))) {
        int err = write_text(line);
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
    struct fm_buf *line = own_line();
    (void)self, (void)ignored;
    if (line && fm_buf_size(line) > 0)
        put_out(line, fm_buf_size(line));
    Py_RETURN_NONE;
}

void fm_errors_end(struct fm_buf *line)
{
    if (fm_buf_size(line) == 0)
        return;
    fm_buf_append(line, "\n", 1);
    put_out(line, fm_buf_size(line));
}

static PyMethodDef methods[] = {
    {"write", errors_write, METH_O, "write(text): to the error log, once the line is complete"},
    {"writelines", errors_writelines, METH_O, "writelines(iterable of str)"},
    {"flush", errors_flush, METH_NOARGS, "flush(): an incomplete line too"},
    {NULL, NULL, 0, NULL},
};

static void errors_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot slots[] = {
    {Py_tp_dealloc, errors_dealloc},
    {Py_tp_doc, "The way to the error log."},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec fm_errors_spec = {
    .name = "fermata.Errors",
    .basicsize = sizeof(PyObject),
    .flags = FM_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

PyObject *fm_errors_new(void) { return PyObject_New(PyObject, fm_wsgi.errors_type); }

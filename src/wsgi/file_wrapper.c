/* wsgi.file_wrapper (PEP 3333, "Optional Platform-Specific File Handling"): an iterable like any other; where the
 * application returns it as it is and it wraps a regular file, the file goes out by sendfile(2) instead. */
#include "internal.h"

#include <sys/stat.h>

struct wrapper {
    PyObject_HEAD
    PyObject *file;
    Py_ssize_t size;
};

static PyObject *wrapper_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"filelike", "blksize", NULL};
    PyObject *file;
    Py_ssize_t size = 8192;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|n:FileWrapper", names, &file, &size))
        return NULL;
    if (size <= 0) {
        PyErr_SetString(PyExc_ValueError, "blksize must be positive");
        return NULL;
    }
    struct wrapper *w = (struct wrapper *)type->tp_alloc(type, 0);
    if (w) {
        w->file = Py_NewRef(file);
        w->size = size;
    }
    return (PyObject *)w;
}

static PyObject *wrapper_next(PyObject *self)
{
    struct wrapper *w = (struct wrapper *)self;
    PyObject *size = PyLong_FromSsize_t(w->size);
    PyObject *data = size ? PyObject_CallMethodOneArg(w->file, fm_name[FM_N_read], size) : NULL;
    Py_XDECREF(size);
    if (!data)
        return NULL;
    int more = PyObject_IsTrue(data);
    if (more <= 0)
        Py_CLEAR(data); /* the end, or an exception is set */
    return data;
}

static PyObject *wrapper_close(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    struct wrapper *w = (struct wrapper *)self;
    if (!PyObject_HasAttr(w->file, fm_name[FM_N_close]))
        Py_RETURN_NONE;
    return PyObject_CallMethodNoArgs(w->file, fm_name[FM_N_close]);
}

static int wrapper_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((struct wrapper *)self)->file);
    return 0;
}

static int wrapper_clear(PyObject *self)
{
    Py_CLEAR(((struct wrapper *)self)->file);
    return 0;
}

static void wrapper_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    wrapper_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef methods[] = {
    {"close", wrapper_close, METH_NOARGS, "Closes the wrapped file, if it can be closed."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject fm_file_wrapper_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "fermata.FileWrapper",
    .tp_basicsize = sizeof(struct wrapper),
    .tp_dealloc = wrapper_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "FileWrapper(filelike, blksize=8192): iterates over a file in blocks.",
    .tp_traverse = wrapper_traverse,
    .tp_clear = wrapper_clear,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = wrapper_next,
    .tp_methods = methods,
    .tp_new = wrapper_new,
    .tp_alloc = PyType_GenericAlloc,
    .tp_free = PyObject_GC_Del,
};

int fm_file_wrapper_init(void) { return PyType_Ready(&fm_file_wrapper_type); }

/* An int method of the file without arguments; -1 if there is none or it fails. */
static int64_t ask_file(PyObject *file, PyObject *method)
{
    PyObject *answer = PyObject_CallMethodNoArgs(file, method);
    int64_t n = answer && PyLong_Check(answer) ? PyLong_AsLongLong(answer) : -1;
    Py_XDECREF(answer);
    PyErr_Clear();
    return n;
}

int fm_file_wrapper_region(PyObject *o, int *fd, int64_t *pos, int64_t *len)
{
    struct stat st;
    if (!Py_IS_TYPE(o, &fm_file_wrapper_type))
        return 0;
    PyObject *file = ((struct wrapper *)o)->file;
    int64_t no = ask_file(file, fm_name[FM_N_fileno]), at = no >= 0 ? ask_file(file, fm_name[FM_N_tell]) : -1;
    if (no < 0 || no > INT32_MAX || at < 0 || fstat((int)no, &st) != 0 || !S_ISREG(st.st_mode))
        return 0;
    *fd = (int)no;
    *pos = at;
    *len = st.st_size > at ? st.st_size - at : 0;
    return 1;
}

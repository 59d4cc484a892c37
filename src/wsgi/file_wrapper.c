/* wsgi.file_wrapper (PEP 3333, "Optional Platform-Specific File Handling"): an iterable like any other; where the
 * application returns it as it is and it wraps a regular file, the file goes out by sendfile(2) instead.
 *
 * That is right only where read() gives the bytes that lie in the file.  Much has a fileno() and reads something else:
 * what gzip opens, text files, objects that limit or decrypt.  So it is done for the types of io that open(path, "rb")
 * makes, and for nothing else. */
#include "internal.h"

#include <sys/stat.h>

struct wrapper { /* both are set where it is made, and stay */
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
    PyObject *data = size ? PyObject_CallMethodOneArg(w->file, fm_wsgi.name[FM_N_read], size) : NULL;
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
    if (!PyObject_HasAttr(w->file, fm_wsgi.name[FM_N_close]))
        Py_RETURN_NONE;
    return PyObject_CallMethodNoArgs(w->file, fm_wsgi.name[FM_N_close]);
}

static int wrapper_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
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
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    wrapper_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"close", wrapper_close, METH_NOARGS, "Closes the wrapped file, if it can be closed."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, wrapper_dealloc},
    {Py_tp_doc, "FileWrapper(filelike, blksize=8192): iterates over a file in blocks."},
    {Py_tp_traverse, wrapper_traverse},
    {Py_tp_clear, wrapper_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, wrapper_next},
    {Py_tp_methods, methods},
    {Py_tp_new, wrapper_new},
    {0, NULL},
};

PyType_Spec fm_file_wrapper_spec = {
    .name = "fermata.FileWrapper",
    .basicsize = sizeof(struct wrapper),
    .flags = FM_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

/* Are the methods of the file those of its type?  An object of io takes attributes: file.read = limited. */
static bool is_unchanged(PyObject *file)
{
    static const enum fm_name_id asked[] = {FM_N_read, FM_N_readinto, FM_N_readable, FM_N_tell, FM_N_fileno};
    PyObject *own = PyObject_GenericGetDict(file, NULL);
    bool is = own != NULL;
    for (size_t i = 0; is && i < sizeof asked / sizeof *asked; i++)
        is = PyDict_Contains(own, fm_wsgi.name[asked[i]]) == 0;
    Py_XDECREF(own);
    PyErr_Clear();
    return is;
}

/* Is it a FileIO, or does it buffer just that?  Then nothing of the application's is run by its methods. */
static bool is_plain_file(PyObject *file)
{
    if (!Py_IS_TYPE(file, fm_wsgi.raw_type) && !Py_IS_TYPE(file, fm_wsgi.reader_type) &&
        !Py_IS_TYPE(file, fm_wsgi.random_type))
        return false;
    if (!is_unchanged(file))
        return false;
    if (Py_IS_TYPE(file, fm_wsgi.raw_type))
        return true;
    PyObject *raw = PyObject_GetAttr(file, fm_wsgi.name[FM_N_raw]);
    bool is = raw && Py_IS_TYPE(raw, fm_wsgi.raw_type) && is_unchanged(raw);
    Py_XDECREF(raw);
    PyErr_Clear(); /* it was detached */
    return is;
}

static bool is_readable(PyObject *file)
{
    PyObject *answer = PyObject_CallMethodNoArgs(file, fm_wsgi.name[FM_N_readable]);
    bool is = answer == Py_True;
    Py_XDECREF(answer);
    PyErr_Clear();
    return is;
}

/* An int method of the file without arguments; -1 if it fails. */
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
    if (!fm_is_file_wrapper(o))
        return 0;
    PyObject *file = ((struct wrapper *)o)->file;
    if (!is_plain_file(file) || !is_readable(file))
        return 0;
    int64_t no = ask_file(file, fm_wsgi.name[FM_N_fileno]), at = no >= 0 ? ask_file(file, fm_wsgi.name[FM_N_tell]) : -1;
    if (no < 0 || no > INT32_MAX || at < 0)
        return 0;
    int rc;
    Py_BEGIN_ALLOW_THREADS /* the storage may take its time */
    rc = fstat((int)no, &st);
    Py_END_ALLOW_THREADS
    if (rc != 0 || !S_ISREG(st.st_mode))
        return 0;
    /* Files of /proc say that they are empty, those of /sys that they have a page; neither has a block on any disk. */
    if (st.st_size <= at || st.st_blocks == 0)
        return 0;
    *fd = (int)no;
    *pos = at;
    *len = st.st_size - at;
    return 1;
}

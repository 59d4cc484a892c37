/* struct fm_run: the state of one run of the application, which is also its start_response callable (PEP 3333, "The
 * start_response() Callable"), and the write() callable that start_response returns: with one argument it writes.  One
 * object for both, because hardly any application uses write(), and making it took 300 instructions of each request. It
 * may be kept and called after the request is over: then it raises. */
#include "internal.h"

#include <structmember.h>

#include "fermata/util/err.h"
#include "fermata/util/log.h"

/* The bytes of a native string, which PEP 3333 restricts to latin-1; borrowed from it.  NULL with an exception set. */
static const char *native(PyObject *o, const char *what, Py_ssize_t *len)
{
    if (!PyUnicode_Check(o)) {
        PyErr_Format(PyExc_TypeError, "%s must be str, not %.200s", what, Py_TYPE(o)->tp_name);
        return NULL;
    }
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(o) != 0)
        return NULL;
#endif
    if (PyUnicode_KIND(o) != PyUnicode_1BYTE_KIND) {
        PyErr_Format(PyExc_ValueError, "%s has characters outside latin-1: %R", what, o);
        return NULL;
    }
    *len = PyUnicode_GET_LENGTH(o);
    return (const char *)PyUnicode_1BYTE_DATA(o);
}

/* What fm_response_name says, remembered by the name's address: the thread holds a reference. */
static int look_up_name(struct fm_known_name *known, PyObject *name, const char *text, Py_ssize_t len)
{
    struct fm_known_name *k = &known[(uintptr_t)name / 16 % FM_KNOWN_NAMES];
    if (k->name == name)
        return k->what;
    int what = fm_response_name(text, (size_t)len);
    if (what >= 0 && len <= 64 && PyUnicode_CheckExact(name)) {
        Py_XSETREF(k->name, Py_NewRef(name));
        k->what = what;
    }
    return what;
}

static void warn_dropped(const char *name, Py_ssize_t len)
{
    static atomic_bool warned;
    if (!atomic_exchange_explicit(&warned, true, memory_order_relaxed))
        fm_warn("the application sets %.*s: hop-by-hop headers are the server's and are dropped (said once)",
                (int)(len < 64 ? len : 64), name);
}

/* The pair is a tuple of two: nothing can change it. */
static int add_field(struct fm_response *r, struct fm_known_name *known, PyObject *pair)
{
    const char *why = NULL;
    Py_ssize_t nlen, vlen;
    PyObject *name_o = PyTuple_GET_ITEM(pair, 0), *value_o = PyTuple_GET_ITEM(pair, 1);
    const char *name = native(name_o, "a response header's name", &nlen);
    const char *value = name ? native(value_o, "a response header's value", &vlen) : NULL;
    if (!value)
        return -1;
    int what = look_up_name(known, name_o, name, nlen), err = what;
    if (what >= 0)
        err = fm_response_add_as(r, what, name, (size_t)nlen, value, (size_t)vlen, &why);
    else
        why = "the name is not a token";
    if (err < 0) {
        PyErr_Format(PyExc_ValueError, "response header %R: %R: %s", name_o, value_o, why);
        return -1;
    }
    if (err == 1)
        warn_dropped(name, nlen);
    return 0;
}

static int add_header(struct fm_response *r, struct fm_known_name *known, PyObject *item)
{
    PyObject *pair = PyList_Check(item) ? PyList_AsTuple(item) : Py_NewRef(item);
    int err = pair ? 0 : -1;
    if (pair && (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)) {
        PyErr_Format(PyExc_TypeError, "a response header must be a (name, value) tuple, not %R", item);
        err = -1;
    }
    if (err == 0)
        err = add_field(r, known, pair);
    Py_XDECREF(pair);
    return err;
}

static int build(struct fm_response *r, struct fm_known_name *known, PyObject *status, PyObject *headers)
{
    const char *why = NULL;
    Py_ssize_t len;
    const char *text = native(status, "status", &len);
    if (!text)
        return -1;
    if (fm_response_start(r, text, (size_t)len, &why) != 0) {
        PyErr_Format(PyExc_ValueError, "status %R: %s", status, why);
        return -1;
    }
    PyObject *fast = PySequence_Fast(headers, "response headers must be a list");
    if (!fast)
        return -1;
    int err = 0;
    for (Py_ssize_t i = 0; err == 0 && i < PySequence_Fast_GET_SIZE(fast); i++) {
        PyObject *item = fm_item(fast, i);
        err = item ? add_header(r, known, item) : 0;
        Py_XDECREF(item);
    }
    Py_DECREF(fast);
    if (err == 0 && r->lines.failed) {
        PyErr_NoMemory();
        return -1;
    }
    return err;
}

/* None, (), and what sys.exc_info() gives where no exception is handled, say that there is none. */
static bool is_no_exc_info(PyObject *exc_info)
{
    return exc_info == Py_None ||
           (PyTuple_Check(exc_info) && (PyTuple_GET_SIZE(exc_info) == 0 ||
                                        (PyTuple_GET_SIZE(exc_info) == 3 && PyTuple_GET_ITEM(exc_info, 0) == Py_None)));
}

static int check_exc_info(PyObject *exc_info)
{
    if (PyTuple_Check(exc_info) && PyTuple_GET_SIZE(exc_info) == 3 &&
        PyExceptionClass_Check(PyTuple_GET_ITEM(exc_info, 0)))
        return 0;
    PyErr_SetString(PyExc_TypeError, "exc_info must be a tuple as of sys.exc_info()");
    return -1;
}

/* Raises what exc_info says: the application handles an error after the head has been sent. */
static void raise_exc_info(PyObject *exc_info)
{
    PyObject *type = PyTuple_GET_ITEM(exc_info, 0), *value = PyTuple_GET_ITEM(exc_info, 1),
             *tb = PyTuple_GET_ITEM(exc_info, 2);
    PyErr_Restore(Py_NewRef(type), value == Py_None ? NULL : Py_NewRef(value), tb == Py_None ? NULL : Py_NewRef(tb));
}

/* The calling thread, if it runs the step of this request, so that the request cannot end under its hands (S6.6);
 * otherwise NULL with an exception set. */
static struct fm_thread *in_step(const struct fm_run *run, const char *what)
{
    if (atomic_load_explicit(&fm_forked, memory_order_relaxed)) {
        PyErr_Format(PyExc_RuntimeError, "%s called in a child of the process that serves the request", what);
        return NULL;
    }
    struct fm_thread *thread = fm_thread_self();
    if (fm_run_of(thread) == run)
        return thread;
    if (atomic_load_explicit(&run->over, memory_order_relaxed))
        PyErr_Format(PyExc_RuntimeError, "%s called after the request was over", what);
    else
        PyErr_Format(PyExc_RuntimeError, "%s called by another thread than the one that runs the request", what);
    return NULL;
}

/* write(data) */
static PyObject *write_block(struct fm_run *run, PyObject *data)
{
    struct fm_thread *thread = in_step(run, "write()");
    if (!thread)
        return NULL;
    if (!PyBytes_Check(data)) {
        PyErr_Format(PyExc_TypeError, "write() takes bytes, not %.200s", Py_TYPE(data)->tp_name);
        return NULL;
    }
    if (PyBytes_GET_SIZE(data) == 0)
        Py_RETURN_NONE;
    struct fm_call *call = run->call;
    enum fm_sent sent;
    int err = 0;
    Py_BEGIN_ALLOW_THREADS
    sent = fm_writer_block(&call->writer, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data), false);
    if (sent != FM_SENT_ALL && fm_writer_pending(&call->writer) > FM_OUTPUT_HIGH)
        err = call->ops->wait_output(call); /* write() cannot suspend: a slow client holds this thread */
    Py_END_ALLOW_THREADS
    fm_thread_cork(thread); /* if it is corked, the monitor sees to it */
    if (sent == FM_SENT_GONE || err < 0) {
        PyErr_SetString(PyExc_ConnectionAbortedError, "the client is gone or the request was ended");
        return NULL;
    }
    if (call->writer.cut) {
        PyErr_SetString(PyExc_ValueError, "write() of more than the Content-Length; the rest is cut off");
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Makes the head of the response; the new reference that start_response returns, or NULL with an exception set. */
static PyObject *set_head(struct fm_run *run, struct fm_known_name *known, PyObject *status, PyObject *headers,
                          PyObject *exc_info)
{
    struct fm_response response = {.length = -1};
    if (build(&response, known, status, headers) != 0) {
        fm_response_fini(&response);
        return NULL;
    }
    if (fm_writer_set_response(&run->call->writer, &response) != 0) {
        fm_response_fini(&response);
        if (exc_info)
            raise_exc_info(exc_info);
        else
            PyErr_SetString(PyExc_AssertionError, "start_response called after the body has begun");
        return NULL;
    }
    atomic_store_explicit(&run->started, true, memory_order_relaxed);
    return Py_NewRef((PyObject *)run);
}

/* start_response(status, response_headers, exc_info=None) -> write; and write(data), once it has been called. */
static PyObject *run_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    struct fm_run *run = (struct fm_run *)self;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (nargs == 1 && !kwnames && atomic_load_explicit(&run->started, memory_order_relaxed))
        return write_block(run, args[0]);
    PyObject *exc_info = nargs == 3 ? args[2] : NULL;
    Py_ssize_t nkw = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    if (nargs == 2 && nkw == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "exc_info") == 0)
        exc_info = args[2];
    else if (nkw > 0 || nargs < 2 || nargs > 3) {
        PyErr_SetString(PyExc_TypeError, "start_response(status, response_headers, exc_info=None)");
        return NULL;
    }
    if (exc_info && is_no_exc_info(exc_info))
        exc_info = NULL;
    if (exc_info && check_exc_info(exc_info) != 0)
        return NULL;
    struct fm_thread *thread = in_step(run, "start_response");
    if (!thread)
        return NULL;
    if (run->called && !exc_info) {
        PyErr_SetString(PyExc_AssertionError, "start_response called twice without exc_info");
        return NULL;
    }
    run->called = true;
    PyObject *write = set_head(run, fm_wsgi_of(thread)->known, args[0], args[1], exc_info);
    run->called = run->started; /* a call that was rejected is as if it had not been made */
    return write;
}

static int run_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct fm_run *run = (struct fm_run *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(run->context);
    Py_VISIT(run->iterable);
    Py_VISIT(run->iterator);
    Py_VISIT(run->future);
    Py_VISIT(run->block);
    Py_VISIT(run->thrown);
    Py_VISIT(run->traceback);
    return 0;
}

static int run_clear(PyObject *self)
{
    struct fm_run *run = (struct fm_run *)self;
    Py_CLEAR(run->context);
    Py_CLEAR(run->iterable);
    Py_CLEAR(run->iterator);
    Py_CLEAR(run->future);
    Py_CLEAR(run->wakeup);
    Py_CLEAR(run->block);
    Py_CLEAR(run->thrown);
    Py_CLEAR(run->traceback);
    return 0;
}

static void run_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    run_clear(self);
    fm_buf_fini(&((struct fm_run *)self)->errors);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct fm_run, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, run_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_doc, "start_response(status, response_headers, exc_info=None) -> write; write(data), once it was called"},
    {Py_tp_traverse, run_traverse},
    {Py_tp_members, members},
    {0, NULL},
};

PyType_Spec fm_run_spec = {
    .name = "fermata.start_response",
    .basicsize = sizeof(struct fm_run),
    .flags = FM_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = slots,
};

struct fm_run *fm_run_new(struct fm_call *call)
{
    struct fm_run *run = PyObject_GC_New(struct fm_run, fm_wsgi.run_type);
    if (!run)
        return NULL;
    memset((char *)run + sizeof(PyObject), 0, sizeof *run - sizeof(PyObject));
    run->vectorcall = run_call;
    fm_list_init(&run->parked);
    run->context = PyContext_New();
    PyObject_GC_Track(run);
    if (!run->context) {
        Py_DECREF(run);
        return NULL;
    }
    run->call = call;
    call->run = run;
    return run;
}

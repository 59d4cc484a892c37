/* start_response and write() with anything that an application may pass: either an exception that PEP 3333 has a name
 * for, or one response by the grammar with what the application said (check_response.h); never a line break of its own.
 *
 * Input: a byte of flags; then values (struct value below): the status, a list of headers, the blocks to write.
 *
 * Covers: src/wsgi/start_response.c */
#include "python.h"

#include "check_response.h"
#include "fermata/util/err.h"
#include "input.h"

enum { MINOR_1 = 1, IS_HEAD = 2, KEEP = 4, AS_TUPLE = 8, WITH_EXC_INFO = 16, TWICE = 32 }; /* flags */

/* What start_response looks for: the step that runs in this thread.  This target does not look at held-back output. */
static struct fm_thread thread;
struct fm_thread *__wrap_fm_thread_self(void);
struct fm_thread *__wrap_fm_thread_self(void) { return &thread; }
void __wrap_fm_thread_cork(struct fm_thread *h);
void __wrap_fm_thread_cork(struct fm_thread *h) { (void)h; }

static int wait_output(struct fm_call *call)
{
    (void)call;
    return 0;
}
static const struct fm_call_ops call_ops = {.wait_output = wait_output};

static PyObject *must(PyObject *o)
{
    if (!o)
        fuzz_python_failed("a value");
    return o;
}

/* A value: a byte that says what it is, and a text. */
static PyObject *value(struct input *in, bool *plain)
{
    unsigned kind = input_byte(in);
    if ((kind & 15) == 15) {
        *plain = false;
        return Py_NewRef(Py_None);
    }
    struct input_text t = input_text(in);
    switch (kind & 15) {
    case 12: *plain = false; return must(PyBytes_FromStringAndSize(t.at, (Py_ssize_t)t.len));
    case 13: { /* outside latin-1: two bytes a character, as they come */
        int order = -1;
        PyObject *s = must(PyUnicode_DecodeUTF16(t.at, (Py_ssize_t)(t.len & ~1u), "surrogatepass", &order));
        *plain &= PyUnicode_KIND(s) == PyUnicode_1BYTE_KIND;
        return s;
    }
    case 14: *plain = false; return must(PyLong_FromSize_t(t.len));
    default: return must(PyUnicode_DecodeLatin1(t.len ? t.at : "", (Py_ssize_t)t.len, NULL));
    }
}

/* A header: mostly a pair; or a list of two, a tuple of one or three, or no sequence. */
static PyObject *header(struct input *in, bool *plain)
{
    unsigned kind = input_byte(in) & 15;
    if (kind == 15)
        return value(in, plain);
    Py_ssize_t n = kind == 14 ? 1 : kind == 13 ? 3 : 2;
    *plain &= n == 2;
    PyObject *pair = must(kind == 12 ? PyList_New(n) : PyTuple_New(n));
    for (Py_ssize_t i = 0; i < n; i++) {
        if (kind == 12)
            PyList_SET_ITEM(pair, i, value(in, plain));
        else
            PyTuple_SET_ITEM(pair, i, value(in, plain));
    }
    return pair;
}

static PyObject *headers(struct input *in, bool as_tuple, bool *plain)
{
    PyObject *list = must(PyList_New(0));
    for (unsigned n = input_byte(in) & 15; n > 0; n--) {
        PyObject *pair = header(in, plain);
        *plain &= PyTuple_Check(pair) || PyList_Check(pair);
        if (PyList_Append(list, pair) != 0)
            fuzz_python_failed("a list");
        Py_DECREF(pair);
    }
    if (!as_tuple)
        return list;
    PyObject *tuple = must(PyList_AsTuple(list));
    Py_DECREF(list);
    return tuple;
}

/* The exception that is set is one of those that applications are promised. */
static void check_exception(bool plain)
{
    if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_ValueError) &&
        !PyErr_ExceptionMatches(PyExc_AssertionError))
        fuzz_python_failed("another exception than was promised");
    if (plain && PyErr_ExceptionMatches(PyExc_TypeError))
        fuzz_python_failed("a TypeError for strings");
    PyErr_Clear();
}

/* The field lines of the response: they were made of one-byte strings without controls, or it would have failed. */
static void fields_of(PyObject *list, struct check_response *c, struct fm_buf *fields)
{
    static const char *const dropped[] = {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
        "te",         "trailer",    "trailers",           "transfer-encoding",   "upgrade"};
    for (Py_ssize_t i = 0; i < PySequence_Size(list); i++) {
        PyObject *pair = PySequence_Fast_GET_ITEM(list, i);
        PyObject *name = PySequence_Fast_GET_ITEM(pair, 0), *text = PySequence_Fast_GET_ITEM(pair, 1);
        const char *n = PyUnicode_AsUTF8(name); /* a token: ASCII */
        bool drop = false;
        for (size_t k = 0; k < sizeof dropped / sizeof *dropped; k++)
            drop |= strcasecmp(n, dropped[k]) == 0;
        const char *t = (const char *)PyUnicode_1BYTE_DATA(text);
        size_t len = (size_t)PyUnicode_GET_LENGTH(text);
        if (strcasecmp(n, "content-length") == 0) { /* once, and without blanks around it */
            drop = c->status == 204 || c->length >= 0;
            for (; len > 0 && strchr(" \t", *t); t++)
                len--;
            while (len > 0 && strchr(" \t", t[len - 1]))
                len--;
            c->length = strtoll(PyUnicode_AsUTF8(text), NULL, 10);
        }
        if (drop)
            continue;
        fm_buf_printf(fields, "%s: ", n);
        fm_buf_append(fields, t, len);
        fm_buf_puts(fields, "\r\n");
    }
}

/* write() of the blocks that come, until one is refused. */
static void write_blocks(PyObject *write, struct input *in, struct fm_writer *w, struct fm_buf *body)
{
    while (in->at < in->end) {
        bool plain = true;
        PyObject *block = value(in, &plain), *none = PyObject_CallOneArg(write, block);
        if (none ? none != Py_None || !PyBytes_Check(block) : PyBytes_Check(block) && !w->cut)
            fuzz_fail("write() of %s", Py_TYPE(block)->tp_name);
        if (PyBytes_Check(block))
            fm_buf_append(body, PyBytes_AS_STRING(block), (size_t)PyBytes_GET_SIZE(block));
        if (!none)
            check_exception(false);
        Py_XDECREF(none);
        Py_DECREF(block);
    }
}

static PyObject *call_start(PyObject *run, PyObject *status, PyObject *list, bool with_exc_info)
{
    if (!with_exc_info)
        return PyObject_CallFunctionObjArgs(run, status, list, NULL);
    PyObject *exc = must(Py_BuildValue("(OOO)", PyExc_KeyError, Py_None, Py_None));
    PyObject *write = PyObject_CallFunctionObjArgs(run, status, list, exc, NULL);
    Py_DECREF(exc);
    return write;
}

static void run_once(struct fm_call *call, struct input *in, unsigned flags, struct check_response *c)
{
    struct fm_buf fields = FM_BUF_INIT, body = FM_BUF_INIT;
    PyObject *run = must((PyObject *)fm_run_new(call)), *write, *status, *list;
    bool plain = true;
    for (int i = 0;; i++) { /* once or twice */
        plain = true;
        status = value(in, &plain);
        list = headers(in, flags & AS_TUPLE, &plain);
        write = call_start(run, status, list, i > 0 || (flags & WITH_EXC_INFO));
        if (!write)
            check_exception(plain);
        if (i > 0 || !(flags & TWICE))
            break;
        Py_XDECREF(write);
        Py_DECREF(status);
        Py_DECREF(list);
    }
    if (write && !plain)
        fuzz_fail("start_response accepted what is no pair of latin-1 strings");
    if (write) {
        c->status = atoi(PyUnicode_AsUTF8(status));
        fields_of(list, c, &fields);
        write_blocks(write, in, &call->writer, &body);
        fm_writer_end(&call->writer);
        c->is_short = fm_writer_is_short(&call->writer);
        c->keep = call->writer.framer.keep;
        c->fields = &fields;
        c->body = &body;
        check_response(c);
    }
    ((struct fm_run *)run)->call = call->run = NULL;
    Py_XDECREF(write);
    Py_DECREF(status);
    Py_DECREF(list);
    Py_DECREF(run);
    fm_buf_fini(&fields);
    fm_buf_fini(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {(const char *)data, (const char *)data + size};
    unsigned flags = input_byte(&in);
    struct check_sink sink = {.may_keep = true};
    struct check_response c = {.minor = flags & MINOR_1 ? 1 : 0,
                               .is_head = flags & IS_HEAD,
                               .out = &sink.out,
                               .length = -1};
    struct fm_call call = {.ops = &call_ops};
    fm_mutex_init(&thread.lock);
    thread.task = &call.task;
    if (!thread.user)
        thread.user = fm_wsgi_thread_new();
    fm_writer_init(&call.writer, &check_sink_ops, &sink);
    fm_writer_reset(&call.writer, c.minor, c.is_head, flags & KEEP);
    run_once(&call, &in, flags, &c);
    fm_writer_fini(&call.writer);
    fm_mutex_fini(&thread.lock);
    fm_buf_fini(&sink.out);
    return 0;
}

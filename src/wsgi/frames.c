/* A thread's frames as text; see wsgi/frames.h. */
#include "fermata/py/python.h"

#include <frameobject.h> /* PyFrame_GetBack, which Python.h does not have in 3.10 */

#include "fermata/util/text.h"
#include "fermata/wsgi/frames.h"

#define DEEPEST 100 /* frames, as many as faulthandler shows */
#define LONGEST 500 /* bytes of a name: the last ones */

/* A line of the answer must not look like two, and of a file the name says more than the first directories. */
static void put_name(struct fm_buf *to, PyObject *name) FM_NEEDS_GIL
{
    Py_ssize_t len = 0;
    const char *text = PyUnicode_AsUTF8AndSize(name, &len);
    PyErr_Clear(); /* no UTF-8: a surrogate in it */
    if (!text)
        fm_buf_puts(to, "???");
    Py_ssize_t at = text && len > LONGEST ? len - LONGEST : 0;
    while (at > 0 && at < len && ((unsigned char)text[at] & 0xc0) == 0x80) /* no character is cut in two */
        at++;
    if (at > 0)
        fm_buf_puts(to, "...");
    for (char escaped[4]; text && at < len; at++) {
        bool plain = (unsigned char)text[at] >= 0x20 && text[at] != 0x7f;
        fm_escape_byte((unsigned char)text[at], escaped);
        fm_buf_append(to, plain ? &text[at] : escaped, plain ? 1 : sizeof escaped);
    }
}

static void put_frame(struct fm_buf *to, PyFrameObject *frame) FM_NEEDS_GIL
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    fm_buf_puts(to, "  File \"");
    put_name(to, code->co_filename);
    fm_buf_printf(to, "\", line %d in ", PyFrame_GetLineNumber(frame));
    put_name(to, code->co_name);
    fm_buf_puts(to, "\n");
    Py_DECREF(code);
}

static void put_frames(struct fm_buf *to, PyFrameObject *innermost) FM_NEEDS_GIL
{
    PyFrameObject *frame = innermost;
    Py_INCREF(frame);
    for (unsigned depth = 0; frame && depth < DEEPEST; depth++) {
        put_frame(to, frame);
        PyFrameObject *outer = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = outer;
    }
    if (frame)
        fm_buf_puts(to, "  ...\n");
    Py_XDECREF(frame);
}

void fm_frames_put(struct fm_stack *to, unsigned long ident)
{
    struct fm_buf text = FM_BUF_INIT;
    PyObject *sys = fm_loaded("sys"); /* an import would call what the application may replace */
    PyObject *frames = sys ? PyObject_CallMethod(sys, "_current_frames", NULL) : NULL;
    PyObject *key = PyLong_FromUnsignedLong(ident), *frame = NULL;
    if (frames && key && PyDict_Check(frames) && fm_dict_get(frames, key, &frame) > 0 && PyFrame_Check(frame))
        put_frames(&text, (PyFrameObject *)frame);
    PyErr_Clear();
    Py_XDECREF(frame);
    Py_XDECREF(key);
    Py_XDECREF(frames);
    Py_XDECREF(sys);
    if (!text.failed && fm_buf_size(&text) > 0)
        fm_stack_take(to, fm_buf_head(&text), fm_buf_size(&text));
    fm_buf_fini(&text);
}

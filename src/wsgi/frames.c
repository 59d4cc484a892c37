/* A thread's frames as text; see wsgi/frames.h. */
#include "fermata/py/python.h"

#include <frameobject.h> /* PyFrame_GetBack, which Python.h does not have in 3.10 */

#include "fermata/wsgi/frames.h"

#define DEEPEST 100 /* frames, as many as faulthandler shows */

static void put_frame(struct fm_buf *to, PyFrameObject *frame) FM_NEEDS_GIL
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    const char *file = PyUnicode_AsUTF8(code->co_filename);
    const char *function = file ? PyUnicode_AsUTF8(code->co_name) : NULL;
    PyErr_Clear(); /* a name that is no UTF-8: a surrogate in it */
    fm_buf_printf(to, "  File \"%.500s\", line %d in %.200s\n", file ? file : "???", PyFrame_GetLineNumber(frame),
                  function ? function : "???");
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
    PyObject *sys = PyImport_ImportModule("sys");
    PyObject *frames = sys ? PyObject_CallMethod(sys, "_current_frames", NULL) : NULL;
    PyObject *key = PyLong_FromUnsignedLong(ident), *frame = NULL;
    if (frames && key && fm_dict_get(frames, key, &frame) > 0 && PyFrame_Check(frame))
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

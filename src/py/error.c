/* Exceptions and stacks as text, through the traceback module: it knows chains, notes and groups. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "fermata/py/error.h"

#include <stdarg.h>
#include <stdio.h>

/* Joins the list of str that traceback's functions return and logs it; steals lines (NULL: an exception is set). */
static void log_lines(enum fm_log_level level, const char *head, PyObject *lines)
{
    PyObject *empty = PyUnicode_FromString("");
    PyObject *joined = lines && empty ? PyUnicode_Join(empty, lines) : NULL;
    PyObject *bytes = joined ? PyUnicode_AsEncodedString(joined, "utf-8", "backslashreplace") : NULL;
    if (bytes)
        fm_log_text(level, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes), "%s", head);
    else
        fm_log(level, "%s (its traceback cannot be shown)", head);
    PyErr_Clear();
    Py_XDECREF(bytes);
    Py_XDECREF(joined);
    Py_XDECREF(empty);
    Py_XDECREF(lines);
}

static PyObject *format_with(const char *function, const char *format, ...)
{
    va_list ap;
    PyObject *module = PyImport_ImportModule("traceback");
    PyObject *fn = module ? PyObject_GetAttrString(module, function) : NULL;
    va_start(ap, format);
    PyObject *args = fn ? Py_VaBuildValue(format, ap) : NULL;
    va_end(ap);
    PyObject *lines = args ? PyObject_CallObject(fn, args) : NULL;
    Py_XDECREF(args);
    Py_XDECREF(fn);
    Py_XDECREF(module);
    return lines;
}

void fm_py_log_exception(enum fm_log_level level, const char *fmt, ...)
{
    char head[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    log_lines(level, head,
              format_with("format_exception", "(OOO)", type ? type : Py_None, value ? value : Py_None,
                          tb ? tb : Py_None));
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(tb);
}

void fm_py_log_stack(unsigned long ident, const char *fmt, ...)
{
    char head[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    PyObject *sys = PyImport_ImportModule("sys");
    PyObject *frames = sys ? PyObject_CallMethod(sys, "_current_frames", NULL) : NULL;
    PyObject *key = PyLong_FromUnsignedLong(ident);
    PyObject *frame = frames && key ? PyDict_GetItemWithError(frames, key) : NULL; /* borrowed */
    if (frame)
        log_lines(FM_LOG_WARNING, head, format_with("format_stack", "(O)", frame));
    else
        fm_log(FM_LOG_WARNING, "%s", head);
    PyErr_Clear();
    Py_XDECREF(key);
    Py_XDECREF(frames);
    Py_XDECREF(sys);
}

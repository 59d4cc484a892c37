/* What becomes of a child that the application has forked within a step, where it comes back from the application.
 * There is nothing here that it could do: the connection is the parent's, the other threads do not exist in it, and
 * their locks may be held for ever.  So it ends, as a Python program does that has come to its end: sys.exit() in the
 * child gives its exit code. */
#include "internal.h"

#include <stdlib.h>

#include "fermata/py/error.h"
#include "fermata/py/interp.h"
#include "fermata/util/log.h"

/* What sys.exit(value) makes of its value. */
static int exit_code(PyObject *value)
{
    PyObject *code = value ? PyObject_GetAttrString(value, "code") : NULL;
    int n = 1;
    if (code == Py_None) {
        n = 0;
    } else if (code && PyLong_Check(code)) {
        n = (int)PyLong_AsLong(code);
    } else if (code) {
        PyObject *text = PyObject_Str(code);
        const char *shown = text ? PyUnicode_AsUTF8(text) : NULL;
        fm_error("%s", shown ? shown : "(an exit code that cannot be shown)");
        Py_XDECREF(text);
    }
    Py_XDECREF(code);
    PyErr_Clear();
    return n;
}

void fm_child_end(void) FM_UNCHECKED
{
    static const char said[] = "a child that the application has forked came back to the server; it ends here";
    int code = 1;
    if (PyErr_ExceptionMatches(PyExc_SystemExit)) {
        PyObject *type, *value, *tb;
        PyErr_Fetch(&type, &value, &tb);
        PyErr_NormalizeException(&type, &value, &tb);
        code = exit_code(value);
    } else if (PyErr_Occurred()) {
        fm_py_log_exception(FM_LOG_ERROR, "%s", said);
    } else {
        fm_error("%s", said);
    }
    fm_interp_flush();
    fm_wsgi.config.end_child(code);
    abort(); /* it does not come back */
}

/* Hooks of a configuration file; see py/hooks.h. */
#include "fermata/py/python.h"

#include "fermata/py/hooks.h"

#include "fermata/py/embedded.h"
#include "fermata/util/log.h"
#include "hooks.inc" /* fm_hooks_source: py/fermata/hooks.py, made by the Makefile */

#define MODULE "_fermata_hooks"

/* emit(level, line): to the server's log. */
static PyObject *emit(PyObject *self, PyObject *args)
{
    int level;
    const char *text;
    (void)self;
    if (!PyArg_ParseTuple(args, "is", &level, &text))
        return NULL;
    if (level >= FM_LOG_DEBUG && level <= FM_LOG_CRITICAL && fm_log_on((enum fm_log_level)level))
        fm_log((enum fm_log_level)level, "%s", text);
    Py_RETURN_NONE;
}

static PyMethodDef emit_def = {"emit", emit, METH_VARARGS, NULL};

int fm_hooks_load(const struct fm_hooks *h)
{
    PyObject *code =
        fm_embedded_prepare() == 0 ? Py_CompileString(fm_hooks_source, "<fermata/hooks.py>", Py_file_input) : NULL;
    PyObject *module = code ? PyImport_ExecCodeModule(MODULE, code) : NULL;
    PyObject *write = module ? PyCFunction_New(&emit_def, NULL) : NULL;
    PyObject *file = write ? PyUnicode_DecodeFSDefault(h->file) : NULL;
    PyObject *shown = file ? PyUnicode_DecodeFSDefault(h->shown) : NULL;
    PyObject *none =
        shown ? PyObject_CallMethod(module, "load", "OOlIO", file, shown, (long)h->server, h->slot, write) : NULL;
    int err = none ? 0 : -1;
    if (!none)
        PyErr_Print();
    Py_XDECREF(none);
    Py_XDECREF(shown);
    Py_XDECREF(file);
    Py_XDECREF(write);
    Py_XDECREF(module);
    Py_XDECREF(code);
    return err;
}

static PyObject *loaded(void) { return fm_loaded(MODULE); }

bool fm_hooks_call(const char *name)
{
    PyObject *module = loaded();
    PyObject *answer = module ? PyObject_CallMethod(module, "call", "s", name) : NULL;
    bool good = module ? answer == Py_True : !PyErr_Occurred();
    if (PyErr_Occurred())
        PyErr_Print();
    Py_XDECREF(answer);
    Py_XDECREF(module);
    return good;
}

int fm_hooks_serve(int fd)
{
    PyObject *module = loaded();
    PyObject *answer = module ? PyObject_CallMethod(module, "serve", "i", fd) : NULL;
    int code = answer ? (int)PyLong_AsLong(answer) : 1;
    if (PyErr_Occurred())
        PyErr_Print();
    Py_XDECREF(answer);
    Py_XDECREF(module);
    return code;
}

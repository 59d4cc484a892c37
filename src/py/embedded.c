/* The server's own modules in Python; see py/embedded.h. */
#include "fermata/py/python.h"

#include <stdio.h>

#include "fermata/py/embedded.h"

#include "settings.inc" /* fm_settings_source: py/fermata/settings.py, made by the Makefile */

PyObject *fm_own_module(const char *name, const char *source)
{
    char full[40], file[40]; /* its file is named so that coverage and tracebacks do not look for it */
    snprintf(full, sizeof full, "_fermata_%s", name);
    snprintf(file, sizeof file, "<fermata/%s.py>", name);
    PyObject *module = fm_loaded(full);
    PyObject *code = module || PyErr_Occurred() ? NULL : Py_CompileString(source, file, Py_file_input);
    if (code)
        module = PyImport_ExecCodeModule(full, code);
    Py_XDECREF(code);
    return module;
}

int fm_embedded_prepare(void)
{
    PyObject *module = fm_own_module("settings", fm_settings_source);
    Py_XDECREF(module); /* sys.modules has it */
    return module ? 0 : -1;
}

int fm_embedded_settings(const char *file, int fd)
{
    PyObject *settings = fm_own_module("settings", fm_settings_source);
    PyObject *path = settings ? PyUnicode_DecodeFSDefault(file) : NULL;
    PyObject *done = path ? PyObject_CallMethod(settings, "main", "Oi", path, fd) : NULL;
    int code = done ? (int)PyLong_AsLong(done) : 1;
    if (!done)
        PyErr_Print();
    Py_XDECREF(done);
    Py_XDECREF(path);
    Py_XDECREF(settings);
    return code;
}

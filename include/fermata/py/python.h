/* Python.h.  Its directory is given with -I: -isystem would have gcc shorten paths through symbolic links, and compile
 * a debug build of Python, whose headers are links, against the release build's pyconfig.h.  What compilers have to say
 * about these headers is not for us to mend, so they are system headers all the same. */
#ifndef FERMATA_PY_PYTHON_H
#define FERMATA_PY_PYTHON_H

#pragma GCC system_header

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* A module that is loaded: a new reference; NULL without an exception if it is not, or with one.  What other threads do
 * to sys.modules meanwhile does not matter. */
static inline PyObject *fm_loaded(const char *name)
{
    PyObject *key = PyUnicode_FromString(name);
    PyObject *module = key ? PyImport_GetModule(key) : NULL;
    Py_XDECREF(key);
    return module;
}

/* One of the server's own modules in Python (py/embedded.c): a new reference to _fermata_NAME, which is made of its
 * source when it is first asked for; NULL with an exception.  With the GIL. */
PyObject *fm_own_module(const char *name, const char *source);

#endif

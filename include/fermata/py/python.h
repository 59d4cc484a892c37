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

/* Functions of CPython that give a borrowed reference are not called on what another thread may change, for that may
 * drop it before there is a reference of our own, without a GIL at any time.  These take their place, and
 * scripts/check-layers says where else one is right. */

/* What a dictionary has: 1 with *value, a new reference; 0, or -1 with an exception set, with NULL.  With the GIL. */
static inline int fm_dict_get(PyObject *dict, PyObject *key, PyObject **value)
{
#if PY_VERSION_HEX >= 0x030d0000
    return PyDict_GetItemRef(dict, key, value);
#else
    *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    return *value ? 1 : PyErr_Occurred() ? -1 : 0;
#endif
}

/* What the class of o or one of its bases has by that name, without the class being asked, which might answer for it: a
 * new reference, or NULL without an exception.  With the GIL. */
static inline PyObject *fm_class_get(PyObject *o, PyObject *name)
{
    PyTypeObject *type = (PyTypeObject *)Py_NewRef((PyObject *)Py_TYPE(o)); /* o may be given another one meanwhile */
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *found = _PyType_LookupRef(type, name);
#else
    PyObject *found = Py_XNewRef(_PyType_Lookup(type, name));
#endif
    Py_DECREF(type);
    return found;
}

/* One of the server's own modules in Python (py/embedded.c): a new reference to _fermata_NAME, which is made of its
 * source when it is first asked for; NULL with an exception.  With the GIL. */
PyObject *fm_own_module(const char *name, const char *source);

#endif

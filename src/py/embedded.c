/* The server's own modules in Python; see py/embedded.h. */
#include "fermata/py/python.h"

#include "fermata/py/embedded.h"

#include "settings.inc" /* fm_settings_source: py/fermata/settings.py, made by the Makefile */

#define MODULE "_fermata_settings"

int fm_embedded_prepare(void)
{
    if (PyDict_GetItemString(PyImport_GetModuleDict(), MODULE)) /* both are borrowed */
        return 0;
    PyObject *code = Py_CompileString(fm_settings_source, "fermata/settings.py", Py_file_input);
    PyObject *module = code ? PyImport_ExecCodeModule(MODULE, code) : NULL;
    Py_XDECREF(code);
    Py_XDECREF(module); /* sys.modules has it */
    return module ? 0 : -1;
}

int fm_embedded_settings(const char *file, int fd)
{
    PyObject *settings = fm_embedded_prepare() == 0 ? PyImport_ImportModule(MODULE) : NULL;
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

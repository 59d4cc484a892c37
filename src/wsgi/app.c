/* Finding the application, and the gateway's life. */
#include "internal.h"

#include "fermata/util/log.h"
#include "fermata/wsgi/gateway.h"
#include "loader.inc" /* fm_loader_source: py/fermata/loader.py, made by the Makefile */

PyObject *fm_application;

int fm_wsgi_init(bool multithread)
{
    return fm_names_init() || fm_run_init() || fm_input_init() || fm_file_wrapper_init() || fm_future_init() ||
                   fm_environ_init(multithread)
               ? -1
               : 0;
}

void fm_wsgi_fini(void)
{
    Py_CLEAR(fm_application);
    fm_environ_fini();
    fm_run_fini();
    fm_future_fini();
    fm_names_fini();
}

int fm_wsgi_load(const char *spec)
{
    PyObject *code = Py_CompileString(fm_loader_source, "fermata/loader.py", Py_file_input);
    PyObject *module = code ? PyImport_ExecCodeModule("_fermata_loader", code) : NULL;
    PyObject *app = module ? PyObject_CallMethod(module, "load", "s", spec) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(code);
    fm_child_check();
    if (app == Py_None) { /* the loader has said why */
        Py_DECREF(app);
        return -1;
    }
    if (!app) {
        PyErr_Print();
        return -1;
    }
    fm_application = app;
    return 0;
}

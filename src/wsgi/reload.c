/* Asks py/fermata/reload.py, which is compiled into the binary; see wsgi/reload.h. */
#include "internal.h"

#include "fermata/py/error.h"
#include "fermata/util/log.h"
#include "fermata/wsgi/reload.h"
#include "reload.inc" /* fm_reload_source: py/fermata/reload.py, made by the Makefile */

static PyObject *find_module(void) { return fm_own_module("reload", fm_reload_source); }

/* The exception that the application could not be loaded for, or None, or NULL with one set. */
static PyObject *find_error(const char *attribute)
{
    PyObject *loader = PyImport_ImportModule("_fermata_loader");
    PyObject *found = loader ? PyObject_CallMethod(loader, attribute, NULL) : NULL;
    Py_XDECREF(loader);
    return found;
}

void fm_wsgi_reload_begin(void)
{
    PyObject *module = find_module();
    PyObject *none = module ? PyObject_CallMethod(module, "begin", NULL) : NULL;
    if (!none)
        fm_py_log_exception(FM_LOG_ERROR, "--reload");
    Py_XDECREF(none);
    Py_XDECREF(module);
}

int fm_wsgi_explain(void)
{
    PyObject *text = find_error("failure");
    if (text == Py_None) {
        Py_DECREF(text);
        return -1;
    }
    PyObject *module = text ? find_module() : NULL;
    PyObject *page = module ? PyObject_CallMethod(module, "page", "O", text) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(text);
    if (!page) {
        fm_py_log_exception(FM_LOG_ERROR, "--reload: cannot make a page of what went wrong");
        return -1;
    }
    fm_wsgi.application = page;
    fm_warn("--reload: every request is answered with a page that says why, until a file changes");
    return 0;
}

void fm_wsgi_report(int fd)
{
    PyObject *error = find_error("cause");
    PyObject *module = error ? find_module() : NULL;
    PyObject *none = module ? PyObject_CallMethod(module, "report", "iO", fd, error) : NULL;
    if (!none)
        fm_py_log_exception(FM_LOG_ERROR, "--reload: cannot tell which files the application is of");
    Py_XDECREF(none);
    Py_XDECREF(module);
    Py_XDECREF(error);
}

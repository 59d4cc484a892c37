/* Finding the application, and what it does with signals. */
#include "internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fermata/py/debug.h"
#include "fermata/py/interp.h"
#include "fermata/util/log.h"
#include "fermata/wsgi/gateway.h"
#include "loader.inc" /* fm_loader_source: py/fermata/loader.py, made by the Makefile */

int fm_wsgi_signal_fd(bool *handlers)
{
    int ends[2];
    *handlers = true;
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0)
        return -1;
    PyObject *loader = PyImport_ImportModule("_fermata_loader");
    PyObject *wanted = loader ? PyObject_CallMethod(loader, "watch_signals", "i", ends[1]) : NULL;
    int fd = wanted == Py_True ? ends[0] : -1;
    *handlers = wanted != Py_None;
    if (!wanted)
        PyErr_Print();
    Py_XDECREF(wanted);
    Py_XDECREF(loader);
    if (fd < 0) {
        close(ends[0]);
        close(ends[1]);
    }
    return fd;
}

void fm_wsgi_check_signals(void) FM_UNCHECKED
{
    fm_interp_acquire();
    int raised = PyErr_CheckSignals();
    fm_child_check();
    if (raised != 0)
        PyErr_WriteUnraisable(NULL); /* there is no caller to raise to */
    fm_interp_release();
}

void fm_wsgi_run_debugger(void) FM_UNCHECKED
{
    fm_interp_acquire();
    int raised = fm_debugger_run();
    fm_child_check();
    if (raised != 0)
        PyErr_WriteUnraisable(NULL);
    fm_interp_release();
}

int fm_wsgi_prepare(void)
{
    PyObject *code = Py_CompileString(fm_loader_source, "<fermata/loader.py>", Py_file_input);
    PyObject *module = code ? PyImport_ExecCodeModule("_fermata_loader", code) : NULL;
    PyObject *none = module ? PyObject_CallMethod(module, "prepare", NULL) : NULL;
    Py_XDECREF(none);
    Py_XDECREF(module);
    Py_XDECREF(code);
    return none ? 0 : -1;
}

bool fm_wsgi_gil_was_off(char *name, size_t size)
{
    PyObject *loader = PyImport_ImportModule("_fermata_loader");
    PyObject *module = loader ? PyObject_CallMethod(loader, "gil_module", NULL) : NULL;
    const char *text = module && module != Py_None ? PyUnicode_AsUTF8(module) : NULL;
    snprintf(name, size, "%s", text ? text : "");
    bool was_off = module && module != Py_None;
    PyErr_Clear();
    Py_XDECREF(module);
    Py_XDECREF(loader);
    return was_off;
}

/* With pre_request and post_request of the configuration file around it, where there are any (py/hooks.h): so a request
 * pays nothing where there are none.  Steals app; NULL with an exception set. */
static PyObject *with_hooks(PyObject *app)
{
    PyObject *hooks = fm_loaded("_fermata_hooks");
    if (!hooks && PyErr_Occurred())
        Py_CLEAR(app);
    if (!hooks)
        return app;
    PyObject *wrapped = PyObject_CallMethod(hooks, "wrap", "O", app);
    Py_DECREF(hooks);
    Py_DECREF(app);
    return wrapped;
}

int fm_wsgi_take_hooks(void)
{
    fm_wsgi.application = with_hooks(fm_wsgi.application);
    if (!fm_wsgi.application)
        PyErr_Print();
    return fm_wsgi.application ? 0 : -1;
}

int fm_wsgi_set_up_logging(const struct fm_wsgi_logging *l)
{
    if (!l->config && !l->config_json && !l->config_dict && !l->by_lines)
        return 0;
    PyObject *loader = PyImport_ImportModule("_fermata_loader");
    PyObject *good = loader ? PyObject_CallMethod(loader, "set_up_logging", "zzzi", l->config, l->config_json,
                                                  l->config_dict, (int)l->by_lines)
                            : NULL;
    fm_child_check();
    if (!good)
        PyErr_Print();
    int result = good == Py_True ? 0 : -1;
    Py_XDECREF(good);
    Py_XDECREF(loader);
    return result;
}

int fm_wsgi_load(const char *spec)
{
    PyObject *module = PyImport_ImportModule("_fermata_loader");
    PyObject *app = module ? PyObject_CallMethod(module, "load", "s", spec) : NULL;
    Py_XDECREF(module);
    fm_child_check();
    if (app == Py_None) { /* the loader has said why */
        Py_DECREF(app);
        return -1;
    }
    if (!app) {
        PyErr_Print();
        return -1;
    }
    fm_wsgi.application = with_hooks(app);
    if (!fm_wsgi.application)
        PyErr_Print();
    return fm_wsgi.application ? 0 : -1;
}

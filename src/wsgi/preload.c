/* Asks py/fermata/preload.py, which is compiled into the binary; see wsgi/preload.h. */
#include "internal.h"

#include "fermata/py/error.h"
#include "fermata/util/log.h"
#include "fermata/wsgi/preload.h"
#include "preload.inc" /* fm_preload_source: py/fermata/preload.py, made by the Makefile */

#define MODULE "_fermata_preload"

/* The result of a function of the module, or NULL after the exception was logged. */
static PyObject *call(const char *function, const char *format, unsigned argument) FM_NEEDS_GIL
{
    PyObject *module = PyImport_ImportModule(MODULE);
    PyObject *result = module ? PyObject_CallMethod(module, function, format, argument) : NULL;
    Py_XDECREF(module);
    if (!result)
        fm_py_log_exception(FM_LOG_ERROR, "--preload: %s", function);
    return result;
}

void fm_wsgi_preload_begin(void)
{
    PyObject *code = Py_CompileString(fm_preload_source, "<fermata/preload.py>", Py_file_input);
    PyObject *module = code ? PyImport_ExecCodeModule(MODULE, code) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(code);
    if (module)
        Py_XDECREF(call("begin", NULL, 0));
    else
        fm_py_log_exception(FM_LOG_ERROR, "--preload");
}

/* The text that a function gives.  False: it has failed. */
static bool ask(const char *function, char *text, size_t size) FM_NEEDS_GIL
{
    PyObject *result = call(function, NULL, 0);
    const char *said = result ? PyUnicode_AsUTF8(result) : NULL;
    snprintf(text, size, "%s", said ? said : "(what cannot be shown)"); /* a name may be no text */
    PyErr_Clear();
    Py_XDECREF(result);
    return result;
}

int fm_wsgi_preload_end(void)
{
    char text[1500];
    if (!ask("threads", text, sizeof text))
        return -1; /* nothing is known */
    if (*text) {
        fm_warn(
            "--preload: the import of the application has left threads running, which a fork would lose; each worker "
            "loads the application by itself: %s",
            text);
        return -1;
    }
    if (ask("sockets", text, sizeof text) && *text)
        fm_warn("--preload: the import of the application has left sockets open, and all workers would talk through "
                "the same ones; open them when they are first needed, or close them at the end of the import: %s",
                text);
    Py_XDECREF(call("settle", NULL, 0));
    return 0;
}

void fm_wsgi_preload_slot(unsigned slot) { Py_XDECREF(call("slot", "I", slot)); }

void fm_wsgi_preload_born(void) { Py_XDECREF(call("born", NULL, 0)); }

/* Python that runs already, and has loaded us as a module.  What the command line asks of it is done by the Python code
 * beside the module, py/extension/fermata_server/_host.py. */
#include "fermata/py/host.h"

#include <stdbool.h>
#include <unistd.h>

#include "fermata/py/interp.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "start.h"

static bool lent;

void fm_host_lend(void) { lent = true; }

char **fm_host_strings(PyObject *sequence, int *n)
{
    PyObject *fast = PySequence_Tuple(sequence); /* which no other thread changes */
    if (!fast)
        return NULL;
    *n = (int)PyTuple_GET_SIZE(fast);
    char **strings = fm_calloc((size_t)*n + 1, sizeof *strings);
    for (int i = 0; i < *n; i++) {
        PyObject *bytes;
        if (!PyUnicode_FSConverter(PyTuple_GET_ITEM(fast, i), &bytes)) {
            while (i-- > 0)
                free(strings[i]);
            free(strings);
            Py_DECREF(fast);
            return NULL;
        }
        strings[i] = fm_strdup(PyBytes_AS_STRING(bytes));
        Py_DECREF(bytes);
    }
    Py_DECREF(fast);
    return strings;
}

/* A list of bytes; n < 0: as many as there are. */
static PyObject *list_of(char *const *strings, int n)
{
    PyObject *list = PyList_New(0);
    for (int i = 0; list && (n < 0 ? strings[i] != NULL : i < n); i++) {
        PyObject *bytes = PyBytes_FromString(strings[i]);
        if (!bytes || PyList_Append(list, bytes) != 0)
            Py_CLEAR(list);
        Py_XDECREF(bytes);
    }
    return list;
}

/* Does what the command line asks for, but for sys.path.  0, or -1 with an exception set or after a message. */
static int prepare(const struct fm_interp_config *c) FM_NEEDS_GIL
{
    PyObject *host = PyImport_ImportModule("fermata_server._host");
    PyObject *args = host ? list_of(c->args, c->nargs) : NULL;
    PyObject *variables = args ? list_of(environ, -1) : NULL;
    PyObject *refused =
        variables ? PyObject_CallMethod(host, "prepare", "yOO", c->venv_is_active ? NULL : c->venv, args, variables)
                  : NULL;
    const char *why = refused && refused != Py_None ? PyUnicode_AsUTF8(refused) : NULL;
    if (why)
        fm_log(FM_LOG_CRITICAL, "%s", why);
    int err = refused == Py_None ? 0 : -1;
    Py_XDECREF(refused);
    Py_XDECREF(variables);
    Py_XDECREF(args);
    Py_XDECREF(host);
    return err;
}

int fm_interp_start(const struct fm_interp_config *c) FM_UNCHECKED
{
    int err = fm_interp_import_own();
    if (err == 0 && !lent)
        err = prepare(c);
    if (err == 0 && !lent)
        err = fm_interp_extend_path(c->pythonpath);
    if (err != 0 && PyErr_Occurred())
        PyErr_Print();
    return err == 0 ? 0 : FM_EINVAL;
}

bool fm_interp_is_free_threaded(void) FM_UNCHECKED { return !fm_interp_has_gil(); }

int fm_interp_stop(void) FM_UNCHECKED { return 0; }

bool fm_interp_ends_later(void) { return !lent; }

char **fm_interp_again(char **argv) FM_UNCHECKED
{
    int n;
    PyObject *host = PyImport_ImportModule("fermata_server._host");
    PyObject *own = host ? list_of(argv, -1) : NULL;
    PyObject *list = own ? PyObject_CallMethod(host, "again", "O", own) : NULL;
    char **again = list ? fm_host_strings(list, &n) : NULL;
    if (!again) {
        fm_log(FM_LOG_CRITICAL, "cannot find out how this command is started again");
        PyErr_Print();
    }
    Py_XDECREF(list);
    Py_XDECREF(own);
    Py_XDECREF(host);
    return again;
}

/* Starting and ending the embedded interpreter, and threads that are real `threading` threads. */
#include "fermata/py/python.h"

#include "fermata/py/interp.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fermata/util/err.h"
#include "fermata/util/log.h"

#ifndef FM_PYTHON
#error "FM_PYTHON: the path of the python that this binary is built against"
#endif

static PyThreadState *main_state; /* while the main thread does not hold the GIL */

const char *fm_interp_version(void)
{
    static char version[32];
    const char *full = Py_GetVersion();
    size_t n = strcspn(full, " ");
    snprintf(version, sizeof version, "%.*s", (int)(n < 31 ? n : 31), full);
    return version;
}

/* The python of the environment, as its own `python` would be found: getpath looks for pyvenv.cfg beside it. */
static int venv_python(const char *venv, char *path, size_t size)
{
    char lib[4200];
    snprintf(path, size, "%s/bin/python", venv);
    if (access(path, X_OK) != 0) {
        fm_log(FM_LOG_CRITICAL, "--venv %s: there is no bin/python in it", venv);
        return FM_EINVAL;
    }
    snprintf(lib, sizeof lib, "%s/lib/python%d.%d", venv, PY_MAJOR_VERSION, PY_MINOR_VERSION);
    if (access(lib, F_OK) != 0) {
        fm_log(FM_LOG_CRITICAL, "--venv %s: it is not for Python %d.%d, which this fermata is built with", venv,
               PY_MAJOR_VERSION, PY_MINOR_VERSION);
        return FM_EINVAL;
    }
    return 0;
}

static PyStatus configure(PyConfig *config, const struct fm_interp_config *c, const char *program)
{
    config->install_signal_handlers = 0; /* SIGINT and SIGTERM are the server's */
    config->parse_argv = 0;
    PyStatus status = PyConfig_SetBytesString(config, &config->program_name, program);
    if (PyStatus_Exception(status))
        return status;
    status = PyConfig_SetBytesArgv(config, c->argc, c->argv);
    if (PyStatus_Exception(status))
        return status;
    return Py_InitializeFromConfig(config);
}

/* Current directory and --pythonpath in front of sys.path. */
static int extend_path(const char *pythonpath)
{
    PyObject *path = PySys_GetObject("path"); /* borrowed */
    Py_ssize_t at = 0;
    for (const char *p = pythonpath; p && *p;) {
        size_t n = strcspn(p, ",:");
        PyObject *dir = n ? PyUnicode_DecodeFSDefaultAndSize(p, (Py_ssize_t)n) : NULL;
        if (n && (!dir || PyList_Insert(path, at++, dir) != 0)) {
            Py_XDECREF(dir);
            return -1;
        }
        Py_XDECREF(dir);
        p += n + (p[n] != '\0');
    }
    char cwd[4096];
    if (!getcwd(cwd, sizeof cwd))
        return 0;
    PyObject *dir = PyUnicode_DecodeFSDefault(cwd);
    int err = dir ? PyList_Insert(path, at, dir) : -1;
    Py_XDECREF(dir);
    return err;
}

int fm_interp_start(const struct fm_interp_config *c) FM_UNCHECKED
{
    char program[4096] = FM_PYTHON;
    if (c->venv && venv_python(c->venv, program, sizeof program) != 0)
        return FM_EINVAL;
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    PyStatus status = configure(&config, c, program);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        fm_log(FM_LOG_CRITICAL, "Python did not start: %s", status.err_msg ? status.err_msg : "no reason given");
        return FM_EINVAL;
    }
    if (extend_path(c->pythonpath) != 0) {
        PyErr_Print();
        return FM_EINVAL;
    }
    return 0;
}

int fm_interp_stop(void) FM_UNCHECKED { return Py_FinalizeEx(); }

void fm_interp_print_error(void)
{
    if (PyErr_Occurred())
        PyErr_Print();
}

void fm_interp_release(void) FM_UNCHECKED { main_state = PyEval_SaveThread(); }

void fm_interp_acquire(void) FM_UNCHECKED
{
    PyEval_RestoreThread(main_state);
    main_state = NULL;
}

void fm_interp_check_signals(void) FM_UNCHECKED
{
    fm_interp_acquire();
    if (PyErr_CheckSignals() != 0) {
        PyErr_WriteUnraisable(NULL); /* a handler raised: nobody here to raise to */
    }
    fm_interp_release();
}

/* ---- threads ---- */

static __thread void *thread_state;
static PyObject *threads; /* list of threading.Thread */

struct body {
    void (*fn)(void *arg, unsigned index);
    void *arg;
    unsigned index;
    char name[16]; /* as the kernel keeps it: top and gdb show it */
};

static PyObject *thread_main(PyObject *capsule, PyObject *ignored)
{
    (void)ignored;
    struct body *b = PyCapsule_GetPointer(capsule, NULL);
    if (!b)
        return NULL;
    pthread_setname_np(pthread_self(), b->name);
    PyThreadState *state = PyEval_SaveThread();
    thread_state = state; /* one for the thread's whole life: a fresh one for each step would cost more than a hello */
    b->fn(b->arg, b->index);
    PyEval_RestoreThread(state);
    free(b);
    Py_RETURN_NONE;
}

static PyMethodDef thread_main_def = {"fermata_thread", thread_main, METH_NOARGS, NULL};

void *fm_interp_thread_state(void) { return thread_state; }

int fm_interp_spawn(const char *name, void (*fn)(void *arg, unsigned index), void *arg, unsigned index)
{
    int err = -1;
    struct body *b = fm_malloc(sizeof *b);
    *b = (struct body){.fn = fn, .arg = arg, .index = index};
    snprintf(b->name, sizeof b->name, "%s", name);
    PyObject *capsule = PyCapsule_New(b, NULL, NULL);
    PyObject *target = capsule ? PyCFunction_New(&thread_main_def, capsule) : NULL;
    PyObject *threading = target ? PyImport_ImportModule("threading") : NULL;
    PyObject *type = threading ? PyObject_GetAttrString(threading, "Thread") : NULL;
    PyObject *kwargs = type ? Py_BuildValue("{s:O,s:s,s:O}", "target", target, "name", name, "daemon", Py_True) : NULL;
    PyObject *args = kwargs ? PyTuple_New(0) : NULL;
    PyObject *thread = args ? PyObject_Call(type, args, kwargs) : NULL;
    PyObject *started = thread ? PyObject_CallMethod(thread, "start", NULL) : NULL;
    if (!started)
        free(b);
    else if (threads || (threads = PyList_New(0))) /* the thread frees b */
        err = PyList_Append(threads, thread);
    Py_XDECREF(started);
    Py_XDECREF(thread);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(type);
    Py_XDECREF(threading);
    Py_XDECREF(target);
    Py_XDECREF(capsule);
    return err;
}

void fm_interp_join(void)
{
    for (Py_ssize_t i = 0; threads && i < PyList_GET_SIZE(threads); i++) {
        PyObject *none = PyObject_CallMethod(PyList_GET_ITEM(threads, i), "join", NULL);
        if (!none)
            PyErr_Clear();
        Py_XDECREF(none);
    }
    Py_CLEAR(threads);
}

void fm_gil_take(void *state) FM_UNCHECKED { PyEval_RestoreThread(state); }

void fm_gil_drop(void *state) FM_UNCHECKED
{
    (void)state;
    PyEval_SaveThread();
}

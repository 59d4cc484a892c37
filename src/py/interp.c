/* The interpreter, whoever has started it: its path, its end, and threads that are real `threading` threads. */
#include "fermata/py/python.h"

#include "fermata/py/interp.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fermata/py/debug.h"
#include "fermata/util/err.h"
#include "start.h"

/* Of the interpreter, of which there is one a process.  The main thread's alone. */
static struct {
    PyThreadState *main_state; /* while the main thread does not hold the GIL */
    PyObject *threads;         /* list of threading.Thread: those that were spawned */
} interp;

const char *fm_interp_version(void)
{
    static char version[32]; /* made when the options are read, before there are threads, and not touched afterwards */
    const char *full = Py_GetVersion();
    size_t n = strcspn(full, " ");
#ifdef Py_GIL_DISABLED
    const char *kind = "t";
#else
    const char *kind = "";
#endif
    if (!*version)
        snprintf(version, sizeof version, "%.*s%s", (int)(n < 30 ? n : 30), full, kind);
    return version;
}

bool fm_interp_has_gil(void)
{
#ifdef Py_GIL_DISABLED
    PyObject *sys = PyImport_ImportModule("sys");
    PyObject *answer = sys ? PyObject_CallMethod(sys, "_is_gil_enabled", NULL) : NULL;
    bool has = answer == Py_True;
    Py_XDECREF(answer);
    Py_XDECREF(sys);
    PyErr_Clear();
    return has;
#else
    return true;
#endif
}

#ifdef Py_GIL_DISABLED
static atomic_bool gil_stays;
#else
static atomic_bool gil_stays = true;
#endif

bool fm_interp_stops_others(void) { return atomic_load(&gil_stays); }

void fm_interp_gil_stays(void) { atomic_store(&gil_stays, true); }

/* What this program imports, or has imported for it, sooner or later: the loader, reports of errors and stacks,
 * futures, threads.  Not each Python has all of them. */
int fm_interp_import_own(void)
{
    static const char *const names[] = {
        "__future__",         "_ast_unparse", "_colorize",    "_suggestions", "ast",         "atexit",
        "concurrent.futures", "contextvars",  "faulthandler", "importlib",    "keyword",     "signal",
        "threading",          "tokenize",     "traceback",    "typing",       "unicodedata",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        PyObject *module = PyImport_ImportModule(names[i]);
        if (!module && !PyErr_ExceptionMatches(PyExc_ModuleNotFoundError))
            return -1;
        PyErr_Clear();
        Py_XDECREF(module);
    }
    return fm_debugger_begin();
}

/* Steals dir; NULL: an exception is set. */
static int insert_dir(PyObject *path, Py_ssize_t at, PyObject *dir)
{
    int err = dir ? PyList_Insert(path, at, dir) : -1;
    Py_XDECREF(dir);
    return err;
}

static int extend(PyObject *path, const char *pythonpath)
{
    Py_ssize_t at = 0;
    char cwd[4096];
    for (const char *p = pythonpath; p && *p;) {
        size_t n = strcspn(p, ",:");
        if (n && insert_dir(path, at++, PyUnicode_DecodeFSDefaultAndSize(p, (Py_ssize_t)n)) != 0)
            return -1;
        p += n + (p[n] != '\0');
    }
    return getcwd(cwd, sizeof cwd) ? insert_dir(path, at, PyUnicode_DecodeFSDefault(cwd)) : 0;
}

int fm_interp_extend_path(const char *pythonpath)
{
    PyObject *sys = PyImport_ImportModule("sys");
    PyObject *path = sys ? PyObject_GetAttrString(sys, "path") : NULL;
    int err = path ? extend(path, pythonpath) : -1;
    Py_XDECREF(path);
    Py_XDECREF(sys);
    return err;
}

static void flush(const char *stream)
{
    PyObject *sys = PyImport_ImportModule("sys");
    PyObject *file =
        sys ? PyObject_GetAttrString(sys, stream) : NULL; /* the application may set another one meanwhile */
    PyObject *none = file && file != Py_None ? PyObject_CallMethod(file, "flush", NULL) : NULL;
    Py_XDECREF(none);
    Py_XDECREF(file);
    Py_XDECREF(sys);
    PyErr_Clear();
}

void fm_interp_flush(void)
{
    flush("stdout");
    flush("stderr");
}

void fm_interp_before_fork(void) { PyOS_BeforeFork(); }

void fm_interp_forked(bool child)
{
    if (child)
        PyOS_AfterFork_Child();
    else
        PyOS_AfterFork_Parent();
}

void fm_interp_interrupt(void) { PyErr_SetInterrupt(); }

/* "1234 'worker'"; nothing of a thread that is not waited for: a daemon, the main thread, one of the scheduler. */
static void name_thread(PyObject *thread, char *text, size_t size)
{
    size_t at = strlen(text);
    PyObject *name = PyObject_GetAttrString(thread, "name"), *id = PyObject_GetAttrString(thread, "native_id");
    PyObject *daemon = PyObject_GetAttrString(thread, "daemon");
    const char *shown = name && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    bool waited_for = daemon && PyObject_IsTrue(daemon) == 0 && id && PyLong_Check(id);
    long tid = waited_for ? PyLong_AsLong(id) : 0;
    if (waited_for && tid != (long)getpid())
        snprintf(text + at, size - at, "%s%ld '%s'", at ? ", " : "", tid, shown ? shown : "?");
    PyErr_Clear();
    Py_XDECREF(daemon);
    Py_XDECREF(id);
    Py_XDECREF(name);
}

void fm_interp_name_threads(char *text, size_t size)
{
    PyObject *module = PyImport_ImportModule("threading");
    PyObject *all = module ? PyObject_CallMethod(module, "enumerate", NULL) : NULL;
    for (Py_ssize_t i = 0; all && PyList_Check(all) && i < PyList_GET_SIZE(all); i++)
        name_thread(PyList_GET_ITEM(all, i), text, size); /* a new list: no other thread knows it */
    PyErr_Clear();
    Py_XDECREF(all);
    Py_XDECREF(module);
}

bool fm_interp_call(void (*fn)(void *arg), void *arg) FM_UNCHECKED
{
    if (!Py_IsInitialized())
        return false;
    PyGILState_STATE state = PyGILState_Ensure();
    fn(arg);
    PyGILState_Release(state);
    return true;
}

void fm_interp_abandon(void)
{
    PyObject *module = PyImport_ImportModule("atexit");
    PyObject *none = module ? PyObject_CallMethod(module, "_run_exitfuncs", NULL) : NULL;
    if (!none)
        PyErr_Print();
    Py_XDECREF(none);
    Py_XDECREF(module);
    fm_interp_flush();
}

void fm_interp_print_error(void)
{
    if (PyErr_Occurred())
        PyErr_Print();
}

void fm_interp_release(void) FM_UNCHECKED
{
    interp.main_state = PyEval_SaveThread();
    fm_debugger_watch(interp.main_state);
}

void fm_interp_acquire(void) FM_UNCHECKED
{
    fm_debugger_watch(NULL);
    PyEval_RestoreThread(interp.main_state);
    interp.main_state = NULL;
}

/* ---- threads ---- */

static __thread void *thread_state; /* of the calling thread, set when it begins */

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
    else if (interp.threads || (interp.threads = PyList_New(0))) /* the thread frees b */
        err = PyList_Append(interp.threads, thread);
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
    for (Py_ssize_t i = 0; interp.threads && i < PyList_GET_SIZE(interp.threads); i++) {
        PyObject *none = PyObject_CallMethod(PyList_GET_ITEM(interp.threads, i), "join", NULL);
        if (!none)
            PyErr_Clear();
        Py_XDECREF(none);
    }
    Py_CLEAR(interp.threads);
}

void fm_gil_take(void *state) FM_UNCHECKED { PyEval_RestoreThread(state); }

void fm_gil_drop(void *state) FM_UNCHECKED
{
    (void)state;
    PyEval_SaveThread();
}

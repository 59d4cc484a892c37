/* Debuggers in other processes; see py/debug.h. */
#include "fermata/py/python.h"

#include "fermata/py/debug.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#if PY_VERSION_HEX >= 0x030e0000

#include "debug.inc" /* fm_debug_source: py/fermata/debug.py, made by the Makefile */

#define MODULE "_fermata_debug"

/* CPython exports them for a module of its own, and `python` calls them around its program.  Where they are not, no
 * debugger finds the thread; nothing else is different. */
int _PyInterpreterState_SetRunningMain(PyInterpreterState *interpreter) __attribute__((weak));
void _PyInterpreterState_SetNotRunningMain(PyInterpreterState *interpreter) __attribute__((weak));

static bool is_told; /* the main thread's */

int fm_debugger_begin(void)
{
    PyObject *module = fm_own_module("debug", fm_debug_source);
    Py_XDECREF(module); /* sys.modules has it */
    if (module && _PyInterpreterState_SetRunningMain && _PyInterpreterState_SetNotRunningMain) {
        is_told = _PyInterpreterState_SetRunningMain(PyInterpreterState_Get()) == 0;
        PyErr_Clear(); /* `python` has done it */
    }
    return module ? 0 : -1;
}

void fm_debugger_end(void)
{
    if (is_told)
        _PyInterpreterState_SetNotRunningMain(PyInterpreterState_Get());
    is_told = false;
}

/* The flag, which the debugger's process writes and the main thread of Python clears; or NULL. */
static int32_t *_Atomic flag;

void fm_debugger_watch(void *main_state)
{
    PyThreadState *state = main_state;
    atomic_store(&flag, state ? &state->remote_debugger_support.debugger_pending_call : NULL);
}

bool fm_debugger_waits(void)
{
    const int32_t *set = atomic_load_explicit(&flag, memory_order_relaxed);
    return __builtin_expect(set && __atomic_load_n(set, __ATOMIC_RELAXED) != 0, 0);
}

/* It runs the script whether or not the interpreter's loop has been told of it, which is written after the flag. */
static PyObject *run_what_waits(PyObject *self, PyObject *ignored)
{
    (void)self, (void)ignored;
    if (PyErr_CheckSignals() != 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef run_def = {"run_what_waits", run_what_waits, METH_NOARGS, NULL};

/* The script must not run before there is a frame for it, so nothing is compiled or imported here. */
int fm_debugger_run(void)
{
    PyObject *module = fm_loaded(MODULE);
    PyObject *run = module ? PyCFunction_New(&run_def, NULL) : NULL;
    PyObject *none = run ? PyObject_CallMethod(module, "main_thread", "O", run) : NULL;
    bool failed = PyErr_Occurred() != NULL;
    Py_XDECREF(none);
    Py_XDECREF(run);
    Py_XDECREF(module);
    return failed ? -1 : 0;
}

#else

int fm_debugger_begin(void) { return 0; }

void fm_debugger_end(void) {}

void fm_debugger_watch(void *main_state) { (void)main_state; }

bool fm_debugger_waits(void) { return false; }

int fm_debugger_run(void) { return 0; }

#endif

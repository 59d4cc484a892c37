/* The extension module, fermata_server._server: the server in a Python that runs already.  It exports PyInit__server
 * and nothing else.  The command and the function that users call are Python code beside it, in
 * py/extension/fermata_server. */
#include "fermata/py/python.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fermata/command/command.h"
#include "fermata/main.h"
#include "fermata/py/host.h"
#include "fermata/worker/guard.h"
#include "fermata/worker/process.h"
#include "fermata/worker/signals.h"
#include "fermata/worker/title.h"

static bool used; /* the main thread's alone */

/* Why it cannot run here and now, or NULL.  The main thread of a process is the one whose id is the process's. */
static const char *why_not(void)
{
    if (PyInterpreterState_Get() != PyInterpreterState_Main())
        return "fermata_server runs in the main interpreter, and this is another one";
    if (syscall(SYS_gettid) != (long)getpid())
        return "fermata_server runs in the main thread, which gets the signals, and this is another one";
    return used ? "fermata_server runs once in a process, and has run in this one" : NULL;
}

/* Python has to know of a fork. */
static void begin_command(void)
{
    pid_t before = getpid();
    pthread_setname_np(pthread_self(), "fermata");
    fm_title_find();
    fm_process_streams();
    PyOS_BeforeFork();
    fm_process_orphans(fm_signals_first);
    if (getpid() == before)
        PyOS_AfterFork_Parent();
    else
        PyOS_AfterFork_Child();
}

/* The process is the script's: it stays the same one, and gets its signals back. */
static int run_in_script(int argc, char **argv) FM_UNCHECKED
{
    fm_host_lend();
    fm_process_streams();
    fm_signals_first();
    int code = fm_main(argc, argv, true);
    fm_guard_stop();
    fm_signals_last();
    return code;
}

static PyObject *check(PyObject *module, PyObject *ignored)
{
    const char *why = why_not();
    (void)module, (void)ignored;
    if (!why)
        Py_RETURN_NONE;
    PyErr_SetString(PyExc_RuntimeError, why);
    return NULL;
}

static PyObject *start(PyObject *arguments, bool is_command) FM_UNCHECKED
{
    int argc;
    PyObject *none = check(NULL, NULL);
    if (!none)
        return NULL;
    Py_DECREF(none);
    char **argv = fm_host_strings(arguments, &argc);
    if (!argv)
        return NULL;
    if (argc < 1) {
        PyErr_SetString(PyExc_ValueError, "the first argument is the name of the command, and there is none");
        return NULL;
    }
    if (is_command && fm_command_is_one(argc, argv)) {
        fm_process_streams();
        return PyLong_FromLong(fm_command_run(argc, argv));
    }
    used = true;
    if (!is_command)
        return PyLong_FromLong(run_in_script(argc, argv));
    begin_command();
    return PyLong_FromLong(fm_main(argc, argv, false));
}

static PyObject *command(PyObject *module, PyObject *arguments)
{
    (void)module;
    return start(arguments, true);
}

static PyObject *run(PyObject *module, PyObject *arguments)
{
    (void)module;
    return start(arguments, false);
}

static PyMethodDef methods[] = {
    {"check", check, METH_NOARGS, "check(): raises RuntimeError if the others would."},
    {"command", command, METH_O, "command(argv): the process is the server's.  Returns the exit code."},
    {"run", run, METH_O, "run(argv): the process is the caller's, which goes on afterwards.  Returns the exit code."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_mod_gil /* from 3.13 on; without it a free-threaded CPython turns the GIL on */
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fermata_server._server",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__server(void); /* its only caller is Python */

PyMODINIT_FUNC PyInit__server(void) { return PyModuleDef_Init(&definition); }

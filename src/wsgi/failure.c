/* The traceback of a failure that is thrown into an application (S5).
 *
 * Python adds the frames that an exception passes through to its traceback, and the exception is the future's: a
 * thousand requests that wait for one future would each find, log and keep the frames of all before.  So it gets back
 * what it had, as asyncio does it.  Threads may throw the same exception at the same time, and what it had is then what
 * it had before the first of them. */
#include "internal.h"

/* The runs that are throwing right now, one a thread at most.  Under the GIL. */
static struct fm_run *all;

static void restore(const struct fm_run *run)
{
    PyException_SetTraceback(run->thrown, run->traceback ? run->traceback : Py_None);
}

void fm_failure_begin(struct fm_run *run, PyObject *exc)
{
    struct fm_run *other = all;
    while (other && other->thrown != exc)
        other = other->next_throwing;
    Py_XSETREF(run->traceback, other ? Py_XNewRef(other->traceback) : PyException_GetTraceback(exc));
    Py_XSETREF(run->thrown, Py_NewRef(exc));
    run->next_throwing = all;
    all = run;
    run->throws = true;
    restore(run);
}

void fm_failure_end(struct fm_run *run)
{
    PyObject *type, *value, *tb;
    if (!run->thrown)
        return;
    struct fm_run **at = &all;
    while (run->throws && *at != run)
        at = &(*at)->next_throwing;
    if (run->throws)
        *at = run->next_throwing;
    run->throws = false;
    PyErr_Fetch(&type, &value, &tb);
    restore(run);
    PyErr_Restore(type, value, tb);
}

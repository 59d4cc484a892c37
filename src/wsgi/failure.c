/* The traceback of a failure that is thrown into an application (S5).
 *
 * Python adds the frames that an exception passes through to its traceback, and the exception is the future's: a
 * thousand requests that wait for one future would each find, log and keep the frames of all before.  So it gets back
 * what it had, as asyncio does it.  Threads may throw the same exception at the same time, and what it had is then what
 * it had before the first of them.  So the runs that are throwing are in a list, under the leaf lock; and as what an
 * exception has is read without the lock, it is read again if another run has begun to throw meanwhile. */
#include "internal.h"

static void restore(const struct fm_run *run)
{
    PyException_SetTraceback(run->thrown, run->traceback ? run->traceback : Py_None);
}

/* Puts the run into the list.  The traceback is that of the first of those that throw the same, or `own` if there is
 * none and no run has begun to throw since *throws, which is how many have.  False: neither. */
static bool enter(struct fm_run *run, PyObject *own, uint64_t *throws, bool have_own)
{
    fm_mutex_lock(&fm_wsgi.lock);
    struct fm_run *other = fm_wsgi.throwing;
    while (other && other->thrown != run->thrown)
        other = other->next_throwing;
    bool entered = other || (have_own && *throws == fm_wsgi.throws);
    *throws = fm_wsgi.throws;
    if (entered) {
        run->traceback = Py_XNewRef(other ? other->traceback : own);
        run->next_throwing = fm_wsgi.throwing;
        fm_wsgi.throwing = run;
        fm_wsgi.throws++;
        run->throws = true;
    }
    fm_mutex_unlock(&fm_wsgi.lock);
    return entered;
}

void fm_failure_begin(struct fm_run *run, PyObject *exc)
{
    PyObject *own = NULL;
    uint64_t throws = 0;
    Py_CLEAR(run->traceback);
    Py_XSETREF(run->thrown, Py_NewRef(exc));
    for (bool have_own = false; !enter(run, own, &throws, have_own); have_own = true)
        Py_XSETREF(own, PyException_GetTraceback(exc));
    Py_XDECREF(own);
    restore(run);
}

/* It is restored before the run leaves the list: a run that finds it there takes what it had from it, and one that does
 * not finds that on the exception. */
void fm_failure_end(struct fm_run *run)
{
    PyObject *type, *value, *tb;
    if (!run->thrown)
        return;
    PyErr_Fetch(&type, &value, &tb);
    restore(run);
    PyErr_Restore(type, value, tb);
    if (!run->throws)
        return;
    fm_mutex_lock(&fm_wsgi.lock);
    struct fm_run **at = &fm_wsgi.throwing;
    while (*at != run)
        at = &(*at)->next_throwing;
    *at = run->next_throwing;
    run->throws = false;
    fm_mutex_unlock(&fm_wsgi.lock);
}

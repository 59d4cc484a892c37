/* Futures: what suspends, how a run is woken, and how a future ended.
 *
 * The wake-up is a tiny callable that the future holds until it is done, possibly long after the request: it owns
 * nothing but its struct fm_wait, through which it finds the task only if the task still waits (sched/task.h).  Calling
 * it is constant time in whatever thread completes the future (S10). */
#include "internal.h"

#include <sched.h>
#include <structmember.h>

#include "fermata/sched/wake.h"
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/wsgi/gateway.h"
#include "parked.h"

struct fm_wakeup {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    struct fm_wait wait;    /* taken once: its state is atomic */
    struct fm_sched *sched; /* outlives the interpreter */
};

static PyObject *wakeup_call(PyObject *self, PyObject *const *args, size_t nargs, PyObject *kwnames)
{
    (void)args, (void)nargs, (void)kwnames;
    struct fm_wakeup *w = (struct fm_wakeup *)self;
    if (atomic_load_explicit(&fm_forked, memory_order_relaxed)) /* a child has a copy of the future, not the request */
        Py_RETURN_NONE;
    atomic_fetch_add(&fm_wsgi.waking, 1);
    fm_wait_fire(&w->wait, w->sched);
    atomic_fetch_sub(&fm_wsgi.waking, 1);
    Py_RETURN_NONE;
}

static void wakeup_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct fm_wakeup, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, wakeup_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_doc, "Done-callback of a future that a request is parked on."},
    {Py_tp_members, members},
    {0, NULL},
};

PyType_Spec fm_wakeup_spec = {
    .name = "fermata.Wakeup",
    .basicsize = sizeof(struct fm_wakeup),
    .flags = FM_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = slots,
};

/* A wake-up that has made its task QUEUED may not have pushed it yet.  Those that begin later find no PARKED task. */
void fm_wsgi_settle(void)
{
    while (atomic_load(&fm_wsgi.waking) > 0)
        sched_yield(); /* a few instructions, in none of which it waits for the caller; with a GIL there is none */
}

bool fm_is_future(PyObject *o) { return PyObject_TypeCheck(o, fm_wsgi.future_type); }

int fm_future_done(PyObject *future)
{
    PyObject *answer = PyObject_CallMethodNoArgs(future, fm_wsgi.name[FM_N_done]);
    int done = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    fm_child_check();
    return done;
}

struct fm_wait *fm_future_wait(struct fm_run *run) { return &((struct fm_wakeup *)run->wakeup)->wait; }

int fm_future_park(struct fm_run *run, PyObject *future)
{
    struct fm_wakeup *w = PyObject_New(struct fm_wakeup, fm_wsgi.wakeup_type);
    if (!w)
        return -1;
    w->vectorcall = wakeup_call;
    w->sched = run->call->sched;
    run->wakeup = (PyObject *)w;
    run->future = Py_NewRef(future);
    run->parked_at = fm_now();
    atomic_store_explicit(&run->call->task.place, fm_place_of(run), memory_order_relaxed);
    atomic_store_explicit(&run->call->task.since, run->parked_at, memory_order_relaxed);
    fm_parked_add(run);
    fm_task_park(&run->call->task, &w->wait);
    PyObject *none = PyObject_CallMethodOneArg(future, fm_wsgi.name[FM_N_add_done_callback], (PyObject *)w);
    fm_child_check();
    if (none) {
        Py_DECREF(none);
        return 0;
    }
    fm_task_unpark(&run->call->task, &w->wait);
    fm_parked_remove(run);
    return -1;
}

void fm_future_unpark(struct fm_run *run)
{
    if (!run->wakeup)
        return;
    fm_wait_disarm(fm_future_wait(run));
    fm_parked_remove(run);
    Py_CLEAR(run->wakeup);
    fm_observe(FM_HG_PARKED, fm_now() - run->parked_at);
}

int fm_future_outcome(PyObject *future, PyObject **exc)
{
    PyObject *zero = PyLong_FromLong(0); /* seconds: a future that is not done after all must not block us */
    PyObject *answer = zero ? PyObject_CallMethodOneArg(future, fm_wsgi.name[FM_N_exception], zero) : NULL;
    Py_XDECREF(zero);
    fm_child_check();
    *exc = NULL;
    if (answer == Py_None) {
        Py_DECREF(answer);
        return 0;
    }
    if (answer) {
        if (!PyExceptionInstance_Check(answer)) {
            PyErr_Format(PyExc_TypeError, "%.100s.exception() returned %.100s", Py_TYPE(future)->tp_name,
                         Py_TYPE(answer)->tp_name);
            Py_DECREF(answer);
            return -1;
        }
        *exc = answer;
        return 1;
    }
    /* exception() itself raised: CancelledError of a cancelled future, which is thrown in like any other. */
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    Py_XDECREF(type);
    Py_XDECREF(tb);
    *exc = value;
    return value ? 1 : -1;
}

static bool is_asyncio_future(PyObject *item)
{
    PyObject *marker = PyObject_GetAttrString((PyObject *)Py_TYPE(item), "_asyncio_future_blocking");
    bool is = marker != NULL;
    Py_XDECREF(marker);
    PyErr_Clear();
    return is;
}

static bool holds_futures(PyObject *item)
{
    PyObject *all = PyList_Check(item) ? PyList_AsTuple(item) : PyTuple_Check(item) ? Py_NewRef(item) : NULL;
    bool any = false;
    for (Py_ssize_t i = 0; all && !any && i < PyTuple_GET_SIZE(all); i++)
        any = fm_is_future(PyTuple_GET_ITEM(all, i));
    Py_XDECREF(all);
    PyErr_Clear(); /* no memory: no hint */
    return any;
}

void fm_wrong_item(PyObject *item)
{
    const char *hint = "";
    if (PyUnicode_Check(item))
        hint = "; encode text first";
    else if (PyCoro_CheckExact(item) || is_asyncio_future(item))
        hint = "; hand it to an event loop thread and yield the future of asyncio.run_coroutine_threadsafe()";
    else if (PyGen_Check(item))
        hint = "; write yield from in place of yield";
    else if (holds_futures(item))
        hint = "; yield the futures one after the other, or one future that is done when all are";
    else if (PyByteArray_Check(item) || PyMemoryView_Check(item))
        hint = "; make bytes of it first";
    PyErr_Format(PyExc_TypeError, "the application yielded %.200s, not bytes or a concurrent.futures.Future%s",
                 Py_TYPE(item)->tp_name, hint);
}

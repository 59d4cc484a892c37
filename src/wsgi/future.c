/* Futures: what suspends, how a run is woken, and how a future ended.
 *
 * The wake-up is a tiny callable that the future holds until it is done, possibly long after the request: it owns
 * nothing but its struct fm_wait, through which it finds the task only if the task still waits (sched/task.h).  Calling
 * it is constant time in whatever thread completes the future (S10). */
#include "internal.h"

#include "fermata/sched/wake.h"
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"

struct fm_wakeup {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    struct fm_wait wait;
    struct fm_sched *sched; /* outlives the interpreter */
};

static PyObject *future_type;

static PyObject *wakeup_call(PyObject *self, PyObject *const *args, size_t nargs, PyObject *kwnames)
{
    (void)args, (void)nargs, (void)kwnames;
    struct fm_wakeup *w = (struct fm_wakeup *)self;
    if (!atomic_load_explicit(&fm_forked, memory_order_relaxed)) /* a child has a copy of the future, not the request */
        fm_wait_fire(&w->wait, w->sched);
    Py_RETURN_NONE;
}

static void wakeup_dealloc(PyObject *self) { PyObject_Free(self); }

static PyTypeObject wakeup_type = {
    .ob_base = FM_TYPE_BASE,
    .tp_name = "fermata.Wakeup",
    .tp_basicsize = sizeof(struct fm_wakeup),
    .tp_dealloc = wakeup_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(struct fm_wakeup, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_doc = "Done-callback of a future that a request is parked on.",
};

int fm_future_init(void)
{
    PyObject *module = PyImport_ImportModule("concurrent.futures");
    future_type = module ? PyObject_GetAttrString(module, "Future") : NULL;
    Py_XDECREF(module);
    if (!future_type || !PyType_Check(future_type))
        return -1;
    return PyType_Ready(&wakeup_type);
}

void fm_future_fini(void) { Py_CLEAR(future_type); }

bool fm_is_future(PyObject *o) { return PyObject_TypeCheck(o, (PyTypeObject *)future_type); }

int fm_future_done(PyObject *future)
{
    PyObject *answer = PyObject_CallMethodNoArgs(future, fm_name[FM_N_done]);
    int done = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    fm_child_check();
    return done;
}

struct fm_wait *fm_future_wait(struct fm_run *run) { return &((struct fm_wakeup *)run->wakeup)->wait; }

int fm_future_park(struct fm_run *run, PyObject *future)
{
    struct fm_wakeup *w = PyObject_New(struct fm_wakeup, &wakeup_type);
    if (!w)
        return -1;
    w->vectorcall = wakeup_call;
    w->sched = run->call->sched;
    run->wakeup = (PyObject *)w;
    run->future = Py_NewRef(future);
    run->parked_at = fm_now();
    fm_task_park(&run->call->task, &w->wait);
    PyObject *none = PyObject_CallMethodOneArg(future, fm_name[FM_N_add_done_callback], (PyObject *)w);
    fm_child_check();
    if (none) {
        Py_DECREF(none);
        return 0;
    }
    fm_task_unpark(&run->call->task, &w->wait);
    return -1;
}

void fm_future_unpark(struct fm_run *run)
{
    if (!run->wakeup)
        return;
    fm_wait_disarm(fm_future_wait(run));
    Py_CLEAR(run->wakeup);
    fm_observe(FM_HG_PARKED, fm_now() - run->parked_at);
}

int fm_future_outcome(PyObject *future, PyObject **exc)
{
    PyObject *zero = PyLong_FromLong(0); /* seconds: a future that is not done after all must not block us */
    PyObject *answer = zero ? PyObject_CallMethodOneArg(future, fm_name[FM_N_exception], zero) : NULL;
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
    if (!PyList_Check(item) && !PyTuple_Check(item))
        return false;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(item);
    for (Py_ssize_t i = 0; i < n; i++)
        if (fm_is_future(PySequence_Fast_GET_ITEM(item, i)))
            return true;
    return false;
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

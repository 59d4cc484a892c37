/* One step of a request: call or resume the application, take items until it suspends or ends, give the task away.
 *
 * A step runs in the request's own contextvars.Context (S9).  It ends in one of the results below; only after the
 * context is left and the monitor has been told (fm_thread_release) is the task given away, because then it may run
 * elsewhere.
 */
#include "internal.h"

#include <sys/uio.h>

#include "fermata/py/error.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/wsgi/gateway.h"

#define MAX_STREAK 64 /* futures done at once that are resumed in a row before others get their turn (S3) */

enum step_result {
    STEP_GO_ON,   /* not the end of the step: the next item */
    STEP_PARK,    /* PARKING on run->wakeup */
    STEP_WRITE,   /* the connection keeps too much */
    STEP_REQUEUE, /* enough for now */
    STEP_DONE,    /* response complete */
    STEP_ERROR,   /* exception set */
    STEP_ABORTED, /* the request was ended from outside */
};

/* Output goes to the socket without the GIL if other threads may want it, that is when the step is not inline, and
 * there is one. */
static PyThreadState *let_others(const struct fm_call *call, struct fm_thread *thread)
{
    bool keep = fm_sched_is_inline(call->sched, thread) || fm_sched_is_parallel(call->sched);
    return keep ? NULL : PyEval_SaveThread();
}

static void take_back(PyThreadState *state)
{
    if (state)
        PyEval_RestoreThread(state);
}

static void note_cut(struct fm_run *run)
{
    char what[FM_REQUEST_TEXT];
    if (!run->call->writer.cut || run->warned_cut)
        return;
    run->warned_cut = true;
    if (fm_is_file_wrapper(run->iterable))
        return; /* a range of a file: its end is what Content-Length is for */
    fm_request_describe(run->call->request, what, sizeof what);
    fm_error("%s: the application sent more than its Content-Length; the rest is cut off", what);
}

/* Does the connection keep so much that the request waits for its client?  For what it has borrowed it always does. */
static bool has_to_wait(const struct fm_call *call, enum fm_sent sent)
{
    return sent == FM_SENT_BORROWED || (sent == FM_SENT_KEPT && fm_writer_pending(&call->writer) > FM_OUTPUT_HIGH);
}

static enum step_result end_response(struct fm_run *run, struct fm_thread *thread);

/* A block of the body.  STEP_GO_ON, or what the step ends with. */
static enum step_result emit(struct fm_run *run, struct fm_thread *thread, PyObject *bytes)
{
    struct fm_call *call = run->call;
    size_t n = (size_t)PyBytes_GET_SIZE(bytes);
    if (n == 0)
        return STEP_GO_ON; /* PEP 3333: an empty string sends nothing, not even headers */
    if (!run->started) {
        PyErr_SetString(PyExc_AssertionError, "the application sent a body before it called start_response");
        return STEP_ERROR;
    }
    PyThreadState *state = n > FM_WRITER_CORK ? let_others(call, thread) : NULL;
    enum fm_sent sent = fm_writer_block(&call->writer, PyBytes_AS_STRING(bytes), n, true);
    take_back(state);
    note_cut(run);
    if (sent == FM_SENT_GONE)
        return STEP_ABORTED;
    if (call->writer.cut)
        run->phase = FM_RUN_ENDING; /* PEP 3333: the server stops iterating when enough has been sent */
    if (has_to_wait(call, sent)) {  /* the connection may have borrowed the block */
        Py_XSETREF(run->block, Py_NewRef(bytes));
        return STEP_WRITE;
    }
    if (call->writer.cut)
        return end_response(run, thread);
    fm_thread_cork(thread); /* it may be corked */
    return STEP_GO_ON;
}

/* The response is complete: frames the end. */
static enum step_result end_response(struct fm_run *run, struct fm_thread *thread)
{
    struct fm_call *call = run->call;
    if (!run->started) {
        PyErr_SetString(PyExc_AssertionError, "the application ended without calling start_response");
        return STEP_ERROR;
    }
    PyThreadState *state = let_others(call, thread);
    enum fm_sent sent = fm_writer_end(&call->writer);
    take_back(state);
    if (sent != FM_SENT_GONE && fm_writer_is_short(&call->writer)) {
        PyErr_Format(PyExc_AssertionError,
                     "the application sent %llu bytes, fewer than its Content-Length; the connection is broken off",
                     (unsigned long long)call->writer.body);
        return STEP_ERROR;
    }
    return sent == FM_SENT_GONE ? STEP_ABORTED : STEP_DONE;
}

/* ---- items ---- */

/* Whether the exception that is set is this very object. */
static bool is_raised(PyObject *exc)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    bool is = value == exc;
    PyErr_Restore(type, value, tb);
    return is;
}

/* What next(iterator), and throw(failure), leave: 1 item, 0 the end, -1 exception set.  A failure that happens to be a
 * StopIteration is no end when an iterator hands it back (S5.5); a generator makes a RuntimeError of it. */
static int item_or_end(PyObject *item, PyObject *failure)
{
    fm_child_check();
    if (item)
        return 1;
    if (!PyErr_Occurred())
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_StopIteration) || (failure && is_raised(failure)))
        return -1;
    PyErr_Clear();
    return 0;
}

static int next_item(struct fm_run *run, PyObject **item)
{
    *item = Py_TYPE(run->iterator)->tp_iternext(run->iterator);
    return item_or_end(*item, NULL);
}

/* After the future: its failure is thrown in at the yield, or raised where the iterator has no throw() and so could not
 * catch it (S5); otherwise simply the next item. */
static int item_after_future(struct fm_run *run, PyObject **item)
{
    PyObject *exc, *future = run->future;
    run->future = NULL;
    run->parked_at = 0;
    *item = NULL;
    int failed = fm_future_outcome(future, &exc);
    Py_DECREF(future);
    if (failed == 0)
        return next_item(run, item);
    if (failed < 0)
        return -1;
    PyObject *method = PyObject_GetAttr(run->iterator, fm_wsgi.name[FM_N_throw_]);
    fm_child_check();
    if (!method) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError)) /* no throw: an iterable that could not handle it */
            PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
        return -1;
    }
    fm_failure_begin(run, exc);
    *item = PyObject_CallOneArg(method, exc);
    int got = item_or_end(*item, exc);
    if (got >= 0)
        fm_failure_end(run); /* otherwise when it has been logged */
    Py_DECREF(method);
    Py_DECREF(exc);
    return got;
}

/* A Future was yielded.  STEP_GO_ON: it is done already, and run->future is set for item_after_future. */
static enum step_result suspend(struct fm_run *run, PyObject *future)
{
    struct fm_call *call = run->call;
    int done = fm_future_done(future);
    if (done < 0)
        return STEP_ERROR;
    if (done) {
        run->future = Py_NewRef(future);
        if (++run->streak <= MAX_STREAK)
            return STEP_GO_ON;
        fm_writer_flush(&call->writer, UINT64_MAX); /* the monitor does not watch it while it is queued */
        return STEP_REQUEUE;
    }
    fm_writer_flush(&call->writer, UINT64_MAX); /* S2: what was yielded before is on its way */
    if (fm_future_park(run, future) != 0)
        return STEP_ERROR;
    fm_count(FM_C_PARKS);
    return STEP_PARK;
}

static enum step_result iterate(struct fm_run *run, struct fm_thread *thread)
{
    PyObject *item;
    int got = run->future ? item_after_future(run, &item) : next_item(run, &item);
    for (;;) {
        if (got < 0)
            return STEP_ERROR;
        if (got == 0)
            return end_response(run, thread);
        enum step_result result;
        bool future = false;
        if (PyBytes_Check(item))
            result = emit(run, thread, item);
        else if ((future = fm_is_future(item)))
            result = suspend(run, item);
        else {
            fm_wrong_item(item);
            result = STEP_ERROR;
        }
        Py_DECREF(item);
        if (result != STEP_GO_ON)
            return result;
        if (fm_task_aborted(&run->call->task))
            return STEP_ABORTED;
        got = future ? item_after_future(run, &item) : next_item(run, &item);
    }
}

/* ---- the first step ---- */

/* The block of a list or tuple of one: the length is known and nothing needs holding.  A new reference, or NULL without
 * an exception: it is anything else. */
static PyObject *only_block(PyObject *iterable)
{
    if (!(PyList_CheckExact(iterable) || PyTuple_CheckExact(iterable)) || PySequence_Fast_GET_SIZE(iterable) != 1)
        return NULL;
    PyObject *item = fm_item(iterable, 0);
    if (item && !PyBytes_CheckExact(item))
        Py_CLEAR(item);
    return item;
}

/* The length of a body that is a list or tuple of blocks, and the blocks, which the application cannot change any more;
 * -1 if it is anything else. */
static int64_t known_length(PyObject *iterable, PyObject **blocks)
{
    int64_t total = 0;
    PyObject *all = PyList_CheckExact(iterable) || PyTuple_CheckExact(iterable) ? PySequence_Tuple(iterable) : NULL;
    Py_ssize_t n = all ? PyTuple_GET_SIZE(all) : 0;
    PyErr_Clear(); /* no memory: it is iterated as it is */
    for (Py_ssize_t i = 0; i < n && total >= 0; i++) {
        PyObject *block = PyTuple_GET_ITEM(all, i);
        bool ok = PyBytes_CheckExact(block) && PyBytes_GET_SIZE(block) <= INT64_MAX - total;
        total = ok ? total + PyBytes_GET_SIZE(block) : -1;
    }
    if (n == 0 || total < 0)
        Py_CLEAR(all);
    *blocks = all;
    return all ? total : -1;
}

/* Begins to iterate what the application has returned. */
static enum step_result begin_iteration(struct fm_run *run, struct fm_thread *thread)
{
    PyObject *blocks = NULL;
    int64_t total = run->started ? known_length(run->iterable, &blocks) : -1;
    if (total >= 0)
        fm_writer_expect(&run->call->writer, total);
    run->iterator = PyObject_GetIter(blocks ? blocks : run->iterable);
    Py_XDECREF(blocks);
    fm_child_check();
    return run->iterator ? iterate(run, thread) : STEP_ERROR;
}

/* The connection has all there is; end when it keeps nothing of what it has borrowed. */
static enum step_result ending(struct fm_run *run, enum fm_sent sent)
{
    run->phase = FM_RUN_ENDING;
    note_cut(run);
    if (sent == FM_SENT_GONE)
        return STEP_ABORTED;
    return has_to_wait(run->call, sent) ? STEP_WRITE : STEP_DONE;
}

/* The whole body is this one block; steals it. */
static enum step_result send_block(struct fm_run *run, struct fm_thread *thread, PyObject *block)
{
    struct fm_call *call = run->call;
    run->block = block;
    PyThreadState *state = let_others(call, thread);
    enum fm_sent sent = fm_writer_whole(&call->writer, PyBytes_AS_STRING(block), (size_t)PyBytes_GET_SIZE(block), true);
    take_back(state);
    enum step_result result = ending(run, sent);
    return result == STEP_DONE && !fm_writer_is_complete(&call->writer) ? end_response(run, thread) : result;
}

#define SMALL_FILE (256 * 1024)

/* Of musl 1.2.5: a wheel that was built with it runs with older ones as well. */
#pragma weak preadv2

/* The region of a file as bytes, if it is small and in the page cache, so that reading it does not wait; or NULL. */
static PyObject *cached_region(int fd, int64_t pos, int64_t len)
{
    PyObject *bytes = len > 0 && len <= SMALL_FILE ? PyBytes_FromStringAndSize(NULL, len) : NULL;
    if (!bytes) {
        PyErr_Clear();
        return NULL;
    }
    struct iovec to = {PyBytes_AS_STRING(bytes), (size_t)len};
    if (preadv2 && preadv2(fd, &to, 1, pos, RWF_NOWAIT) == len)
        return bytes;
    Py_DECREF(bytes); /* not all of it, or the file system cannot tell */
    return NULL;
}

/* The whole body is this region of a file: what is at hand goes out like any block, everything else by a file thread.
 */
static enum step_result send_file(struct fm_run *run, struct fm_thread *thread, int fd, int64_t pos, int64_t len)
{
    struct fm_call *call = run->call;
    int64_t length = call->writer.resp.length;
    PyObject *bytes = cached_region(fd, pos, length >= 0 && length < len ? length : len);
    if (bytes)
        return send_block(run, thread, bytes);
    enum step_result result = ending(run, fm_writer_file(&call->writer, fd, pos, len)); /* which waits for nothing */
    return result == STEP_DONE ? end_response(run, thread) : result;
}

static enum step_result begin(struct fm_run *run, struct fm_thread *thread)
{
    struct fm_call *call = run->call;
    int fd;
    int64_t pos, len;
    PyObject *env = fm_environ_new(&fm_wsgi_of(thread)->environ, call);
    if (!env)
        return STEP_ERROR;
    PyObject *args[] = {NULL, env, (PyObject *)run};
    run->iterable = PyObject_Vectorcall(fm_wsgi.application, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    fm_child_check();
    Py_DECREF(env);
    if (!run->iterable)
        return STEP_ERROR;
    run->phase = FM_RUN_ITERATE;
    if (fm_task_aborted(&call->task))
        return STEP_ABORTED;

    PyObject *block = run->started ? only_block(run->iterable) : NULL;
    if (block)
        return send_block(run, thread, block);
    if (run->started && fm_writer_takes_files(&call->writer) && fm_file_wrapper_region(run->iterable, &fd, &pos, &len))
        return send_file(run, thread, fd, pos, len);
    return begin_iteration(run, thread);
}

static enum step_result run_step(struct fm_run *run, struct fm_thread *thread)
{
    fm_future_unpark(run);
    Py_CLEAR(run->block);
    if (fm_task_aborted(&run->call->task))
        return STEP_ABORTED;
    switch (run->phase) {
    case FM_RUN_BEGIN: return begin(run, thread);
    case FM_RUN_ITERATE: return iterate(run, thread);
    default: return end_response(run, thread);
    }
}

/* ---- the last step ---- */

/* S7: exactly once, after the last step, whatever ended the request. */
static void close_iterable(struct fm_run *run) FM_NEEDS_GIL
{
    PyObject *iterable = run->iterable;
    char what[FM_REQUEST_TEXT];
    if (!iterable || PyList_CheckExact(iterable) || PyTuple_CheckExact(iterable))
        return;
    PyObject *method = PyObject_GetAttr(iterable, fm_wsgi.name[FM_N_close]);
    fm_child_check();
    if (!method) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear();
            return;
        }
    }
    PyObject *answer = method ? PyObject_CallNoArgs(method) : NULL;
    fm_child_check();
    if (!answer) {
        fm_request_describe(run->call->request, what, sizeof what);
        fm_count(FM_C_APP_ERRORS);
        fm_py_log_exception(FM_LOG_ERROR, "Error in close() after request %s", what);
        fm_child_check();
    }
    Py_XDECREF(answer);
    Py_XDECREF(method);
}

/* The exception that is set reached the server: log, and 500 if it can still be said. */
static enum fm_outcome fail(struct fm_call *call) FM_NEEDS_GIL
{
    char what[FM_REQUEST_TEXT];
    fm_request_describe(call->request, what, sizeof what);
    if (fm_task_aborted(&call->task) && PyErr_ExceptionMatches(PyExc_ConnectionAbortedError)) {
        PyErr_Clear(); /* what our own write() told the application */
        return FM_OUTCOME_ABORTED;
    }
    fm_count(FM_C_APP_ERRORS);
    fm_child_check(); /* the application may be called by anything that makes an exception */
    fm_py_log_exception(FM_LOG_ERROR, "Error handling request %s", what);
    fm_child_check();
    if (fm_writer_claim(&call->writer)) {
        call->ops->answer(call, 500);
        return FM_OUTCOME_DONE;
    }
    fm_writer_flush(&call->writer, UINT64_MAX); /* what was yielded before counts as sent */
    return fm_task_aborted(&call->task) ? FM_OUTCOME_ABORTED : FM_OUTCOME_BROKEN;
}

static enum fm_outcome finalize(struct fm_run *run, enum step_result result) FM_NEEDS_GIL
{
    struct fm_call *call = run->call;
    enum fm_outcome outcome = result == STEP_ERROR  ? fail(call)
                              : result == STEP_DONE ? FM_OUTCOME_DONE
                                                    : FM_OUTCOME_ABORTED;
    fm_failure_end(run);
    close_iterable(run);
    fm_errors_end(&run->errors);
    atomic_store_explicit(&run->over, true, memory_order_relaxed);
    run->call = NULL; /* from here on start_response and write raise */
    call->run = NULL;
    Py_CLEAR(run->iterator);
    Py_CLEAR(run->iterable);
    Py_CLEAR(run->future);
    Py_CLEAR(run->block);
    Py_CLEAR(run->thrown);
    Py_CLEAR(run->traceback);
    return outcome;
}

/* ---- giving the task away ---- */

/* True if the task is gone; false if it is still ours and RUNNING. */
static bool hand_over(struct fm_call *call, struct fm_wait *wait, enum step_result result)
{
    switch (result) {
    case STEP_PARK: return fm_task_let_go(&call->task, wait);
    case STEP_WRITE: return call->ops->park_on_output(call);
    case STEP_REQUEUE:
        fm_task_move(&call->task, FM_TASK_RUNNING, FM_TASK_QUEUED);
        fm_sched_push(call->sched, &call->task);
        return true;
    default: return true;
    }
}

void fm_wsgi_step(struct fm_call *call, struct fm_thread *thread)
{
    struct fm_run *run = call->run;
    call->task.begun = true;
    if (!run) {
        run = fm_run_new(call);
        if (!run) {
            enum fm_outcome outcome = fail(call);
            fm_thread_release(thread);
            call->ops->finish(call, outcome);
            return;
        }
    }
    run->streak = 0;
    for (;;) {
        /* Our own references: once the task is given away, another thread may end the run. */
        PyObject *context = Py_NewRef(run->context);
        enum fm_outcome outcome = FM_OUTCOME_DONE;
        atomic_store_explicit(&call->thread, PyThread_get_thread_ident(), memory_order_relaxed);
        PyContext_Enter(context);
        enum step_result result = run_step(run, thread);
        bool last = result == STEP_DONE || result == STEP_ERROR || result == STEP_ABORTED;
        if (last) {
            outcome = finalize(run, result);
            Py_DECREF(run);
        }
        PyContext_Exit(context);
        Py_DECREF(context);
        fm_child_check(); /* what has been dropped may have had a destructor */
        if (last) {
            atomic_store_explicit(&call->thread, 0, memory_order_relaxed);
            fm_thread_release(thread);
            call->ops->finish(call, outcome);
            return;
        }
        struct fm_wait *wait = result == STEP_PARK ? fm_future_wait(run) : NULL;
        atomic_store_explicit(&call->thread, 0, memory_order_relaxed);
        fm_thread_release(thread);
        if (hand_over(call, wait, result))
            return;
        /* There is no need to wait: the step goes on.  But not for ever, if each future completes in this moment (S3).
         */
        if (++run->streak > MAX_STREAK && hand_over(call, NULL, STEP_REQUEUE))
            return;
        fm_thread_take(thread, &call->task);
    }
}

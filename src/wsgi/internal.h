/* What the files of the WSGI layer share.
 *
 * Errors: inside src/wsgi and src/py as in CPython, that is NULL or -1 with an exception set; each declaration says
 * where it is otherwise.  The border translates: step.c makes an enum fm_outcome of an exception (and logs it), and the
 * functions of include/fermata/wsgi/ and include/fermata/py/ say what they answer.  Numbers that come from below
 * (fm_writer_block, fm_body_read) are negative error numbers until they are made exceptions where they come in.
 *
 * Threads: all functions are called with the GIL, or, where CPython has none, by a thread that is attached to the
 * interpreter, which is what the words GIL and FM_NEEDS_GIL mean there: objects may be used, and a collection of
 * garbage waits for the thread.  That the GIL lets only one thread go on at a time is not relied on: what several
 * threads may touch is in state.h, and says there what protects it; what a request has belongs to the holder of its
 * task (sched/task.h), whose moves order one step before the next; an object that the application may share between its
 * threads has a lock of its own (input.c).  Items of lists and dictionaries that the application has, and attributes of
 * its classes, are used with a reference of our own (fm_item, and py/python.h). */
#ifndef FERMATA_WSGI_INTERNAL_H
#define FERMATA_WSGI_INTERNAL_H

#include "fermata/py/python.h"

#include "fermata/http/headers.h"
#include "fermata/util/buf.h"
#include "fermata/util/fds.h"
#include "fermata/wsgi/call.h"
#include "state.h"

/* ---- one run of the application (start_response.c): the start_response callable itself ---- */

enum fm_phase {
    FM_RUN_BEGIN,   /* the application has not been called */
    FM_RUN_ITERATE, /* its iterable is being iterated */
    FM_RUN_ENDING,  /* everything is with the connection; only the end is missing */
};

/* Everything but the last two is the task's holder's.  References change with the GIL held, as the garbage collector
 * looks at them from any thread. */
struct fm_run {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    struct fm_call *call;         /* NULL once the request is over */
    PyObject *context;            /* contextvars.Context of all steps */
    PyObject *iterable;           /* what the application returned */
    PyObject *iterator;           /* iter() of it */
    PyObject *future;             /* parked on, or about to be looked at */
    PyObject *wakeup;             /* struct fm_wakeup that is registered with it */
    PyObject *block;              /* borrowed by the connection until it is sent */
    PyObject *thrown;             /* the failure that was thrown in last */
    PyObject *traceback;          /* what it had before, or NULL */
    struct fm_list parked;        /* see parked.c */
    struct fm_run *next_throwing; /* see failure.c; fm_wsgi.lock, as `throws` */
    struct fm_buf errors;         /* an unfinished line of wsgi.errors */
    uint64_t parked_at;
    unsigned streak; /* futures in a row that were done at once */
    uint8_t phase;   /* enum fm_phase */
    uint8_t shard;   /* the list that `parked` is in, or was in */
    bool called;     /* start_response was called, or is being called */
    bool throws;     /* `thrown` is on its way through the application, or to the log */
    bool warned_cut;
    /* Written by the holder, read by any thread: a start_response that is kept may be called at any time. */
    atomic_bool started; /* there is a head */
    atomic_bool over;    /* the request is */
};

/* For a call that has none: call->run, a reference. */
struct fm_run *fm_run_new(struct fm_call *call);

/* The calling thread's part of the layer; the server has put it there (fm_wsgi_thread_new). */
static inline struct fm_wsgi_thread *fm_wsgi_of(const struct fm_thread *thread) { return thread->user; }

/* The run whose step the thread, which is the calling one or NULL, is in; or NULL.  Borrowed. */
static inline struct fm_run *fm_run_of(const struct fm_thread *thread)
{
    return thread && thread->task ? FM_LIST_ENTRY(thread->task, struct fm_call, task)->run : NULL;
}

/* ---- futures (future.c) ---- */

/* Is it a concurrent.futures.Future (S1)? */
bool fm_is_future(PyObject *o);

/* Of the functions below those that call the future's methods end a child that the application has forked in them. */

/* done(): 1 or 0, -1 with an exception set. */
int fm_future_done(PyObject *future);

/* Registers a wake-up with the future (S4, S10).  The task is PARKING when this returns 0; -1 with an exception set and
 * the task RUNNING.  run->future and run->wakeup are set. */
int fm_future_park(struct fm_run *run, PyObject *future);

/* The thread that goes on: takes the wake-up back, and observes how long it was.  No-op if there is none. */
void fm_future_unpark(struct fm_run *run);

/* The wait of a parked run. */
struct fm_wait *fm_future_wait(struct fm_run *run);

/* How a done future ended: 0 with a result; 1 with *exc (a new reference) to be thrown in; -1 with an exception set. */
int fm_future_outcome(PyObject *future, PyObject **exc);

/* ---- places (place.c) ---- */

/* Where the iterator of the run has stopped, for util/places.h: when it has yielded a future, which does not know of us
 * yet. 0: not known.  No exception is set. */
uint16_t fm_place_of(struct fm_run *run);

/* NULL: no memory. */
struct fm_place_table *fm_place_table_new(void);
void fm_place_table_free(struct fm_place_table *t);

/* ---- what others ask (inquiries.c) ---- */

/* From now on Python can be asked, or no more.  What is under way goes on. */
void fm_inquiries_open(bool open);

/* ---- failures (failure.c) ---- */

/* Before exc is thrown into the application: notes its traceback in run->thrown and run->traceback. */
void fm_failure_begin(struct fm_run *run, PyObject *exc);

/* When the application has dealt with it, or it has been logged: it has the traceback again that it had.  No-op if
 * nothing was thrown; may be repeated, as an application may raise again later what it has caught.  An exception that
 * is set stays so. */
void fm_failure_end(struct fm_run *run);

/* Sets the TypeError for an item that is neither bytes nor a Future. */
void fm_wrong_item(PyObject *item);

/* ---- children that the application has forked (child.c) ---- */

/* Ends this process, which is a child; an exception may be set. */
_Noreturn void fm_child_end(void);

/* To be called wherever the application has been called: only the process that serves goes on. */
static inline void fm_child_check(void)
{
    if (atomic_load_explicit(&fm_forked, memory_order_relaxed))
        fm_child_end();
}

/* ---- the rest ---- */

/* An item of a list or tuple: a new reference, or NULL without an exception: it is not there any more.  The
 * application's lists may be changed by another of its threads. */
static inline PyObject *fm_item(PyObject *sequence, Py_ssize_t i)
{
#ifdef Py_GIL_DISABLED
    if (PyList_Check(sequence)) {
        PyObject *item = PyList_GetItemRef(sequence, i);
        if (!item)
            PyErr_Clear();
        return item;
    }
#endif
    return Py_NewRef(PySequence_Fast_GET_ITEM(sequence, i));
}

/* environ.c: a new environ; a body is moved out of the request.  `mine` is the calling thread's. */
PyObject *fm_environ_new(struct fm_environ_cache *mine, struct fm_call *call);
void fm_environ_fini(struct fm_environ_cache *mine);

/* proxied.c: what trusted proxies say of the request takes the place of what the connection says.  0, or -1. */
int fm_environ_told(PyObject *env, const struct fm_request *r, const struct fm_peer *peer);

PyObject *fm_input_new(struct fm_body *body); /* input.c: moves the body */
bool fm_input_is_unused(PyObject *input);     /* has only its one owner seen it? */

PyObject *fm_errors_new(void);           /* errors.c: the stream of a thread's requests */
void fm_errors_end(struct fm_buf *line); /* the end of a request whose last line may be unfinished */

/* file_wrapper.c */
static inline bool fm_is_file_wrapper(PyObject *o) { return Py_IS_TYPE(o, fm_wsgi.file_wrapper_type); }
/* If o is our wrapper around a regular file whose read() gives what lies in it: 1 with descriptor, position and bytes
 * to its end, which are some; 0 if it is anything else, and is to be iterated; no exception is set.  Runs nothing of
 * the application's. */
int fm_file_wrapper_region(PyObject *o, int *fd, int64_t *pos, int64_t *len);

#endif

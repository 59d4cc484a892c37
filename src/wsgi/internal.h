/* What the files of the WSGI layer share.  All of it under the GIL unless said otherwise. */
#ifndef FERMATA_WSGI_INTERNAL_H
#define FERMATA_WSGI_INTERNAL_H

#include "fermata/py/python.h"

#include "fermata/http/headers.h"
#include "fermata/util/buf.h"
#include "fermata/util/fds.h"
#include "fermata/wsgi/call.h"

/* What PyVarObject_HEAD_INIT(NULL, 0) gives a static type, without its comma: clang-format takes that for a call. */
#define FM_TYPE_BASE                                                                                                   \
    {                                                                                                                  \
        PyObject_HEAD_INIT(NULL) 0                                                                                     \
    }

/* ---- names: strings that are used again and again, made once (names.c) ---- */

#define FM_NAMES(X)                                                                                                    \
    X(CONTENT_LENGTH, "CONTENT_LENGTH")                                                                                \
    X(HTTP_HOST, "HTTP_HOST")                                                                                          \
    X(PATH_INFO, "PATH_INFO")                                                                                          \
    X(QUERY_STRING, "QUERY_STRING")                                                                                    \
    X(REMOTE_ADDR, "REMOTE_ADDR")                                                                                      \
    X(REMOTE_PORT, "REMOTE_PORT")                                                                                      \
    X(REQUEST_METHOD, "REQUEST_METHOD")                                                                                \
    X(REQUEST_URI, "REQUEST_URI")                                                                                      \
    X(SERVER_NAME, "SERVER_NAME")                                                                                      \
    X(SERVER_PORT, "SERVER_PORT")                                                                                      \
    X(SERVER_PROTOCOL, "SERVER_PROTOCOL")                                                                              \
    X(WSGI_INPUT, "wsgi.input")                                                                                        \
    X(HTTP_1_0, "HTTP/1.0")                                                                                            \
    X(HTTP_1_1, "HTTP/1.1")                                                                                            \
    X(add_done_callback, "add_done_callback")                                                                          \
    X(close, "close")                                                                                                  \
    X(done, "done")                                                                                                    \
    X(exception, "exception")                                                                                          \
    X(fileno, "fileno")                                                                                                \
    X(raw, "raw")                                                                                                      \
    X(read, "read")                                                                                                    \
    X(readable, "readable")                                                                                            \
    X(readinto, "readinto")                                                                                            \
    X(tell, "tell")                                                                                                    \
    X(throw_, "throw")

enum fm_name_id {
#define X(id, text) FM_N_##id,
    FM_NAMES(X)
#undef X
        FM_N_COUNT,
};

extern PyObject *fm_name[FM_N_COUNT];
extern PyObject *fm_header_key[FM_H_OTHER]; /* by enum fm_header_id */

int fm_names_init(void);
void fm_names_fini(void);

/* ---- one run of the application (start_response.c): the start_response callable itself ---- */

enum fm_phase {
    FM_RUN_BEGIN,   /* the application has not been called */
    FM_RUN_ITERATE, /* its iterable is being iterated */
    FM_RUN_ENDING,  /* everything is with the connection; only the end is missing */
};

struct fm_run {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    struct fm_call *call;         /* NULL once the request is over: late calls get an exception */
    PyObject *context;            /* contextvars.Context of all steps */
    PyObject *iterable;           /* what the application returned */
    PyObject *iterator;           /* iter() of it */
    PyObject *future;             /* parked on, or about to be looked at */
    PyObject *wakeup;             /* struct fm_wakeup that is registered with it */
    PyObject *block;              /* borrowed by the connection until it is sent */
    PyObject *thrown;             /* the failure that was thrown in last */
    PyObject *traceback;          /* what it had before, or NULL */
    struct fm_run *next_throwing; /* see failure.c */
    struct fm_buf errors;         /* an unfinished line of wsgi.errors */
    uint64_t parked_at;
    unsigned streak; /* futures in a row that were done at once */
    uint8_t phase;   /* enum fm_phase */
    bool called;     /* start_response was called, or is being called */
    bool started;    /* and there is a head */
    bool throws;     /* `thrown` is on its way through the application, or to the log */
    bool warned_cut;
};

extern PyTypeObject fm_run_type;
int fm_run_init(void);
void fm_run_fini(void);
struct fm_run *fm_run_new(struct fm_call *call);

/* ---- futures (future.c) ---- */

int fm_future_init(void);
void fm_future_fini(void);

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

PyObject *fm_environ_new(struct fm_call *call); /* environ.c */
int fm_environ_init(bool multithread);
void fm_environ_fini(void);

PyObject *fm_input_new(struct fm_body *body); /* input.c: moves the body */
bool fm_input_is_unused(PyObject *input);     /* has nobody but its one owner seen it? */
int fm_input_init(void);

PyObject *fm_errors_new(void);           /* errors.c: the stream of all requests */
void fm_errors_end(struct fm_buf *line); /* the end of a request whose last line may be unfinished */

extern PyTypeObject fm_file_wrapper_type; /* file_wrapper.c */
int fm_file_wrapper_init(void);
void fm_file_wrapper_fini(void);
static inline bool fm_is_file_wrapper(PyObject *o) { return Py_IS_TYPE(o, &fm_file_wrapper_type); }
/* If o is our wrapper around a regular file whose read() gives what lies in it: 1 with descriptor, position and bytes
 * to its end, which are some; 0 if it is anything else, and is to be iterated; no exception is set.  Runs nothing of
 * the application's. */
int fm_file_wrapper_region(PyObject *o, int *fd, int64_t *pos, int64_t *len);

extern PyObject *fm_application; /* app.c */

#endif

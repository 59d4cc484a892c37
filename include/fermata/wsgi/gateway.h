/* The gateway between the server and a WSGI or WSGI+ application (PEP 3333; spec/wsgi-plus.md). */
#ifndef FERMATA_WSGI_GATEWAY_H
#define FERMATA_WSGI_GATEWAY_H

#include "fermata/util/annotate.h"
#include "fermata/wsgi/call.h"

struct fm_wsgi_config {
    bool multithread;      /* steps may run at the same time */
    bool multiprocess;     /* other processes serve the same sockets */
    bool places;           /* where requests wait is noted (util/places.h) */
    bool futures;          /* and what they wait for can be asked (wsgi/inquiries.h) */
    const char *root_path; /* SCRIPT_NAME, which PATH_INFO does not begin with; "/a", or NULL for none */
    /* Ends, with this exit code, a child that the application has forked and that comes back to a step
     * (src/wsgi/child.c): how a process ends is the caller's. */
    void (*end_child)(int code);
};

/* Makes the types and constants.  config's texts live as long as the process.  0, or -1 with an exception set. */
int fm_wsgi_init(const struct fm_wsgi_config *config) FM_NEEDS_GIL;

/* What a pool thread keeps from step to step: one for each, for fm_thread.user, before its first step.  Freed by
 * fm_wsgi_fini, for the main thread may have to run the last steps of threads that have ended. */
struct fm_wsgi_thread *fm_wsgi_thread_new(void) FM_ANY_THREAD;

/* Before fm_wsgi_load: has fm_interp_interrupt interrupt it.  Python takes SIGINT for that, and the caller takes it
 * back.  0, or -1 with an exception set. */
int fm_wsgi_prepare(void) FM_NEEDS_GIL;

/* What Python's logging and standard streams are set up with before the application is loaded.  Texts may be NULL; the
 * dictionary comes before the JSON file, which comes before the ini file, as with gunicorn. */
struct fm_wsgi_logging {
    const char *config, *config_json; /* files */
    const char *config_dict;          /* a dictionary of logging.config, as JSON */
    bool by_lines;                    /* what is printed goes out when its line ends, also where that is a file */
};

/* 0, or -1 after a message on standard error that names the option. */
int fm_wsgi_set_up_logging(const struct fm_wsgi_logging *l) FM_NEEDS_GIL;

/* Imports the application MODULE[:CALLABLE].  0, or -1 after the traceback or a message went to standard error; it says
 * nothing where it was interrupted. */
int fm_wsgi_load(const char *spec) FM_NEEDS_GIL;

/* In a worker that was forked after fm_wsgi_load: the hooks around a request, which it has loaded since.  0, or -1
 * after the traceback. */
int fm_wsgi_take_hooks(void) FM_NEEDS_GIL;

/* Was Python started without a GIL?  name[size]: the module for which CPython has turned it on since, and leaves it on,
 * or "" where it has told of none. */
bool fm_wsgi_gil_was_off(char *name, size_t size) FM_NEEDS_GIL;

/* A descriptor that becomes readable when a signal has come that the application has a handler for, in whichever
 * thread; -1 if it sees to it itself (signal.set_wakeup_fd), or has no *handlers.  Once, after fm_wsgi_load. */
int fm_wsgi_signal_fd(bool *handlers) FM_NEEDS_GIL;

/* Runs the application's signal handlers that are due; takes the GIL for it. */
void fm_wsgi_check_signals(void) FM_NO_GIL;

/* Runs what a debugger of another process has written for the main thread (py/debug.h); takes the GIL for it.  Main
 * thread. */
void fm_wsgi_run_debugger(void) FM_NO_GIL;

/* When all requests have been told to end, before what is left of them is run: waits until the wake-ups that are under
 * way in threads of the application have queued their tasks. */
void fm_wsgi_settle(void) FM_NEEDS_GIL;

/* Drops the application, all constants and what threads have kept: before the interpreter ends, when no thread is in a
 * step any more. */
void fm_wsgi_fini(void) FM_NEEDS_GIL;

/* One step of a call: begins or resumes the application, and gives the task away at the end. */
void fm_wsgi_step(struct fm_call *call, struct fm_thread *thread) FM_NEEDS_GIL;

#endif

/* The interpreter.  In the binary it is embedded, started and ended here (py/embed.c); the extension module is loaded
 * into one that runs already and goes on afterwards (py/host.c).  Only these two files know which it is.
 *
 * Main thread only, unless said otherwise. */
#ifndef FERMATA_PY_INTERP_H
#define FERMATA_PY_INTERP_H

#include <stdbool.h>
#include <stddef.h>

#include "fermata/util/annotate.h"

struct fm_interp_config {
    const char *venv;       /* directory of a virtual environment, or NULL */
    bool venv_is_active;    /* which is not asked for, but the one of the shell that the command was given in */
    const char *pythonpath; /* directories to put in front of sys.path, separated by commas or colons, or NULL */
    const char *program;    /* becomes sys.argv[0] */
    char *const *args;      /* and these the rest of it */
    int nargs;
};

/* "3.11.7", "3.14.1t": of the library in use; t for free-threaded. */
const char *fm_interp_version(void);

/* Does Python run threads at the same time, without a GIL, or will it when it has been started?  The caller is attached
 * to it if it has been. */
bool fm_interp_is_free_threaded(void);

/* Is there a GIL?  In a free-threaded CPython a library may turn it on at any time, and off again when its import is
 * over.  True if it cannot be told, where there usually is one. */
bool fm_interp_has_gil(void) FM_NEEDS_GIL;

/* Does the thread that holds the GIL keep all others from going on, until it gives it up?  Where it may be turned off
 * it does not, unless fm_interp_gil_stays was called. */
bool fm_interp_stops_others(void) FM_ANY_THREAD;
void fm_interp_gil_stays(void) FM_ANY_THREAD;

/* Starts Python, or makes the one that runs what the command line asks for; the calling thread holds the GIL
 * afterwards. What the server itself needs of the standard library is imported before the current directory is on
 * sys.path, so that a project's own signal.py is not taken for it.  0, or FM_EINVAL after a message in the log. */
int fm_interp_start(const struct fm_interp_config *config) FM_TAKES_GIL;

/* Ends Python: atexit handlers run, non-daemon threads of the application are waited for.  0, or -1 if flushing
 * standard streams failed. */
int fm_interp_stop(void) FM_DROPS_GIL;

/* Does Python end, with the process, after the caller has returned to it?  Then it does not call fm_interp_stop, and
 * leaves what threads of the application may touch until then. */
bool fm_interp_ends_later(void);

/* The arguments with which this same command is executed anew, by execve of /proc/self/exe or of the first of them.
 * They are argv, or kept as long as the process.  NULL after a message in the log.  The caller holds the GIL if there
 * is one yet. */
char **fm_interp_again(char **argv);

/* Runs what atexit handlers would do at the end, and flushes standard streams; threads go on and are not waited for.
 * The process is to exit then, without fm_interp_stop. */
void fm_interp_abandon(void) FM_NEEDS_GIL;

/* Flushes sys.stdout and sys.stderr, if they can be. */
void fm_interp_flush(void) FM_NEEDS_GIL;

/* Has the handler that the application, or the gateway before it, has set for SIGINT be called on the main thread soon,
 * as if the signal had come.  In a signal handler, too. */
void fm_interp_interrupt(void) FM_ANY_THREAD;

/* Around a fork whose child goes on with this interpreter: CPython's own locks, and what os.register_at_fork has.  The
 * thread is the only one.  Afterwards in both processes; child says in which this is. */
void fm_interp_before_fork(void) FM_NEEDS_GIL;
void fm_interp_forked(bool child) FM_NEEDS_GIL;

/* The Python threads that the interpreter would wait for at its end, for a message.  Appends to text[size], by the
 * kernel's id and by name: "1234 'worker', ...". */
void fm_interp_name_threads(char *text, size_t size) FM_NEEDS_GIL;

/* In a thread that Python does not know: takes the GIL and calls fn.  False: there is no interpreter (any more). */
bool fm_interp_call(void (*fn)(void *arg), void *arg) FM_NO_GIL;

/* Prints the exception that is set to standard error and clears it. */
void fm_interp_print_error(void) FM_NEEDS_GIL;

/* Gives up the main thread's GIL, takes it back. */
void fm_interp_release(void) FM_DROPS_GIL;
void fm_interp_acquire(void) FM_TAKES_GIL;

/* Starts a daemon `threading` thread called `name` that runs fn(arg, index) without the GIL.  That thread may take
 * and drop the GIL with the next two, given the pointer that fm_interp_thread_state returns to it.  0, or -1 with an
 * exception set. */
int fm_interp_spawn(const char *name, void (*fn)(void *arg, unsigned index), void *arg, unsigned index) FM_NEEDS_GIL;

/* Waits until the spawned threads have ended, which they are about to: their bodies have returned. */
void fm_interp_join(void) FM_NEEDS_GIL;

/* Python's thread state of the calling thread, for fm_gil_take/drop.  In an fn above. */
void *fm_interp_thread_state(void) FM_ANY_THREAD;
void fm_gil_take(void *state) FM_TAKES_GIL;
void fm_gil_drop(void *state) FM_DROPS_GIL;

#endif

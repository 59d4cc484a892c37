/* A debugger in another process: sys.remote_exec and `python -m pdb -p PID` of CPython 3.14 and newer (PEP 768).  It
 * writes the path of a script and a flag into the state of the main thread, which runs the script when it next runs
 * Python code; the server's main thread does that only when it is told to.  With an older Python there is nothing to
 * wait for.  See spec/internals/adr/0024-a-debugger-is-seen-by-the-loop.md. */
#ifndef FERMATA_PY_DEBUG_H
#define FERMATA_PY_DEBUG_H

#include <stdbool.h>

#include "fermata/util/annotate.h"

/* Makes what fm_debugger_run needs.  Python that is embedded has not been told which thread is its main one, as
 * `python` tells it: then a debugger does not find it.  When Python has been started, and before it is ended; main
 * thread.  0, or -1 with an exception set. */
int fm_debugger_begin(void) FM_NEEDS_GIL;
void fm_debugger_end(void) FM_NEEDS_GIL;

/* The main thread's state from now on, while that thread runs no Python code; NULL when it does, and sees to it itself.
 * Main thread. */
void fm_debugger_watch(void *main_state) FM_ANY_THREAD;

/* Does a script wait for the main thread?  Two loads. */
bool fm_debugger_waits(void) FM_ANY_THREAD;

/* Runs it, in a frame of Python code, which pdb needs to stop in; an exception in the script is told on standard error.
 * The application's signal handlers that are due run as well, and what they raise is the exception that is set if it
 * returns -1.  Main thread; may last as long as somebody sits before the debugger. */
int fm_debugger_run(void) FM_NEEDS_GIL;

#endif

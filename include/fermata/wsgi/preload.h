/* Whether a process that has loaded an application can be forked (--preload), and what Python code has to know then.
 * Main thread. */
#ifndef FERMATA_WSGI_PRELOAD_H
#define FERMATA_WSGI_PRELOAD_H

#include "fermata/util/annotate.h"

/* Before the application is loaded: notes which threads and sockets there are. */
void fm_wsgi_preload_begin(void) FM_NEEDS_GIL;

/* After it was: warns of sockets that it has left open, which all workers would share; then collects garbage and has
 * the collector leave alone what is there now, so that its memory stays shared.  0, or -1 after a warning that names
 * the threads that the import has left running: a fork would lose them. */
int fm_wsgi_preload_end(void) FM_NEEDS_GIL;

/* Before a fork: the application's variable with the worker's slot. */
void fm_wsgi_preload_slot(unsigned slot) FM_NEEDS_GIL;

/* In the worker, after fm_interp_forked. */
void fm_wsgi_preload_born(void) FM_NEEDS_GIL;

#endif

/* Starting Python and loading the application: by a worker, or by the zygote that it is forked from. */
#ifndef FERMATA_WORKER_LOAD_H
#define FERMATA_WORKER_LOAD_H

#include <stdbool.h>

#include "fermata/config/options.h"
#include "fermata/util/annotate.h"

/* Starts Python and the WSGI layer; program is how the command was called.  0 with the GIL held, or the exit code after
 * a message.  Main thread, as the others. */
int fm_load_start(const struct fm_options *o, const char *program);

/* Has what loads an application ready.  SIGTERM and SIGINT are the server's again afterwards.  False after a message.
 */
bool fm_load_prepare(void) FM_NEEDS_GIL;

/* Python's logging, as the options have it; by_lines: what is printed is written line by line.  0, or the exit code
 * after a message. */
int fm_load_logging(const struct fm_options *o, bool by_lines) FM_NEEDS_GIL;

/* Loads the application; with --reload one that cannot be loaded is a page that says why.  0, or the exit code after a
 * message, or without one where it was interrupted. */
int fm_load_app(const struct fm_options *o) FM_NEEDS_GIL;

#endif

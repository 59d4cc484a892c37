/* One worker process: how it starts, serves and ends. */
#ifndef FERMATA_WORKER_WORKER_H
#define FERMATA_WORKER_WORKER_H

#include "fermata/config/options.h"

/* Binds, starts threads, loads the application, serves until a signal, drains.  program is how the command was called.
 * Returns the exit code. */
int fm_worker_run(const struct fm_options *o, const char *program);

#endif

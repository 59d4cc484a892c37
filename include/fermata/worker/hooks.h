/* Hooks of the configuration file in this process: in a worker, in a server by itself, which calls those of both sides,
 * and in the hook process of an arbiter. */
#ifndef FERMATA_WORKER_HOOKS_H
#define FERMATA_WORKER_HOOKS_H

#include <stdbool.h>

#include "fermata/util/annotate.h"
#include "fermata/worker/worker.h"

#define FM_HOOKS_VARIABLE "FERMATA_HOOKS"

/* Before the application is loaded: executes the file for its functions, if it defines any that are called here, and
 * calls those that come first.  False: one has raised, or the file has; that was said. */
bool fm_hooks_begin(const struct fm_worker *w) FM_NEEDS_GIL;

/* When the application is loaded.  False: one has raised. */
bool fm_hooks_loaded(const struct fm_worker *w) FM_NEEDS_GIL;

/* When it is over, before Python ends. */
void fm_hooks_end(const struct fm_worker *w) FM_NEEDS_GIL;

/* What a hook process does: calls what its arbiter writes to fd.  The exit code. */
int fm_hooks_be(const struct fm_options *o, const char *program, int fd);

#endif

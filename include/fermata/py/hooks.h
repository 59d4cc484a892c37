/* Hooks of a configuration file: functions of it that a process calls at certain moments (py/fermata/hooks.py).  Main
 * thread only, unless said otherwise. */
#ifndef FERMATA_PY_HOOKS_H
#define FERMATA_PY_HOOKS_H

#include <stdbool.h>
#include <sys/types.h>

#include "fermata/util/annotate.h"

struct fm_hooks {
    const char *file;  /* as --config has it */
    const char *shown; /* what --print-config prints: server.cfg */
    pid_t server;      /* the arbiter's, or this process */
    unsigned slot;     /* of the worker */
};

/* Executes the file for its functions.  0, or -1 after the traceback went to standard error. */
int fm_hooks_load(const struct fm_hooks *h) FM_NEEDS_GIL;

/* Calls a hook of that name, if hooks were loaded and there is one.  False: it has raised, which is logged. */
bool fm_hooks_call(const char *name) FM_NEEDS_GIL;

/* In a hook process: calls what comes from fd, until it ends.  The exit code. */
int fm_hooks_serve(int fd) FM_NEEDS_GIL;

#endif

/* A Python that has started us: the extension module's, as seen by its entry, src/extension.c. */
#ifndef FERMATA_PY_HOST_H
#define FERMATA_PY_HOST_H

#include "fermata/py/python.h"

#include "fermata/util/annotate.h"

/* The process is a script's, which goes on when the server has ended: its sys.path, sys.argv and os.environ are left as
 * they are, and Python is not about to end after us.  Else it is the command's.  Before anything starts. */
void fm_host_lend(void);

/* The strings of a sequence of str, bytes or paths, as they stand in a command line, with a NULL behind them.  Not
 * freed: what is made of them lives as long as the process.  NULL with an exception set. */
char **fm_host_strings(PyObject *sequence, int *n) FM_NEEDS_GIL;

#endif

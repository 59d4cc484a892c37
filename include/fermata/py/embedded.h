/* Modules of the server's own, written in Python and compiled into the binary.  Main thread only. */
#ifndef FERMATA_PY_EMBEDDED_H
#define FERMATA_PY_EMBEDDED_H

#include "fermata/util/annotate.h"

/* py/fermata/settings.py: reads the configuration file and writes what it sets to fd.  The exit code, after messages on
 * standard error. */
int fm_embedded_settings(const char *file, int fd) FM_NEEDS_GIL;

/* Makes it importable, as _fermata_settings.  0, or -1 with an exception set. */
int fm_embedded_prepare(void) FM_NEEDS_GIL;

#endif

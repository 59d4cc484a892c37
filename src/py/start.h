/* What embed.c and host.c share: each is 0, or -1 with an exception set. */
#ifndef FERMATA_PY_START_H
#define FERMATA_PY_START_H

#include "fermata/util/annotate.h"

/* Imports what the server itself needs; before the next, so that no file of the project is taken for it. */
int fm_interp_import_own(void) FM_NEEDS_GIL;

/* Puts --pythonpath and the current directory in front of sys.path. */
int fm_interp_extend_path(const char *pythonpath) FM_NEEDS_GIL;

#endif

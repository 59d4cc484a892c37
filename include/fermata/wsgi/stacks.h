/* Where all threads are, without the GIL: for when it cannot be had.  faulthandler's signal handler does it, which
 * reads what running threads may be changing; so it is asked for only where a thread does not give the GIL up. */
#ifndef FERMATA_WSGI_STACKS_H
#define FERMATA_WSGI_STACKS_H

#include "fermata/util/annotate.h"

/* Once, before fm_stacks_log: takes the last real-time signal for it.  0, or -1 with an exception set. */
int fm_stacks_prepare(void) FM_NEEDS_GIL;

/* Logs the stacks of all threads behind a line that says what; from a short-lived thread of its own, one at a time. */
void fm_stacks_log(const char *what) FM_NO_GIL;

#endif

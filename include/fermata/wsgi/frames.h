/* The frames of a thread of Python's, while the GIL keeps it from going on. */
#ifndef FERMATA_WSGI_FRAMES_H
#define FERMATA_WSGI_FRAMES_H

#include "fermata/util/annotate.h"
#include "fermata/util/stacks.h"

/* Appends them; none if there is no such thread, or no memory.  ident is Python's.  No exception is left. */
void fm_frames_put(struct fm_stack *to, unsigned long ident) FM_NEEDS_GIL;

#endif

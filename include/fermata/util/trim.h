/* Gives memory back to the system after a wave of load.  The heap keeps what large and small blocks in turn have left
 * in it: a thousand slow clients of a megabyte each leave a gigabyte that is free, but resident. */
#ifndef FERMATA_UTIL_TRIM_H
#define FERMATA_UTIL_TRIM_H

#include "fermata/util/annotate.h"

/* If much more is resident than when memory was given back last, or much less is in use than since: gives back what is
 * free.  For a quiet moment: it takes some ten microseconds if there is nothing to do, else some milliseconds, in which
 * no thread can allocate.  Always called by the same thread, without the GIL. */
void fm_trim(void) FM_NO_GIL;

#endif

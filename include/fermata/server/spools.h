/* Writes of bodies that are over, on their way from the file threads to the loop. */
#ifndef FERMATA_SERVER_SPOOLS_H
#define FERMATA_SERVER_SPOOLS_H

#include "fermata/net/loop.h"
#include "fermata/util/annotate.h"

/* From now on bodies go into files without the loop waiting for the disk, and `stored` is called on the loop with the
 * owner of the spool (fm_spool_own) when some of it has been written.  Before any thread starts; once. */
void fm_spools_start(struct fm_loop *l, void (*stored)(void *owner));

#endif

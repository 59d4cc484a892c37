/* How the process's open files are shared. */
#ifndef FERMATA_WORKER_DESCRIPTORS_H
#define FERMATA_WORKER_DESCRIPTORS_H

#include "fermata/config/options.h"

/* Raises the limit of open files, and says how many connections there may be at a time, and how many bodies in files.
 */
void fm_descriptors_share(const struct fm_options *o, unsigned *conns, unsigned *body_files);

#endif

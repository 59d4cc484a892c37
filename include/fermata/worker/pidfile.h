/* --pid: a file that says which process the server is. */
#ifndef FERMATA_WORKER_PIDFILE_H
#define FERMATA_WORKER_PIDFILE_H

#include "fermata/util/annotate.h"

/* Writes this process's number, so that a reader finds all of it or the file that was there before.  A file of a
 * process that runs is left alone; one of a process that is gone is replaced, also where another process has its number
 * now. 0, or a negated errno after a message in the log. */
int fm_pidfile_write(const char *path);

/* Removes the file, if it still names this process.  Nothing if none was written.  Repeatable. */
void fm_pidfile_remove(void) FM_ANY_THREAD;

#endif

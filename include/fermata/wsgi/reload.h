/* What --reload needs of a worker.  Main thread. */
#ifndef FERMATA_WSGI_RELOAD_H
#define FERMATA_WSGI_RELOAD_H

#include "fermata/util/annotate.h"

/* Before fm_wsgi_load. */
void fm_wsgi_reload_begin(void) FM_NEEDS_GIL;

/* After fm_wsgi_load has failed: makes a page the application, that says why.  0, or -1 where the import was
 * interrupted, or after the exception was logged. */
int fm_wsgi_explain(void) FM_NEEDS_GIL;

/* Writes the directories that the application was loaded from, or was to be, into the file behind fd, each with a NUL
 * behind it. */
void fm_wsgi_report(int fd) FM_NEEDS_GIL;

#endif

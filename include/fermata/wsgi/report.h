/* Reports about the application that need the GIL, asked for by threads that must never wait for it. */
#ifndef FERMATA_WSGI_REPORT_H
#define FERMATA_WSGI_REPORT_H

#include <stdbool.h>

#include "fermata/util/annotate.h"

/* Logs where the Python thread `ident` is, as soon as the GIL can be had: by a short-lived thread of its own. */
void fm_report_stack(unsigned long ident, const char *what) FM_NO_GIL;

/* The same for each thread that Python knows, one report after another. */
void fm_report_stacks(const char *what) FM_NO_GIL;

/* For a report that another file makes, by a thread of its own that takes the GIL: may it be, and it is over.  True:
 * the second is to be called. */
bool fm_report_enter(void) FM_ANY_THREAD;
void fm_report_leave(void) FM_ANY_THREAD;

/* Has fn(arg) called with the GIL, in a short-lived thread of its own; it leaves no exception set.  0, or a negated
 * errno: then it is not called.  Only while there is Python. */
int fm_report_call(void (*fn)(void *arg), void *arg) FM_NO_GIL;

/* Waits until no report and no such call is under way, at most `seconds`: before the interpreter ends. */
void fm_report_wait(int seconds) FM_NO_GIL;

#endif

/* Descriptors that the server cannot do without: an eventfd that wakes the loop, epoll's, a timerfd.  The application
 * lives in the same process and may close them.  Then no thread could be woken any more, so the process ends, and says
 * why: one of the few places outside of worker/ that end it. */
#ifndef FERMATA_UTIL_VITAL_H
#define FERMATA_UTIL_VITAL_H

#include "fermata/util/annotate.h"

/* Wakes the thread that waits for the eventfd.  One that is not there any more ends the process. */
void fm_vital_wake(int eventfd) FM_ANY_THREAD;

/* Is the number still an eventfd's?  If not, this ends the process: it was closed, and another file may have the
 * number, into which fm_vital_wake then wrote without an error.  One system call; for the loop that was called but not
 * woken. */
void fm_vital_check_wake(int eventfd) FM_ANY_THREAD;

/* Ends the process, with exit code 1 and one message: the application closed what the server cannot do without. */
_Noreturn void fm_vital_lost(const char *what) FM_ANY_THREAD;

#endif

/* The last resort: a process that was told to end does end, whatever does not. */
#ifndef FERMATA_WORKER_END_H
#define FERMATA_WORKER_END_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/annotate.h"
#include "fermata/util/clock.h"

struct fm_worker;

#define FM_EXIT_OK 0
#define FM_EXIT_OTHER 1
#define FM_EXIT_USAGE 2
#define FM_EXIT_APP 3

/* From the graceful timeout to the end: the loop waits for last steps, then the main thread for the threads; what is
 * left is named, and what was printed and logged is flushed. */
#define FM_END_TIME (2 * FM_SEC)
#define FM_END_LOOP (FM_END_TIME / 2)
#define FM_END_LEAVE (500 * FM_MS)  /* so long before the end no thread is waited for any more */
#define FM_END_PYTHON (10 * FM_SEC) /* for atexit handlers and the application's own threads */

/* What did not end. */
enum fm_left { FM_LEFT_STEPS, FM_LEFT_LOOP, FM_LEFT_FILES, FM_LEFT_PYTHON, FM_LEFT_MAIN, FM_LEFT_IMPORT };

/* fm_end_leave has begun, on whatever thread: memory that it looks at is to stay. */
bool fm_end_is_leaving(void) FM_ANY_THREAD;

/* Says what did not end, with its threads and the children by name, flushes what can be flushed within FM_END_LEAVE,
 * and exits.  Paths of unix sockets do not stay behind.  A thread that comes second waits for the end. */
_Noreturn void fm_end_leave(struct fm_worker *w, enum fm_left what, int code) FM_ANY_THREAD;

#endif

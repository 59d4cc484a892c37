/* Watches the files of an application (--reload): a thread of its own, because looking at them may wait for a disk.
 *
 * inotify wakes it where the file system says what happens; where it does not (what a virtual machine or a network
 * shares) it looks twice a second.  In either case what counts is how the files look: a log that is written beside them
 * is no change, and a file that an editor has put in the place of another one is. */
#ifndef FERMATA_ARBITER_WATCH_H
#define FERMATA_ARBITER_WATCH_H

#include <stddef.h>
#include <time.h>

#include "fermata/config/options.h"
#include "fermata/net/loop.h"

struct fm_watch;

/* Starts it.  changed is called on the loop, with a file that has changed, 50 ms after the last of several changes.
 * NULL, with *err a negated errno. */
struct fm_watch *fm_watch_start(const struct fm_options *o, struct fm_loop *loop,
                                void (*changed)(void *ctx, const char *path), void *ctx, int *err) FM_ON_LOOP;

/* These directories as well: their paths, each with a NUL behind it.  Python files in them count, with changes since
 * the application began to be read (CLOCK_REALTIME). */
void fm_watch_add(struct fm_watch *w, const char *directories, size_t size, const struct timespec *since) FM_ON_LOOP;

/* Ends the thread; one that waits for a disk is left. */
void fm_watch_stop(struct fm_watch *w) FM_ON_LOOP;

#endif

/* A file that lines are written to by a thread of its own.
 *
 * A log can stand still: a pipe that is not read, a disk that hangs.  A thread that has a line puts it into a bounded
 * ring and goes on; the file's thread writes it.  What does not fit is dropped, whole lines at a time, counted, and
 * told in one line when the file takes again.  Until fm_logfile_start, and in a child that the application has forked,
 * lines are written at once by the caller. */
#ifndef FERMATA_UTIL_LOGFILE_H
#define FERMATA_UTIL_LOGFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/util/annotate.h"
#include "fermata/util/counter.h"

struct fm_logfile;

/* What a file is for, which does not change. */
struct fm_logfile_kind {
    const char *name;        /* "error log" */
    int standard;            /* the descriptor that "-" means: 1 or 2 */
    enum fm_counter dropped; /* counts lines */
    uint64_t gather;         /* ns that the thread lets lines come together after it was woken */
    /* The file takes again, after so many lines were dropped: makes the line that says so, with its end; how long it
     * is, or 0 if this was said elsewhere.  On the file's thread. */
    size_t (*tell)(char *line, size_t size, uint64_t dropped);
    /* The path could not be opened anew, for a reason that is a negated errno: the old file is written on.  Or NULL. */
    void (*not_reopened)(const struct fm_logfile_kind *kind, const char *path, int err);
};

/* Opens path for appending ("-", or /dev/stdout and /dev/stderr also where these are sockets).  NULL with *err a
 * negated errno. */
struct fm_logfile *fm_logfile_open(const struct fm_logfile_kind *kind, const char *path, int *err);

/* Has the process's standard output and standard error go into the file, from now on and after it was opened anew;
 * no-op where it is one of them.  A file that is opened later as standard output gets the one that there was.  One file
 * at most, before any other thread starts.  0 or a negated errno. */
int fm_logfile_capture(struct fm_logfile *f);

/* From now on a thread writes, with a ring of so many bytes.  0, or a negated errno, and callers go on writing. */
int fm_logfile_start(struct fm_logfile *f, size_t ring);

/* Other processes write to the same files, or two logs of this one do: a line must be one write, which a pipe keeps
 * together up to PIPE_BUF bytes; longer ones become several lines.  Before any other thread starts. */
void fm_logfile_share(void);

/* Bytes that a line may have to be written as one. */
size_t fm_logfile_longest(struct fm_logfile *f) FM_ANY_THREAD;

/* Whole lines, the last one with its line feed.  Never waits once the file was started. */
void fm_logfile_put(struct fm_logfile *f, const char *p, size_t n) FM_ANY_THREAD;

/* Has the path opened anew (after logrotate has moved the file away), by the thread; on failure it stays as it was. */
void fm_logfile_reopen(struct fm_logfile *f) FM_ANY_THREAD;

/* Waits until all is written; false if it is not by `until` (fm_now). */
bool fm_logfile_flush(struct fm_logfile *f, uint64_t until);

/* Writes what it can until then, and ends the thread; one that is stuck in a write is left, with the file's memory. */
void fm_logfile_close(struct fm_logfile *f, uint64_t until);

#endif

/* Threads for what may wait for a disk: reading and writing files, and closing them.
 *
 * Storage can be slow without limit (NFS, FUSE, a failing disk), and the loop must not wait for it.  A job is part of
 * what it is about, so that submitting it allocates nothing.  Threads start when there is work that no idle one takes,
 * up to FM_FILES_THREADS, and end after a while without any; they know no Python and hold none of the server's locks
 * while a job runs.  One slow file system can take all of them; what waits then is other files, never the loop. */
#ifndef FERMATA_UTIL_FILES_H
#define FERMATA_UTIL_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/annotate.h"
#include "fermata/util/list.h"

#define FM_FILES_THREADS 16

struct fm_file_job {
    struct fm_list node; /* this module's, until run is called */
    /* On a file thread.  May block; may free the job, or give it to another thread at its end. */
    void (*run)(struct fm_file_job *);
};

/* Has job->run called on a file thread.  0, or a negated errno where no thread can be had: it is the caller's then. */
int fm_files_submit(struct fm_file_job *job) FM_ANY_THREAD;

/* Closes a descriptor of a file, which may write to it first, without waiting for that; it is no longer the caller's.
 * Where there is neither memory nor a thread for it the caller closes it and waits. */
void fm_files_close(int fd) FM_ANY_THREAD;

/* Lets the threads end once no job is left; false if they have not by `until` (fm_now).  From then on nothing can be
 * submitted (-ECANCELED), until fm_files_start. */
bool fm_files_stop(uint64_t until);
void fm_files_start(void);

#endif

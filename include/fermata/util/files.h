/* Threads for what may wait for a disk: reading and writing files, and closing them.
 *
 * Storage can be slow without limit (NFS, FUSE, a failing disk), and the loop must not wait for it.  A job is part of
 * what it is about, so that submitting it allocates nothing.  Each kind of work has a queue and threads of its own, so
 * that files which cannot be read do not keep bodies from being stored, nor descriptors from being closed.  Threads
 * start when there is work that no idle one takes, up to FM_FILES_THREADS of a kind, and end after a while without any;
 * they know no Python and hold none of the server's locks while a job runs.  One slow file system can take all threads
 * of a kind; what waits then is other files, never the loop. */
#ifndef FERMATA_UTIL_FILES_H
#define FERMATA_UTIL_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/annotate.h"
#include "fermata/util/list.h"

#define FM_FILES_THREADS 16

enum fm_files_kind { FM_FILES_SEND, FM_FILES_STORE, FM_FILES_CLOSE, FM_FILES_KINDS };

struct fm_file_job {
    struct fm_list node; /* this module's, until run is called; init it */
    /* On a file thread.  May block; may free the job, or give it to another thread at its end. */
    void (*run)(struct fm_file_job *);
};

/* Has job->run called on a file thread.  0, or a negated errno where no thread can be had: it is the caller's then. */
int fm_files_submit(enum fm_files_kind kind, struct fm_file_job *job) FM_ANY_THREAD;

/* Takes a job back that no thread has begun: true, and it is the caller's.  False: it runs, or has run. */
bool fm_files_withdraw(enum fm_files_kind kind, struct fm_file_job *job) FM_ANY_THREAD;

/* Closes a descriptor of a file, which may write to it first, without waiting for that; it is no longer the caller's.
 * Where there is neither memory nor a thread for it the caller closes it and waits. */
void fm_files_close(int fd) FM_ANY_THREAD;

/* Lets the threads end once no job is left; false if they have not by `until` (fm_now).  From then on nothing can be
 * submitted (-ECANCELED), until fm_files_start. */
bool fm_files_stop(uint64_t until);
void fm_files_start(void);

static inline void fm_file_job_init(struct fm_file_job *job, void (*run)(struct fm_file_job *))
{
    fm_list_init(&job->node);
    job->run = run;
}

#endif

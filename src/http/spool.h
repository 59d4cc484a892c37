/* A body on its way into a temporary file.
 *
 * The loop gathers what arrives; a file thread opens the file and writes, one piece at a time, because storage may be
 * slow (util/files.h).  While it writes, `flying`, `fd`, `charged` and `err` are its own; everything else is the
 * loop's.  Then the function that was given to fm_body_listen is called on the file thread, and the loop calls
 * fm_spool_over.  Without such a function (tests) the caller that appends writes, and waits. */
#ifndef FERMATA_HTTP_SPOOL_H
#define FERMATA_HTTP_SPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/http/body.h"
#include "fermata/util/buf.h"
#include "fermata/util/files.h"

struct fm_spool {
    struct fm_file_job job;
    struct fm_list node; /* the listener's, from its call to fm_spool_over */
    void *owner;         /* who is told when a write is over; set by the loop */
    bool busy;           /* a file thread writes */
    bool dropped;        /* it is not wanted any more: it is freed when the write is over */
    bool ending;         /* nothing more comes */
    bool lost;           /* bytes are missing, for want of memory */
    bool owes;           /* when it is freed a file with `owed` bytes goes off the quota of files */
    uint64_t owed;
    int fd;                 /* -1 until it is opened */
    uint32_t charged;       /* bytes of `flying` or `gathered` that are in the quota of memory (http/quota.h) */
    int err;                /* why it failed, for good: a negated errno, or 0 */
    uint64_t written;       /* bytes in the file */
    struct fm_buf flying;   /* being written */
    struct fm_buf gathered; /* arrived since */
};

/* One that begins with n bytes at data (or NULL), memory of malloc of cap bytes that it takes over, with their place in
 * the quota, which they keep until they are written.  NULL: no memory; data is the caller's then. */
struct fm_spool *fm_spool_new(char *data, size_t n, uint32_t cap);

/* Gathers n more bytes.  0 or a negated errno. */
int fm_spool_append(struct fm_spool *s, const char *p, size_t n);

/* Nothing more comes.  0: all of it is in the file; FM_EBUSY: it will be; or a negated errno. */
int fm_spool_end(struct fm_spool *s);

/* Frees it, at once or when the write that is under way is over; closes the file unless `fd` was taken (set to -1).
 * owes: it takes over that a file with `bytes` in it is in the quota of files. */
void fm_spool_drop(struct fm_spool *s, bool owes, uint64_t bytes);

#endif

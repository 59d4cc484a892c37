/* The access log: one line for each response, in the combined format, with the user and how the connection went on (as
 * Apache's %u and %X).  Lines are gathered and given to the file's thread once a turn of the loop.  Loop only, unless
 * said otherwise. */
#ifndef FERMATA_SERVER_ACCESS_H
#define FERMATA_SERVER_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/http/request.h"
#include "fermata/util/annotate.h"

struct fm_access_log;

struct fm_access_entry {
    const char *remote;               /* the client's address, "" for a unix socket */
    const struct fm_request *request; /* NULL: refused before its head was whole */
    const char *line;                 /* then what came of its request line */
    size_t line_len;
    unsigned status; /* 499: the client went away before any answer (nginx's number for it) */
    uint64_t bytes;  /* of the body, sent */
    char end;        /* 'X': broken off before the end of the response; '+': the connection is kept; '-': it ends */
};

/* "-" is standard output; the ring has so many bytes (util/logfile.h).  NULL with *err a negated errno. */
struct fm_access_log *fm_access_log_open(const char *path, size_t ring, int *err);

/* Waits until `until` (fm_now) for the last lines to be written. */
void fm_access_log_close(struct fm_access_log *a, uint64_t until) FM_ON_LOOP;

/* The process is about to exit, whatever the loop does: waits for the lines; with those gathered in this turn, if
 * no thread is adding any. */
void fm_access_log_leave(struct fm_access_log *a, bool gathered, uint64_t until) FM_ANY_THREAD;

/* Opens the file anew, for logrotate. */
void fm_access_log_reopen(struct fm_access_log *a) FM_ANY_THREAD;

void fm_access_log_add(struct fm_access_log *a, const struct fm_access_entry *e) FM_ON_LOOP;

/* Gives what has been gathered to the file's thread. */
void fm_access_log_flush(struct fm_access_log *a) FM_ON_LOOP;

#endif

/* The access log: one line per request in the combined format.  Lines are gathered and written once a turn of the loop.
 * Loop only. */
#ifndef FERMATA_SERVER_ACCESS_H
#define FERMATA_SERVER_ACCESS_H

#include <stdint.h>

#include "fermata/http/request.h"
#include "fermata/util/annotate.h"

struct fm_access_log;

/* "-" is standard output.  NULL with errno set if the file cannot be opened. */
struct fm_access_log *fm_access_log_open(const char *path);
void fm_access_log_close(struct fm_access_log *a);

/* status 499: the client went away before any answer (nginx's number for it). */
void fm_access_log_add(struct fm_access_log *a, const char *remote, const struct fm_request *r, unsigned status,
                       uint64_t bytes) FM_ON_LOOP;

/* Writes what has been gathered. */
void fm_access_log_flush(struct fm_access_log *a) FM_ON_LOOP;

#endif

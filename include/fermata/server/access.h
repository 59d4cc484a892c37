/* The access log: one line for each response, in the format that is asked for (http/logformat.h).  Lines are gathered
 * and given to the file's thread once a turn of the loop.  Loop only, unless said otherwise. */
#ifndef FERMATA_SERVER_ACCESS_H
#define FERMATA_SERVER_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/http/logformat.h"
#include "fermata/util/annotate.h"

struct fm_access_log;

struct fm_access_config {
    const char *path; /* "-" is standard output; NULL: there is no file, only the next */
    /* Where each line goes as well, without its end; or NULL. */
    void (*also)(const char *line, size_t n);
    size_t ring; /* bytes (util/logfile.h) */
    struct fm_logformat *format;
    const char *const *excluded; /* paths whose requests have no line, as they came; kept */
    unsigned nexcluded;
};

/* The format is the log's from here on, unless it could not be opened: NULL with *err a negated errno. */
struct fm_access_log *fm_access_log_open(const struct fm_access_config *config, int *err);

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

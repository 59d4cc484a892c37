/* All that goes out of the process about what happens in it, as the options have it: the error log, syslog, statsd. The
 * access log is the worker's (server/access.h).  Of the process, be it a worker, an arbiter, or both in one. */
#ifndef FERMATA_WORKER_LOGS_H
#define FERMATA_WORKER_LOGS_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/config/options.h"
#include "fermata/server/access.h"

struct fm_statsd;

/* Opens the error log.  An arbiter prints nothing, so its standard streams stay
 * as they are, for its workers' sake.  Main thread, before any other.  0, or the exit code after a message on stderr.
 */
int fm_logs_open(const struct fm_options *o, bool arbiter);

/* Syslog and statsd gather from now on.  Not in a zygote, whose workers would all send what it has gathered. */
void fm_logs_gather(const struct fm_options *o);

/* Starts their threads.  0, or a negated errno after a message in the log. */
int fm_logs_start(const struct fm_options *o);

/* Are there lines of an access log, for a file or for syslog? */
bool fm_logs_has_access(const struct fm_options *o);

/* The access log of a worker, *to NULL where there is to be none.  0, or a negated errno after a message. */
int fm_logs_open_access(const struct fm_options *o, struct fm_access_log **to);

/* Waits until all is written and sent; false if it is not by `until` (fm_now). */
bool fm_logs_flush(uint64_t until);

/* NULL without --statsd-host. */
struct fm_statsd *fm_logs_statsd(void);

#endif

/* What the queries of the admin port's pages say: names and numbers, nothing of which is encoded.  Any thread. */
#ifndef FERMATA_ADMIN_QUERY_H
#define FERMATA_ADMIN_QUERY_H

#include <stdbool.h>

struct fm_request;
struct fm_status_query;

/* Is a worker asked for, by worker=N?  Then *slot is which, and *wrong: that is no number of one. */
bool fm_query_worker(const struct fm_request *r, unsigned *slot, bool *wrong);

/* Takes what is said of place, state, after and limit into *q; of a worker nothing.  False: there is something else, or
 * a value is none. */
bool fm_query_requests(const struct fm_request *r, struct fm_status_query *q);

#endif

/* Clients of the admin port who ask for one worker: the connection itself goes over to that, with the head of the
 * request, and the worker answers and closes it.  The arbiter keeps nothing of it and never waits. */
#ifndef FERMATA_ARBITER_OVER_H
#define FERMATA_ARBITER_OVER_H

#include "fermata/arbiter/children.h"
#include "fermata/arbiter/roster.h"
#include "fermata/util/buf.h"

/* Which worker of a slot is shown: the one that serves, else one that drains, of several the latest; one that loads
 * only if there is no other.  NULL: there is none.  Any thread, as the roster. */
const struct fm_roster_worker *fm_over_find(const struct fm_roster *r, unsigned slot);

/* 0: the client is that worker's, too, and the caller closes its descriptor.  Or the status of an answer, 404 or 503,
 * with a sentence appended to *to. */
int fm_over_give(const struct fm_roster *r, struct fm_children *c, unsigned slot, int fd, const char *head, size_t len,
                 struct fm_buf *to) FM_ON_LOOP;

/* Appends the slots in which there are workers: "0, 1". */
void fm_over_slots(const struct fm_roster *r, struct fm_buf *to);

#endif

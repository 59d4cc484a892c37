/* The slowest requests of the last ten minutes.  On the loop. */
#ifndef FERMATA_SERVER_SLOW_H
#define FERMATA_SERVER_SLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/annotate.h"

struct fm_request;

#define FM_SLOWEST 16
#define FM_SLOW_PATH 256
#define FM_SLOW_TRACE 32

struct fm_slow_request {
    uint64_t took, over; /* ns; when: fm_now */
    unsigned status;     /* 0: none */
    char method[25], path[FM_SLOW_PATH + 1];
    char trace[FM_SLOW_TRACE + 1]; /* the id of its trace, or "" */
};

struct fm_slow {
    struct fm_slow_request all[FM_SLOWEST]; /* those with `over` 0 are none */
    uint64_t least;                         /* how long one must have taken to get in, until `until` */
    uint64_t until;
};

/* For who is about to call fm_slow_note with each request. */
static inline bool fm_slow_is_one(const struct fm_slow *s, uint64_t took, uint64_t now)
{
    return took > s->least || now >= s->until;
}

/* A request that took so long is over now; one that is not among the slowest is not noted. */
void fm_slow_note(struct fm_slow *s, const struct fm_request *r, unsigned status, uint64_t took,
                  uint64_t now) FM_ON_LOOP;

/* Does it count still? */
bool fm_slow_is_recent(const struct fm_slow_request *r, uint64_t now);

#endif

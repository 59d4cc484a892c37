/* The runs that are parked on futures; parked.c says why they may be looked at. */
#ifndef FERMATA_WSGI_PARKED_H
#define FERMATA_WSGI_PARKED_H

#include "internal.h"

/* The run has a future, and is going to be parked on it; the thread that goes on, before anything else. */
void fm_parked_add(struct fm_run *run);
void fm_parked_remove(struct fm_run *run);

struct fm_parked {
    PyObject *future; /* a reference, which the caller gives back */
    uint16_t place;
};

/* A look at all of them, part by part: one at a time.  Those that are parked meanwhile may be missed. */
struct fm_parked_walk {
    struct fm_list marker;
    unsigned shard;
};

void fm_parked_begin(struct fm_parked_walk *w);
unsigned fm_parked_next(struct fm_parked_walk *w, struct fm_parked *to, unsigned most); /* 0: no more */
void fm_parked_end(struct fm_parked_walk *w); /* also before all have been seen */

#endif

/* The connections of a worker: accepted, up to a limit; walked for what is to happen to all of them.  On the loop,
 * unless said otherwise. */
#ifndef FERMATA_SERVER_CONNS_H
#define FERMATA_SERVER_CONNS_H

#include <stdbool.h>

#include "fermata/net/listener.h"
#include "fermata/server/service.h"
#include "fermata/util/list.h"

#define FM_MAX_LISTENERS (2 * FM_MAX_BINDS) /* localhost has two addresses */

struct fm_http1;

struct fm_bound { /* a socket that connections come from, and what environ says of it */
    struct fm_listener listener;
    char name[FM_ADDR_TEXT]; /* SERVER_NAME */
    char port[8];
};

struct fm_conns {
    struct fm_service *service;
    struct fm_bound bound[FM_MAX_LISTENERS]; /* opened and closed by the worker */
    unsigned nbound;
    unsigned most; /* connections at a time; accepting pauses then */
    unsigned count;
    bool paused;                             /* accepting is, by the owner */
    struct fm_list list;                     /* fm_http1.node */
    struct fm_list *next;                    /* of fm_conns_visit; NULL: there is no walk */
    void (*on_none)(struct fm_conns *conns); /* in a drain: there is none any more */
};

/* Before any thread starts. */
void fm_conns_init(struct fm_conns *conns, struct fm_service *service, unsigned most,
                   void (*on_none)(struct fm_conns *conns));

/* Watches what is bound.  0 or a negated errno. */
int fm_conns_start(struct fm_conns *conns) FM_ON_LOOP;

/* on_accept of the listeners, whose owner is the set. */
fm_accept_fn fm_conns_accept;

/* Accepts nothing until it is told to go on; what a drain accepts it accepts. */
void fm_conns_pause(struct fm_conns *conns, bool paused) FM_ON_LOOP;

/* The drain has begun (service->draining is set): accepts what has arrived before, as far as there is room, and more of
 * it whenever a connection is gone; each ends when what has arrived is answered.  on_none is called when the last is
 * gone, also at once. */
void fm_conns_drain(struct fm_conns *conns) FM_ON_LOOP;

/* Ends `most` of those whose response is under way, oldest first.  How many there were. */
unsigned fm_conns_streams(struct fm_conns *conns, unsigned most) FM_ON_LOOP;

/* The graceful timeout has passed: ends what each is doing. */
void fm_conns_expire(struct fm_conns *conns) FM_ON_LOOP;

/* Calls visit with at most `most` of them, first of all of them, then those that follow: true if there are no more. One
 * walk at a time; those that come or close between two calls may be visited or not, the others are, once. */
bool fm_conns_visit(struct fm_conns *conns, bool first, unsigned most, void (*visit)(struct fm_http1 *c, void *arg),
                    void *arg) FM_ON_LOOP;

/* Closes all; no thread has any of their requests. */
void fm_conns_close(struct fm_conns *conns) FM_ON_LOOP;

/* The application has closed a descriptor, and its number is another's now.  False if it was none of theirs. */
bool fm_conns_lost(struct fm_conns *conns, int fd) FM_ON_LOOP;

#endif

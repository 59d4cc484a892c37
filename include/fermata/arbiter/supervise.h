/* What the arbiter watches of workers that run, beside that they are alive: whether their loops turn (--timeout), how
 * much memory they have (--max-worker-memory).  What is found is told to the roster.
 *
 * It costs nothing while nothing happens.  An idle arbiter does not look until there is a client: a worker says that it
 * has one, or the listening sockets show one that no worker takes, which this only sees.  It looks from then on, until
 * at one look no worker has a client and none has turned. */
#ifndef FERMATA_ARBITER_SUPERVISE_H
#define FERMATA_ARBITER_SUPERVISE_H

#include "fermata/arbiter/children.h"
#include "fermata/arbiter/roster.h"
#include "fermata/arbiter/vigil.h"
#include "fermata/config/options.h"
#include "fermata/server/conns.h"

struct fm_supervisor {
    const struct fm_options *options;
    struct fm_children *children;
    struct fm_roster *roster;
    const struct fm_conns *conns;            /* the listening sockets */
    struct event *clients[FM_MAX_LISTENERS]; /* one-shot: there is one */
    unsigned nclients;
    bool awake;
    uint64_t told_at;                           /* when a worker has said last that it has a client */
    uint64_t look_at, measure_at;               /* UINT64_MAX: not */
    struct fm_vigil vigils[2 * FM_WORKERS_MAX]; /* by the place in the roster */
    pid_t large[2 * FM_WORKERS_MAX];            /* that had too much memory at the last look, by the same */
    bool complained;                            /* that memory cannot be read */
};

/* The rest of *s is zero.  0 or a negated errno. */
int fm_supervise_start(struct fm_supervisor *s, const struct fm_options *o, struct fm_children *children,
                       struct fm_roster *roster, const struct fm_conns *conns, struct fm_loop *loop) FM_ON_LOOP;

/* Does what is due, and says when to call next: UINT64_MAX when something happens.  The roster is to tick afterwards.
 */
uint64_t fm_supervise_tick(struct fm_supervisor *s, uint64_t now) FM_ON_LOOP;

/* A worker has said that it has a client. */
void fm_supervise_client(struct fm_supervisor *s) FM_ON_LOOP;

/* Before the listening sockets are closed; repeatable.  Nothing is watched any more. */
void fm_supervise_stop(struct fm_supervisor *s) FM_ON_LOOP;

#endif

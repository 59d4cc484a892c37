/* The processes of the workers: started, told, reaped, and their counters read.  What there ought to be is the roster's
 * (arbiter/roster.h). */
#ifndef FERMATA_ARBITER_CHILDREN_H
#define FERMATA_ARBITER_CHILDREN_H

#include <stdbool.h>
#include <sys/types.h>

#include "fermata/arbiter/roster.h"
#include "fermata/net/loop.h"
#include "fermata/util/counter.h"
#include "fermata/worker/handed.h"

struct fm_child { /* a process that runs */
    pid_t pid;    /* 0: none */
    unsigned slot;
    int control_fd; /* this end of the control socket; -1: it has closed its own */
    struct event *control_event;
    struct fm_counters *counters; /* mapped */
    struct fm_children *of;
};

struct fm_children {
    struct fm_loop *loop;
    char **argv;             /* of this command: a worker's are the same */
    int directory;           /* in which it was given */
    struct fm_handed handed; /* the listening sockets */
    unsigned blocks;         /* of counters in a process */
    struct fm_child all[2 * FM_WORKERS_MAX];
    struct fm_counters_sum ended;            /* what those have counted that are gone */
    uint64_t ended_requests[FM_WORKERS_MAX]; /* the requests of those, by slot */
    void (*on_told)(void *ctx, pid_t pid, enum fm_tell what);
    void (*on_exit)(void *ctx, pid_t pid, struct fm_roster_exit how);
    void *ctx;
};

/* threads: that a worker has and that count.  The rest of *c is set by the caller. */
void fm_children_init(struct fm_children *c, unsigned threads);

/* Starts a worker.  Its pid, or -1 after a message in the log. */
pid_t fm_children_start(struct fm_children *c, unsigned slot) FM_ON_LOOP;

/* Reaps what has ended, on_exit for each that is a worker; this process may be one that orphans come to. */
void fm_children_reap(struct fm_children *c) FM_ON_LOOP;

/* What all workers have counted, those that are gone too. */
void fm_children_count(struct fm_children *c, struct fm_counters_sum *sum) FM_ON_LOOP;

/* What one has; all zero if there is none. */
void fm_children_count_one(struct fm_children *c, pid_t pid, struct fm_counters_sum *sum) FM_ON_LOOP;

/* How many requests one has answered. */
uint64_t fm_children_requests(struct fm_children *c, pid_t pid) FM_ON_LOOP;

struct fm_slot_sum {
    uint64_t requests;   /* of all that have been in the slot */
    int64_t connections; /* of those that are there */
};
void fm_children_count_slot(struct fm_children *c, unsigned slot, struct fm_slot_sum *sum) FM_ON_LOOP;

/* Has the loop of a worker turn. */
void fm_children_ping(struct fm_children *c, pid_t pid) FM_ON_LOOP;

#endif

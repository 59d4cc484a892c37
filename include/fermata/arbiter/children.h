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
    int ready_fd; /* -1 once it has said that it is ready, or has closed it */
    struct event *ready_event;
    struct fm_counters *counters; /* mapped, or NULL: another version of this program counts there */
    int counters_fd;              /* for who maps them next */
    size_t size;                  /* of it */
    struct fm_children *of;
};

struct fm_children {
    struct fm_loop *loop;
    char **argv;             /* of this command: a worker's are the same */
    int directory;           /* in which it was given */
    struct fm_handed handed; /* the listening sockets */
    unsigned blocks;         /* of counters in a process */
    struct fm_child all[2 * FM_WORKERS_MAX];
    struct fm_counters_sum ended; /* what those have counted that are gone */
    bool same_counters;           /* those of children that are adopted are this program's */
    void (*on_ready)(void *ctx, pid_t pid);
    void (*on_exit)(void *ctx, pid_t pid, struct fm_roster_exit how);
    void (*on_other)(void *ctx, pid_t pid, int status); /* a child that is no worker */
    void *ctx;
};

/* threads: that a worker has and that count.  The rest of *c is set by the caller. */
void fm_children_init(struct fm_children *c, unsigned threads);

/* Starts a worker.  Its pid, or -1 after a message in the log. */
pid_t fm_children_start(struct fm_children *c, unsigned slot) FM_ON_LOOP;

/* A worker that another program has started in this process; ready_fd is -1 if it has been ready.  0 or a negated
 * errno; the descriptors are taken over in either case. */
int fm_children_adopt(struct fm_children *c, pid_t pid, int ready_fd, int counters_fd) FM_ON_LOOP;

/* Reaps what has ended, on_exit for each that is a worker; this process may be one that orphans come to. */
void fm_children_reap(struct fm_children *c) FM_ON_LOOP;

/* What all workers have counted, those that are gone too. */
void fm_children_count(struct fm_children *c, struct fm_counters_sum *sum) FM_ON_LOOP;

/* What one has; all zero if there is none. */
void fm_children_count_one(struct fm_children *c, pid_t pid, struct fm_counters_sum *sum) FM_ON_LOOP;

#endif

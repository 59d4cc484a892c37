/* The processes of the workers: started, told, reaped, and their counters read.  What there ought to be is the roster's
 * (arbiter/roster.h). */
#ifndef FERMATA_ARBITER_CHILDREN_H
#define FERMATA_ARBITER_CHILDREN_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "fermata/arbiter/launch.h"
#include "fermata/arbiter/roster.h"
#include "fermata/arbiter/zygotes.h"
#include "fermata/net/loop.h"
#include "fermata/util/counter.h"
#include "fermata/worker/handed.h"

struct fm_child { /* a process that runs */
    pid_t pid;    /* 0: none */
    unsigned slot;
    struct fm_zygote *zygote; /* that is to fork it, and whose pid this is meanwhile, or NULL */
    int pending;              /* a signal that it gets as soon as it is there */
    int control_fd;           /* this end of the control socket; -1: it has closed its own */
    struct event *control_event;
    uint64_t said_at;             /* fm_now, when something was sent to it and it had read all before */
    bool shows;                   /* it takes clients of the admin port */
    struct fm_counters *counters; /* mapped, or NULL: another version of this program counts there */
    int counters_fd;              /* for who maps them next */
    size_t size;                  /* of it */
    int report_fd;                /* with --reload, until it is ready; else -1 */
    struct timespec since;        /* CLOCK_REALTIME before the process began that has loaded the application */
    struct fm_children *of;
};

struct fm_children {
    struct fm_loop *loop;
    struct fm_launch launch;
    bool preload; /* workers are forked by a zygote */
    bool reports; /* workers say of which files the application is */
    struct fm_zygotes zygotes;
    struct fm_handed handed; /* the listening sockets */
    unsigned blocks;         /* of counters in a process */
    struct fm_child all[2 * FM_WORKERS_MAX];
    struct fm_counters_sum ended;            /* what those have counted that are gone */
    uint64_t ended_requests[FM_WORKERS_MAX]; /* the requests of those, by slot */
    /* Before it tells that it is ready: directories, each with a NUL behind it, and when they began to be read, or
     * later. */
    void (*on_report)(void *ctx, const char *directories, size_t size, const struct timespec *since);
    void (*on_pid)(void *ctx, pid_t before, pid_t now); /* a worker has another pid, its own */
    void (*on_told)(void *ctx, pid_t pid, enum fm_tell what);
    bool same_counters; /* those of children that are adopted are this program's */
    void (*on_exit)(void *ctx, pid_t pid, struct fm_roster_exit how);
    void (*on_other)(void *ctx, pid_t pid, int status); /* a child that is no worker */
    void *ctx;
};

/* threads: that a worker has and that count.  The rest of *c is set by the caller. */
void fm_children_init(struct fm_children *c, unsigned threads);

/* Starts a worker.  Its pid, with --preload that of its zygote until on_pid; 0: not before another one that is under
 * way is there; -1 after a message in the log. */
pid_t fm_children_start(struct fm_children *c, unsigned slot) FM_ON_LOOP;

/* A worker that another program has started in this process; control_fd is -1 if it has closed its own.  shows: it
 * takes clients of the admin port.  0 or a negated errno; the descriptors are taken over in either case. */
int fm_children_adopt(struct fm_children *c, pid_t pid, unsigned slot, int control_fd, int counters_fd,
                      bool shows) FM_ON_LOOP;

/* Workers that a zygote has not forked yet: what is there could not be handed over. */
bool fm_children_expects(const struct fm_children *c);

/* Sends a worker a signal. */
void fm_children_signal(struct fm_children *c, pid_t pid, int number);

/* Has all workers open their logs anew. */
void fm_children_reopen(struct fm_children *c);

/* A reload begins; its first worker is ready; it has failed. */
void fm_children_reload(struct fm_children *c) FM_ON_LOOP;
void fm_children_keep(struct fm_children *c) FM_ON_LOOP;
void fm_children_drop(struct fm_children *c) FM_ON_LOOP;

/* When there are no workers any more. */
void fm_children_end(struct fm_children *c) FM_ON_LOOP;

/* Reaps what has ended, on_exit for each that is a worker; this process may be one that orphans come to. */
void fm_children_reap(struct fm_children *c) FM_ON_LOOP;

/* What all workers have counted, those that are gone too. */
void fm_children_count(struct fm_children *c, struct fm_counters_sum *sum) FM_ON_LOOP;

/* How long requests of all workers have been in their states.  It is read after fm_children_count. */
void fm_children_ages(struct fm_children *c, struct fm_ages_sum *ages) FM_ON_LOOP;

/* What one has; all zero if there is none. */
void fm_children_count_one(struct fm_children *c, pid_t pid, struct fm_counters_sum *sum) FM_ON_LOOP;

/* Can its counters be read?  Not those of another version's worker, which this program has taken over. */
bool fm_children_is_counted(const struct fm_children *c, pid_t pid) FM_ON_LOOP;

/* How many requests one has answered. */
uint64_t fm_children_requests(struct fm_children *c, pid_t pid) FM_ON_LOOP;

struct fm_slot_sum {
    uint64_t requests;   /* of all that have been in the slot */
    int64_t connections; /* of those that are there */
};
void fm_children_count_slot(struct fm_children *c, unsigned slot, struct fm_slot_sum *sum) FM_ON_LOOP;

/* Has the loop of a worker turn. */
void fm_children_ping(struct fm_children *c, pid_t pid) FM_ON_LOOP;

/* So long a worker may leave unread what it was sent; then it is given no client. */
#define FM_CHILDREN_PATIENCE FM_SEC

/* Gives a worker a client of the admin port, whose descriptor stays the caller's, too.  0, or FM_EINVAL: it takes none,
 * as it was started by another version of this program, or without an admin port; FM_EBUSY: it does not read what it is
 * sent; or a negated errno: -EAGAIN, as much waits for it as may.  Never waits. */
int fm_children_give(struct fm_children *c, pid_t pid, int fd, const char *head, size_t len) FM_ON_LOOP;

#endif

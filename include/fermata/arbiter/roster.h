/* Which worker processes there are and which there ought to be: the arbiter's decisions, without a process, a signal or
 * a clock of its own.  What happens is told to it (fm_roster_ready, fm_roster_exited ...); what is to be done it asks
 * for through its operations.  So each of its rules is tested, and modelled, without starting anything.
 *
 * The rules:
 *  - A new worker is ready before an old one is told to end, so that there are never fewer ready ones than before by
 * our own doing.
 *  - A reload starts one worker of the new generation and waits for it.  If that one ends before it is ready, the
 * reload has failed and the old generation stays as it is.
 *  - What ends without having been told is started again, after a while that doubles (0.1 s to 30 s) as long as it does
 *    not stay ready for a minute.
 *  - Only where no worker has ever been ready does the end of one end all: there is nothing to lose, and the operator
 * sees why.
 *  - What was told to end and has not by its deadline is killed.
 *
 * Times are nanoseconds of fm_now.  One thread. */
#ifndef FERMATA_ARBITER_ROSTER_H
#define FERMATA_ARBITER_ROSTER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FM_WORKERS_MAX 256 /* that --workers takes */

/* X(ID, "name"): what a worker is doing. */
#define FM_WORKER_STATES(X)                                                                                            \
    X(LOADING, "loading")   /* started, and not ready yet */                                                           \
    X(READY, "ready")       /* it serves */                                                                            \
    X(DRAINING, "draining") /* told to end when its requests have */                                                   \
    X(KILLED, "killed")     /* it did not end in time */

enum fm_worker_state {
#define X(id, name) FM_WORKER_##id,
    FM_WORKER_STATES(X)
#undef X
        FM_WORKER_STATE_COUNT,
};

/* X(FROM, TO): every change of a worker's state; checked in debug builds, and modelled.  All of them but KILLED can end
 * with the process, in any state. */
#define FM_WORKER_MOVES(X)                                                                                             \
    X(LOADING, READY)    /* it says so */                                                                              \
    X(LOADING, DRAINING) /* not wanted any more */                                                                     \
    X(READY, DRAINING)   /* replaced, one too many, or all are to stop */                                              \
    X(DRAINING, KILLED)  /* its deadline has passed */

struct fm_roster_worker {
    pid_t pid; /* 0: no worker here */
    unsigned slot;
    unsigned generation;
    uint8_t state; /* enum fm_worker_state */
    bool was_ready;
    uint64_t since;   /* when it came into this state */
    uint64_t kill_at; /* DRAINING */
};

struct fm_roster_slot {
    uint64_t delay;    /* the last one; 0: none */
    uint64_t start_at; /* not before */
};

/* How a worker ended. */
struct fm_roster_exit {
    int code;   /* if it exited, else -1 */
    int signal; /* that it was ended by, or 0 */
};

struct fm_roster_ops {
    /* Starts a worker; its pid, or -1 after saying why. */
    pid_t (*start)(void *ctx, unsigned slot);
    void (*signal)(void *ctx, pid_t pid, int number);
    /* One sentence for the log. */
    void (*say)(void *ctx, int level, const char *text);
};

struct fm_roster {
    const struct fm_roster_ops *ops;
    void *ctx;
    uint64_t patience; /* from being told to end to being killed */
    unsigned wanted;
    unsigned generation; /* the one that is wanted */
    bool proven;         /* a worker of it has been ready */
    bool ever_ready;
    bool reload_failed; /* the last one; the generation before goes on */
    bool stopping;
    bool killed;     /* something had to be while stopping */
    int code;        /* to exit with */
    uint32_t random; /* for jitter */
    struct fm_roster_slot slots[FM_WORKERS_MAX];
    struct fm_roster_worker workers[2 * FM_WORKERS_MAX];
};

void fm_roster_init(struct fm_roster *r, const struct fm_roster_ops *ops, void *ctx, unsigned wanted,
                    uint64_t patience);

/* Does what is due, and says when to call next: UINT64_MAX when something happens. */
uint64_t fm_roster_tick(struct fm_roster *r, uint64_t now);

/* What has happened.  Each calls for a tick. */
void fm_roster_ready(struct fm_roster *r, pid_t pid, uint64_t now);
void fm_roster_exited(struct fm_roster *r, pid_t pid, struct fm_roster_exit how, uint64_t now);

/* What is wanted. */
void fm_roster_reload(struct fm_roster *r, uint64_t now);
void fm_roster_resize(struct fm_roster *r, int by);
void fm_roster_stop(struct fm_roster *r, int number, uint64_t now); /* SIGTERM, or SIGQUIT: quickly */

unsigned fm_roster_count(const struct fm_roster *r, enum fm_worker_state state);

/* Workers of an older generation serve, or the new one has not proven itself. */
bool fm_roster_is_reloading(const struct fm_roster *r);

/* All are gone, as was wanted: the process may end, with r->code. */
bool fm_roster_is_over(const struct fm_roster *r);

const char *fm_worker_state_name(enum fm_worker_state state);

#endif

/* Which worker processes there are and which there ought to be: the arbiter's decisions, without a process, a signal or
 * a clock of its own.  What happens is told to it (fm_roster_ready, fm_roster_exited ...); what is to be done it asks
 * for through its operations.  So each of its rules is tested, and modelled, without starting anything.
 *
 * The rules:
 *  - A new worker is ready before an old one is told to end, so that there are never fewer ready ones than before by
 * our own doing.
 *  - A reload starts one worker of the new generation and waits for it.  If that one ends before it is ready, the
 * reload has failed and the old generation stays as it is.
 *  - A worker that is spent (it has served its number of requests, has too much memory, or is old) is replaced as an
 * old one is, one at a time.  A worker that is stuck counts as none that serves: it is replaced beside others that are,
 * and told to end once as many serve without it as are wanted.  Until then both go on as well as they can.
 *  - Unless it is for development (old_first): then no old one is to answer any more, and requests wait for the new.
 *  - What ends without having been told is started again, after a while that doubles (0.1 s to 30 s) as long as it does
 *    not stay ready for a minute.
 *  - Only where no worker has ever been ready does the end of one end all: there is nothing to lose, and the operator
 * sees why.
 *  - What was told to end and has not by its deadline is killed.
 *  - Where as many drain as may, another one that serves goes on until one of them has ended; one that has drained for
 * long enough is told to end quickly instead.
 *
 * Times are nanoseconds of fm_now.  One thread. */
#ifndef FERMATA_ARBITER_ROSTER_H
#define FERMATA_ARBITER_ROSTER_H

#include <stdbool.h>
#include <stddef.h>
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

/* X(ID, "name", KIND, "sentence"): why a worker is to be replaced, or was told to end.  KIND: FINE, it is not; SPENT
 * and STUCK, a READY one is to be replaced, "Worker 1 SENTENCE"; TOLD, it is DRAINING for nothing of its own. */
#define FM_WORKER_REASONS(X)                                                                                           \
    X(NOTHING, "", FINE, "")                                                                                           \
    X(REQUESTS, "max-requests", SPENT, "has served its number of requests (--max-requests)")                           \
    X(MEMORY, "max-worker-memory", SPENT, "has more memory than it may (--max-worker-memory)")                         \
    X(LIFETIME, "worker-lifetime", SPENT, "has been there for long enough (--worker-lifetime)")                        \
    X(EXHAUSTED, "exhausted", STUCK,                                                                                   \
      "has had all threads in one step each for too long, and requests wait "                                          \
      "(--timeout)")                                                                                                   \
    X(GIL, "gil", STUCK, "could not have the GIL for too long (--gil-timeout)")                                        \
    X(SILENT, "silent", STUCK, "has not answered for too long: its event loop does not turn (--timeout)")              \
    X(RELOAD, "reload", TOLD, "")                                                                                      \
    X(FEWER, "fewer workers", TOLD, "")                                                                                \
    X(STOP, "stop", TOLD, "")

enum fm_worker_reason {
#define X(id, ...) FM_WHY_##id,
    FM_WORKER_REASONS(X)
#undef X
        FM_WHY_COUNT,
};

struct fm_roster_worker {
    pid_t pid; /* 0: no worker here */
    unsigned slot;
    unsigned generation;
    uint8_t state; /* enum fm_worker_state */
    uint8_t why;   /* enum fm_worker_reason */
    bool was_ready;
    bool quick;       /* DRAINING: told not to wait for its requests */
    uint64_t since;   /* when it came into this state */
    uint64_t boot;    /* how long it took to be ready; 0: it is not yet */
    uint64_t kill_at; /* DRAINING */
};

/* How a worker ended. */
struct fm_roster_exit {
    int code;           /* if it exited, else -1 */
    int signal;         /* that it was ended by, or 0 */
    bool out_of_memory; /* the kernel says that it killed for want of memory */
};

struct fm_roster_slot {
    uint64_t delay;    /* the last one; 0: none */
    uint64_t start_at; /* not before */
    unsigned exits;    /* that were not asked for */
    pid_t last;        /* the worker that ended last; 0: none has, and the next three say nothing */
    struct fm_roster_exit how;
    uint64_t ended_at;
    uint8_t why; /* that it was to end, enum fm_worker_reason */
};

enum fm_reload { FM_RELOAD_NONE, FM_RELOAD_LOADING, FM_RELOAD_REPLACING, FM_RELOAD_DONE, FM_RELOAD_FAILED };

struct fm_roster_limits {
    uint64_t stop;     /* from being told to end to being killed, when all are */
    uint64_t replaced; /* ... when others go on */
    uint64_t quick;    /* ... when it is to wait for nothing */
    uint64_t lifetime; /* of a worker that is ready; 0: no limit */
    unsigned draining; /* how many may at a time, while others go on; 0: any number */
    uint64_t patience; /* so long each may, whatever others are to: then it is told to end quickly if they are more */
};

struct fm_roster_ops {
    /* Starts a worker; its pid; 0: not now, a tick will follow; -1 after saying why. */
    pid_t (*start)(void *ctx, unsigned slot);
    void (*signal)(void *ctx, pid_t pid, int number);
    /* One sentence for the log. */
    void (*say)(void *ctx, int level, const char *text);
};

struct fm_roster {
    const struct fm_roster_ops *ops;
    void *ctx;
    struct fm_roster_limits limits;
    bool old_first; /* a reload ends the old ones at once, and has new ones meanwhile (--reload) */
    unsigned wanted;
    unsigned generation; /* the one that is wanted */
    bool proven;         /* a worker of it has been ready */
    bool ever_ready;
    bool stopping;
    bool killed;                     /* something had to be while stopping */
    int code;                        /* to exit with */
    unsigned slots_used;             /* the most that were ever wanted */
    uint64_t replaced[FM_WHY_COUNT]; /* how many workers were to be, by why */
    uint64_t out_of_memory;          /* how many ended for want of memory */
    enum fm_reload reload;
    char reload_failed[128]; /* why it has */
    uint32_t random;         /* for jitter */
    struct fm_roster_slot slots[FM_WORKERS_MAX];
    struct fm_roster_worker workers[2 * FM_WORKERS_MAX];
};

void fm_roster_init(struct fm_roster *r, const struct fm_roster_ops *ops, void *ctx, unsigned wanted,
                    const struct fm_roster_limits *limits);

/* Does what is due, and says when to call next: UINT64_MAX when something happens. */
uint64_t fm_roster_tick(struct fm_roster *r, uint64_t now);

/* What has happened.  Each calls for a tick. */
void fm_roster_ready(struct fm_roster *r, pid_t pid, uint64_t now);
void fm_roster_renamed(struct fm_roster *r, pid_t before, pid_t now); /* it went by another process's pid until now */
void fm_roster_exited(struct fm_roster *r, pid_t pid, struct fm_roster_exit how, uint64_t now);

/* A worker that is READY is to be replaced: why is SPENT or STUCK.  What is more urgent than what it was marked for
 * before takes its place; anything else is passed over. */
void fm_roster_mark(struct fm_roster *r, pid_t pid, enum fm_worker_reason why, uint64_t now);

/* What is wanted. */
void fm_roster_reload(struct fm_roster *r, uint64_t now);
void fm_roster_resize(struct fm_roster *r, int by);
void fm_roster_stop(struct fm_roster *r, int number, uint64_t now); /* SIGTERM, or SIGQUIT: quickly */

unsigned fm_roster_count(const struct fm_roster *r, enum fm_worker_state state);

/* Workers of an older generation serve, or the new one has not proven itself. */
bool fm_roster_is_reloading(const struct fm_roster *r);
/* How many are READY and not stuck. */
unsigned fm_roster_serving(const struct fm_roster *r);

/* All are gone, as was wanted: the process may end, with r->code. */
bool fm_roster_is_over(const struct fm_roster *r);

const char *fm_worker_state_name(enum fm_worker_state state);
const char *fm_worker_reason_name(enum fm_worker_reason why);
const char *fm_reload_name(enum fm_reload reload);

/* "has exited with 3", "was ended by signal 9 (Killed), for want of memory". */
void fm_roster_describe(struct fm_roster_exit how, char *text, size_t size);

#endif

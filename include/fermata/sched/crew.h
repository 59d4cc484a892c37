/* The crew: P pool threads plus one, all equal.  Exactly one at a time holds the lookout role, and only it polls; there
 * is always one left to be lookout, because never more than P threads are in an application.
 *
 *   calm      the lookout polls, then runs what came ready itself ("inline") for two milliseconds or a step longer,
 *             and polls again: no context switch at all
 *   stalled   an inline step waits for a millisecond, or many short ones spend their time waiting; for the next
 *             requests ("hand-off budget") the lookout only polls and queues, and pool threads run the steps.  In the
 *             first case the monitor makes an idle thread the lookout (sched/monitor.h), in the second the lookout
 *             finds out by itself (sched/waits.h)
 *
 * All of it under one leaf mutex, which is never held across a system call other than a futex wake, nor across Python.
 * The crew knows no Python: the GIL is two functions, and a step is a third. */
#ifndef FERMATA_SCHED_CREW_H
#define FERMATA_SCHED_CREW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fermata/sched/runq.h"
#include "fermata/sched/task.h"
#include "fermata/sched/waits.h"
#include "fermata/util/annotate.h"
#include "fermata/util/list.h"

struct fm_crew;
struct fm_hand;

struct fm_crew_ops {
    /* One turn of the event loop: role lookout, no GIL.  Pushes what came ready; may sleep if block is set, unless
     * fm_crew_has_work says otherwise. */
    void (*poll)(void *ctx, bool block);
    /* Ends the sleep of poll.  Any thread. */
    void (*wake)(void *ctx);
    /* The GIL, for the calling crew thread. */
    void (*take_gil)(void *ctx, struct fm_hand *hand);
    void (*drop_gil)(void *ctx, struct fm_hand *hand);
    /* One step of a RUNNING task, GIL held.  It calls fm_hand_release before it gives the task away (let_go, WRITING,
     * QUEUED, DONE); afterwards the task is no longer the thread's. */
    void (*step)(void *ctx, struct fm_hand *hand, struct fm_task *task);
    /* Held-back output of the step that runs on some hand: flush it if it was held before `since`; true if some is
     * still held.  Called by the monitor, with hand->lock held, so the step cannot end meanwhile; must not block. */
    bool (*flush)(void *ctx, struct fm_task *task, uint64_t since);
};

enum fm_order { FM_ORDER_NONE, FM_ORDER_SEARCH, FM_ORDER_LOOKOUT };

struct fm_hand { /* one crew thread */
    struct fm_crew *crew;
    unsigned index;        /* 0 .. P */
    int tid;               /* kernel's thread id, for its clock */
    bool has_gil;          /* its own */
    void *user;            /* for the owner of the crew: the Python thread state */
    uint64_t now;          /* its own: when the step began, or was last seen to do something (fm_hand_tick) */
    uint64_t until;        /* its own: when it should poll again, as lookout */
    uint64_t watched;      /* its own: when it has set the monitor's timer last */
    struct fm_task *task;  /* its own: the step that runs here, or NULL */
    struct fm_waits waits; /* its own: of the steps that it runs as lookout */
    pthread_cond_t order_changed;
    enum fm_order order;       /* crew's lock */
    bool here;                 /* crew's lock: it has come and not left */
    struct fm_hand *next_idle; /* crew's lock */
    struct fm_mutex lock;      /* guards what follows; written by the hand alone */
    struct fm_task *held;      /* the step, once it has held output back; or NULL */
};

#define FM_FOR_GIL 1u

struct fm_crew {
    const struct fm_crew_ops *ops;
    void *ctx;
    unsigned pool; /* P; there are pool + 1 hands */
    struct fm_hand *hands;
    struct fm_runq incoming; /* pushed by the loop in this turn, not yet in the run queue; loop only */
    bool handing_off;        /* there was a budget when the turn began, so the loop pushes one by one; loop only */
    struct fm_mutex lock;    /* guards what follows */
    struct fm_runq runq;
    unsigned running;   /* hands in a step, the inline lookout among them; never more than pool */
    unsigned searching; /* hands told to look for work that have not looked yet */
    struct fm_hand *lookout;
    struct fm_hand *idle; /* a stack: the one that slept last has the warmest caches */
    unsigned alive;       /* hands that have come and not left */
    bool stop;
    unsigned budget;       /* hand-off: so many more tasks go to the pool; 0 is inline */
    unsigned budget_size;  /* how large the last one was */
    unsigned inline_tasks; /* since the last stall */
    unsigned pool_turns;   /* grows when a pool thread begins or ends a step */
    pthread_cond_t all_gone;
    /* For the monitor; see sched/monitor.h. */
    struct fm_hand *_Atomic inline_hand; /* the lookout while it runs steps, or waits for the GIL in order to */
    _Atomic uint64_t inline_since;       /* when its step began; with FM_FOR_GIL: when it began to wait for the GIL */
    _Atomic uint64_t watch_after;        /* how long a step may run before the monitor looks, in ns */
    atomic_int monitor_asleep;
    atomic_int may_postpone; /* the monitor looks for the sake of the lookout's step alone */
    int monitor_fd;          /* timerfd */
};

/* pool >= 1.  0 or a negated errno. */
int fm_crew_init(struct fm_crew *c, unsigned pool, const struct fm_crew_ops *ops, void *ctx);
void fm_crew_fini(struct fm_crew *c);

/* The body of crew thread number `index`: returns when the crew is stopped. */
void fm_crew_run(struct fm_crew *c, unsigned index) FM_NO_GIL;

/* Puts a QUEUED task on the run queue and sees to it that somebody will run it.  Any thread, also with the GIL.  What
 * the loop pushes while calm goes to the queue as one batch when its turn is over. */
void fm_crew_push(struct fm_crew *c, struct fm_task *t) FM_ANY_THREAD;

/* Takes a task that has not begun back from the run queue: QUEUED -> IDLE.  False if a thread has it already. */
bool fm_crew_take_back(struct fm_crew *c, struct fm_task *t) FM_ON_LOOP;

/* How many tasks that have not begun wait though every thread is busy: those in the queue beyond the threads that are
 * free to take them.  A task may leave at any moment; only the loop adds one. */
unsigned fm_crew_waiting(struct fm_crew *c) FM_ON_LOOP;

/* Must the lookout not sleep, because there is work that it would run itself? */
bool fm_crew_has_work(struct fm_crew *c) FM_ANY_THREAD;

/* No more polling and no more steps: threads return from fm_crew_run when their step is over.  Any thread. */
void fm_crew_stop(struct fm_crew *c);

bool fm_crew_has_stopped(struct fm_crew *c) FM_ANY_THREAD;

/* Waits until all threads have left, at most until `deadline` (fm_now): the number still there. */
unsigned fm_crew_join(struct fm_crew *c, uint64_t deadline) FM_NO_GIL;

/* How many have not left, with the kernel's ids of n of them at most; does one of them poll, rather than run a step? */
unsigned fm_crew_left(struct fm_crew *c, int *tids, unsigned n, bool *polling) FM_ANY_THREAD;

/* When all have left: runs what they left in the queue, in the calling thread, which has the GIL.  All of it has been
 * aborted before, so that each step is the last one. */
void fm_crew_run_rest(struct fm_crew *c);

/* Does the hand run its step as lookout?  Then nobody waits for the GIL, and giving it up around a send is not worth
 * it. */
bool fm_crew_is_inline(struct fm_crew *c, const struct fm_hand *hand) FM_ANY_THREAD;

/* From now on there may be something to watch: the monitor will look after crew->watch_after.  Any thread; a load, at
 * most once in that time a system call. */
void fm_crew_watch(struct fm_crew *c) FM_ANY_THREAD;

/* The monitor will look after so many nanoseconds, less than a second, and not before, if it sleeps. */
void fm_crew_look_after(struct fm_crew *c, uint64_t ns) FM_ANY_THREAD;

/* The step of h->task holds output back: from now on the monitor flushes what it does not follow up in time.  Called by
 * the hand itself, as are the next three. */
void fm_hand_hold(struct fm_hand *h) FM_ANY_THREAD;

/* The step is about to give its task away: the monitor lets go of it too.  take is the reverse, where the task could
 * not be given away after all. */
void fm_hand_release(struct fm_hand *h) FM_ANY_THREAD;
static inline void fm_hand_take(struct fm_hand *h, struct fm_task *t) { h->task = t; }

/* The time; for a thread of the crew it is also taken for the end of the step, if nothing is seen of that later. */
uint64_t fm_hand_tick(void) FM_ANY_THREAD;

/* The calling thread's hand, NULL if it is none of the crew. */
struct fm_hand *fm_hand_self(void);

/* A stall has been seen: the next tasks are handed off, more of them if the last stall was not long ago, and the more
 * the surer it is that others will wait, too (a factor of the least).  Lock held. */
void fm_crew_hand_off(struct fm_crew *c, unsigned factor) FM_REQUIRES(c->lock);

/* Threads in a step and threads waiting, for the metrics. */
void fm_crew_threads(struct fm_crew *c, unsigned *busy, unsigned *idle) FM_ANY_THREAD;

#endif

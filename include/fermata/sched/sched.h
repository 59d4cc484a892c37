/* The scheduler: P pool threads plus one, all equal.  Exactly one at a time holds the leader role, and only it polls;
 * there is always one left to be leader, because never more than P threads are in an application.
 *
 *   calm      the leader polls, then runs what came ready itself ("inline") for two milliseconds or a step longer,
 *             and polls again: no context switch at all
 *   stalled   an inline step waits for a millisecond, or many short ones spend their time waiting; for the next
 *             requests ("hand-off budget") the leader only polls and queues, and pool threads run the steps.  In the
 *             first case the monitor makes an idle thread the leader (sched/monitor.h), in the second the leader
 *             finds out by itself (sched/waits.h)
 *   parallel  where there is no GIL (fm_sched_set_parallel) steps that compute gain from another thread, too.  What the
 *             leader has not begun is then taken by idle threads, as many as there are processors; and a step that
 *             computes for long counts as one that waits: the others go on beside it
 *
 * All of it under one leaf mutex, which is never held across a system call other than a futex wake, nor across Python.
 * The scheduler knows no Python: the GIL is two functions, and a step is a third. */
#ifndef FERMATA_SCHED_SCHED_H
#define FERMATA_SCHED_SCHED_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fermata/sched/runq.h"
#include "fermata/sched/task.h"
#include "fermata/sched/waits.h"
#include "fermata/util/annotate.h"
#include "fermata/util/list.h"

struct fm_sched;
struct fm_thread;

struct fm_sched_ops {
    /* One turn of the event loop: role leader, no GIL.  Pushes what came ready; may sleep if block is set, unless
     * fm_sched_has_work says otherwise. */
    void (*poll)(void *ctx, bool block);
    /* Ends the sleep of poll.  Any thread. */
    void (*wake)(void *ctx);
    /* The GIL, for the calling pool thread. */
    void (*take_gil)(void *ctx, struct fm_thread *thread);
    void (*drop_gil)(void *ctx, struct fm_thread *thread);
    /* One step of a RUNNING task, GIL held.  It calls fm_thread_release before it gives the task away (let_go, WRITING,
     * QUEUED, DONE); afterwards the task is no longer the thread's. */
    void (*step)(void *ctx, struct fm_thread *thread, struct fm_task *task);
    /* Corked output of the step that runs on some pool thread: flush it if it was corked before `since`; true if some
     * still is.  Called by the monitor, with thread->lock held, so the step cannot end meanwhile; must not block.
     */
    bool (*flush)(void *ctx, struct fm_task *task, uint64_t since);
    /* Or NULL.  Called by the leader when the number of threads in a step has come to that of fm_sched_watch_from
     * (busy), or is below it again: on the loop, before it polls. */
    void (*busy)(void *ctx, bool busy);
};

enum fm_order { FM_ORDER_NONE, FM_ORDER_SEARCH, FM_ORDER_LEADER };

struct fm_thread { /* one pool thread */
    struct fm_sched *sched;
    unsigned index;      /* 0 .. P */
    int tid;             /* kernel's thread id, for its clock */
    unsigned long ident; /* of pthread_self(), which is Python's, too */
    bool has_gil;        /* its own */
    void *user;          /* for the owner of the scheduler: struct fm_wsgi_thread */
    uint64_t now;        /* its own: when the step began, or was last seen to do something (fm_thread_tick) */
    uint64_t until;      /* its own: when it should poll again, as leader */
    uint64_t watched;    /* its own: when it has set the monitor's timer last */
    _Atomic uint64_t
        since;            /* when its step has begun; with FM_FOR_GIL: when it has begun to wait for the GIL for one; 0:
                             neither.  Written by the thread, read by the loop, relaxed: it is compared with seconds */
    struct fm_task *task; /* its own: the step that runs here, or NULL */
    struct fm_waits waits; /* its own: of the steps that it runs as leader */
    pthread_cond_t order_changed;
    enum fm_order order;         /* scheduler's lock */
    bool here;                   /* scheduler's lock: it has come and not left */
    struct fm_thread *next_idle; /* scheduler's lock */
    struct fm_mutex lock;        /* guards what follows; written by the pool thread alone */
    struct fm_task *corked;      /* the step, once it has corked output; or NULL */
};

#define FM_FOR_GIL 1u

struct fm_sched {
    const struct fm_sched_ops *ops;
    void *ctx;
    unsigned pool; /* P; there are pool + 1 pool threads */
    struct fm_thread *threads;
    struct fm_runq incoming; /* pushed by the loop in this turn, not yet in the run queue; loop only */
    bool handing_off;        /* there was a budget when the turn began, so the loop pushes one by one; loop only */
    struct fm_mutex lock;    /* guards what follows */
    struct fm_runq runq;
    unsigned running;   /* pool threads in a step, the inline leader among them; never more than pool */
    unsigned searching; /* pool threads told to look for work that have not looked yet */
    struct fm_thread *leader;
    struct fm_thread *idle; /* a stack: the one that slept last has the warmest caches */
    unsigned alive;         /* pool threads that have come and not left */
    bool stop;
    unsigned budget;       /* hand-off: so many more tasks go to the pool; 0 is inline */
    unsigned budget_size;  /* how large the last one was */
    unsigned inline_tasks; /* since the last stall */
    unsigned pool_turns;   /* grows when a pool thread begins or ends a step */
    bool leader_runs; /* the leader is in a batch: it does not poll, and takes what is queued when a step is over */
    atomic_uint
        parallel;       /* so many steps may compute at once; 0 with a GIL.  Changed with the lock, read without, too */
    unsigned busy_from; /* see fm_sched_watch_from */
    bool busy;          /* the leader has seen that so many are in a step, and not yet that they are not */
    pthread_cond_t all_gone;
    /* For the monitor; see sched/monitor.h. */
    struct fm_thread *_Atomic inline_thread; /* the leader while it runs steps, or waits for the GIL in order to */
    _Atomic uint64_t inline_since; /* when its step began; with FM_FOR_GIL: when it began to wait for the GIL */
    _Atomic uint64_t watch_after;  /* how long a step may run before the monitor looks, in ns */
    atomic_int monitor_asleep;
    atomic_int may_postpone; /* the monitor looks for the sake of the leader's step alone */
    int monitor_fd;          /* timerfd */
};

/* pool >= 1.  0 or a negated errno. */
int fm_sched_init(struct fm_sched *c, unsigned pool, const struct fm_sched_ops *ops, void *ctx);
void fm_sched_fini(struct fm_sched *c);

/* The body of pool thread number `index`: returns when the scheduler is stopped. */
void fm_sched_run(struct fm_sched *c, unsigned index) FM_NO_GIL;

/* Puts a QUEUED task on the run queue and sees to it that a thread will run it.  Any thread, also with the GIL.  What
 * the loop pushes while calm goes to the queue as one batch when its turn is over. */
void fm_sched_push(struct fm_sched *c, struct fm_task *t) FM_ANY_THREAD;

/* Takes a task that has not begun back from the run queue: QUEUED -> IDLE.  False if a thread has it already. */
bool fm_sched_take_back(struct fm_sched *c, struct fm_task *t) FM_ON_LOOP;

/* How many tasks that have not begun wait though every thread is busy: those in the queue beyond the threads that are
 * free to take them.  A task may leave at any moment; only the loop adds one. */
unsigned fm_sched_waiting(struct fm_sched *c) FM_ON_LOOP;

/* Must the leader not sleep, because there is work that it would run itself? */
bool fm_sched_has_work(struct fm_sched *c) FM_ANY_THREAD;

/* No more polling and no more steps: threads return from fm_sched_run when their step is over.  Any thread. */
void fm_sched_stop(struct fm_sched *c);

bool fm_sched_has_stopped(struct fm_sched *c) FM_ANY_THREAD;

/* Waits until all threads have left, at most until `deadline` (fm_now): the number still there. */
unsigned fm_sched_join(struct fm_sched *c, uint64_t deadline) FM_NO_GIL;

/* How many have not left, with the kernel's ids of n of them at most; does one of them poll, rather than run a step? */
unsigned fm_sched_left(struct fm_sched *c, int *tids, unsigned n, bool *polling) FM_ANY_THREAD;

/* When all have left: runs what they left in the queue, in the calling thread, which has the GIL.  All of it has been
 * aborted before, so that each step is the last one. */
void fm_sched_run_rest(struct fm_sched *c);

/* Does the pool thread run its step as leader?  Then no other thread waits for the GIL, and giving it up around a send
 * is not worth it. */
bool fm_sched_is_inline(struct fm_sched *c, const struct fm_thread *thread) FM_ANY_THREAD;

/* From now on there may be something to watch: the monitor will look after sched->watch_after.  Any thread; a load, at
 * most once in that time a system call. */
void fm_sched_watch(struct fm_sched *c) FM_ANY_THREAD;

/* The monitor will look after so many nanoseconds, less than a second, and not before, if it sleeps. */
void fm_sched_look_after(struct fm_sched *c, uint64_t ns) FM_ANY_THREAD;

/* The step of h->task holds output back: from now on the monitor flushes what it does not follow up in time.  Called by
 * the pool thread itself, as are the next three. */
void fm_thread_cork(struct fm_thread *h) FM_ANY_THREAD;

/* The step is about to give its task away: the monitor lets go of it too.  take is the reverse, where the task could
 * not be given away after all. */
void fm_thread_release(struct fm_thread *h) FM_ANY_THREAD;
static inline void fm_thread_take(struct fm_thread *h, struct fm_task *t) { h->task = t; }

/* The time; for a thread of the scheduler it is also taken for the end of the step, if nothing is seen of that later.
 */
uint64_t fm_thread_tick(void) FM_ANY_THREAD;

/* The calling thread as a pool thread, NULL if it is none. */
struct fm_thread *fm_thread_self(void);

/* The monitor finds the leader held up in the step (or the wait for the GIL) that it began at `since`, which was read
 * from inline_since: an idle thread becomes the leader, and where it was a step the next tasks are handed off.  False
 * if it has gone on meanwhile, or no thread is idle. */
bool fm_sched_promote(struct fm_sched *c, struct fm_thread *held_up, uint64_t since) FM_ANY_THREAD;

/* So many steps can compute at the same time: the processors where there is no GIL, 0 where there is one.  May change
 * while threads run. */
void fm_sched_set_parallel(struct fm_sched *c, unsigned processors) FM_ANY_THREAD;

static inline bool fm_sched_is_parallel(const struct fm_sched *c)
{
    return atomic_load_explicit(&c->parallel, memory_order_relaxed) > 0;
}

/* From now on ops->busy is called when so many threads are in a step.  Before any of them runs. */
void fm_sched_watch_from(struct fm_sched *c, unsigned threads);

struct fm_sched_ages {
    unsigned old;     /* threads that have been in one step, or waited for the GIL for one, since `before` or longer */
    unsigned waiting; /* tasks in the run queue */
    uint64_t gil_since; /* since when the one has waited that waits for the GIL for longest; UINT64_MAX: none does */
};

/* How long steps have been under way. */
void fm_sched_ages(struct fm_sched *c, uint64_t before, struct fm_sched_ages *ages) FM_ON_LOOP;

struct fm_sched_step {   /* a thread that is in one */
    unsigned thread;     /* from 1 */
    int tid;             /* the kernel's */
    unsigned long ident; /* Python's */
    uint64_t since;      /* when it began; fm_now */
};

/* Steps that threads are in right now, n of them at most: how many.  One that still waits for the GIL is none.  The
 * second says whether the thread is in the same one still. */
unsigned fm_sched_steps(struct fm_sched *c, struct fm_sched_step *steps, unsigned n) FM_ANY_THREAD;
bool fm_sched_is_in(struct fm_sched *c, const struct fm_sched_step *step) FM_ANY_THREAD;

/* Threads in a step and threads waiting, for the metrics. */
void fm_sched_threads(struct fm_sched *c, unsigned *busy, unsigned *idle) FM_ANY_THREAD;

#endif

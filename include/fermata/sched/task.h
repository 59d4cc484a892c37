/* A task: the schedulable half of one request.  Its state says who holds it, and only its holder touches it:
 *
 *   IDLE     no request; it is the loop's
 *   QUEUED   in the run queue
 *   RUNNING  one thread runs a step
 *   PARKING  that thread registers a callback with a future, which may fire at any moment, in any thread
 *   WOKEN    ... and has fired before the thread let go; the thread still holds the task
 *   PARKED   the future holds it
 *   WRITING  the socket holds it: it goes on when the client has taken its output
 *   DONE     the step was the last; the loop will find it in its inbox
 *
 * State and flags are one atomic word, so that "let go unless the request is to end" is one operation.
 * FM_TASK_ABORT: no further step, only the end.  FM_TASK_GONE: the client is gone; ends the request where it would
 * park. Only the loop aborts; it also owns the memory, so an aborting loop never meets a freed task.
 *
 * Waiting for a future goes through a struct fm_wait, which lives in the callback object and so may outlive the task.
 * A wait is ARMED by the thread that parks, and then taken exactly once: by the callback (FIRING, then FIRED) or by the
 * thread that runs the task next (DISARMED).  A thread that completes the future after that finds nothing to do.  The
 * thread that runs next waits for FIRING to become FIRED (a few instructions), so the callback never touches a task
 * that has gone on: late and concurrent callbacks are harmless. */
#ifndef FERMATA_SCHED_TASK_H
#define FERMATA_SCHED_TASK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/annotate.h"
#include "fermata/util/counter.h"
#include "fermata/util/list.h"

/* X(STATE, gauge it counts in) */
#define FM_TASK_STATES(X)                                                                                              \
    X(IDLE, FM_C_COUNT)                                                                                                \
    X(QUEUED, FM_C_IN_QUEUED)                                                                                          \
    X(RUNNING, FM_C_IN_RUNNING)                                                                                        \
    X(PARKING, FM_C_IN_RUNNING)                                                                                        \
    X(WOKEN, FM_C_IN_RUNNING)                                                                                          \
    X(PARKED, FM_C_IN_PARKED_FUTURE)                                                                                   \
    X(WRITING, FM_C_IN_PARKED_CLIENT)                                                                                  \
    X(DONE, FM_C_IN_SENDING)

/* X(FROM, TO, "when, and by whom"): every transition there is; debug builds check each one against it. */
#define FM_TASK_MOVES(X)                                                                                               \
    X(IDLE, QUEUED, "the loop dispatches a request")                                                                   \
    X(QUEUED, RUNNING, "a thread takes it from the run queue")                                                         \
    X(QUEUED, IDLE, "the loop takes back a request that has not begun")                                                \
    X(RUNNING, PARKING, "the step yielded a future that is not done")                                                  \
    X(PARKING, WOKEN, "the future completed before the thread let go")                                                 \
    X(WOKEN, RUNNING, "the thread goes on at once")                                                                    \
    X(PARKING, RUNNING, "the thread finds that the request is to end, or could not register")                          \
    X(PARKING, PARKED, "the thread lets go")                                                                           \
    X(PARKED, QUEUED, "the future completed, or the loop ends the request")                                            \
    X(RUNNING, WRITING, "output is above the high-water mark")                                                         \
    X(WRITING, QUEUED, "output is below the low-water mark, or the loop ends the request")                             \
    X(RUNNING, QUEUED, "many steps in a row: others first")                                                            \
    X(RUNNING, DONE, "the last step is over")                                                                          \
    X(DONE, IDLE, "the loop has taken note")

enum fm_task_state {
#define X(state, gauge) FM_TASK_##state,
    FM_TASK_STATES(X)
#undef X
        FM_TASK_STATE_COUNT,
};

#define FM_TASK_STATE_MASK 0xffu
#define FM_TASK_ABORT 0x100u
#define FM_TASK_GONE 0x200u

struct fm_task {
    struct fm_list node;    /* in the run queue: the scheduler's lock */
    _Atomic uint32_t word;  /* state and flags; changed by the holder, flags by the loop */
    bool begun;             /* a step has been run; the holder's */
    uint64_t queued_at;     /* set by the thread that queues it */
    _Atomic uint64_t since; /* when its state began; set by the holder, read by the loop, relaxed */
    _Atomic uint16_t place; /* the same: PARKED where, for util/places.h */
    _Atomic uint16_t ran;   /* the same: RUNNING on the pool thread with this index */
};

enum { FM_WAIT_ARMED, FM_WAIT_FIRING, FM_WAIT_FIRED, FM_WAIT_DISARMED };

struct fm_wait {
    _Atomic int state;
    struct fm_task *task; /* read by the callback only between FIRING and FIRED */
};

void fm_task_init(struct fm_task *t);
const char *fm_task_state_name(enum fm_task_state s);
bool fm_task_move_allowed(enum fm_task_state from, enum fm_task_state to);

static inline enum fm_task_state fm_task_state(const struct fm_task *t)
{
    return (enum fm_task_state)(atomic_load(&((struct fm_task *)(uintptr_t)t)->word) & FM_TASK_STATE_MASK);
}
static inline bool fm_task_aborted(const struct fm_task *t)
{
    return atomic_load(&((struct fm_task *)(uintptr_t)t)->word) & FM_TASK_ABORT;
}

/* Holder only: from -> to, keeping the flags.  The release half orders the holder's writes before the next one's. */
void fm_task_move(struct fm_task *t, enum fm_task_state from, enum fm_task_state to) FM_ANY_THREAD;

/* Holder of a DONE task, on the loop: IDLE without flags, for the next request. */
void fm_task_reset(struct fm_task *t) FM_ON_LOOP;

/* Running thread, before add_done_callback: RUNNING -> PARKING, and arms the wait. */
void fm_task_park(struct fm_task *t, struct fm_wait *w) FM_ANY_THREAD;

/* Running thread, after add_done_callback.  True: the task is PARKED and no longer the caller's, not even to look at.
 * False: it is RUNNING and still the caller's, because the future has completed or the request is to end. */
bool fm_task_let_go(struct fm_task *t, struct fm_wait *w) FM_ANY_THREAD;

/* Running thread, where add_done_callback failed: back to RUNNING, whatever has happened meanwhile. */
void fm_task_unpark(struct fm_task *t, struct fm_wait *w) FM_ANY_THREAD;

/* The thread that goes on with a task that was parked on w, before anything else; also before w is given up. */
void fm_wait_disarm(struct fm_wait *w) FM_ANY_THREAD;

/* For sched/wake.c, beside the functions above: the one place where the state of a task changes that others may look
 * at.  from -> to if it is still in `from`, adding flags; false if it is not. */
bool fm_task_change(struct fm_task *t, enum fm_task_state from, enum fm_task_state to, uint32_t add) FM_ANY_THREAD;

/* Adds a flag to a task that was `seen` with that word; false if it has changed since, or for no reason. */
bool fm_task_flag(struct fm_task *t, uint32_t seen, uint32_t flag) FM_ON_LOOP;

#endif

/* The event loop: one libevent base, touched only by the leader, and an inbox for everybody else.
 *
 * The base is made without locks; the role of leader passes from thread to thread under the scheduler's mutex, which
 * orders one leader's accesses before the next one's.  Other threads post events; an event is a member of what it is
 * about, so posting never allocates.  It is posted again only after its visit, so its link has one owner at a time:
 * poster, inbox, loop.
 *
 * Sleeping: the leader sets `asleep`, then looks once more whether the inbox (`posted`) and the run queue (under its
 * mutex) are empty, then sleeps.  Who posts sets `posted`, and who pushes does so under that mutex, and reads `asleep`
 * afterwards.  If the leader's look came before that, `asleep` is visible to it (through the mutex, or because all
 * four accesses are sequentially consistent), and it writes the eventfd: no wake-up is lost, and none is written while
 * the leader is busy. */
#ifndef FERMATA_NET_LOOP_H
#define FERMATA_NET_LOOP_H

#include <event2/event.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fermata/net/timer.h"
#include "fermata/util/annotate.h"
#include "fermata/util/clock.h"
#include "fermata/util/list.h"

#define FM_SCRATCH (64 * 1024)

struct fm_event {
    struct fm_list node;           /* guarded by the loop's inbox lock */
    void (*fn)(struct fm_event *); /* called on the loop; it may free the event's owner */
};

struct fm_loop {
    struct event_base *base;
    struct event *wake_event, *timer_event;
    int wake_fd;     /* eventfd */
    bool woken;      /* the eventfd was readable in this turn */
    uint64_t armed;  /* what timer_event is set to, FM_NEVER if it is not */
    uint64_t now;    /* see fm_loop_now */
    bool now_is_old; /* the loop may have slept since */
    struct fm_timers timers;
    char *scratch;            /* FM_SCRATCH bytes that every read goes to first */
    void (*flush)(void *ctx); /* on the loop, before it sleeps and at the end of a turn; or NULL */
    void *flush_ctx;
    bool (*ready)(void *ctx); /* is there other work, so that the loop must not sleep? any-thread-safe, may lock */
    void *ready_ctx;
    /* A stream's descriptor that the application has closed, as the kernel has given its number out anew: ends it
     * (fm_stream_lost).  False if it is no stream's.  On the loop. */
    bool (*lost)(void *ctx, int fd);
    void *lost_ctx;
    atomic_int asleep;
    _Atomic uint64_t next_due; /* while asleep: when it wakes up by itself */
    struct fm_mutex lock;
    struct fm_list inbox FM_GUARDED_BY(lock);
    atomic_int posted;    /* something may be in the inbox: set under the lock, so that it is in when the lock is had */
    struct fm_list taken; /* of the inbox, about to be visited; loop only */
    struct fm_list ended; /* events for the end of the turn: what they are about is freed then; loop only */
};

/* 0 or a negated errno. */
int fm_loop_init(struct fm_loop *l);
void fm_loop_fini(struct fm_loop *l);

static inline void fm_event_init(struct fm_event *n, void (*fn)(struct fm_event *))
{
    fm_list_init(&n->node);
    n->fn = fn;
}

/* The time of this turn (fm_now): asked for once after each sleep. */
static inline uint64_t fm_loop_now(struct fm_loop *l)
{
    if (l->now_is_old) {
        l->now = fm_now();
        l->now_is_old = false;
    }
    return l->now;
}

/* One turn: visit the inbox, run due timers, wait for events (if block and nothing is ready) and serve them. */
void fm_loop_turn(struct fm_loop *l, bool block) FM_ON_LOOP FM_NO_GIL;

/* Visits the events that have been posted, and does nothing else: part of a turn.  True if there were any. */
bool fm_loop_visit(struct fm_loop *l) FM_ON_LOOP;

/* Asks the loop to call event->fn: at once, or, if due is not 0, at the next wake-up at or before that time.  `urgent`
 * (or NULL) turns such an event into one for at once: it is read after `posted` is set, so that if the loop sets it and
 * then finds the inbox empty, the poster sees it.  Event and urgent live at least until the loop has called event->fn;
 * after this returns they may be gone. */
void fm_loop_post(struct fm_loop *l, struct fm_event *event, uint64_t due, const atomic_bool *urgent) FM_ANY_THREAD;

/* Takes an event that was posted back, if it has not been visited. */
void fm_loop_cancel(struct fm_loop *l, struct fm_event *event) FM_ON_LOOP;

/* Calls event->fn at the end of this turn.  So what is closed in a turn is freed in one place, and nothing that is
 * called on the loop can free what its caller goes on with: who closes something takes it out of everything, marks it
 * closed, and leaves the memory to this. */
void fm_loop_defer(struct fm_loop *l, struct fm_event *event) FM_ON_LOOP;

/* The end of a turn, where there is no turn any more. */
void fm_loop_reap(struct fm_loop *l) FM_ON_LOOP;

/* Ends the sleep of the leader, if it sleeps. */
void fm_loop_wake(struct fm_loop *l) FM_ANY_THREAD;

#endif

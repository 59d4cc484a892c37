/* The leader's sleep and the inbox (net/loop.c): events that may wait for the next wake-up, and what makes them urgent.
 *
 * A thread ends a request and posts its finished event with a due time: the connection is idle, so the loop need not be
 * woken, unless bytes of the next request are there (`x_urgent`), or it would wake up by itself too late.  Another thread
 * posts an event that is urgent.  Time stands still: a timer may end the sleep TIMERS times, and at rest nothing may
 * be left to it that should not have waited.
 *
 * The loop takes the inbox lock only where `posted` says that there is something.  One step here is one atomic operation
 * of the code. */

#ifndef REQUESTS
#define REQUESTS 2
#endif
#ifndef URGENT
#define URGENT 1
#endif
#ifndef TIMERS
#define TIMERS 1
#endif

/* Points in time. */
#define NOW 0
#define SOON 1
#define DUE 2 /* when the connection will have been idle too long */
#define LATER 3
#define NEVER 4

bool asleep, wake_fd;
byte next_due = NEVER, armed = NEVER;
bool locked;           /* the inbox lock, by a poster */
bool finished, urgent; /* in the inbox; its lock */
bool posted;           /* something may be in it */

bool busy;            /* a thread has the exchange, or its event is on the way */
bool running;         /* ... the thread */
bool x_urgent;           /* x->urgent */
byte ahead;           /* requests of which bytes are there; loop only */
byte sent = REQUESTS; /* requests that the client has not sent yet */
byte timers = TIMERS;
byte urgents = URGENT;

/* fm_loop_wake: the exchange, then the write.  The load before is not modelled: where it finds 0, so would the
 * exchange. */
inline wake()
{
    atomic { woken = asleep; asleep = false };
    if
    :: woken -> atomic { wake_fd = true; woken = false }
    :: else
    fi
}

/* fm_exchange_begin. */
inline begin()
{
    ahead--;
    x_urgent = ahead > 0;
    busy = true;
    running = true
}

/* fm_loop_visit, one batch; what it calls is the loop's alone. */
inline visit_inbox()
{
    if
    :: posted ->
        atomic {
            !locked;
            posted = false;
            urgent = false;
            if
            :: finished -> finished = false; assert(!running); busy = false; if :: ahead > 0 -> begin() :: else fi
            :: else
            fi
        }
    :: else
    fi
}

proctype leader()
{
    bool block, data;
    do
    :: visit_inbox();
        if /* arm: the earliest timer; any may be the first */
        :: armed = SOON
        :: armed = LATER
        :: armed = NEVER
        fi;
#ifndef FAULT_NEXT_DUE_LATE
        next_due = armed;
#endif
        asleep = true;
#ifdef FAULT_NO_LAST_LOOK
        block = true;
#else
        block = !posted; /* must_not_sleep */
#endif
#ifdef FAULT_NEXT_DUE_LATE
        next_due = armed;
#endif
        if
        :: block -> /* epoll_wait */
end_asleep: atomic {
                if
                :: wake_fd
                :: sent > 0
                :: timers > 0 && armed != NEVER -> timers--
                fi
            }
        :: else
        fi;
        atomic { data = false; block = false; wake_fd = false; if :: sent > 0 -> sent--; data = true :: true fi };
        if
        :: data && !busy -> atomic { ahead++; begin() }   /* on_data, on_request */
        :: data && busy -> atomic { ahead++; x_urgent = true } /* on_data */
        :: else
        fi;
        asleep = false;
        visit_inbox()
    od
}

/* The thread of the last step: finish() and fm_loop_post. */
proctype thread()
{
    byte due;
    bool woken, seen;
end:
    do
    :: atomic { running -> running = false; due = DUE }; /* the step is over; the task is DONE */
#ifdef FAULT_URGENT_BEFORE_LOCK
        seen = x_urgent;
        atomic { finished = true; posted = true; due = (seen -> NOW : due) };
#elif defined FAULT_URGENT_AFTER_LOCK
        atomic { finished = true; posted = true };
        atomic { assert(finished); due = (x_urgent -> NOW : due) }; /* the event may be gone, and the exchange with it */
#elif defined FAULT_POSTED_AFTER_URGENT
        atomic { !locked -> locked = true; finished = true };
        due = (x_urgent -> NOW : due);
        atomic { posted = true; locked = false };
#else
        atomic { !locked -> locked = true; finished = true };
        posted = true;
        atomic { due = (x_urgent -> NOW : due); locked = false };
#endif
        if
        :: due == NOW || next_due > due -> wake()
        :: else
        fi;
        atomic { due = 0; seen = false }
    od
}

/* Any other: an event for at once. */
proctype other()
{
    bool woken;
    do
    :: urgents > 0 ->
#ifdef FAULT_POSTED_AFTER_LOCK
        atomic { !locked -> urgents--; urgent = true };
        wake();
        posted = true
#else
        atomic { !locked -> locked = true; urgents--; urgent = true };
        atomic { posted = true; locked = false };
        wake()
#endif
    :: urgents == 0 -> break
    od
}

/* When nothing can happen any more, nothing is left to be done before the next timer. */
proctype at_rest()
{
    timeout;
    assert(!urgent && !running && urgents == 0 && sent == 0);
    assert(!(finished && ahead > 0)); /* a request is there and is not begun */
    assert(!finished || armed <= DUE) /* the loop will wake up by itself in time */
}

init
{
    atomic {
        run leader();
        run thread();
        run other();
        run at_rest()
    }
}

#ifdef LIVENESS
ltl begun_at_last { [] (ahead > 0 -> <> (ahead == 0)) }
#endif

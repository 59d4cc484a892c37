/* The arbiter's decisions (arbiter/roster.c): workers that load, serve, drain, hang and die, against reloads, resizes, a
 * stop, and workers that cannot be started.
 *
 * A ready worker may be found to be spent, or stuck (`marks`): then it is to be replaced.
 *
 * With OLD_FIRST a reload is one for development: it tells all that there are to end, and new ones are started at once; so
 * for a while none may serve, which is asked for.
 *
 * With LIMIT so many may drain at a time; another one waits for its turn, until one has ended or has had its time, which
 * is at any moment.
 *
 * The arbiter has one thread, so what it does on one event, with the tick after it, is one step.  Time stands still: a
 * wait before a start (`waits`) and a deadline pass at any moment.  A worker may hang while it loads and while it drains;
 * at rest nothing else can happen, and what is there then must be what is wanted. */

#ifndef WANTED
#define WANTED 2
#endif
#ifndef MOST
#define MOST 2 /* that may be wanted */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef RELOADS
#define RELOADS 1
#endif
#ifndef RESIZES
#define RESIZES 0
#endif
#ifndef HANGS
#define HANGS 1
#endif
#ifndef MARKS
#define MARKS 0
#endif
#define PLACES (2 * MOST + 1)

mtype = { GONE, LOADING, READY, DRAINING, KILLED };

mtype state[PLACES] = GONE;
byte slot[PLACES], generation[PLACES];
byte mark[PLACES];   /* of a ready worker: 1, it is spent; 2, it is stuck */
byte marks = MARKS;
bool waits[MOST];    /* a slot whose next start is put off */
bool hangs[PLACES]; /* it does not end as it is told */
byte hanging = HANGS;

byte wanted = WANTED, current, proven_generation;
bool proven, ever_ready, stopping;
bool ending; /* a reload tells the old ones */
byte crashes = CRASHES, reloads = RELOADS, resizes = RESIZES;

byte loading, ready, old_loading, old_ready, stuck, serving, last, at_once, i, s, free;
bool there;

/* class_of */
#ifdef FAULT_SPENT_IS_CURRENT
#define CURRENT(k) (generation[k] == current && mark[k] != 2)
#else
#define CURRENT(k) (generation[k] == current && mark[k] == 0)
#endif
#define LOST(k) (mark[k] == 2)
#define OLD(k) (!CURRENT(k) && !LOST(k))
#define STAYS(k) (state[k] == LOADING || state[k] == READY)

inline tally()
{
    loading = 0; ready = 0; old_loading = 0; old_ready = 0; stuck = 0;
    for (i : 0 .. PLACES - 1) {
        if
        :: state[i] == LOADING && CURRENT(i) -> loading++
        :: state[i] == LOADING && OLD(i) -> old_loading++
        :: state[i] == READY && CURRENT(i) -> ready++
        :: state[i] == READY && OLD(i) -> old_ready++
        :: state[i] == READY && LOST(i) -> stuck++
        :: else
        fi
    }
}

/* last_of: of those that are wanted (0), to be replaced (1), or stuck (2); one that loads first, then the one of the
 * last slot. */
inline find_last(class)
{
    last = PLACES;
    for (i : 0 .. PLACES - 1) {
        if
        :: STAYS(i) && ((class == 0 && CURRENT(i)) || (class == 1 && OLD(i)) || (class == 2 && LOST(i))) ->
            if
            :: last == PLACES -> last = i
            :: last < PLACES && state[i] == LOADING && state[last] == READY -> last = i
            :: last < PLACES && state[i] == state[last] && slot[i] > slot[last] -> last = i
            :: else
            fi
        :: else
        fi
    }
}

#ifdef LIMIT
bool served[PLACES], quick[PLACES]; /* of one that drains: it was ready; it is to wait for nothing */
byte busy, oldest;

/* draining(), of those that were ready */
inline count_draining()
{
    busy = 0;
    oldest = PLACES;
    for (i : 0 .. PLACES - 1) {
        if
#ifdef FAULT_NO_ROOM_AGAIN
        :: (state[i] == DRAINING || state[i] == GONE) && served[i] && !quick[i] -> busy++; oldest = i
#else
        :: state[i] == DRAINING && served[i] && !quick[i] -> busy++; oldest = i
#endif
        :: else
        fi
    }
}
#endif

inline be_told(k)
{
#ifdef LIMIT
    served[k] = state[k] == READY;
    quick[k] = false;
#endif
    state[k] = DRAINING;
    if
    :: hanging > 0 -> hanging--; hangs[k] = true
    :: hangs[k] = false
    fi
}

/* Told to end. Unless all stop, a ready one goes only where as many as are wanted stay, that are not stuck. */
inline drain(k)
{
    if
    :: state[k] == READY && !stopping && !ending && mark[k] != 2 -> assert(ready + old_ready > wanted)
    :: state[k] == READY && !stopping && !ending && mark[k] == 2 -> assert(ready + old_ready >= wanted)
    :: else
    fi;
    be_told(k)
}

inline end_spare()
{
    do
    :: tally();
        last = PLACES;
#ifdef FAULT_STUCK_SERVES
        serving = ready + old_ready + stuck;
#else
        serving = ready + old_ready;
#endif
        if
#ifdef FAULT_STUCK_AT_ONCE
        :: stuck > 0 -> find_last(2)
#elif !defined(FAULT_STUCK_KEPT)
        :: stuck > 0 && serving >= wanted -> find_last(2)
#endif
        :: else ->
            if
#ifdef FAULT_DRAIN_FIRST
            :: old_loading > 0 || old_ready > 0 -> find_last(1)
#else
            :: old_loading > 0 || (old_ready > 0 && (ready > 0 || proven) && serving > wanted) -> find_last(1)
#endif
            :: else ->
                if
                :: ready + loading > wanted -> find_last(0)
                :: else
                fi
            fi
        fi;
#ifdef LIMIT
        count_draining();
#endif
        if
        :: last == PLACES -> break
#ifdef LIMIT
        :: last < PLACES && state[last] == READY && !LOST(last) && busy >= LIMIT ->
            if
            :: break
            :: quick[oldest] = true; drain(last)
            fi
#endif
        :: else -> drain(last)
        fi
    od
}

#ifdef LIMIT
#define SERVED_NOTHING(k) served[k] = false
#else
#define SERVED_NOTHING(k) skip
#endif

inline start_in(n)
{
    free = PLACES;
    for (i : 0 .. PLACES - 1) {
        if
        :: state[i] == GONE && free == PLACES -> free = i
        :: else
        fi
    }
    if
    :: free < PLACES && !waits[n] -> state[free] = LOADING; slot[free] = n; generation[free] = current;
        mark[free] = 0; SERVED_NOTHING(free); loading++
    :: else
    fi
}

inline start_missing()
{
    tally();
    at_once = (old_ready == 0 -> wanted : (proven && ready + old_ready < wanted -> wanted - ready - old_ready : 1));
#ifdef LIMIT
    at_once = ((ready > 0 || proven) && ready + old_ready > wanted -> 0 : at_once); /* an old one waits for its turn to drain */
#endif
    for (s : 0 .. MOST - 1) {
        there = false;
        for (i : 0 .. PLACES - 1) {
            there = there || (STAYS(i) && CURRENT(i) && slot[i] == s)
        }
        if
        :: s < wanted && !there && loading < at_once && loading + ready < wanted -> start_in(s)
        :: else
        fi
    }
}

inline tick()
{
    if
    :: !stopping -> end_spare(); start_missing()
    :: else
    fi
}

inline stop()
{
    stopping = true;
    for (i : 0 .. PLACES - 1) {
        if
        :: state[i] == LOADING || state[i] == READY -> be_told(i)
        :: else
        fi
    }
}

/* fm_roster_exited, of one that was not told to. */
inline crashed(k)
{
    state[k] = GONE;
    tally();
    if
    :: !ever_ready -> stop()
    :: ever_ready && generation[k] == current && !proven && old_ready + stuck > 0 -> /* fail_reload */
#ifndef FAULT_NO_FALLBACK
        for (i : 0 .. PLACES - 1) {
            generation[i] = current
        }
#endif
        proven = true;
        tally();
        for (i : 0 .. PLACES - 1) {
            assert(state[i] == GONE || generation[i] == current) /* what goes on is what is wanted */
        }
    :: else -> waits[slot[k]] = true
    fi
}

#ifdef FAULT_NO_KILL
#define KILL(k) false
#else
#define KILL(k) state[k] = KILLED
#endif

/* What can happen to the worker at one place. */
#define WORKER(k)                                                                                                      \
    :: atomic { state[k] == LOADING -> be_ready(k); tick() }                                                           \
    :: atomic { (state[k] == DRAINING && !hangs[k]) || state[k] == KILLED -> state[k] = GONE; tick() }                 \
    :: atomic { state[k] == DRAINING -> KILL(k) } /* its deadline has passed */                                        \
    :: atomic { STAYS(k) && crashes > 0 -> crashes--; crashed(k); tick() }                                             \
    :: atomic { state[k] == READY && mark[k] < 2 && marks > 0 -> marks--; be_marked(k); tick() }

inline be_ready(k)
{
    state[k] = READY;
    ever_ready = true;
    proven = proven || generation[k] == current
}

/* fm_roster_mark */
inline be_marked(k)
{
    if
    :: mark[k] == 0 -> mark[k] = 1
    :: mark[k] = 2
    fi
}

/* Of a reload for development: whatever loads or serves is of before the change, and is to answer no more. */
inline end_old()
{
    ending = true;
#ifndef FAULT_OLD_KEPT
    for (s : 0 .. PLACES - 1) {
        if
#ifdef FAULT_LOADING_KEPT
        :: state[s] == READY -> drain(s)
#else
        :: STAYS(s) -> drain(s)
#endif
        :: else
        fi
    }
#endif
    ending = false;
    for (s : 0 .. PLACES - 1) {
        assert(!STAYS(s) || generation[s] == current)
    }
}

inline reload()
{
    reloads--;
    current++;
    proven = false;
    for (i : 0 .. MOST - 1) {
        waits[i] = false
    }
#ifdef OLD_FIRST
    end_old()
#endif
}

/* With OLD_FIRST also while the first ones load, which may never be ready. */
#ifdef OLD_FIRST
#define CAN_RELOAD true
#else
#define CAN_RELOAD ever_ready
#endif

active proctype arbiter()
{
    atomic { tick() };
end:
    do
    WORKER(0)
    WORKER(1)
    WORKER(2)
#if MOST > 1
    WORKER(3)
    WORKER(4)
#endif
#ifndef FAULT_NO_RESTART
    :: atomic { waits[0] -> waits[0] = false; tick() }
    :: atomic { waits[MOST - 1] -> waits[MOST - 1] = false; tick() }
#endif
    :: atomic { reloads > 0 && !stopping && CAN_RELOAD -> reload(); tick() }
    :: atomic { resizes > 0 && !stopping && wanted < MOST -> resizes--; wanted++; tick() }
    :: atomic { resizes > 0 && !stopping && wanted > 1 -> resizes--; wanted--; tick() }
#ifdef STOP
    :: atomic { !stopping -> stop() }
#endif
    od
}

/* Nothing is left to happen: everything that could end or be ready has. */
active proctype at_rest()
{
    atomic {
        timeout ->
        tally();
        for (i : 0 .. PLACES - 1) {
            assert(state[i] != DRAINING && state[i] != KILLED)
        }
        if
        :: stopping -> assert(loading + ready + old_loading + old_ready + stuck == 0)
        :: else -> assert(ready == wanted && loading + old_loading + old_ready + stuck == 0);
            for (i : 0 .. PLACES - 1) {
                assert(state[i] == GONE || mark[i] == 0)
            }
        fi
    }
}

/* The scheduler: leader and hand-over, the two lines of the run queue, idle threads, hand-off budget, the leader's sleep,
 * the monitor and its sleep, and stopping.  A task is a number in its line; its life is task.pml.
 *
 * One step here is one atomic operation of the code or one critical section of the scheduler's lock (README.md says why no
 * more is needed).  Names are those of sched/sched.c, sched/monitor.c and net/loop.c. */

#ifndef POOL
#define POOL 1 /* threads that may be in the application; there is one more */
#endif
#ifndef ARRIVALS
#define ARRIVALS 1 /* requests that the loop reads from sockets */
#endif
#ifndef PUSHES
#define PUSHES 1 /* tasks that other threads push: futures that are done */
#endif
#ifndef REQUEUES
#define REQUEUES 0 /* tasks that a step pushes again */
#endif
#ifndef STUCK
#define STUCK 1 /* steps that do not come back at all; any other may take as long as it likes */
#endif
#ifndef BUDGET
#define BUDGET 1 /* tasks after a stall that are handed off */
#endif
#ifndef WAITS
#define WAITS 1 /* times that the leader itself finds its steps to wait */
#endif
#ifndef PARALLEL
#define PARALLEL 0 /* processors, where there is no GIL */
#endif
#ifndef TAKEN_BACK
#define TAKEN_BACK 0 /* requests that the loop takes back from the queue */
#endif
/* Also: STOP: the scheduler may be stopped at any time; GIL_ON: a library may turn the GIL on at any time, for good or
 * for a while. */

#define THREADS (POOL + 1)
#define NO_THREAD 255

/* ---- struct fm_sched: the scheduler's lock ---- */

byte unstarted, started; /* the lines of the run queue */
bool last_started;       /* which had the last turn */
byte running, searching, budget;
byte leader = 0; /* the first to come */
byte idle[THREADS]; /* a stack */
byte nidle;
bool to_search[THREADS]; /* order == FM_ORDER_SEARCH; the other orders are told by what else there is */
bool waiting[THREADS];   /* in pthread_cond_wait */
bool stop;
bool leader_runs;
byte parallel = PARALLEL;
byte alive = THREADS;

/* ---- atomics, and what only the leader uses ---- */

byte inline_thread = NO_THREAD;
bool monitor_asleep, monitor_fd;
bool asleep, wake_fd; /* net/loop.h */
byte nincoming; /* requests that have not begun: what goes on comes from elsewhere here */
bool handing_off;

/* ---- the world ---- */

byte arrivals = ARRIVALS, pushes = PUSHES, requeues = REQUEUES, may_stick = STUCK, taken_back = TAKEN_BACK;
byte waits = WAITS;

/* ---- ghosts ---- */

byte polling; /* how many are in poll */
byte stuck;   /* how many are in a step that does not come back */
byte passed;  /* turns in a row of those that go on, while a request that has not begun waits */

#define queued (unstarted + started)
#define signal(h) waiting[h] = false /* pthread_cond_signal: no effect on one that does not wait */
#define would_run_inline (queued > 0 && budget == 0 && running < POOL)
#define has_processor (running < parallel)

inline wake_searcher()
{
    if
    :: searching == 0 && queued > 0 && running < POOL && nidle > 0 ->
        nidle--; /* pop_idle */
        searching++;
        to_search[idle[nidle]] = true;
        signal(idle[nidle]);
        idle[nidle] = 0
    :: else
    fi
}

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

/* fm_sched_watch: likewise. */
inline watch()
{
    atomic { woken = monitor_asleep; monitor_asleep = false };
    if
    :: woken -> atomic { monitor_fd = true; woken = false }
    :: else
    fi
}

/* fm_runq_pop, where there is something. */
inline pop()
{
#ifdef FAULT_NO_TURNS
    last_started = started > 0;
#else
    last_started = (last_started -> unstarted == 0 : started > 0);
#endif
    if
    :: last_started -> started--; passed = (unstarted > 0 -> passed + 1 : 0)
    :: else -> unstarted--; passed = 0
    fi;
    assert(passed <= 1) /* the lines take turns */
}

/* fm_sched_push under the lock of a task that has begun or not; must_wake is `wake`. */
inline push(line)
{
    line++;
    if
    :: budget > 0 ->
        budget--;
        wake_searcher();
#ifdef FAULT_BUDGET_END_UNTOLD
        must_wake = false
#else
        must_wake = budget == 0
#endif
    :: else ->
        must_wake = true;
        if
        :: leader_runs && has_processor -> wake_searcher()
        :: else
        fi
    fi
}

/* At the beginning of inline_step. */
inline share()
{
    if
    :: has_processor -> wake_searcher()
    :: else
    fi
}

/* What a pool thread does next, when it gives the lock up. */
#define POLL 1
#define INLINE 2
#define STEP 3
#define WAKE 4
#define LEAVE_GIL 5
#define SLEEP 6
#define QUIT 7

/* The head of the loop of fm_sched_run, and of leader_turn or pool_turn, to where the lock is given up. */
inline turn()
{
    if
    :: stop -> next = QUIT
    :: !stop && leader == h ->
#ifndef FAULT_HAND_OFF_UNTOLD
        if
        :: budget > 0 || has_processor -> wake_searcher()
        :: else
        fi;
#endif
        block = !would_run_inline;
        handing_off = budget > 0;
        polling++;
        assert(polling == 1); /* exactly one leader */
        next = POLL
    :: !stop && leader != h ->
        next = (queued > 0 && running < POOL && (budget > 0 || to_search[h] || has_processor) -> STEP : 0);
        if
        :: to_search[h] -> to_search[h] = false; searching--
        :: else
        fi;
        if
        :: next == STEP ->
            pop();
            running++;
            assert(running <= POOL);
            has_gil = true;
#ifndef FAULT_NO_NEXT_SEARCHER
            if
            :: budget > 0 || has_processor -> wake_searcher()
            :: else
            fi
#endif
        :: next != STEP && has_gil -> next = LEAVE_GIL
        :: next != STEP && !has_gil -> /* sleep_until_ordered */
            idle[nidle] = h;
            nidle++;
            waiting[h] = true;
            next = SLEEP
        fi
    fi
}

inline step_is_over()
{
    running--;
#ifdef FAULT_STEP_END_UNTOLD
    turn()
#else
    if
    :: would_run_inline -> next = WAKE
    :: else -> turn()
    fi
#endif
}

/* A step: it ends, sooner or later or never, and may push a task: its own again, or one whose future it completes. */
inline step()
{
    if
    :: true
    :: atomic { may_stick > 0 -> may_stick--; stuck++ };
end_stuck: false
    :: atomic { requeues > 0 -> requeues--; push(started) };
        if
        :: must_wake -> wake()
        :: else
        fi
    fi
}

/* fm_loop_turn. */
inline poll()
{
    has_gil = false; /* leave_gil */
    if
    :: block ->
        asleep = true;
#ifndef FAULT_NO_LAST_LOOK
        atomic { block = !(nincoming > 0 || would_run_inline || stop) } /* fm_sched_has_work */
#endif
    :: else
    fi;
    if
    :: block -> /* epoll_wait */
end_asleep: (wake_fd || arrivals > 0)
    :: else
    fi;
    atomic { wake_fd = false; block = false };
    asleep = false;
    do
    :: atomic { arrivals > 0 && !handing_off -> arrivals--; nincoming++ } /* fm_sched_push on the loop */
    :: atomic { arrivals > 0 && handing_off -> arrivals--; push(unstarted) }
    :: atomic { taken_back > 0 && unstarted + nincoming > 0 -> /* fm_sched_take_back */
            taken_back--;
            unstarted = unstarted + nincoming;
            nincoming = 0;
            unstarted--;
            passed = (unstarted > 0 -> passed : 0)
        }
    :: break
    od
}

proctype thread(byte h)
{
    byte next, batch;
    bool has_gil, block, woken, must_wake;
    atomic { turn() };
    do
    :: next == POLL ->
        poll();
        atomic { /* leader_turn, after poll */
            polling--;
            unstarted = unstarted + nincoming; /* take_incoming */
            nincoming = 0;
            if
            :: would_run_inline && !stop -> /* run_batch: the first task is taken under the same lock */
                batch = queued;
                pop();
                running++;
                leader_runs = true;
                assert(running <= POOL);
                share(); /* inline_step, under the same lock */
                next = INLINE
            :: else -> wake_searcher(); turn()
            fi
        }
    :: next == INLINE ->
        inline_thread = h; /* begin_batch */
        watch();
        has_gil = true;
        do
        :: step();
            atomic { /* the end of inline_step, and the loop of run_batch */
                batch--;
                if /* the steps wait: the leader hands off by itself */
                :: waits > 0 && leader == h && running < POOL -> waits--; budget = BUDGET; batch = 0
                :: true
                fi;
                if
                :: batch > 0 && leader == h && !stop && queued > 0 -> pop(); share()
                :: batch > 0 && leader == h && !stop && queued > 0 -> next = 0 /* it is time to poll */
                :: else -> next = 0
                fi;
                if
                :: next == INLINE
                :: next == 0 && leader == h ->
                    batch = 0;
                    inline_thread = NO_THREAD;
                    leader_runs = false;
                    running--;
                    turn();
                    break
                :: next == 0 && leader != h -> /* replaced during a step */
                    batch = 0;
                    step_is_over();
                    break
                fi
            }
        od
    :: next == STEP ->
        step();
        atomic { step_is_over() }
    :: next == WAKE ->
        wake();
        atomic { turn() }
    :: next == LEAVE_GIL ->
        has_gil = false;
        atomic { turn() }
    :: next == SLEEP ->
end_idle: (!waiting[h]);
        atomic { turn() }
    :: next == QUIT -> break
    od;
    atomic { alive-- }
}

/* Threads of the application that complete futures. */
proctype pusher()
{
    bool woken, must_wake;
    do
    :: atomic { pushes > 0 -> pushes--; push(started) };
        if
        :: must_wake -> wake()
        :: else
        fi
    :: pushes == 0 -> break
    od
}

/* fm_sched_set_parallel, where a library has turned the GIL on. */
proctype library()
{
    bool woken;
    if
#ifdef GIL_ON
    :: parallel > 0 ->
        parallel = 0;
        wake();
        if
        :: parallel = PARALLEL; /* its import is over, and it can do without */
            wake()
        :: true
        fi
#endif
    :: true
    fi
}

/* fm_sched_stop. */
proctype stopper()
{
    bool woken;
    byte i;
    if
#ifdef STOP
    :: true
#endif
    :: goto end
    fi;
    atomic {
        stop = true;
#ifdef FAULT_STOP_SIGNALS_ONE
        signal(0)
#else
        for (i : 0 .. THREADS - 1) {
            signal(i)
        }
#endif
    };
    wake();
end:
    skip
}

/* look_at_leader, and fm_sched_promote in it; watching says that there is a leader to watch.  When a leader counts as
 * held up is a matter of time: here every inline leader may.  Where it has waited for the GIL, nothing is handed off.
 * fm_sched_promote is one step: once it has found inline_thread to be the leader, only that thread could change it,
 * under the lock. */
inline look()
{
    stuck_thread = inline_thread;
    watching = stuck_thread != NO_THREAD;
    if
    :: watching ->
        atomic {
            if
#ifdef FAULT_PROMOTE_ANYHOW
            :: leader == stuck_thread && !stop && nidle > 0 ->
#else
            :: leader == stuck_thread && inline_thread == stuck_thread && !stop && nidle > 0 ->
#endif
                nidle--;
                leader = idle[nidle];
                inline_thread = NO_THREAD;
                leader_runs = false;
                if
                :: budget = BUDGET /* hand_off */
                :: true
                fi;
                signal(idle[nidle]);
                idle[nidle] = 0
            :: else
            fi;
            stuck_thread = NO_THREAD
        }
    :: else
    fi
}

/* The main thread: looks, and sleeps.  monitor_fd is a timer, which expires sooner or later. */
proctype monitor()
{
    byte stuck_thread = NO_THREAD;
    bool watching;
    do
    :: stop -> break
    :: else ->
        look();
        if
        :: watching -> watching = false
        :: else ->
            monitor_asleep = true;
#ifndef FAULT_MONITOR_NO_LAST_LOOK
            look();
#endif
            if
            :: !watching ->
end_asleep:     atomic { monitor_fd || stop -> monitor_fd = false } /* ppoll, fm_monitor_woken */
            :: else -> atomic { monitor_asleep = false; watching = false }
            fi
        fi
    od
}

/* When nothing can happen any more, all work is done that there are threads for, and one thread is on the leader. */
proctype at_rest()
{
    timeout;
    if
    :: stop -> assert(alive == stuck)
    :: else ->
        assert(polling == 1 && asleep && searching == 0);
        assert(nincoming == 0 && pushes == 0 && arrivals == 0 && running == stuck);
        assert(queued == 0 || running == POOL)
    fi
}

init
{
    atomic {
        byte i;
        for (i : 0 .. THREADS - 1) {
            run thread(i)
        }
        run pusher();
        run stopper();
        run library();
        run monitor();
        run at_rest()
    }
}

#define work (queued > 0 && running < POOL && !stop)
#ifdef LIVENESS
ltl work_is_done { [] (work -> <> !work) }
ltl stop_ends { [] (stop -> <> (alive == 0)) }
#endif

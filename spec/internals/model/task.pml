/* The life of a task: one connection's exchange, used for one request after another, with the threads that run its
 * steps, the futures it waits for, the loop that ends it, and the end of the process.
 *
 * One step here is one atomic operation of the code or one critical section; a loop around a compare-and-exchange of
 * one word is one operation, the exchange that succeeds.  README.md says why that is no coarser than the code.  Names
 * are those of the code.  Ghosts are variables that the code does not have: they remember what must hold. */

#ifndef REQUESTS
#define REQUESTS 1 /* on the connection: the second one uses the memory of the first */
#endif
#ifndef WAITS
#define WAITS 1 /* futures that may be yielded, in all requests together */
#endif
#ifndef BLOCKS
#define BLOCKS 0 /* blocks of output, likewise */
#endif
#ifndef AGAIN
#define AGAIN 0 /* callbacks that are called once more than they should be */
#endif
#ifndef THREADS
#define THREADS 2
#endif
#ifndef COMPLETERS
#define COMPLETERS 1 /* threads that complete futures */
#endif
/* Also: CLIENT_GOES, CLIENT_HALF_CLOSES, CLIENT_STALLS, DEADLINE, QUEUE_TIMEOUT, SHUTDOWN, and RAISE, that of
 * add_done_callback: such things happen. */

c_decl {
\#include "cover.h"
};

/* ---- sched/task.h ---- */

#define IDLE 0
#define QUEUED 1
#define RUNNING 2
#define PARKING 3
#define WOKEN 4
#define PARKED 5
#define WRITING 6
#define DONE 7

#define STATE 7
#define ABORT 8
#define GONE 16

byte word = IDLE; /* t->word */
bool in_queue;    /* t->node is in the run queue; scheduler's lock */
bool begun;       /* t->begun; holder's */

/* struct fm_wait: one for each future that is yielded. */
#define NEW 0
#define ARMED 1
#define FIRING 2
#define FIRED 3
#define DISARMED 4

byte wait_state[WAITS];
byte wait_serial[WAITS]; /* ghost: the request that w->task stands for */

/* The futures. */
#define WILL_BE 1
#define NEVER 2

byte waits;          /* how many there are */
byte pending[WAITS]; /* WILL_BE or NEVER done, 0: done; its own lock */
bool hooked[WAITS];  /* it has our callback; its own lock */
byte again = AGAIN;

#define NONE 255
byte wakeup = NONE; /* run->wakeup: the holder's */

/* ---- net/stream.h; kept is 0, 1 (up to FM_OUTPUT_LOW) or 2 (above FM_OUTPUT_HIGH) ---- */

bool s_lock; /* taken; only where its critical section is more than one step */
bool dead, waiting; /* s->writing is DEAD or DYING; ASKED or LOOP */
byte kept;
bool drained_wait;                /* a write() waits on x->drained */
bool want_write, finished, drain; /* events in the inbox; the loop's lock */
bool fd_open = true, write_armed; /* loop only */

/* ---- http/writer.h, sched/sched.h ---- */

bool head_made, claimed, held_back; /* w->state, w->corked_since; writer's lock */
bool thread_corked;                     /* thread->corked points to the task; thread's lock */

/* ---- server/http1.h, server/request.h, server/service.h ---- */

#define READING 0
#define BUSY 1
#define SENDING 2

byte conn = READING;           /* loop only, as are those that follow */
bool deadline, graceful, last; /* timers that run */
bool patience;
bool half_closed, told_gone;   /* c->ended, s->broken */
byte requests = REQUESTS;
bool answered;   /* x->status: the server's own answer; of the process that claimed the writer */
bool broken_off; /* x->outcome; the holder's, then the loop's */
byte blocks = BLOCKS;
bool draining, stop;
byte left; /* threads that have left fm_sched_run, the leader among them */

/* ---- the client ---- */

bool gone;    /* it has left */
bool half;    /* it has ended its direction */
bool stalled; /* it takes nothing more */

/* ---- ghosts ---- */

bool alive = true; /* the memory of connection, exchange and task */
byte serial;       /* which request that memory is for */
bool in_app;       /* application code runs */
bool closed;       /* close() has been called */
bool unwanted;     /* the client, a deadline or the drain has ended this request */
bool torn_down;    /* tear_down is over */
bool exited;       /* the process has exited without its threads */
byte calling;      /* completers in a callback: fm_wsgi.waking */

/* A process looks at the task on behalf of request n. */
#define touch(n) assert(alive && serial == (n))

/* ---- sched/task.c ---- */

/* The exchange that succeeds.  c_code counts which moves there were; see cover.h. */
#define set(from, to, add) \
    c_code { cover(from, to); }; \
    word = (word & (ABORT | GONE)) | to | add

/* change(): ok says that the task was in `from`. */
#define change(n, from, to, add) \
    atomic { \
        touch(n); \
        if \
        :: (word & STATE) == from -> set(from, to, add); ok = true \
        :: else -> ok = false \
        fi \
    }

/* fm_task_move, which dies if it finds another state. */
#define move(n, from, to) \
    atomic { touch(n); assert((word & STATE) == from); set(from, to, 0) }

/* fm_wait_disarm: the exchange, or else the wait until it is not FIRING. */
#ifdef FAULT_NO_DISARM
#define disarm(w) skip
#elif defined FAULT_NO_WAIT_FOR_FIRED
#define disarm(w) \
    atomic { \
        if \
        :: wait_state[w] == ARMED -> wait_state[w] = DISARMED \
        :: else \
        fi \
    }
#else
#define disarm(w) \
    atomic { \
        if \
        :: wait_state[w] == ARMED -> wait_state[w] = DISARMED \
        :: wait_state[w] != ARMED && wait_state[w] != FIRING \
        fi \
    }
#endif

/* fm_sched_push: in no queue yet; a second time would break the list. */
#define push(n) \
    atomic { touch(n); assert(!in_queue && (word & STATE) == QUEUED); in_queue = true }

/* fm_wait_fire, in whatever thread. */
inline fire(w)
{
    atomic {
        if
        :: wait_state[w] == ARMED -> wait_state[w] = FIRING; ok = true
#ifdef FAULT_FIRE_TWICE
        :: wait_state[w] == FIRED -> wait_state[w] = FIRING; ok = true
#endif
        :: else -> ok = false
        fi
    };
    if
    :: ok ->
        do
        :: change(wait_serial[w], PARKING, WOKEN, 0);
            if
            :: ok -> ok = false; break
            :: else
            fi;
            change(wait_serial[w], PARKED, QUEUED, 0);
            if
            :: ok -> break
            :: else
            fi;
            atomic {
                touch(wait_serial[w]);
                if
                :: (word & STATE) != PARKING -> break
                :: else
                fi
            }
        od;
        wait_state[w] = FIRED;
        if
        :: ok -> push(wait_serial[w])
        :: else
        fi
    :: else
    fi
}

/* ---- net/stream.c ---- */

/* fm_stream_send within its lock: ok if the stream is not dead.  The socket takes all or some; if some is left, the
 * loop is asked once (ask_loop). */
inline send()
{
    !s_lock;
    assert(alive);
    if
    :: !dead && gone -> dead = true; kept = 0 /* broken() */
    :: !dead && kept == 0 && !waiting         /* all is with the kernel */
    :: !dead && kept < 2 -> kept = 1
    :: !dead -> kept = 2
    :: dead
    fi;
    if
    :: !dead && kept > 0 && !waiting -> waiting = true; assert(!want_write); want_write = true
    :: else
    fi;
    ok = !dead
}

/* has_room of server/request.c. */
#define has_room (dead || (word & ABORT) || kept < 2)

/* ---- wsgi/step.c, wsgi/future.c ---- */

#define GO_ON 0
#define PARK 1
#define WRITE 2
#define REQUEUE 3
#define END 4
#define ERROR 5
#define ABORTED 6

/* fm_future_park: PARKING, then the wait is armed, then the future gets the callback.  result becomes PARK or ERROR. */
inline park()
{
#ifdef FAULT_NO_PARKING
    atomic { wait_serial[w] = mine; wakeup = w };
#else
    atomic { wait_serial[w] = mine; wakeup = w; move(mine, RUNNING, PARKING) };
#endif
#ifndef FAULT_ARM_LATE
    wait_state[w] = ARMED;
#endif
    atomic { /* Future.add_done_callback */
        if
        :: pending[w] -> hooked[w] = true; result = PARK
        :: !pending[w] -> result = PARK; now = true
#ifdef RAISE
        :: pending[w] -> hooked[w] = true; result = ERROR /* it raises, with the callback or without it */
        :: result = ERROR
#endif
        fi
    };
    if
    :: now -> now = false; fire(w) /* done meanwhile: called here and now */
    :: else
    fi;
#ifdef FAULT_ARM_LATE
    wait_state[w] = ARMED;
#endif
#ifdef FAULT_NO_PARKING
    move(mine, RUNNING, PARKING);
#endif
    if
    :: result == ERROR -> /* fm_task_unpark */
        disarm(w);
        change(mine, PARKING, RUNNING, 0);
        if
        :: !ok -> move(mine, WOKEN, RUNNING)
        :: else
        fi
    :: else
    fi
}

/* fm_task_let_go: away says that the task is the future's. */
inline let_go()
{
    atomic {
        touch(mine);
        if
        :: (word & STATE) == WOKEN -> ok = false; away = false
#ifndef FAULT_NO_ABORT_CHECK
        :: (word & STATE) != WOKEN && (word & (ABORT | GONE)) -> ok = true; away = false
        :: (word & STATE) != WOKEN && !(word & (ABORT | GONE)) ->
#else
        :: else ->
#endif
            assert((word & STATE) == PARKING);
            set(PARKING, PARKED, 0);
            away = true
        fi
    };
    if
    :: !away ->
        disarm(w);
        if
        :: ok -> change(mine, PARKING, RUNNING, ABORT)
        :: else
        fi;
        if
        :: !ok -> move(mine, WOKEN, RUNNING) /* it fired first */
        :: else
        fi
    :: else
    fi
}

/* park_on_output of server/request.c.  The loop sets ABORT under this lock too, so there is one operation in it that
 * others can see in between: the move. */
inline park_on_output()
{
#ifdef FAULT_WRITING_UNLOCKED
    atomic { !s_lock -> touch(mine); away = !has_room };
    if
    :: away -> move(mine, RUNNING, WRITING)
    :: else
    fi
#else
    atomic {
        !s_lock -> touch(mine);
        away = !has_room;
        if
        :: away -> move(mine, RUNNING, WRITING)
        :: else
        fi
    }
#endif
}

/* wait_output of server/request.c: write() blocks.  ok: it may go on. */
inline wait_output()
{
    do
    :: atomic { !s_lock && has_room -> touch(mine); ok = !dead && !(word & ABORT); break }
#ifdef FAULT_ABORT_UNLOCKED
    :: atomic { !s_lock && !has_room -> touch(mine) }; drained_wait = true; end_in_write: (!drained_wait)
#else
    :: atomic { !s_lock && !has_room -> touch(mine); drained_wait = true; end_in_write: (!drained_wait) }
#endif
    od
}

/* fm_thread_release, where something is held. */
#ifdef FAULT_NO_RELEASE
#define release() skip
#else
#define release() if :: thread_corked -> thread_corked = false :: else fi
#endif

proctype thread()
{
    byte w, result, mine;
    bool ok, away, now;
end:
    do
    :: stop -> break
    :: atomic { in_queue && !stop -> in_queue = false; mine = serial; touch(mine) }; /* pop_task */
        atomic { move(mine, QUEUED, RUNNING); begun = true }; /* run_task */
run_step:
        if /* fm_future_unpark */
        :: atomic { wakeup != NONE -> w = wakeup; wakeup = NONE; disarm(w) }
        :: wakeup == NONE
        fi;
next:
        atomic { /* the application goes on to its next item, unless its client does not want it any more */
            touch(mine);
            if
            :: word & ABORT -> result = ABORTED
            :: else ->
                assert(!in_app && !closed);
                in_app = true;
                if
                :: waits < WAITS -> result = PARK; w = waits; pending[w] = WILL_BE; waits++
                :: waits < WAITS -> result = PARK; w = waits; pending[w] = NEVER; waits++
                :: blocks > 0 -> blocks--; result = WRITE
                :: result = END
                :: result = ERROR
                fi
            fi
        };
        if
        :: result == PARK -> /* suspend(), with fm_writer_flush */
            atomic {
                in_app = false;
                if
                :: held_back && !claimed -> held_back = false; head_made = true; send()
                :: !held_back || claimed -> held_back = false
                fi
            };
            if
            :: !pending[w] ->
                if
                :: goto next
                :: result = REQUEUE /* MAX_STREAK */
                fi
            :: pending[w] -> park()
            fi
        :: result == WRITE -> /* emit(), or write() of the application */
            if
            :: atomic { !claimed -> in_app = false; held_back = true; thread_corked = true }; goto next /* fm_thread_cork */
            :: atomic { !claimed -> in_app = false; held_back = false; head_made = true; send() };
                if
                :: !ok -> result = ABORTED
                :: ok && kept < 2 -> goto next
                :: ok && kept == 2 /* a block that was yielded: FATE_WRITE */
                :: ok && kept == 2 -> in_app = true; wait_output(); in_app = false; /* or given to write() */
                    if
                    :: ok -> goto next
                    :: else -> result = ERROR
                    fi
                fi
            :: atomic { claimed -> in_app = false; result = ABORTED }
            fi
        :: result == END -> /* end_response() */
            if
            :: atomic { !claimed -> in_app = false; held_back = false; head_made = true; send() };
                if
                :: !ok -> result = ABORTED
                :: else
                fi
            :: atomic { claimed -> in_app = false; result = ABORTED }
            fi
        :: result == ERROR -> in_app = false
        :: result == ABORTED
        fi;
        if
        :: result >= END -> /* finalize() */
            if
            :: result == ERROR -> /* fail(): an answer of our own, or what is held back */
                if
                :: atomic { !head_made && !claimed -> claimed = true; held_back = false }; answered = true;
                    atomic { send() }
                :: atomic { held_back && head_made && !claimed -> held_back = false; send() }
                :: (head_made && !held_back) || claimed
                fi
            :: else
            fi;
            atomic { touch(mine); assert(!in_app && !closed); in_app = true }; /* close_iterable() */
            atomic { in_app = false; closed = true };
            release();
#ifdef FAULT_POST_BEFORE_DONE
            atomic { touch(mine); assert(!finished); finished = true };
            move(mine, RUNNING, DONE)
#else
            atomic { /* finish() */
                assert(result != ABORTED || unwanted || gone); /* no request is cut off that a client waits for */
                broken_off = result == ABORTED;
                move(mine, RUNNING, DONE)
            };
            atomic { touch(mine); assert(!finished); finished = true } /* from here on it is not ours to look at */
#endif
        :: else ->
            release();
            if /* hand_over() */
            :: result == PARK -> let_go()
            :: result == WRITE -> park_on_output()
            :: result == REQUEUE -> move(mine, RUNNING, QUEUED); push(mine); away = true
            fi;
            if
            :: !away -> goto run_step
            :: else
            fi
        fi;
        atomic { w = 0; result = 0; mine = 0; ok = false; away = false } /* fewer states */
    od;
    left++
}

/* The futures 0 .. WAITS - 1 that may be completed, and those whose callback may be called once more. */
#define undone(i) (pending[i] == WILL_BE)
#define done(i) (hooked[i] && !pending[i])
#if WAITS == 1
#define some(what) (what(0))
#define pick(what, w) if :: what(0) -> w = 0 fi
#elif WAITS == 2
#define some(what) (what(0) || what(1))
#define pick(what, w) if :: what(0) -> w = 0 :: what(1) -> w = 1 fi
#else
#define some(what) (what(0) || what(1) || what(2))
#define pick(what, w) if :: what(0) -> w = 0 :: what(1) -> w = 1 :: what(2) -> w = 2 fi
#endif

/* A thread of the application that completes futures, except those that never are, and calls callbacks. */
proctype completer()
{
    byte w;
    bool ok;
end:
    do
    :: atomic {
            some(undone) || (again > 0 && some(done));
            calling++;
            if
            :: some(undone) -> pick(undone, w); pending[w] = 0; ok = hooked[w] /* set_result, under the future's lock */
            :: again > 0 && some(done) -> pick(done, w); again--; ok = true /* a future that calls twice */
            fi
        };
        if
        :: ok -> fire(w)
        :: else
        fi;
        atomic { w = 0; ok = false; calling-- }
    od
}

/* look_at_held_output of sched/monitor.c: the pool thread's lock is held throughout, so the step cannot give its task away.
 * In it fm_writer_flush, and in that the stream's lock. */
#define in_step ((word & STATE) == RUNNING || (word & STATE) == PARKING || (word & STATE) == WOKEN)
proctype monitor()
{
    bool ok;
end:
    do
    :: atomic {
            thread_corked && !s_lock && (held_back || !alive || !in_step); /* there is something to do, or to complain of */
            touch(serial);
            assert(in_step);
            if
            :: !claimed -> head_made = true; send()
            :: else
            fi;
            held_back = false;
            ok = false
        }
    od
}

/* ---- server/http1.c, server/request.c, server/conns.c on the loop ---- */

/* fm_stream_reset: close_socket kills the stream under its lock, then cancels the event. */
inline reset()
{
    if
    :: fd_open ->
        atomic { !s_lock -> dead = true; kept = 0 };
        atomic { want_write = false; write_armed = false; fd_open = false }
    :: else
    fi
}

/* fm_http1_close, after which, at the end of the turn, the memory is gone; on_closed of server/conns.c. */
inline conn_close()
{
    reset();
    atomic {
        assert(!finished && !s_lock && !drained_wait);
        alive = false;
        if
        :: draining -> stop = true
        :: else
        fi
    }
}

/* fm_exchange_drop with fm_task_reset. */
inline drop()
{
    atomic {
        assert((word & STATE) == IDLE || (word & STATE) == DONE); /* otherwise it dies */
        assert(!in_queue && !finished && !in_app && closed == begun);
        if
        :: (word & STATE) == DONE -> set(DONE, IDLE, 0)
        :: else
        fi;
        word = IDLE;
        begun = false;
        deadline = false;
        patience = false;
        serial++;
        closed = false;
        unwanted = false
    }
}

/* fm_sched_take_back: the scheduler's lock. */
inline take_back()
{
    atomic {
#ifdef FAULT_TAKE_BACK_BEGUN
        taken = in_queue;
#else
        taken = in_queue && !begun;
#endif
        if
        :: taken -> in_queue = false
        :: else
        fi
    };
    if
    :: taken -> move(serial, QUEUED, IDLE)
    :: else
    fi
}

/* fm_task_abort, without the push: ok says that there is one to do. */
inline abort(half_only)
{
    touch(serial);
    found = word & STATE;
    ok = false;
    if
    :: word & ABORT
    :: !(word & ABORT) && found == PARKED -> set(PARKED, QUEUED, ABORT); ok = true
    :: !(word & ABORT) && found == WRITING && !(half_only) -> set(WRITING, QUEUED, ABORT); ok = true
    :: else -> word = word | (half_only -> GONE : ABORT)
    fi
}

#define WHY_GONE 0
#define WHY_HALF_CLOSED 1
#define WHY_DEADLINE 2
#define WHY_SHUTDOWN 3

/* fm_exchange_end: taken says that the exchange is over at once. */
inline exchange_end()
{
    ok = why < WHY_DEADLINE;
    if
    :: !ok -> ok = (word & STATE) != DONE
    :: else
    fi;
    if
    :: ok ->
        atomic { /* fm_writer_claim */
            unwanted = true;
            ok = why >= WHY_DEADLINE && !head_made && !claimed;
            if
            :: ok -> claimed = true; held_back = false
            :: else
            fi
        };
        if
        :: ok -> answered = true; atomic { send() } /* 504 or 503 */
        :: !ok && why != WHY_HALF_CLOSED && (!answered || why != WHY_DEADLINE) -> reset()
        :: else
        fi;
#ifdef FAULT_ABORT_UNLOCKED
        atomic { abort(why == WHY_HALF_CLOSED) };
        drained_wait = false;
        if
        :: ok -> push(serial)
        :: else
        fi;
#else
        atomic { /* the stream's lock; pthread_cond_broadcast */
            !s_lock;
            abort(why == WHY_HALF_CLOSED);
            drained_wait = false;
            s_lock = ok
        };
        if
        :: ok -> push(serial); s_lock = false
        :: else
        fi;
#endif
        if
        :: why != WHY_HALF_CLOSED && found == QUEUED -> take_back()
        :: else
        fi
    :: else
    fi
}

/* What an event comes to.  The order is that of the code: an exchange is ended, output goes on, the exchange is
 * over. */
#define NOTHING 0
#define OUTPUT 1 /* on_output of server/http1.c */
#define EXCHANGE_END 2
#define OVER 3
#define CLOSE 4
#define BEGUN 5
#define SHED 6 /* fm_exchange_timeout_queue */
#define up (alive && !stop)

proctype loop()
{
    byte found, todo, why;
    bool ok, taken, broken, output;
end:
    do
    :: stop -> break
    :: atomic {
            if
            :: up && conn == READING && requests > 0 && !told_gone && !half_closed ->
                /* on_request, fm_exchange_begin */
                requests--;
                conn = BUSY;
                head_made = false; claimed = false; held_back = false; answered = false; broken_off = false;
#ifdef DEADLINE
                if /* is there a --request-timeout? */
                :: deadline = true
                :: deadline = false
                fi;
#endif
#ifdef QUEUE_TIMEOUT
                patience = true;
#endif
                move(serial, IDLE, QUEUED);
                todo = BEGUN
            :: up && patience -> /* fm_exchange_timeout_queue */
                patience = false;
                if
                :: conn == BUSY -> todo = SHED
                :: else
                fi
            :: up && conn == READING && (told_gone || half_closed) -> todo = CLOSE
            :: up && finished -> /* on_finished */
                finished = false;
                broken = broken_off && !answered;
                if
                :: !broken && kept > 0 -> conn = SENDING
                :: else -> broken = broken || dead; todo = OVER
                fi
            :: up && want_write -> /* on_want_write */
                want_write = false; write_armed = true; todo = OUTPUT
            :: up && write_armed && (!stalled || gone || dead) && !s_lock -> /* on_writable */
                if
                :: dead
                :: !dead && gone -> dead = true; kept = 0
                :: !dead && !stalled && kept == 2 -> kept = 1
                :: !dead && !stalled -> kept = 0
                fi;
                if
                :: kept == 0 -> waiting = false; write_armed = false
                :: else
                fi;
                todo = OUTPUT
            :: up && fd_open && gone && !told_gone -> /* on_end with an error */
                told_gone = true;
                if
                :: conn == READING -> todo = CLOSE
                :: conn == BUSY -> todo = EXCHANGE_END; why = WHY_GONE
                :: conn == SENDING -> todo = OVER; broken = true
                fi
            :: up && fd_open && half && !half_closed && !told_gone -> /* on_end without one */
                half_closed = true;
                if
                :: conn == READING -> todo = CLOSE
                :: conn == BUSY -> todo = EXCHANGE_END; why = WHY_HALF_CLOSED
                :: conn == BUSY || conn == SENDING /* --allow-half-close; the response is sent in either case */
                fi
            :: up && deadline -> /* fm_exchange_timeout_request */
                deadline = false;
                if
                :: conn == SENDING -> todo = OVER; broken = true
                :: conn == BUSY -> todo = EXCHANGE_END; why = WHY_DEADLINE
                fi
            :: drain && !stop -> /* on_drain */
                drain = false;
                if
                :: alive && conn == READING -> todo = CLOSE
                :: alive && conn != READING -> graceful = true
                :: !alive -> stop = true
                fi
            :: up && graceful -> /* fm_drain_timeout_graceful: fm_http1_expire */
                graceful = false;
                last = true;
                if
                :: conn == SENDING -> todo = OVER; broken = true
                :: conn == BUSY -> todo = EXCHANGE_END; why = WHY_SHUTDOWN
                :: conn == READING -> todo = CLOSE
                fi
            :: up && last -> stop = true /* on_last: what is not over by now is given up */
            fi
        };
        if
        :: todo == BEGUN -> push(serial)
        :: todo == SHED ->
            take_back();
            atomic {
                todo = NOTHING;
                broken = false;
                if
                :: taken && !claimed -> claimed = true; answered = true; send(); todo = (kept > 0 -> NOTHING : OVER)
                :: else
                fi;
                if
                :: taken && todo == NOTHING -> conn = SENDING
                :: else
                fi
            }
        :: todo == OUTPUT ->
            atomic { !s_lock -> broken = dead };
            atomic {
                !s_lock;
                todo = NOTHING;
                if
                :: conn == BUSY ->
                    output = true;
                    if
                    :: broken -> todo = EXCHANGE_END; why = WHY_GONE
                    :: else
                    fi
                :: conn == SENDING && (broken || kept == 0) -> todo = OVER
                :: else
                fi
            }
        :: else
        fi;
        if
        :: todo == EXCHANGE_END ->
            exchange_end();
            atomic {
                todo = NOTHING;
                if
                :: taken && why < WHY_DEADLINE -> todo = OVER; broken = true; output = false
                :: taken && why >= WHY_DEADLINE && kept > 0 -> conn = SENDING
                :: taken && why >= WHY_DEADLINE && kept == 0 -> todo = OVER; broken = !answered
                :: else
                fi
            }
        :: else
        fi;
        if
        :: output -> /* fm_exchange_output: the stream's lock, held over the push */
            atomic {
                !s_lock;
                ok = false;
                if
                :: has_room ->
                    change(serial, WRITING, QUEUED, 0); /* fm_task_resume_writing */
                    drained_wait = false
                :: else
                fi;
                s_lock = ok
            };
            if
            :: ok -> push(serial); s_lock = false
            :: else
            fi
        :: else
        fi;
        if
        :: todo == OVER -> /* on_over of server/http1.c */
            drop();
            atomic {
                if
                :: !broken && !draining && !claimed -> conn = READING; todo = NOTHING
                :: todo = CLOSE /* or lingers before, and touches the exchange no more; either side may want that */
                fi
            }
        :: else
        fi;
        if
        :: todo == CLOSE -> conn_close()
        :: else
        fi;
        atomic { found = 0; todo = 0; why = 0; ok = false; taken = false; broken = false; output = false }
    od;
    left++
}

/* ---- the rest of the world ---- */

proctype client()
{
    do
#ifdef CLIENT_STALLS
    :: !stalled -> stalled = true
#endif
#ifdef CLIENT_HALF_CLOSES
    :: !half -> half = true
#endif
#ifdef CLIENT_GOES
    :: gone = true; break
#endif
    :: break
    od
}

/* worker/worker.c: a signal, or none; then finish() and tear_down(). */
proctype main_thread()
{
    byte w, mine;
    bool ok;
    if
#ifdef SHUTDOWN
    :: draining = true; drain = true /* begin_drain */
#endif
    :: goto end
    fi;
    stop;
    if
    :: exited = true; goto end /* fm_sched_join has waited long enough */
    :: left == THREADS + 1
    fi;
    calling == 0; /* fm_wsgi_settle; others may come later: no task is PARKED then */
#ifndef FAULT_QUEUE_LEFT
    if /* fm_sched_run_rest: the last steps that no thread has got round to */
    :: atomic { in_queue -> in_queue = false; mine = serial; move(mine, QUEUED, RUNNING) };
        if
        :: atomic { wakeup != NONE -> w = wakeup; wakeup = NONE; disarm(w) }
        :: wakeup == NONE
        fi;
        assert(word & ABORT);
        atomic { assert(!in_app && !closed); closed = true };
        move(mine, RUNNING, DONE);
        finished = true
    :: !in_queue
    fi;
#endif
    if
    :: alive -> /* fm_http1_close of what is left; the inbox is not visited any more */
        finished = false;
        if
        :: conn != READING -> drop()
        :: else
        fi;
        conn_close()
    :: else
    fi;
    torn_down = true;
end:
    skip
}

/* When nothing can happen any more, nothing is left to be done: no wake-up was lost. */
proctype at_rest()
{
    timeout;
    if
    :: exited
    :: !exited && draining -> assert(torn_down && !alive)
    :: !draining && !alive -> assert(!stop && !in_queue && !finished && !want_write)
    :: !draining && alive ->
        assert(!stop && !in_queue && !finished && !want_write && !s_lock);
        if
        :: conn == READING
        :: conn == SENDING -> assert(stalled && !gone && kept > 0)
        :: conn == BUSY && (word & STATE) == PARKED -> /* on a future that is never done, by a client that is there */
            assert(!(word & (ABORT | GONE)) && pending[wakeup] == NEVER && !gone)
        :: conn == BUSY && (word & STATE) == WRITING ->
            assert(!(word & ABORT) && stalled && !gone && !dead && kept == 2)
        :: conn == BUSY && (word & STATE) == RUNNING -> /* in write() */
            assert(drained_wait && !(word & ABORT) && stalled && !gone && !dead && kept == 2)
        :: else -> assert(false)
        fi
    fi
}

init
{
    atomic {
        byte i;
        for (i : 1 .. THREADS) {
            run thread()
        }
        for (i : 1 .. COMPLETERS) {
            run completer()
        }
        run monitor();
        run loop();
        run client();
        run main_thread();
        run at_rest()
    }
}

/* A parked request whose future is done is resumed, whatever else happens, unless the process exits without it.  After a
 * signal the process ends, with everything torn down or without. */
#define owed ((word & STATE) == PARKED && !pending[wakeup])
#define resumed ((word & STATE) == RUNNING)
#ifdef LIVENESS
ltl resumed_at_last { [] (owed -> <> (resumed || exited)) }
ltl shutdown_ends { [] (draining -> <> (torn_down || exited)) }
#endif

/* Task states, and giving a task away to a future; the protocol is told in sched/task.h. */
#include "fermata/sched/task.h"

#include <assert.h>
#include <sched.h>

#include "fermata/util/err.h"
#include "fermata/util/places.h"

static const struct {
    const char *name;
    enum fm_counter gauge;
} states[] = {
#define X(state, gauge_) {#state, gauge_},
    FM_TASK_STATES(X)
#undef X
};

const char *fm_task_state_name(enum fm_task_state s) { return s < FM_TASK_STATE_COUNT ? states[s].name : "?"; }

bool fm_task_move_allowed(enum fm_task_state from, enum fm_task_state to)
{
#define X(from_, to_, why)                                                                                             \
    if (from == FM_TASK_##from_ && to == FM_TASK_##to_)                                                                \
        return true;
    FM_TASK_MOVES(X)
#undef X
    return false;
}

void fm_task_init(struct fm_task *t)
{
    fm_list_init(&t->node);
    atomic_init(&t->word, FM_TASK_IDLE);
    t->begun = false;
    t->queued_at = 0;
    atomic_init(&t->since, 0);
    atomic_init(&t->place, 0);
    atomic_init(&t->ran, 0);
}

static void check(enum fm_task_state from, enum fm_task_state to)
{
#ifdef FM_DEBUG
    if (!fm_task_move_allowed(from, to))
        fm_die("task: no transition from %s to %s", fm_task_state_name(from), fm_task_state_name(to));
#else
    (void)from, (void)to;
#endif
}

/* The states whose oldest request is asked for, and how many are parked where; the holder's. */
static void count_age(const struct fm_task *t, enum fm_task_state state, uint32_t by)
{
    if (state == FM_TASK_PARKED)
        fm_places_park(atomic_load_explicit(&((struct fm_task *)(uintptr_t)t)->place, memory_order_relaxed), (int)by);
    if (state == FM_TASK_PARKED || state == FM_TASK_WRITING)
        fm_count_age(state == FM_TASK_PARKED ? FM_AGE_PARKED_FUTURE : FM_AGE_PARKED_CLIENT,
                     atomic_load_explicit(&((struct fm_task *)(uintptr_t)t)->since, memory_order_relaxed), by);
}

static void changed(enum fm_task_state from, enum fm_task_state to)
{
    check(from, to);
    if (states[from].gauge != FM_C_COUNT)
        fm_count_add(states[from].gauge, (uint64_t)-1);
    if (states[to].gauge != FM_C_COUNT)
        fm_count_add(states[to].gauge, 1);
}

/* The one place where the state changes that others may look at; inline for those that have the task in hand. */
static inline bool change(struct fm_task *t, enum fm_task_state from, enum fm_task_state to, uint32_t add)
{
    uint32_t old = atomic_load(&t->word);
    if (to ==
        FM_TASK_WRITING) /* before it is given away: its holder finds it in no other state than the one it knows */
        count_age(t, to, 1);
    do {
        if ((old & FM_TASK_STATE_MASK) != (uint32_t)from)
            return false;
    } while (!atomic_compare_exchange_weak(&t->word, &old, (old & ~FM_TASK_STATE_MASK) | (uint32_t)to | add));
    changed(from, to);
    count_age(t, from, (uint32_t)-1);
    return true;
}

void fm_task_move(struct fm_task *t, enum fm_task_state from, enum fm_task_state to)
{
    bool moved = change(t, from, to, 0);
    if (!moved)
        fm_die("task: expected in %s, found in %s", fm_task_state_name(from), fm_task_state_name(fm_task_state(t)));
}

bool fm_task_change(struct fm_task *t, enum fm_task_state from, enum fm_task_state to, uint32_t add)
{
    return change(t, from, to, add);
}

bool fm_task_flag(struct fm_task *t, uint32_t seen, uint32_t flag)
{
    return atomic_compare_exchange_weak(&t->word, &seen, seen | flag);
}

void fm_task_reset(struct fm_task *t)
{
    enum fm_task_state state = fm_task_state(t);
    if (state != FM_TASK_IDLE && state != FM_TASK_DONE)
        fm_die("task: reset in %s", fm_task_state_name(state));
    if (state == FM_TASK_DONE)
        changed(state, FM_TASK_IDLE);
    atomic_store_explicit(&t->word, FM_TASK_IDLE, memory_order_relaxed); /* the next holder gets it by a queue */
    t->begun = false;
}

void fm_task_park(struct fm_task *t, struct fm_wait *w)
{
    w->task = t;
    fm_task_move(t, FM_TASK_RUNNING, FM_TASK_PARKING);
    atomic_store(&w->state, FM_WAIT_ARMED);
}

bool fm_task_let_go(struct fm_task *t, struct fm_wait *w)
{
    uint64_t since = atomic_load_explicit(&t->since, memory_order_relaxed);
    uint16_t place = atomic_load_explicit(&t->place, memory_order_relaxed);
    for (;;) {
        uint32_t old = atomic_load(&t->word);
        if ((old & FM_TASK_STATE_MASK) == FM_TASK_WOKEN) {
            fm_wait_disarm(w); /* FIRING -> FIRED may still be under way */
            fm_task_move(t, FM_TASK_WOKEN, FM_TASK_RUNNING);
            return false;
        }
        if (old & (FM_TASK_ABORT | FM_TASK_GONE)) {
            fm_wait_disarm(w);
            if (change(t, FM_TASK_PARKING, FM_TASK_RUNNING, FM_TASK_ABORT))
                return false;
            continue; /* it fired first after all: WOKEN */
        }
        /* The gauges are counted by hand here: after a successful exchange the task is no longer ours to look at. */
        if (atomic_compare_exchange_weak(&t->word, &old, (old & ~FM_TASK_STATE_MASK) | FM_TASK_PARKED)) {
            check(FM_TASK_PARKING, FM_TASK_PARKED);
            fm_gauge_move(FM_C_IN_RUNNING, FM_C_IN_PARKED_FUTURE);
            fm_count_age(FM_AGE_PARKED_FUTURE, since, 1);
            fm_places_park(place, 1);
            return true;
        }
    }
}

void fm_task_unpark(struct fm_task *t, struct fm_wait *w)
{
    fm_wait_disarm(w);
    if (!change(t, FM_TASK_PARKING, FM_TASK_RUNNING, 0))
        fm_task_move(t, FM_TASK_WOKEN, FM_TASK_RUNNING);
}

void fm_wait_disarm(struct fm_wait *w)
{
    int state = FM_WAIT_ARMED;
    if (atomic_compare_exchange_strong(&w->state, &state, FM_WAIT_DISARMED))
        return;
    while (atomic_load(&w->state) == FM_WAIT_FIRING)
        sched_yield(); /* the callback is between two of its instructions, in a thread that runs beside this one */
}

/* The monitor's look; see sched/monitor.h. */
#include "fermata/sched/monitor.h"

#include <sys/eventfd.h>

#include "fermata/util/clock.h"
#include "fermata/util/thread_time.h"

#define TICK (1 * FM_MS)
#define FAST_TICK (FM_MS / 4)
#define FAST (100 * FM_MS)        /* for so long after a stall */
#define COMPUTES_LONG (5 * FM_MS) /* a thread that computes gives the GIL up after the switch interval, not sooner */
#define GIL_IS_LATE (10 * FM_MS)
#define REST (64 * FM_MS) /* without anything to watch, then it is quiet */

void fm_monitor_init(struct fm_monitor *m, struct fm_sched *c)
{
    *m = (struct fm_monitor){.sched = c};
    atomic_store_explicit(&c->watch_after, TICK, memory_order_relaxed);
}

void fm_monitor_woken(struct fm_monitor *m)
{
    eventfd_t count;
    (void)!eventfd_read(m->sched->monitor_fd, &count); /* of a timerfd: how often it has expired */
}

static void set_fast(struct fm_monitor *m, uint64_t until)
{
    m->fast_until = until;
    atomic_store_explicit(&m->sched->watch_after, until ? FAST_TICK : TICK, memory_order_relaxed);
}

/* After how long the step that the leader is in counts as late. */
static uint64_t allowed(const struct fm_monitor *m)
{
    return m->since & FM_FOR_GIL ? GIL_IS_LATE : m->fast_until ? FAST_TICK : TICK;
}

/* It has been in one step for longer than allowed: is it held up?  used, now: its processor time, since the last look
 * `cpu` of it in `wall`.  Where there is no GIL, others go on beside one that computes. */
static bool is_held_up(struct fm_monitor *m, uint64_t now, uint64_t used, uint64_t wall, uint64_t cpu)
{
    if (m->since & FM_FOR_GIL)
        return true;
    if (used - m->first_used >= COMPUTES_LONG || (used == 0 && now - m->seen >= COMPUTES_LONG))
        return true;
    if (wall > 0 && cpu >= wall / 2)
        return fm_sched_is_parallel(m->sched);
    enum fm_tid_state state = fm_tid_state(m->thread->tid);
    return state == FM_TID_BLOCKED || (state == FM_TID_UNKNOWN && wall > 0 && now - m->seen >= allowed(m));
}

/* Is the leader inline?  How long until its step is late; UINT64_MAX if it is not. */
static uint64_t look_at_leader(struct fm_monitor *m, uint64_t now)
{
    struct fm_sched *c = m->sched;
    struct fm_thread *h = atomic_load(&c->inline_thread);
    uint64_t since = atomic_load(&c->inline_since);
    bool same = h && h == m->thread && since == m->since;
    m->thread = h;
    m->since = since;
    if (!h)
        return UINT64_MAX;
    uint64_t used = fm_tid_used(h->tid);
    if (!same) {
        m->seen = m->looked = now;
        m->first_used = m->used = used;
    }
    uint64_t age = now > since ? now - since : 0, tick = m->fast_until ? FAST_TICK : TICK;
    if (age >= allowed(m) && is_held_up(m, now, used, now - m->looked, used - m->used) && fm_sched_promote(c, h, since))
        set_fast(m, now + FAST);
    m->looked = now;
    m->used = used;
    return age < tick ? tick - age : tick;
}

/* Sends output that a step has corked since the last tick or longer. */
static uint64_t look_at_corked_output(struct fm_monitor *m, uint64_t now)
{
    struct fm_sched *c = m->sched;
    bool corked = false;
    for (unsigned i = 0; i <= c->pool; i++) {
        struct fm_thread *h = &c->threads[i];
        fm_mutex_lock(&h->lock);
        if (h->corked && c->ops->flush(c->ctx, h->corked, now - TICK))
            corked = true;
        fm_mutex_unlock(&h->lock);
    }
    return corked ? TICK : UINT64_MAX;
}

/* How long to sleep; UINT64_MAX if there is nothing to watch. */
static uint64_t look(struct fm_monitor *m)
{
    uint64_t now = fm_now();
    if (m->fast_until && now >= m->fast_until)
        set_fast(m, 0);
    atomic_store(&m->sched->may_postpone, 1); /* first: who holds output back from now on takes it back */
    uint64_t leader = look_at_leader(m, now), corked = look_at_corked_output(m, now);
    if (corked < UINT64_MAX) {
        atomic_store(&m->sched->may_postpone, 0);
        return leader < corked ? leader : corked;
    }
    if (leader == UINT64_MAX)
        return UINT64_MAX;
    fm_sched_look_after(m->sched, leader); /* by the timer, which the leader may set anew */
    return REST;
}

uint64_t fm_monitor_tick(struct fm_monitor *m)
{
    struct fm_sched *c = m->sched;
    if (atomic_load(&c->monitor_asleep))
        return UINT64_MAX; /* and a thread that has something to watch sets the timer */
    uint64_t pause = look(m);
    if (pause < UINT64_MAX)
        return pause;
    atomic_store(&c->monitor_asleep, 1);
    pause = look(m);
    if (pause == UINT64_MAX)
        return REST;
    atomic_store(&c->monitor_asleep, 0);
    return pause;
}

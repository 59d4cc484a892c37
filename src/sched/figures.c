/* What others ask of the scheduler: how many wait, run, are left, and since when; see sched/sched.h.  Nothing here
 * changes anything. */
#include <stdint.h>

#include "fermata/sched/sched.h"

unsigned fm_sched_waiting(struct fm_sched *c)
{
    fm_mutex_lock(&c->lock);
    unsigned unstarted = c->runq.length[FM_UNSTARTED] + c->incoming.length[FM_UNSTARTED];
    unsigned idle = c->pool - c->running;
    fm_mutex_unlock(&c->lock);
    return unstarted > idle ? unstarted - idle : 0;
}

unsigned fm_sched_left(struct fm_sched *c, int *tids, unsigned n, bool *polling)
{
    unsigned left = 0;
    fm_mutex_lock(&c->lock);
    *polling = c->leader && c->leader->here && atomic_load(&c->inline_thread) != c->leader;
    for (unsigned i = 0; i <= c->pool; i++) {
        if (c->threads[i].here && left < n)
            tids[left] = c->threads[i].tid;
        left += c->threads[i].here;
    }
    fm_mutex_unlock(&c->lock);
    return left;
}

void fm_sched_ages(struct fm_sched *c, uint64_t before, struct fm_sched_ages *ages)
{
    *ages = (struct fm_sched_ages){.gil_since = UINT64_MAX};
    fm_mutex_lock(&c->lock);
    ages->waiting = fm_runq_length(&c->runq) + fm_runq_length(&c->incoming);
    fm_mutex_unlock(&c->lock);
    for (unsigned i = 0; i <= c->pool; i++) {
        uint64_t since = atomic_load_explicit(&c->threads[i].since, memory_order_relaxed);
        uint64_t began = since & ~(uint64_t)FM_FOR_GIL;
        ages->old += since != 0 && began <= before;
        if ((since & FM_FOR_GIL) && began < ages->gil_since)
            ages->gil_since = began;
    }
}

unsigned fm_sched_steps(struct fm_sched *c, struct fm_sched_step *steps, unsigned n)
{
    unsigned found = 0;
    fm_mutex_lock(&c->lock);
    for (unsigned i = 0; i <= c->pool && found < n; i++) {
        const struct fm_thread *h = &c->threads[i];
        uint64_t since = atomic_load_explicit(&h->since, memory_order_relaxed);
        if (h->here && since != 0 && !(since & FM_FOR_GIL))
            steps[found++] = (struct fm_sched_step){i + 1, h->tid, h->ident, since};
    }
    fm_mutex_unlock(&c->lock);
    return found;
}

bool fm_sched_is_in(struct fm_sched *c, const struct fm_sched_step *step)
{
    return atomic_load_explicit(&c->threads[step->thread - 1].since, memory_order_relaxed) == step->since;
}

void fm_sched_threads(struct fm_sched *c, unsigned *busy, unsigned *idle)
{
    fm_mutex_lock(&c->lock);
    *busy = c->running;
    *idle = c->pool - c->running;
    fm_mutex_unlock(&c->lock);
}

/* The runs that are parked on futures, so that another thread can look at what they wait for.
 *
 * Why a thread may take a reference to the future of a run that is in the list: a run is in it from the moment in which
 * it has its reference to the future (fm_future_park) until the thread that goes on with it takes it out, which it does
 * before it touches that reference (fm_future_unpark).  Both change the list under its lock, and under it is read.  So
 * as long as the lock is held, the reference of the run is there, and another one can be made of it, with a GIL and
 * without one.  The call and its task are there, too, for the same reason: the last step has to come first.
 *
 * Under a lock nothing of Python's is called: no reference is given back, and nobody waits for the GIL.  Who holds it
 * is attached to the interpreter, as who waits for it is; it is held for as long as a few hundred references take.
 *
 * There are several lists, as threads that run side by side would else wait for each other.  It is kept only where
 * there is an admin port that may ask. */
#include "internal.h"

#include "parked.h"

#define SHARDS 8

static struct shard {
    struct fm_mutex lock;
    struct fm_list runs FM_GUARDED_BY(lock); /* those that have been parked for longest first */
} shards[SHARDS] = {
#define ONE(i)                                                                                                         \
    {                                                                                                                  \
        FM_MUTEX_INIT, { &shards[i].runs, &shards[i].runs }                                                            \
    }
    ONE(0), ONE(1), ONE(2), ONE(3), ONE(4), ONE(5), ONE(6), ONE(7),
#undef ONE
};

void fm_parked_add(struct fm_run *run)
{
    const struct fm_thread *thread = fm_thread_self();
    if (!fm_wsgi.config.futures)
        return;
    run->shard = (uint8_t)((thread ? thread->index : 0) % SHARDS);
    struct shard *s = &shards[run->shard];
    fm_mutex_lock(&s->lock);
    fm_list_push(&s->runs, &run->parked);
    fm_mutex_unlock(&s->lock);
}

void fm_parked_remove(struct fm_run *run)
{
    struct shard *s = &shards[run->shard];
    if (!fm_wsgi.config.futures)
        return;
    fm_mutex_lock(&s->lock);
    fm_list_remove(&run->parked);
    fm_mutex_unlock(&s->lock);
}

void fm_parked_begin(struct fm_parked_walk *w)
{
    w->shard = 0;
    fm_list_init(&w->marker);
}

/* Moves the marker, which keeps the place in the list from one part to the next: whatever is taken out meanwhile, what
 * follows the marker has not been seen. */
static unsigned take_part(struct fm_parked_walk *w, struct shard *s, struct fm_parked *to, unsigned most)
    FM_REQUIRES(s->lock)
{
    unsigned n = 0;
    struct fm_list *node = fm_list_empty(&w->marker) ? s->runs.next : w->marker.next;
    fm_list_remove(&w->marker);
    for (; node != &s->runs && n < most; node = node->next) {
        struct fm_run *run = FM_LIST_ENTRY(node, struct fm_run, parked);
        to[n++] = (struct fm_parked){Py_NewRef(run->future),
                                     atomic_load_explicit(&run->call->task.place, memory_order_relaxed)};
    }
    if (node != &s->runs)
        fm_list_push(node, &w->marker); /* before it */
    return n;
}

unsigned fm_parked_next(struct fm_parked_walk *w, struct fm_parked *to, unsigned most)
{
    unsigned n = 0;
    while (n == 0 && w->shard < SHARDS) {
        struct shard *s = &shards[w->shard];
        fm_mutex_lock(&s->lock);
        n = take_part(w, s, to, most);
        w->shard += fm_list_empty(&w->marker);
        fm_mutex_unlock(&s->lock);
    }
    return n;
}

void fm_parked_end(struct fm_parked_walk *w)
{
    if (w->shard == SHARDS)
        return;
    fm_mutex_lock(&shards[w->shard].lock);
    fm_list_remove(&w->marker);
    fm_mutex_unlock(&shards[w->shard].lock);
}

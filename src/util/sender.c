/* Sending by a thread; see util/sender.h. */
#include "fermata/util/sender.h"

#include <errno.h>
#include <time.h>

#include "fermata/util/clock.h"
#include "fermata/util/fds.h"
#include "fermata/util/helper.h"

void fm_sender_init(struct fm_sender *s)
{
    pthread_condattr_t attr;
    *s = (struct fm_sender){.waiting = false};
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work, &attr);
    pthread_cond_init(&s->idle, &attr);
    pthread_condattr_destroy(&attr);
}

int fm_sender_start(struct fm_sender *s, void *(*body)(void *), void *arg)
{
    int err = fm_helper_start(body, arg, 0);
    s->started = err == 0;
    return err;
}

bool fm_sender_enter(struct fm_sender *s)
{
    if (atomic_load_explicit(&fm_forked, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&s->lock);
    return true;
}

void fm_sender_leave(struct fm_sender *s)
{
    if (s->waiting)
        pthread_cond_signal(&s->work);
    s->waiting = false;
    pthread_mutex_unlock(&s->lock);
}

void fm_sender_rest(struct fm_sender *s)
{
    pthread_cond_broadcast(&s->idle);
    s->waiting = true;
    pthread_cond_wait(&s->work, &s->lock);
    s->waiting = false;
}

bool fm_sender_flush(struct fm_sender *s, uint64_t until, bool (*is_empty)(const void *owner), const void *owner)
{
    struct timespec t = {(time_t)(until / FM_SEC), (long)(until % FM_SEC)};
    bool late = false;
    if (!s->started || !fm_sender_enter(s))
        return true;
    while (!late && !(is_empty(owner) && s->waiting))
        late = pthread_cond_timedwait(&s->idle, &s->lock, &t) == ETIMEDOUT;
    bool done = is_empty(owner) && s->waiting;
    pthread_mutex_unlock(&s->lock);
    return done;
}

void fm_sender_tell(struct fm_sender *s, void (*trouble)(int err, unsigned long long lost), int err, uint64_t lost)
{
    if ((err != 0 && !s->in_trouble) || (err == 0 && lost > 0))
        trouble(err, err == 0 ? lost : 0);
    s->in_trouble = err != 0;
}

/* The event loop's turn, its inbox, its sleep, and what is freed at the end of a turn; the protocol is told in
 * net/loop.h. */
#include "fermata/net/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/log.h"
#include "fermata/util/vital.h"

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    eventfd_t count;
    (void)!eventfd_read(fd, &count);
    ((struct fm_loop *)arg)->woken = true;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    ((struct fm_loop *)arg)->armed = FM_NEVER; /* the turn runs the timers itself */
}

/* libevent's warnings: a call that it made for us has failed.  The caller is told too. */
static void on_event_log(int severity, const char *text)
{
    if (severity >= EVENT_LOG_WARN)
        fm_error_ratelimited("libevent: %s", text);
}

/* Makes room for the one timer, so that setting it later needs no memory. */
static int reserve_timer(struct fm_loop *l)
{
    struct timeval later = {.tv_sec = 3600};
    return evtimer_add(l->timer_event, &later) == 0 ? evtimer_del(l->timer_event) : -1;
}

int fm_loop_init(struct fm_loop *l)
{
    event_set_log_callback(on_event_log);
    *l = (struct fm_loop){.wake_fd = -1, .armed = FM_NEVER};
    fm_mutex_init(&l->lock);
    fm_list_init(&l->inbox);
    fm_list_init(&l->taken);
    fm_list_init(&l->ended);
    fm_timers_init(&l->timers);
    atomic_init(&l->next_due, FM_NEVER);
    l->scratch = fm_malloc(FM_SCRATCH);
    l->now_is_old = true;

    struct event_config *config = event_config_new();
    if (config) {
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        l->base = event_base_new_with_config(config);
        event_config_free(config);
    }
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int err = errno;
    if (l->base && l->wake_fd >= 0) {
        fm_fds_own(l->wake_fd);
        l->wake_event = event_new(l->base, l->wake_fd, EV_READ | EV_PERSIST, on_wake, l);
        l->timer_event = evtimer_new(l->base, on_timer, l);
        if (l->wake_event && l->timer_event && event_add(l->wake_event, NULL) == 0 && reserve_timer(l) == 0)
            return 0;
        err = errno;
    }
    fm_loop_fini(l);
    return err ? -err : -ENOMEM;
}

static void reap(struct fm_loop *l)
{
    for (struct fm_list *node; (node = fm_list_pop(&l->ended));) {
        struct fm_event *event = FM_LIST_ENTRY(node, struct fm_event, node);
        event->fn(event);
    }
}

void fm_loop_reap(struct fm_loop *l) { reap(l); }

void fm_loop_defer(struct fm_loop *l, struct fm_event *event) { fm_list_push(&l->ended, &event->node); }

void fm_loop_fini(struct fm_loop *l)
{
    reap(l);
    if (l->wake_event)
        event_free(l->wake_event);
    if (l->timer_event)
        event_free(l->timer_event);
    if (l->base)
        event_base_free(l->base);
    if (l->wake_fd >= 0)
        fm_fds_close(l->wake_fd);
    free(l->scratch);
    fm_mutex_fini(&l->lock);
    l->wake_event = l->timer_event = NULL;
    l->base = NULL;
    l->wake_fd = -1;
    l->scratch = NULL;
}

/* One lock for all that are there, and none if there is nothing.  What they post in their turn is for the next time, so
 * that a turn ends. */
bool fm_loop_visit(struct fm_loop *l)
{
    bool any = false;
    if (!atomic_load(&l->posted))
        return false;
    fm_mutex_lock(&l->lock);
    atomic_store_explicit(&l->posted, 0, memory_order_relaxed); /* posters set it under the lock */
    fm_list_append(&l->taken, &l->inbox);
    fm_mutex_unlock(&l->lock);
    for (struct fm_list *node; (node = fm_list_pop(&l->taken)); any = true) {
        struct fm_event *event = FM_LIST_ENTRY(node, struct fm_event, node);
        event->fn(event);
    }
    return any;
}

#define ARM_SLACK (100 * FM_MS)

/* Sets libevent's one timer for `due`.  Deadlines that move on with each request must not cost a change of the timer
 * each: it is set later only when it would fire much too early, which then happens at most ten times a second. */
static void arm(struct fm_loop *l, uint64_t due) FM_ON_LOOP
{
    if (due == l->armed || (due > l->armed && due - l->armed < ARM_SLACK))
        return;
    l->armed = due;
    if (due == FM_NEVER) {
        evtimer_del(l->timer_event);
        return;
    }
    uint64_t now = fm_loop_now(l), in = due > now ? due - now : 0;
    in += FM_MS - 1; /* epoll counts in milliseconds; do not wake up just before */
    struct timeval tv = {.tv_sec = (time_t)(in / FM_SEC), .tv_usec = (suseconds_t)(in % FM_SEC / 1000)};
    evtimer_add(l->timer_event, &tv);
}

static void flush(struct fm_loop *l) FM_ON_LOOP
{
    if (l->flush)
        l->flush(l->flush_ctx);
}

static bool must_not_sleep(struct fm_loop *l)
{
    return atomic_load(&l->posted) || (l->ready && l->ready(l->ready_ctx));
}

void fm_loop_turn(struct fm_loop *l, bool block)
{
    fm_count(FM_C_TURNS);
    fm_loop_visit(l);
    arm(l, fm_timers_run(&l->timers, fm_loop_now(l)));
    flush(l);
    if (block) {
        atomic_store(&l->next_due, l->armed);
        atomic_store(&l->asleep, 1);
        block = !must_not_sleep(l);
    }
    l->now_is_old = true;
    l->woken = false;
    if (event_base_loop(l->base, EVLOOP_ONCE | (block ? 0 : EVLOOP_NONBLOCK)) < 0)
        fm_vital_lost("the epoll descriptor"); /* there is no other reason why epoll_wait should fail */
    if (!atomic_exchange(&l->asleep, 0) && block && !l->woken)
        fm_vital_check_wake(l->wake_fd); /* a poster takes this loop for woken, and nothing came */
    fm_loop_visit(l);
    flush(l);
    reap(l);
    l->now_is_old = true; /* the leader may run steps before its next turn */
}

void fm_loop_wake(struct fm_loop *l)
{
    if (atomic_load(&l->asleep) && atomic_exchange(&l->asleep, 0))
        fm_vital_wake(l->wake_fd); /* cannot overflow: at most one write per sleep */
}

void fm_loop_post(struct fm_loop *l, struct fm_event *event, uint64_t due, const atomic_bool *urgent)
{
    fm_mutex_lock(&l->lock);
    fm_list_push(&l->inbox, &event->node);
    atomic_store(&l->posted, 1);
    if (urgent && atomic_load(urgent))
        due = 0;
    fm_mutex_unlock(&l->lock);
    /* From here on the event may be gone. */
    if (due == 0 || atomic_load(&l->next_due) > due)
        fm_loop_wake(l);
}

void fm_loop_cancel(struct fm_loop *l, struct fm_event *event)
{
    fm_mutex_lock(&l->lock);
    fm_list_remove(&event->node);
    fm_mutex_unlock(&l->lock);
}

/* The monitor's look; see sched/monitor.h. */
#include "fermata/sched/monitor.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fermata/util/clock.h"
#include "fermata/util/counter.h"

#define TICK (1 * FM_MS)
#define FAST_TICK (FM_MS / 4)
#define FAST_TICKS 400            /* for 100 ms after a stall */
#define RUNNING_GRACE (5 * FM_MS) /* a thread that computes is not blocked for so long: the switch interval */
#ifndef BUDGET_MIN                /* a test has smaller ones */
#define CALM_TICKS 64             /* without anything to watch, then the monitor sleeps */
#define BUDGET_MIN 64u
#define BUDGET_MAX 8192u
#endif
#define RECURS_WITHIN 1000u /* inline tasks between two stalls that count as one phase */

void fm_monitor_init(struct fm_monitor *m, struct fm_crew *c) { *m = (struct fm_monitor){.crew = c}; }

void fm_monitor_woken(struct fm_monitor *m)
{
    eventfd_t count;
    (void)!eventfd_read(m->crew->monitor_fd, &count);
}

/* Is the thread computing or waiting for a processor, as opposed to blocked?  Field 3 of its stat file. */
static bool is_running(int tid)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    const char *paren = strrchr(text, ')'); /* the name may hold anything */
    return paren && paren[1] == ' ' && paren[2] == 'R';
}

/* The lookout has been in one step for a tick or more: another thread takes over, if it still is. */
static void promote(struct fm_monitor *m, struct fm_hand *stuck)
{
    struct fm_crew *c = m->crew;
    fm_mutex_lock(&c->lock);
    struct fm_hand *next = NULL;
    if (c->lookout == stuck && atomic_load(&c->inline_hand) == stuck && atomic_load(&c->beat) == m->beat && !c->stop)
        next = c->idle;
    if (next) {
        c->idle = next->next_idle;
        c->lookout = next;
        atomic_store(&c->inline_hand, NULL);
        bool again = c->budget_size > 0 && c->inline_tasks < RECURS_WITHIN;
        c->budget_size = again ? c->budget_size * 2 : BUDGET_MIN;
        if (c->budget_size > BUDGET_MAX)
            c->budget_size = BUDGET_MAX;
        c->budget = c->budget_size;
        c->inline_tasks = 0;
        next->order = FM_ORDER_LOOKOUT;
        pthread_cond_signal(&next->order_changed);
        m->fast = FAST_TICKS;
        fm_count(FM_C_STALLS);
    }
    fm_mutex_unlock(&c->lock);
}

/* Is the lookout inline?  If it has not moved since the last tick, it is replaced. */
static bool look_at_lookout(struct fm_monitor *m, uint64_t now)
{
    struct fm_crew *c = m->crew;
    struct fm_hand *h = atomic_load(&c->inline_hand);
    uint64_t beat = atomic_load(&c->beat);
    if (!h)
        return false;
    if (beat != m->beat || m->stuck_since == 0) {
        m->beat = beat;
        m->stuck_since = now;
        return true;
    }
    uint64_t stuck = now - m->stuck_since;
    if (stuck >= FAST_TICK / 2 && (stuck >= RUNNING_GRACE || !is_running(h->tid)))
        promote(m, h);
    return true;
}

/* Sends output that a step holds back since the last tick or longer. */
static bool look_at_held_output(struct fm_monitor *m, uint64_t now)
{
    struct fm_crew *c = m->crew;
    bool held = false;
    for (unsigned i = 0; i <= c->pool; i++) {
        struct fm_hand *h = &c->hands[i];
        fm_mutex_lock(&h->lock);
        if (h->held && c->ops->flush(c->ctx, h->held, now - TICK))
            held = true;
        fm_mutex_unlock(&h->lock);
    }
    return held;
}

static bool look(struct fm_monitor *m)
{
    uint64_t now = fm_now();
    bool lookout = look_at_lookout(m, now), held = look_at_held_output(m, now);
    if (!lookout)
        m->stuck_since = 0;
    return lookout || held;
}

uint64_t fm_monitor_tick(struct fm_monitor *m)
{
    struct fm_crew *c = m->crew;
    uint64_t beat = atomic_load(&c->beat);
    bool moved = beat != m->seen;
    m->seen = beat;
    if (look(m) || moved) {
        m->calm = 0;
    } else if (++m->calm > CALM_TICKS) {
        m->calm = 0;
        atomic_store(&c->monitor_asleep, 1);
        if (!look(m))
            return UINT64_MAX;
        atomic_store(&c->monitor_asleep, 0);
    }
    if (m->fast > 0) {
        m->fast--;
        return FAST_TICK;
    }
    return TICK;
}

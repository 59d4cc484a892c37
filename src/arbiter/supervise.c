/* What is watched of workers that run; see arbiter/supervise.h. */
#include "fermata/arbiter/supervise.h"

#include <errno.h>
#include <poll.h>

#include "fermata/arbiter/usage.h"
#include "fermata/util/clock.h"
#include "fermata/util/log.h"
#include "fermata/worker/signals.h"

#define LATE FM_SEC /* that the arbiter may be, and judge still */
#define MEASURE (5 * FM_SEC)
#define PLACES (2 * FM_WORKERS_MAX)

/* ---- whether loops turn ---- */

static uint64_t pause_of(const struct fm_supervisor *s) { return FM_HANDED_PAUSE(s->options->timeout); }

/* Looks from now on. */
static void wake_up(struct fm_supervisor *s)
{
    s->awake = true;
    s->look_at = fm_now() + pause_of(s);
}

static void on_client(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    fm_assert_on_loop();
    wake_up(arg);
}

void fm_supervise_client(struct fm_supervisor *s)
{
    s->told_at = fm_now();
    if (!s->awake && s->nclients > 0)
        wake_up(s);
}

/* Until there is a client. */
static void doze(struct fm_supervisor *s) FM_ON_LOOP
{
    s->awake = false;
    s->look_at = UINT64_MAX;
    for (unsigned i = 0; i < s->nclients; i++)
        if (event_add(s->clients[i], NULL) != 0)
            wake_up(s); /* there is no memory for it: then it looks */
}

static bool has_waiting(const struct fm_supervisor *s)
{
    struct pollfd fds[FM_MAX_LISTENERS];
    for (unsigned i = 0; i < s->nclients; i++)
        fds[i] = (struct pollfd){s->conns->bound[i].listener.fd, POLLIN, 0};
    return poll(fds, s->nclients, 0) > 0;
}

/* It is asked where its threads are, unless it has said so because it is stuck otherwise. */
static void be_silent(struct fm_supervisor *s, const struct fm_roster_worker *w, uint64_t now) FM_ON_LOOP
{
    uint8_t before = w->why;
    fm_roster_mark(s->roster, w->pid, FM_WHY_SILENT, now);
    if (w->why != before)
        fm_children_signal(s->children, w->pid, FM_STACKS_NUMBER);
}

static bool look(struct fm_supervisor *s, unsigned place, bool waiting, uint64_t now) FM_ON_LOOP
{
    const struct fm_roster_worker *w = &s->roster->workers[place];
    struct fm_counters_sum sum;
    if (!fm_children_is_counted(s->children, w->pid))
        return false; /* whether its loop turns cannot be told */
    fm_children_count_one(s->children, w->pid, &sum);
    bool matters = waiting || (int64_t)sum.cell[FM_C_CONNS] > 0;
    switch (fm_vigil_look(&s->vigils[place], w->pid, sum.cell[FM_C_TURNS], matters, s->options->timeout, now)) {
    case FM_VERDICT_IDLE: return matters;
    case FM_VERDICT_ASK: fm_children_ping(s->children, w->pid); return true;
    case FM_VERDICT_SILENT: be_silent(s, w, now); return true;
    case FM_VERDICT_TURNS:
    case FM_VERDICT_WAIT: break;
    }
    return true;
}

static void look_at_all(struct fm_supervisor *s, uint64_t now) FM_ON_LOOP
{
    bool late = now - s->look_at > LATE, waiting = has_waiting(s), any = waiting;
    for (unsigned i = 0; i < PLACES; i++) {
        const struct fm_roster_worker *w = &s->roster->workers[i];
        if (late)
            fm_vigil_pardon(&s->vigils[i], now);
        if (w->pid > 0 && w->state == FM_WORKER_READY && look(s, i, waiting, now))
            any = true;
    }
    if (any || now - s->told_at < pause_of(s)) /* else a next client might not be told of */
        s->look_at = now + pause_of(s);
    else
        doze(s);
}

/* ---- how much memory they have ---- */

/* Twice in a row, so that what a request needs for a moment does not count. */
static void measure(struct fm_supervisor *s, unsigned place, uint64_t now)
{
    const struct fm_roster_worker *w = &s->roster->workers[place];
    uint64_t bytes = fm_usage_private(w->pid);
    if (bytes == FM_USAGE_UNKNOWN && !s->complained)
        fm_error("--max-worker-memory: /proc/%ld/smaps_rollup cannot be read", (long)w->pid);
    s->complained = s->complained || bytes == FM_USAGE_UNKNOWN;
    bool large = bytes != FM_USAGE_UNKNOWN && bytes > s->options->max_worker_memory;
    if (large && s->large[place] == w->pid)
        fm_roster_mark(s->roster, w->pid, FM_WHY_MEMORY, now);
    s->large[place] = large ? w->pid : 0;
}

static void measure_all(struct fm_supervisor *s, uint64_t now)
{
    for (unsigned i = 0; i < PLACES; i++)
        if (s->roster->workers[i].pid > 0 && s->roster->workers[i].state == FM_WORKER_READY)
            measure(s, i, now);
    s->measure_at = now + MEASURE;
}

/* ---- life ---- */

int fm_supervise_start(struct fm_supervisor *s, const struct fm_options *o, struct fm_children *children,
                       struct fm_roster *roster, const struct fm_conns *conns, struct fm_loop *loop)
{
    s->options = o;
    s->children = children;
    s->roster = roster;
    s->conns = conns;
    s->look_at = UINT64_MAX;
    s->measure_at = o->max_worker_memory > 0 ? fm_now() + MEASURE : UINT64_MAX;
    if (o->timeout == 0)
        return 0;
    for (unsigned i = 0; i < conns->nbound; i++) {
        s->clients[i] = event_new(loop->base, conns->bound[i].listener.fd, EV_READ, on_client, s);
        if (!s->clients[i])
            return -ENOMEM;
        s->nclients++;
    }
    doze(s);
    return 0;
}

uint64_t fm_supervise_tick(struct fm_supervisor *s, uint64_t now)
{
    if (now >= s->look_at)
        look_at_all(s, now);
    if (now >= s->measure_at)
        measure_all(s, now);
    return s->look_at < s->measure_at ? s->look_at : s->measure_at;
}

void fm_supervise_stop(struct fm_supervisor *s)
{
    for (unsigned i = 0; i < s->nclients; i++)
        event_free(s->clients[i]);
    s->nclients = 0;
    s->look_at = s->measure_at = UINT64_MAX;
}

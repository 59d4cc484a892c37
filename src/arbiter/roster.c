/* The arbiter's decisions; see arbiter/roster.h. */
#include "fermata/arbiter/roster.h"

#include <assert.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fermata/util/clock.h"
#include "fermata/util/log.h"

#define FIRST_DELAY (FM_SEC / 10)
#define LONGEST_DELAY (30 * FM_SEC)
#define FORGOTTEN (60 * FM_SEC) /* a worker that was ready for so long starts anew at once */
#define WORKERS (sizeof((struct fm_roster *)0)->workers / sizeof *((struct fm_roster *)0)->workers)

static const char *const names[] = {
#define X(id, name) name,
    FM_WORKER_STATES(X)
#undef X
};

const char *fm_worker_state_name(enum fm_worker_state state) { return names[state]; }

static void __attribute__((format(printf, 3, 4))) say(struct fm_roster *r, int level, const char *format, ...)
{
    char text[300];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    r->ops->say(r->ctx, level, text);
}

void fm_roster_init(struct fm_roster *r, const struct fm_roster_ops *ops, void *ctx, unsigned wanted, uint64_t patience)
{
    *r = (struct fm_roster){
        .ops = ops, .ctx = ctx, .wanted = wanted, .patience = patience, .generation = 1, .random = 1};
}

/* ---- workers ---- */

static bool may_move(enum fm_worker_state from, enum fm_worker_state to)
{
#define X(f, t)                                                                                                        \
    if (from == FM_WORKER_##f && to == FM_WORKER_##t)                                                                  \
        return true;
    FM_WORKER_MOVES(X)
#undef X
    return false;
}

static void move(struct fm_roster_worker *w, enum fm_worker_state to, uint64_t now)
{
    assert(may_move((enum fm_worker_state)w->state, to));
    (void)may_move;
    w->state = (uint8_t)to;
    w->since = now;
}

static struct fm_roster_worker *find(struct fm_roster *r, pid_t pid)
{
    for (size_t i = 0; i < WORKERS; i++)
        if (r->workers[i].pid == pid && pid > 0)
            return &r->workers[i];
    return NULL;
}

static bool is_current(const struct fm_roster *r, const struct fm_roster_worker *w)
{
    return w->generation == r->generation;
}

/* It counts as one that serves, or will. */
static bool is_staying(const struct fm_roster_worker *w)
{
    return w->pid > 0 && (w->state == FM_WORKER_LOADING || w->state == FM_WORKER_READY);
}

struct tally {
    unsigned loading, ready;         /* of the generation that is wanted */
    unsigned old_loading, old_ready; /* of others */
};

static struct tally tally(const struct fm_roster *r)
{
    struct tally t = {0};
    for (size_t i = 0; i < WORKERS; i++) {
        const struct fm_roster_worker *w = &r->workers[i];
        if (!is_staying(w))
            continue;
        bool ready = w->state == FM_WORKER_READY, current = is_current(r, w);
        t.loading += !ready && current;
        t.ready += ready && current;
        t.old_loading += !ready && !current;
        t.old_ready += ready && !current;
    }
    return t;
}

unsigned fm_roster_count(const struct fm_roster *r, enum fm_worker_state state)
{
    unsigned n = 0;
    for (size_t i = 0; i < WORKERS; i++)
        n += r->workers[i].pid > 0 && r->workers[i].state == state;
    return n;
}

/* ---- ends ---- */

static void drain(struct fm_roster *r, struct fm_roster_worker *w, int number, uint64_t now)
{
    if (w->state == FM_WORKER_LOADING || w->state == FM_WORKER_READY) {
        move(w, FM_WORKER_DRAINING, now);
        w->kill_at = now + r->patience;
    }
    r->ops->signal(r->ctx, w->pid, number);
}

/* The one that came last of those that stay and are (not) of the generation; one that still loads first. */
static struct fm_roster_worker *last_of(struct fm_roster *r, bool current)
{
    struct fm_roster_worker *last = NULL;
    for (size_t i = 0; i < WORKERS; i++) {
        struct fm_roster_worker *w = &r->workers[i];
        if (!is_staying(w) || is_current(r, w) != current)
            continue;
        if (!last || (w->state < last->state) || (w->state == last->state && w->slot > last->slot))
            last = w;
    }
    return last;
}

static void kill_late(struct fm_roster *r, uint64_t now, uint64_t *next)
{
    for (size_t i = 0; i < WORKERS; i++) {
        struct fm_roster_worker *w = &r->workers[i];
        if (w->pid <= 0 || w->state != FM_WORKER_DRAINING)
            continue;
        if (w->kill_at > now) {
            *next = w->kill_at < *next ? w->kill_at : *next;
            continue;
        }
        say(r, FM_LOG_ERROR, "Worker %u (pid %ld) has not ended in time; it is killed", w->slot, (long)w->pid);
        move(w, FM_WORKER_KILLED, now);
        r->killed = r->killed || r->stopping;
        r->ops->signal(r->ctx, w->pid, SIGKILL);
    }
}

/* ---- starts ---- */

static bool has_current(const struct fm_roster *r, unsigned slot)
{
    for (size_t i = 0; i < WORKERS; i++)
        if (is_staying(&r->workers[i]) && is_current(r, &r->workers[i]) && r->workers[i].slot == slot)
            return true;
    return false;
}

static struct fm_roster_worker *free_place(struct fm_roster *r)
{
    for (size_t i = 0; i < WORKERS; i++)
        if (r->workers[i].pid <= 0)
            return &r->workers[i];
    return NULL; /* as many drain as serve: later */
}

/* 0.75 to 1.25 of it, so that workers that ended together do not come back as one. */
static uint64_t jitter(struct fm_roster *r, uint64_t delay)
{
    r->random = r->random * 1664525u + 1013904223u;
    return delay - delay / 4 + delay / 2 * (r->random >> 16) / 65536;
}

static void put_off(struct fm_roster *r, unsigned slot, uint64_t now)
{
    struct fm_roster_slot *s = &r->slots[slot];
    s->delay = s->delay == 0 ? FIRST_DELAY : s->delay * 2 < LONGEST_DELAY ? s->delay * 2 : LONGEST_DELAY;
    s->start_at = now + jitter(r, s->delay);
}

/* False: not now. */
static bool start_in(struct fm_roster *r, unsigned slot, uint64_t now, uint64_t *next)
{
    struct fm_roster_worker *w = free_place(r);
    if (r->slots[slot].start_at > now) {
        *next = r->slots[slot].start_at < *next ? r->slots[slot].start_at : *next;
        return false;
    }
    pid_t pid = w ? r->ops->start(r->ctx, slot) : 0;
    if (pid <= 0) {
        if (pid < 0 && !r->ever_ready && fm_roster_count(r, FM_WORKER_LOADING) == 0) {
            r->stopping = true; /* there is nothing to lose */
            r->code = 1;
        } else if (pid < 0) {
            put_off(r, slot, now);
            *next = r->slots[slot].start_at < *next ? r->slots[slot].start_at : *next;
        }
        return false;
    }
    *w = (struct fm_roster_worker){
        .pid = pid, .slot = slot, .generation = r->generation, .state = FM_WORKER_LOADING, .since = now};
    return true;
}

/* Starts what is missing.  Beside an old generation that serves it is one at a time: that one has to be ready first. */
static void start_missing(struct fm_roster *r, uint64_t now, uint64_t *next)
{
    struct tally t = tally(r);
    unsigned serving = t.ready + t.old_ready;
    unsigned at_once = t.old_ready == 0 ? r->wanted : serving < r->wanted && r->proven ? r->wanted - serving : 1;
    for (unsigned slot = 0; slot < r->wanted && t.loading < at_once && t.loading + t.ready < r->wanted; slot++)
        if (!has_current(r, slot) && start_in(r, slot, now, next))
            t.loading++;
}

static void end_spare(struct fm_roster *r, uint64_t now)
{
    for (;;) {
        struct tally t = tally(r);
        struct fm_roster_worker *w = NULL;
        if (t.old_loading > 0 || (t.old_ready > 0 && t.ready + t.old_ready > r->wanted && t.ready > 0))
            w = last_of(r, false);
        else if (t.ready + t.loading > r->wanted)
            w = last_of(r, true);
        if (!w)
            return;
        drain(r, w, SIGINT, now); /* at once: the others go on accepting */
    }
}

uint64_t fm_roster_tick(struct fm_roster *r, uint64_t now)
{
    uint64_t next = UINT64_MAX;
    if (!r->stopping) {
        end_spare(r, now);
        start_missing(r, now, &next);
    }
    kill_late(r, now, &next);
    return next;
}

/* ---- what happens ---- */

void fm_roster_ready(struct fm_roster *r, pid_t pid, uint64_t now)
{
    struct fm_roster_worker *w = find(r, pid);
    if (!w || w->state != FM_WORKER_LOADING)
        return; /* told to end in the very moment */
    move(w, FM_WORKER_READY, now);
    w->was_ready = r->ever_ready = true;
    if (!is_current(r, w))
        return;
    if (!r->proven && r->generation > 1)
        say(r, FM_LOG_INFO, "Worker %u of the new generation is ready; the old ones are replaced one by one", w->slot);
    r->proven = true;
}

static void describe(struct fm_roster_exit how, char *text, size_t size)
{
    if (how.signal)
        snprintf(text, size, "was ended by signal %d (%s)", how.signal, strsignal(how.signal));
    else
        snprintf(text, size, "has exited with %d", how.code);
}

/* The first one of a new generation.  All that there are go on as they are, and none is replaced. */
static void fail_reload(struct fm_roster *r, const struct fm_roster_worker *w, const char *how)
{
    say(r, FM_LOG_ERROR, "Reload failed: worker %u (pid %ld) %s before it was ready; the old workers go on", w->slot,
        (long)w->pid, how);
    for (size_t i = 0; i < WORKERS; i++) /* those of several ones, if the reload before was not through */
        r->workers[i].generation = r->generation;
    r->proven = true;
    r->reload_failed = true;
}

void fm_roster_exited(struct fm_roster *r, pid_t pid, struct fm_roster_exit how, uint64_t now)
{
    struct fm_roster_worker *found = find(r, pid);
    char text[100];
    if (!found)
        return;
    struct fm_roster_worker w = *found;
    found->pid = 0;
    describe(how, text, sizeof text);
    if (!is_staying(&w)) { /* as it was told */
        bool well = how.code == 0 || w.state == FM_WORKER_KILLED || !w.was_ready;
        say(r, well ? FM_LOG_INFO : FM_LOG_ERROR, "Worker %u (pid %ld) %s", w.slot, (long)w.pid, text);
        if (r->stopping && !well)
            r->code = r->code ? r->code : 1;
        return;
    }
    struct tally t = tally(r);
    if (!r->ever_ready) {
        say(r, FM_LOG_CRITICAL, "Worker %u (pid %ld) %s before it was ready, and none has been; ending", w.slot,
            (long)w.pid, text);
        fm_roster_stop(r, SIGTERM, now);
        r->code = how.code > 0 ? how.code : 1;
    } else if (is_current(r, &w) && !r->proven && t.old_ready > 0) {
        fail_reload(r, &w, text);
    } else {
        if (w.was_ready && now - w.since >= FORGOTTEN)
            r->slots[w.slot].delay = 0;
        else
            put_off(r, w.slot, now);
        say(r, FM_LOG_ERROR, "Worker %u (pid %ld) %s; it is started again%s", w.slot, (long)w.pid, text,
            r->slots[w.slot].start_at > now ? " in a moment" : "");
    }
}

/* ---- what is wanted ---- */

void fm_roster_reload(struct fm_roster *r, uint64_t now)
{
    (void)now;
    if (r->stopping || !r->ever_ready)
        return; /* what loads is as new as it can be */
    r->generation++;
    r->proven = false;
    r->reload_failed = false;
    for (unsigned i = 0; i < FM_WORKERS_MAX; i++)
        r->slots[i] = (struct fm_roster_slot){0, 0};
}

void fm_roster_resize(struct fm_roster *r, int by)
{
    long wanted = (long)r->wanted + by;
    r->wanted = wanted < 1 ? 1 : wanted > FM_WORKERS_MAX ? FM_WORKERS_MAX : (unsigned)wanted;
}

void fm_roster_stop(struct fm_roster *r, int number, uint64_t now)
{
    r->stopping = true;
    for (size_t i = 0; i < WORKERS; i++)
        if (r->workers[i].pid > 0 && r->workers[i].state != FM_WORKER_KILLED)
            drain(r, &r->workers[i], number, now);
}

bool fm_roster_is_reloading(const struct fm_roster *r)
{
    struct tally t = tally(r);
    return r->ever_ready && !r->stopping && (!r->proven || t.old_loading + t.old_ready > 0);
}

bool fm_roster_is_over(const struct fm_roster *r)
{
    for (size_t i = 0; i < WORKERS; i++)
        if (r->workers[i].pid > 0)
            return false;
    return r->stopping;
}

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

enum kind { FINE, SPENT, STUCK, TOLD };

static const struct {
    const char *name;
    enum kind kind;
    const char *sentence;
} reasons[] = {
#define X(id, name, kind, sentence) {name, kind, sentence},
    FM_WORKER_REASONS(X)
#undef X
};

const char *fm_worker_state_name(enum fm_worker_state state) { return names[state]; }

const char *fm_worker_reason_name(enum fm_worker_reason why) { return reasons[why].name; }

const char *fm_reload_name(enum fm_reload reload)
{
    static const char *const all[] = {"none", "loading", "replacing", "done", "failed"};
    return all[reload];
}

static void __attribute__((format(printf, 3, 4))) say(struct fm_roster *r, int level, const char *format, ...)
{
    char text[300];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    r->ops->say(r->ctx, level, text);
}

void fm_roster_init(struct fm_roster *r, const struct fm_roster_ops *ops, void *ctx, unsigned wanted,
                    const struct fm_roster_limits *limits)
{
    *r = (struct fm_roster){.ops = ops,
                            .ctx = ctx,
                            .wanted = wanted,
                            .limits = *limits,
                            .generation = 1,
                            .random = 1,
                            .slots_used = wanted};
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

/* What a worker that stays counts as: one of those that are wanted, one to be replaced, or none at all. */
enum class { CURRENT, OLD, LOST };

static enum class class_of(const struct fm_roster *r, const struct fm_roster_worker *w) {
    enum kind kind = reasons[w->why].kind; return kind == STUCK                                     ? LOST
                                                  : kind == SPENT || w->generation != r->generation ? OLD
                                                                                                    : CURRENT;
}

/* It counts as one that serves, or will. */
static bool is_staying(const struct fm_roster_worker *w)
{
    return w->pid > 0 && (w->state == FM_WORKER_LOADING || w->state == FM_WORKER_READY);
}

struct tally {
    unsigned loading, ready;         /* of the generation that is wanted */
    unsigned old_loading, old_ready; /* of others, or spent */
    unsigned stuck;
};

static struct tally tally(const struct fm_roster *r)
{
    struct tally t = {0};
    for (size_t i = 0; i < WORKERS; i++) {
        const struct fm_roster_worker *w = &r->workers[i];
        if (!is_staying(w))
            continue;
        bool ready = w->state == FM_WORKER_READY;
        enum class class = class_of(r, w);
        t.loading += !ready && class == CURRENT;
        t.ready += ready && class == CURRENT;
        t.old_loading += !ready && class == OLD;
        t.old_ready += ready && class == OLD;
        t.stuck += class == LOST;
    }
    return t;
}

unsigned fm_roster_serving(const struct fm_roster *r)
{
    struct tally t = tally(r);
    return t.ready + t.old_ready;
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
    uint64_t time = number == SIGINT ? r->limits.replaced : number == SIGTERM ? r->limits.stop : r->limits.quick;
    if (w->state == FM_WORKER_LOADING || w->state == FM_WORKER_READY) {
        move(w, FM_WORKER_DRAINING, now);
        w->kill_at = UINT64_MAX;
    }
    if (w->state == FM_WORKER_DRAINING && now + time < w->kill_at)
        w->kill_at = now + time; /* told again: no later than before */
    w->quick = w->quick || number == SIGQUIT;
    r->ops->signal(r->ctx, w->pid, number);
}

/* The one that came last of those that stay and are of the class; one that still loads first. */
static struct fm_roster_worker *last_of(struct fm_roster *r, enum class class)
{
    struct fm_roster_worker *last = NULL;
    for (size_t i = 0; i < WORKERS; i++) {
        struct fm_roster_worker *w = &r->workers[i];
        if (!is_staying(w) || class_of(r, w) != class)
            continue;
        if (!last || (w->state < last->state) || (w->state == last->state && w->slot > last->slot))
            last = w;
    }
    return last;
}

/* Of those that drain and were ready, or were not, and have not been told to end quickly: how many there are, and the
 * one that has for longest. */
static unsigned draining(struct fm_roster *r, bool was_ready, struct fm_roster_worker **first)
{
    unsigned n = 0;
    *first = NULL;
    for (size_t i = 0; i < WORKERS; i++) {
        struct fm_roster_worker *w = &r->workers[i];
        if (w->pid <= 0 || w->state != FM_WORKER_DRAINING || w->quick || w->was_ready != was_ready)
            continue;
        n++;
        if (!*first || w->since < (*first)->since)
            *first = w;
    }
    return n;
}

/* May another one drain that serves?  Where as many do as may it waits, until one has ended, or the one that has
 * drained for longest has had its time. */
static bool has_room(struct fm_roster *r, uint64_t now, uint64_t *next)
{
    struct fm_roster_worker *first;
    unsigned n = draining(r, true, &first);
    if (r->limits.draining == 0 || n < r->limits.draining)
        return true;
    uint64_t until = first->since + r->limits.patience;
    if (now < until) {
        *next = until < *next ? until : *next;
        return false;
    }
    say(r, FM_LOG_WARNING,
        "Worker %u (pid %ld) is told to end quickly: %u drain, no more may (--drain-workers), and another one is to",
        first->slot, (long)first->pid, n);
    drain(r, first, SIGQUIT, now);
    return true;
}

/* What was still loading when it was told to end has nothing to lose. */
static void end_unready(struct fm_roster *r, uint64_t now)
{
    struct fm_roster_worker *first;
    while (r->limits.draining > 0 && draining(r, false, &first) > r->limits.draining)
        drain(r, first, SIGQUIT, now);
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
        if (is_staying(&r->workers[i]) && class_of(r, &r->workers[i]) == CURRENT && r->workers[i].slot == slot)
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
    if ((t.ready > 0 || r->proven) && serving > r->wanted)
        return; /* an old one waits for its turn to drain */
    for (unsigned slot = 0; slot < r->wanted && t.loading < at_once && t.loading + t.ready < r->wanted; slot++)
        if (!has_current(r, slot) && start_in(r, slot, now, next))
            t.loading++;
}

static void end_spare(struct fm_roster *r, uint64_t now, uint64_t *next)
{
    for (;;) {
        struct tally t = tally(r);
        struct fm_roster_worker *w = NULL;
        unsigned serving = t.ready + t.old_ready;
        if (t.stuck > 0 && serving >= r->wanted)
            w = last_of(r, LOST);
        else if (t.old_loading > 0 || (t.old_ready > 0 && serving > r->wanted && (t.ready > 0 || r->proven)))
            w = last_of(r, OLD);
        else if (t.ready + t.loading > r->wanted)
            w = last_of(r, CURRENT);
        if (!w || (w->state == FM_WORKER_READY && class_of(r, w) != LOST && !has_room(r, now, next)))
            return;
        if (w->why == FM_WHY_NOTHING)
            w->why = w->generation != r->generation ? FM_WHY_RELOAD : FM_WHY_FEWER;
        drain(r, w, SIGINT, now); /* at once: the others go on accepting */
    }
}

/* Those that are old enough.  They are replaced one at a time, so that it does not matter that they are of one age. */
static void retire(struct fm_roster *r, uint64_t now, uint64_t *next)
{
    for (size_t i = 0; i < WORKERS && r->limits.lifetime > 0; i++) {
        const struct fm_roster_worker *w = &r->workers[i];
        if (w->pid <= 0 || w->state != FM_WORKER_READY || w->why != FM_WHY_NOTHING)
            continue;
        uint64_t until = w->since + r->limits.lifetime;
        if (until <= now)
            fm_roster_mark(r, w->pid, FM_WHY_LIFETIME, now);
        else
            *next = until < *next ? until : *next;
    }
}

static void look_at_reload(struct fm_roster *r)
{
    if (r->reload != FM_RELOAD_REPLACING)
        return;
    for (size_t i = 0; i < WORKERS; i++)
        if (is_staying(&r->workers[i]) && r->workers[i].generation != r->generation)
            return;
    r->reload = FM_RELOAD_DONE;
    say(r, FM_LOG_INFO, "Reloaded: all workers are of the new generation");
}

uint64_t fm_roster_tick(struct fm_roster *r, uint64_t now)
{
    uint64_t next = UINT64_MAX;
    if (!r->stopping) {
        retire(r, now, &next);
        end_spare(r, now, &next);
        start_missing(r, now, &next);
        end_unready(r, now);
        look_at_reload(r);
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
    w->boot = now > w->since ? now - w->since : 1;
    move(w, FM_WORKER_READY, now);
    w->was_ready = r->ever_ready = true;
    if (w->generation != r->generation)
        return;
    if (!r->proven && r->generation > 1) {
        say(r, FM_LOG_INFO, "Worker %u of the new generation is ready%s", w->slot,
            r->old_first ? "" : "; the old ones are replaced one by one");
        r->reload = FM_RELOAD_REPLACING;
    }
    r->proven = true;
}

void fm_roster_renamed(struct fm_roster *r, pid_t before, pid_t now)
{
    struct fm_roster_worker *w = find(r, before);
    if (w)
        w->pid = now;
}

void fm_roster_mark(struct fm_roster *r, pid_t pid, enum fm_worker_reason why, uint64_t now)
{
    struct fm_roster_worker *w = find(r, pid);
    (void)now;
    if (!w || w->state != FM_WORKER_READY || reasons[why].kind <= reasons[w->why].kind || reasons[why].kind == TOLD)
        return;
    w->why = (uint8_t)why;
    r->replaced[why]++;
    say(r, reasons[why].kind == STUCK ? FM_LOG_ERROR : FM_LOG_INFO,
        "Worker %u (pid %ld) %s; another one takes its place", w->slot, (long)w->pid, reasons[why].sentence);
}

void fm_roster_describe(struct fm_roster_exit how, char *text, size_t size)
{
    if (how.signal)
        snprintf(text, size, "was ended by signal %d (%s)%s", how.signal, strsignal(how.signal),
                 how.out_of_memory ? ", for want of memory" : "");
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
    r->reload = FM_RELOAD_FAILED;
    snprintf(r->reload_failed, sizeof r->reload_failed, "worker %u %s", w->slot, how);
}

/* What its slot remembers of it. */
static void remember(struct fm_roster *r, const struct fm_roster_worker *w, struct fm_roster_exit how, uint64_t now)
{
    struct fm_roster_slot *s = &r->slots[w->slot];
    s->last = w->pid;
    s->how = how;
    s->ended_at = now;
    s->why = w->why;
    s->exits += is_staying(w);
    r->out_of_memory += how.out_of_memory;
}

void fm_roster_exited(struct fm_roster *r, pid_t pid, struct fm_roster_exit how, uint64_t now)
{
    struct fm_roster_worker *found = find(r, pid);
    char text[100];
    if (!found)
        return;
    struct fm_roster_worker w = *found;
    remember(r, &w, how, now);
    found->pid = 0;
    fm_roster_describe(how, text, sizeof text);
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
    } else if (w.generation == r->generation && !r->proven && t.old_ready + t.stuck > 0) {
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
    if (r->stopping || (!r->ever_ready && !r->old_first))
        return; /* what loads is as new as it can be */
    r->generation++;
    r->proven = false;
    r->reload = FM_RELOAD_LOADING;
    for (unsigned i = 0; i < FM_WORKERS_MAX; i++)
        r->slots[i].delay = r->slots[i].start_at = 0;
    for (size_t i = 0; i < WORKERS && r->old_first; i++)
        if (is_staying(&r->workers[i]))
            drain(r, &r->workers[i], SIGINT, now);
}

void fm_roster_resize(struct fm_roster *r, int by)
{
    long wanted = (long)r->wanted + by;
    r->wanted = wanted < 1 ? 1 : wanted > FM_WORKERS_MAX ? FM_WORKERS_MAX : (unsigned)wanted;
    r->slots_used = r->wanted > r->slots_used ? r->wanted : r->slots_used;
}

void fm_roster_stop(struct fm_roster *r, int number, uint64_t now)
{
    r->stopping = true;
    for (size_t i = 0; i < WORKERS; i++)
        if (r->workers[i].pid > 0 && r->workers[i].state != FM_WORKER_KILLED) {
            if (is_staying(&r->workers[i]))
                r->workers[i].why = FM_WHY_STOP;
            drain(r, &r->workers[i], number, now);
        }
}

bool fm_roster_is_reloading(const struct fm_roster *r)
{
    return !r->stopping && (r->reload == FM_RELOAD_LOADING || r->reload == FM_RELOAD_REPLACING);
}

bool fm_roster_is_over(const struct fm_roster *r)
{
    for (size_t i = 0; i < WORKERS; i++)
        if (r->workers[i].pid > 0)
            return false;
    return r->stopping;
}

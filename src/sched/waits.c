/* Windows over the leader's steps; see sched/waits.h. */
#include "fermata/sched/waits.h"

#include "fermata/util/clock.h"
#include "fermata/util/thread_time.h"

#ifndef SUSPECT                /* a test has smaller ones */
#define SUSPECT (FM_MS / 10)   /* a shorter step is not worth a look */
#define WINDOW (1 * FM_MS)     /* of steps */
#define LEAST_STEPS 2u         /* ... and so many of them */
#define PAYS (FM_MS / 20)      /* waiting a step that outweighs changes of threads */
#define LASTS (FM_MS / 10)     /* a step that is worth a thread of its own, where steps can compute side by side */
#define NO_PAUSE (FM_MS / 200) /* a thread that has slept was away for longer */
#define LET_BE (20 * FM_MS)    /* after a window of steps that do not wait */
#endif

static void window_end(struct fm_waits *w, uint64_t now)
{
    w->phase = FM_WAITS_OFF;
    w->expected = false;
    w->rest_until = now + LET_BE;
}

static void window_begin(struct fm_waits *w, enum fm_waits_phase phase, uint64_t now, unsigned others)
{
    w->phase = phase;
    w->steps = w->wanted = 0;
    w->wall = w->cpu = 0;
    w->at_once = false;
    w->others = others;
    w->delayed = phase == FM_WAITS_SURE ? fm_tid_delayed(w->tid) : 0;
    w->began = now;
    w->used = fm_tid_used(w->tid);
}

void fm_waits_enter(struct fm_waits *w, uint64_t now, unsigned others)
{
    if (w->phase == FM_WAITS_OFF) {
        if (w->expected)
            window_begin(w, FM_WAITS_SURE, now, others);
        return;
    }
    uint64_t used = fm_tid_used(w->tid);
    w->at_once = now - w->left < used - w->used + NO_PAUSE;
    w->began = now;
    w->used = used;
}

void fm_waits_leave(struct fm_waits *w, uint64_t now)
{
    if (w->phase == FM_WAITS_OFF)
        return;
    uint64_t used = fm_tid_used(w->tid);
    w->wall += now - w->began;
    w->cpu += used - w->used;
    w->left = now;
    w->used = used;
}

/* Most of it was computing: a quarter that is lost does not pay. */
static bool computes(uint64_t wall, uint64_t cpu) { return cpu >= wall / 4 * 3; }

bool fm_waits_step(struct fm_waits *w, uint64_t took, uint64_t now, bool wanted, unsigned others)
{
    if (w->phase == FM_WAITS_OFF) {
        if (took >= SUSPECT && now >= w->rest_until)
            window_begin(w, FM_WAITS_CLOCK, now, others);
        return false;
    }
    if (others != w->others) {
        window_begin(w, w->phase, now, others);
        return false;
    }
    w->steps++;
    w->wanted += wanted || w->at_once;
    uint64_t wall = w->wall + (now - w->began);
    if (wall < WINDOW || w->steps < LEAST_STEPS)
        return false;
    uint64_t cpu = w->cpu + (fm_tid_used(w->tid) - w->used);
    if (w->wanted < w->steps / 2 || (!w->parallel && computes(wall, cpu))) {
        window_end(w, now);
        return false;
    }
    if (w->phase == FM_WAITS_CLOCK) {
        window_begin(w, FM_WAITS_SURE, now, others);
        return false;
    }
    uint64_t delayed = fm_tid_delayed(w->tid) - w->delayed, not_waited = cpu + delayed;
    bool waits = w->parallel ? wall > delayed && wall - delayed >= w->steps * LASTS
                             : !computes(wall, not_waited) && wall - not_waited >= w->steps * PAYS;
    window_end(w, now);
    if (waits) {
        w->expected = true;
        w->rest_until = 0;
    }
    return waits;
}

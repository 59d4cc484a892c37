/* What queues a task that no thread has; see sched/wake.h. */
#include "fermata/sched/wake.h"

#include "fermata/sched/sched.h"

void fm_wait_fire(struct fm_wait *w, struct fm_sched *sched)
{
    int state = FM_WAIT_ARMED;
    if (!atomic_compare_exchange_strong(&w->state, &state, FM_WAIT_FIRING))
        return; /* fired before, or the request has gone on without it */
    struct fm_task *t = w->task;
    bool queued = false;
    /* PARKING may become PARKED under our hands, once; after that one of the two succeeds, or the loop was first. */
    while (!fm_task_change(t, FM_TASK_PARKING, FM_TASK_WOKEN, 0)) {
        queued = fm_task_change(t, FM_TASK_PARKED, FM_TASK_QUEUED, 0);
        if (queued || fm_task_state(t) != FM_TASK_PARKING)
            break;
    }
    atomic_store(&w->state, FM_WAIT_FIRED);
    if (queued)
        fm_sched_push(sched, t); /* QUEUED and in no queue yet: still ours */
}

enum fm_task_state fm_task_abort(struct fm_task *t, struct fm_sched *sched, bool gone)
{
    for (;;) {
        uint32_t seen = atomic_load(&t->word);
        enum fm_task_state state = (enum fm_task_state)(seen & FM_TASK_STATE_MASK);
        if (seen & FM_TASK_ABORT)
            return state;
        if (state == FM_TASK_PARKED || (state == FM_TASK_WRITING && !gone)) {
            if (fm_task_change(t, state, FM_TASK_QUEUED, FM_TASK_ABORT)) {
                fm_sched_push(sched, t);
                return state;
            }
        } else if (fm_task_flag(t, seen, gone ? FM_TASK_GONE : FM_TASK_ABORT)) {
            return state;
        }
    }
}

bool fm_task_resume_writing(struct fm_task *t, struct fm_sched *sched)
{
    if (!fm_task_change(t, FM_TASK_WRITING, FM_TASK_QUEUED, 0))
        return false;
    fm_sched_push(sched, t);
    return true;
}

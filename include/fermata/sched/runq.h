/* The run queue: tasks that wait for a thread.
 *
 * Requests that have not begun and those that go on (after a future, after output, after many steps in a row) wait in a
 * line each, and while there are both the lines take turns.  So two thousand requests that one future has resumed do
 * not keep a new one waiting until the last of them has had its step, and however many requests arrive, those that have
 * begun get every other turn.  Within a line, first come, first served.
 *
 * Not thread-safe: the scheduler's lock guards the run queue, the role of leader what a turn of the loop has gathered.
 */
#ifndef FERMATA_SCHED_RUNQ_H
#define FERMATA_SCHED_RUNQ_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/sched/task.h"
#include "fermata/util/list.h"

enum { FM_UNSTARTED, FM_STARTED }; /* the lines: task->begun */

struct fm_runq {
    struct fm_list line[2];
    unsigned length[2];
    unsigned last; /* which line had the last turn */
};

void fm_runq_init(struct fm_runq *q);

static inline unsigned fm_runq_length(const struct fm_runq *q)
{
    return q->length[FM_UNSTARTED] + q->length[FM_STARTED];
}

/* Since when the first one waits; 0: there is none. */
static inline uint64_t fm_runq_since(const struct fm_runq *q)
{
    uint64_t oldest = 0;
    for (unsigned line = FM_UNSTARTED; line <= FM_STARTED; line++) {
        const struct fm_list *waiting = &q->line[line];
        uint64_t first = fm_list_empty(waiting) ? 0 : FM_LIST_ENTRY(waiting->next, struct fm_task, node)->queued_at;
        if (first != 0 && (oldest == 0 || first < oldest))
            oldest = first;
    }
    return oldest;
}

/* Puts a QUEUED task at the end of its line.  `now` is since when it waits. */
void fm_runq_push(struct fm_runq *q, struct fm_task *t, uint64_t now);

/* The task whose turn it is; NULL if there is none. */
struct fm_task *fm_runq_pop(struct fm_runq *q);

/* Takes a task out that is in the queue and has not begun. */
void fm_runq_remove(struct fm_runq *q, struct fm_task *t);

/* Moves all of from to the ends of the lines of q: they wait since `now`. */
void fm_runq_append(struct fm_runq *q, struct fm_runq *from, uint64_t now);

#endif

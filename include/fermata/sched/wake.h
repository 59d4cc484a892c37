/* Three who find that a task can go on though no thread has it: a future's callback, the loop that wants the request to
 * end, and the loop that has sent its output.  Each moves it to QUEUED, in one atomic operation that only one of them
 * can win, and puts it on the run queue.  The states and the protocol of the wait are told in sched/task.h. */
#ifndef FERMATA_SCHED_WAKE_H
#define FERMATA_SCHED_WAKE_H

#include <stdbool.h>

#include "fermata/sched/task.h"
#include "fermata/util/annotate.h"

struct fm_sched;

/* The future's callback: any thread, once or more often.  Constant time; the scheduler's leaf lock at most. */
void fm_wait_fire(struct fm_wait *w, struct fm_sched *sched) FM_ANY_THREAD;

/* The loop wants the request to end.  gone: only if it is, or would be, parked on a future (S8: an end of file). Queues
 * a parked task; a queued or running one will see the flag.  Returns the state it found.  For WRITING the caller holds
 * the stream's lock, under which the running thread lets go (see server/request.c). */
enum fm_task_state fm_task_abort(struct fm_task *t, struct fm_sched *sched, bool gone) FM_ON_LOOP;

/* The loop found room for output: WRITING -> QUEUED, unless it is not WRITING.  Stream's lock held. */
bool fm_task_resume_writing(struct fm_task *t, struct fm_sched *sched) FM_ON_LOOP;

#endif

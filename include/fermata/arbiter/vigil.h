/* Does a worker's loop turn?  Judged from what it has counted, and asked only where it matters: one that has a client,
 * or whose listening sockets have one that waits, and has not turned since the last look.  One that was asked and has
 * not turned in time is silent.
 *
 * Pure: what is to be done is the result. */
#ifndef FERMATA_ARBITER_VIGIL_H
#define FERMATA_ARBITER_VIGIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fm_vigil {
    pid_t pid; /* whose; another one's is begun anew */
    bool begun;
    uint64_t turns; /* at the last look */
    uint64_t asked; /* when it was asked to turn, fm_now; 0: it was not */
};

enum fm_verdict { FM_VERDICT_TURNS, FM_VERDICT_IDLE, FM_VERDICT_ASK, FM_VERDICT_WAIT, FM_VERDICT_SILENT };

/* One look at worker `pid`, whose loop has turned so often.  matters: somebody would miss it.  patience, now: ns. */
enum fm_verdict fm_vigil_look(struct fm_vigil *v, pid_t pid, uint64_t turns, bool matters, uint64_t patience,
                              uint64_t now);

/* Whoever looks came late itself: a machine that slept, or a process that was stopped.  Who was asked has all of the
 * time again. */
void fm_vigil_pardon(struct fm_vigil *v, uint64_t now);

#endif

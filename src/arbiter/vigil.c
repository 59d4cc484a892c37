/* Does a worker's loop turn?  See arbiter/vigil.h. */
#include "fermata/arbiter/vigil.h"

enum fm_verdict fm_vigil_look(struct fm_vigil *v, pid_t pid, uint64_t turns, bool matters, uint64_t patience,
                              uint64_t now)
{
    if (v->pid != pid || !v->begun || turns != v->turns) {
        bool known = v->pid == pid && v->begun;
        *v = (struct fm_vigil){.pid = pid, .begun = true, .turns = turns};
        return known ? FM_VERDICT_TURNS : FM_VERDICT_IDLE;
    }
    if (v->asked == 0 && !matters)
        return FM_VERDICT_IDLE;
    if (v->asked == 0) {
        v->asked = now;
        return FM_VERDICT_ASK;
    }
    return now - v->asked >= patience ? FM_VERDICT_SILENT : FM_VERDICT_WAIT;
}

void fm_vigil_pardon(struct fm_vigil *v, uint64_t now)
{
    if (v->asked != 0)
        v->asked = now;
}

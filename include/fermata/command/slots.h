/* Which workers a server has. */
#ifndef FERMATA_COMMAND_SLOTS_H
#define FERMATA_COMMAND_SLOTS_H

#include <stdbool.h>

#include "fermata/util/buf.h"

#define FM_SLOTS_MOST 256

struct fm_slots {
    unsigned n;
    struct fm_slot {
        unsigned slot;
        char state[16];   /* "ready" */
    } all[FM_SLOTS_MOST]; /* by slot */
};

/* From what /workers has answered: each slot once, of several processes in it with the state of that one which the
 * server shows.  False: it is no such answer. */
bool fm_slots_read(struct fm_slots *s, const struct fm_buf *json);

#endif

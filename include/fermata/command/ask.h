/* One request to an admin port, and its whole answer. */
#ifndef FERMATA_COMMAND_ASK_H
#define FERMATA_COMMAND_ASK_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/command/target.h"
#include "fermata/util/buf.h"

#define FM_ASK_SECONDS 5 /* that an answer may take */

struct fm_told {
    int status;
    struct fm_buf body; /* the caller's to free, also after false */
};

#define FM_ASK_ENDS 2

/* Blocks, at most for FM_ASK_SECONDS, and once it is connected only as long as none of the descriptors
 * ends[FM_ASK_ENDS] can be read, of which any may be -1.  A POST has the field that is asked for with one
 * (admin/guard.h).  False, with why[FM_SENTENCE], if there is no answer of Fermata's; why is empty where one of `ends`
 * was the reason. */
bool fm_ask(const struct fm_target *t, const char *method, const char *path, const int *ends, struct fm_told *told,
            char *why);

#endif

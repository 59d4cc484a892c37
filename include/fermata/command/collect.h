/* What a server says, and where it has workers each of them. */
#ifndef FERMATA_COMMAND_COLLECT_H
#define FERMATA_COMMAND_COLLECT_H

#include <stdbool.h>

#include "fermata/command/ask.h"
#include "fermata/command/target.h"
#include "fermata/util/buf.h"

struct fm_wanted {
    const char *method, *path; /* a page's */
    bool sums;                 /* it is there for all workers together, too, and that comes first */
    bool json;                 /* of several workers an object of theirs, by slot; else texts, each below a line */
    int worker;                /* its slot; -1: all that there are */
    int ends[FM_ASK_ENDS];     /* for fm_ask; -1: none */
};

/* Asks for it, and appends it to *to.  False, with why[FM_SENTENCE], if there is no good answer, or there is none of
 * some worker: then *to has what there is.  why is empty where one of `ends` was the reason. */
bool fm_collect(const struct fm_target *t, const struct fm_wanted *wanted, struct fm_buf *to, char *why);

#endif

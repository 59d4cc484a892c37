/* Memory for requests: each head and each body has FM_BUDGET_FREE bytes of its own, and what they take beyond that is
 * at most FM_BUDGET for all heads together, and as much for all bodies.  So ten thousand clients that each send a
 * little less than a request may have do not take ten thousand times that, and bodies that trickle take nothing from
 * heads.  A body then goes to a file, a head is refused. */
#ifndef FERMATA_HTTP_BUDGET_H
#define FERMATA_HTTP_BUDGET_H

#include <stdbool.h>
#include <stddef.h>

#include "fermata/util/annotate.h"

#define FM_BUDGET_FREE ((size_t)16 * 1024)
#define FM_BUDGET ((size_t)64 * 1024 * 1024)

enum fm_budget_share { FM_BUDGET_HEADS, FM_BUDGET_BODIES, FM_BUDGET_SHARES };

/* Something that had `from` bytes will have `to`.  False, and nothing is changed, if these are more than there may be;
 * fewer are always fine. */
bool fm_budget_move(enum fm_budget_share share, size_t from, size_t to) FM_ANY_THREAD;

#endif

/* Memory for requests: each head and each body has FM_QUOTA_FREE bytes of its own, and what they take beyond that is
 * at most FM_QUOTA for all heads together, and as much for all bodies.  So ten thousand clients that each send a
 * little less than a request may have do not take ten thousand times that, and bodies that trickle take nothing from
 * heads.  A body then goes to a file, a head is refused.  Files have a quota of their own, in number and in bytes. */
#ifndef FERMATA_HTTP_QUOTA_H
#define FERMATA_HTTP_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/util/annotate.h"

#define FM_QUOTA_FREE ((size_t)16 * 1024)
#define FM_QUOTA ((size_t)64 * 1024 * 1024)

enum fm_quota_share { FM_QUOTA_HEADS, FM_QUOTA_BODIES, FM_QUOTA_SHARES };

/* Something that had `from` bytes will have `to`.  False, and nothing is changed, if these are more than there may be;
 * fewer are always fine. */
bool fm_quota_move(enum fm_quota_share share, size_t from, size_t to) FM_ANY_THREAD;

/* At most so many bodies may be in files at a time, with so many bytes.  Before any thread starts; off until then. */
void fm_quota_limit_files(unsigned most, uint64_t most_bytes);

/* n more bytes will be in a file, which may be a new one.  0 or -EDQUOT, with nothing changed. */
int fm_quota_add_file(bool is_new, uint64_t n) FM_ANY_THREAD;

/* n bytes are not in a file any more; whole: that was all of it, and the file is gone. */
void fm_quota_drop_file(bool whole, uint64_t n) FM_ANY_THREAD;

#endif

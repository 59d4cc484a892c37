/* One counter for each share; see http/quota.h. */
#include "fermata/http/quota.h"

#include <stdatomic.h>

static atomic_size_t taken[FM_QUOTA_SHARES];

static size_t beyond(size_t n) { return n > FM_QUOTA_FREE ? n - FM_QUOTA_FREE : 0; }

bool fm_quota_move(enum fm_quota_share share, size_t from, size_t to)
{
    size_t had = beyond(from), wants = beyond(to);
    if (wants <= had) {
        if (wants < had)
            atomic_fetch_sub_explicit(&taken[share], had - wants, memory_order_relaxed);
        return true;
    }
    if (atomic_fetch_add_explicit(&taken[share], wants - had, memory_order_relaxed) + (wants - had) <= FM_QUOTA)
        return true;
    atomic_fetch_sub_explicit(&taken[share], wants - had, memory_order_relaxed);
    return false;
}

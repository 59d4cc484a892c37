/* One counter for each share; see http/quota.h. */
#include "fermata/http/quota.h"

#include <errno.h>
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

/* ---- files ---- */

static unsigned max_files = UINT32_MAX; /* set before any thread starts */
static uint64_t max_bytes = UINT64_MAX;
static atomic_uint files;
static _Atomic uint64_t file_bytes;

void fm_quota_limit_files(unsigned most, uint64_t most_bytes)
{
    max_files = most;
    max_bytes = most_bytes;
}

int fm_quota_add_file(bool is_new, uint64_t n)
{
    if (is_new && atomic_fetch_add_explicit(&files, 1, memory_order_relaxed) >= max_files) {
        fm_quota_drop_file(true, 0);
        return -EDQUOT;
    }
    uint64_t had = atomic_fetch_add_explicit(&file_bytes, n, memory_order_relaxed);
    if (had <= max_bytes && n <= max_bytes - had)
        return 0;
    fm_quota_drop_file(is_new, n);
    return -EDQUOT;
}

void fm_quota_drop_file(bool whole, uint64_t n)
{
    atomic_fetch_sub_explicit(&files, whole, memory_order_relaxed);
    atomic_fetch_sub_explicit(&file_bytes, n, memory_order_relaxed);
}

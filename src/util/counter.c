/* Counter blocks: one per crew thread, one shared by all other threads. */
#include "fermata/util/counter.h"

#include <string.h>

#include "fermata/util/err.h"

#define MAX_BLOCKS 4096

const double fm_bucket_bounds[FM_BUCKETS - 1] = {0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                 0.1,    0.25,   0.5,   1,      2.5,   5,    10,    60};

static struct fm_counters shared;
static __thread struct fm_counters *mine;
static struct fm_counters *blocks[MAX_BLOCKS];
static atomic_uint nblocks;

void fm_counters_attach(void)
{
    unsigned i = atomic_fetch_add(&nblocks, 1);
    if (i >= MAX_BLOCKS)
        return; /* the shared block serves as well, only slower */
    struct fm_counters *block = fm_calloc(1, sizeof *block);
    __atomic_store_n(&blocks[i], block, __ATOMIC_RELEASE);
    mine = block;
}

/* One writer: load and store, no locked instruction.  Otherwise a real atomic add. */
static inline void add(_Atomic uint64_t *own, _Atomic uint64_t *common, uint64_t n)
{
    if (own)
        atomic_store_explicit(own, atomic_load_explicit(own, memory_order_relaxed) + n, memory_order_relaxed);
    else
        atomic_fetch_add_explicit(common, n, memory_order_relaxed);
}

void fm_count_add(enum fm_counter id, uint64_t n) { add(mine ? &mine->cell[id] : NULL, &shared.cell[id], n); }

void fm_count_refused(unsigned refusal)
{
    if (refusal < FM_REFUSAL_CELLS)
        add(mine ? &mine->refused[refusal] : NULL, &shared.refused[refusal], 1);
}

void fm_observe(enum fm_histogram id, uint64_t ns)
{
    unsigned b = 0;
    double s = (double)ns / 1e9;
    while (b < FM_BUCKETS - 1 && s > fm_bucket_bounds[b])
        b++;
    add(mine ? &mine->hist[id].bucket[b] : NULL, &shared.hist[id].bucket[b], 1);
    add(mine ? &mine->hist[id].sum : NULL, &shared.hist[id].sum, ns);
}

static void sum_block(struct fm_counters_sum *sum, struct fm_counters *c)
{
    for (unsigned i = 0; i < FM_C_COUNT; i++)
        sum->cell[i] += atomic_load_explicit(&c->cell[i], memory_order_relaxed);
    for (unsigned i = 0; i < FM_REFUSAL_CELLS; i++)
        sum->refused[i] += atomic_load_explicit(&c->refused[i], memory_order_relaxed);
    for (unsigned h = 0; h < FM_HG_COUNT; h++) {
        for (unsigned b = 0; b < FM_BUCKETS; b++)
            sum->hist[h].bucket[b] += atomic_load_explicit(&c->hist[h].bucket[b], memory_order_relaxed);
        sum->hist[h].sum += atomic_load_explicit(&c->hist[h].sum, memory_order_relaxed);
    }
}

void fm_counters_read(struct fm_counters_sum *sum)
{
    memset(sum, 0, sizeof *sum);
    sum_block(sum, &shared);
    unsigned n = atomic_load(&nblocks);
    for (unsigned i = 0; i < n && i < MAX_BLOCKS; i++) {
        struct fm_counters *block = __atomic_load_n(&blocks[i], __ATOMIC_ACQUIRE);
        if (block)
            sum_block(sum, block);
    }
}

/* Counter blocks: one per pool thread, one shared by all other threads. */
#include "fermata/util/counter.h"

#include <stdlib.h>
#include <string.h>

#define MAX_BLOCKS 4096

#define MS 1000000ull
#define NUMBER(...) (sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))
const struct fm_bounds fm_bounds[FM_HG_COUNT] = {
#define X(id, family, bounds, help) {NUMBER(bounds(MS)), {bounds(MS)}},
    FM_HISTOGRAMS(X)
#undef X
};

static struct fm_counters own_shared;
struct fm_counters *fm_counters_shared = &own_shared;
__thread struct fm_counters *fm_counters_own;
static struct fm_counters *blocks[MAX_BLOCKS];
static atomic_uint nblocks;
static struct fm_counters *placed; /* where blocks come from, if not from the heap; set before any thread counts */
static unsigned nplaced;

void fm_counters_place(void *memory, size_t size)
{
    placed = memory;
    nplaced = (unsigned)(size / sizeof *placed);
    fm_counters_shared = placed++;
    nplaced--;
}

void fm_counters_attach(void)
{
    unsigned i = atomic_fetch_add(&nblocks, 1);
    if (i >= MAX_BLOCKS)
        return; /* the shared block serves as well, only slower; so it does where there is no memory */
    struct fm_counters *block = placed ? i < nplaced ? &placed[i] : NULL : calloc(1, sizeof *block);
    if (!block)
        return;
    __atomic_store_n(&blocks[i], block, __ATOMIC_RELEASE);
    fm_counters_own = block;
}

/* The calling thread's block, or the shared one. */
static struct fm_counters *block_for(bool *own)
{
    *own = fm_counters_own != NULL;
    return *own ? fm_counters_own : fm_counters_shared;
}

void fm_count_refused(unsigned refusal)
{
    bool own;
    struct fm_counters *c = block_for(&own);
    if (refusal < FM_REFUSAL_CELLS)
        fm_counter_bump(&c->refused[refusal], own, 1);
}

void fm_observe(enum fm_histogram id, uint64_t ns)
{
    bool own;
    unsigned b = 0;
    struct fm_counters *c = block_for(&own);
    const struct fm_bounds *bounds = &fm_bounds[id];
    while (b < bounds->n && ns > bounds->at[b])
        b++;
    fm_counter_bump(&c->hist[id].bucket[b], own, 1);
    fm_counter_bump(&c->hist[id].sum, own, ns);
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
    sum->busy += atomic_load_explicit(&c->busy, memory_order_acquire); /* see fm_count_step_ends */
}

void fm_counters_read(struct fm_counters_sum *sum)
{
    memset(sum, 0, sizeof *sum);
    sum_block(sum, fm_counters_shared);
    unsigned n = atomic_load(&nblocks);
    for (unsigned i = 0; i < n && i < MAX_BLOCKS; i++) {
        struct fm_counters *block = __atomic_load_n(&blocks[i], __ATOMIC_ACQUIRE);
        if (block)
            sum_block(sum, block);
    }
}

void fm_counters_read_ages(struct fm_ages_sum *ages)
{
    memset(ages, 0, sizeof *ages);
    fm_ages_sum(ages, &fm_counters_shared->ages);
    unsigned n = atomic_load(&nblocks);
    for (unsigned i = 0; i < n && i < MAX_BLOCKS; i++) {
        struct fm_counters *block = __atomic_load_n(&blocks[i], __ATOMIC_ACQUIRE);
        if (block)
            fm_ages_sum(ages, &block->ages);
    }
}

/* FNV-1a of what each cell is. */
uint64_t fm_counters_layout(void)
{
    static const char all[] =
#define X(id, family, labels, ...) family labels ";"
        FM_COUNTERS(X)
#undef X
#define X(id, family, bounds, help) family " " #bounds ";"
            FM_HISTOGRAMS(X)
#undef X
        ;
    uint64_t hash = 14695981039346656037u ^ sizeof(struct fm_counters);
    for (size_t i = 0; i < sizeof all; i++)
        hash = (hash ^ (unsigned char)all[i]) * 1099511628211u;
    return hash;
}

static uint64_t parked_in(struct fm_counters *c)
{
    return atomic_load_explicit(&c->cell[FM_C_IN_PARKED_FUTURE], memory_order_relaxed) +
           atomic_load_explicit(&c->cell[FM_C_IN_PARKED_CLIENT], memory_order_relaxed);
}

/* Between the blocks a request may move: what is less than none is none. */
uint64_t fm_counters_parked(void)
{
    uint64_t sum = parked_in(fm_counters_shared);
    unsigned n = atomic_load(&nblocks);
    for (unsigned i = 0; i < n && i < MAX_BLOCKS; i++) {
        struct fm_counters *block = __atomic_load_n(&blocks[i], __ATOMIC_ACQUIRE);
        sum += block ? parked_in(block) : 0;
    }
    return (int64_t)sum > 0 ? sum : 0;
}

void fm_counters_add(struct fm_counters_sum *sum, struct fm_counters *from, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        sum_block(sum, &from[i]);
}

void fm_counters_add_ages(struct fm_ages_sum *ages, struct fm_counters *from, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        fm_ages_sum(ages, &from[i].ages);
}

void fm_counters_add_ended(struct fm_counters_sum *sum, struct fm_counters *from, unsigned n)
{
    static const char *const types[] = {
#define X(id, family, labels, type, help) type,
        FM_COUNTERS(X)
#undef X
    };
    uint64_t gauges[FM_C_COUNT];
    memcpy(gauges, sum->cell, sizeof gauges);
    fm_counters_add(sum, from, n);
    for (unsigned i = 0; i < FM_C_COUNT; i++)
        if (types[i][0] == 'g')
            sum->cell[i] = gauges[i];
}

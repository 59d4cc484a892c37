/* The oldest in a state; see util/ages.h. */
#include "fermata/util/ages.h"

#define SHIFT(wheel) (27 + 3 * (wheel))
#define FINE 7 /* cells of a wheel that the next finer one covers with a cell to spare for `now` */

static void take_first(uint64_t *first, uint64_t since)
{
    if (since != 0 && (*first == 0 || since < *first))
        *first = since;
}

void fm_ages_sum(struct fm_ages_sum *sum, const struct fm_ages *from)
{
    struct fm_ages *a = (struct fm_ages *)(uintptr_t)from; /* C11's loads take no const */
    for (unsigned s = 0; s < FM_AGE_COUNT; s++)
        for (unsigned w = 0; w < FM_WHEELS; w++)
            for (unsigned c = 0; c < FM_WHEEL_CELLS; c++)
                sum->cell[s][w][c] += atomic_load_explicit(&a->cell[s][w][c], memory_order_relaxed);
    uint64_t since = atomic_load_explicit(&a->step_since, memory_order_relaxed);
    take_first(&sum->step_since, since);
    sum->steps += since != 0;
    sum->steps_since += since;
    take_first(&sum->queued_since, atomic_load_explicit(&a->queued_since, memory_order_relaxed));
}

/* How many cells before the one of `now` the first is that has any; -1: none has.  One in the cell after that of `now`
 * has entered in this moment. */
static int first_cell(const uint32_t *cells, uint64_t now)
{
    for (int before = FM_WHEEL_CELLS - 2; before >= 0; before--)
        if ((int32_t)cells[(now - (uint64_t)before) % FM_WHEEL_CELLS] > 0)
            return before;
    return (int32_t)cells[(now + 1) % FM_WHEEL_CELLS] > 0 ? 0 : -1;
}

uint64_t fm_ages_oldest(const struct fm_ages_sum *sum, enum fm_age state, uint64_t now)
{
    uint64_t age = 0;
    for (int w = FM_WHEELS - 1; w >= 0; w--) {
        uint64_t cell = now >> SHIFT(w);
        int before = first_cell(sum->cell[state][w], cell);
        if (before < 0 && age > 0)
            break; /* it left while the sum was taken */
        if (before < 0)
            continue;                                            /* none; or one that leaves hides another one */
        age = now - ((cell - (uint64_t)before) << SHIFT(w)) + 1; /* of one that has just come not 0 */
        if (before >= FINE)
            break;
    }
    return age;
}

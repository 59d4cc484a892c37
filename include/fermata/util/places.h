/* Places in the application's code where requests wait: text by number, so that who shows them needs no Python.
 *
 * A place is added once and stays; there are FM_PLACES at most.  Number 0 is every other one, and stands for those that
 * could not be told, too. */
#ifndef FERMATA_UTIL_PLACES_H
#define FERMATA_UTIL_PLACES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/annotate.h"

#define FM_PLACES 4096

struct fm_place {
    const char *file, *function; /* UTF-8, of 255 bytes at most; of a file the end */
    unsigned line;
    bool guessed; /* it was found behind an iterator that hides its generator: it may be another one */
};

/* A new one: its number, or 0 if there are too many or there is no memory.  One thread at a time. */
uint16_t fm_places_add(const char *file, const char *function, unsigned line, bool guessed);

/* The place, or NULL for 0 and for what there is not.  Any thread; it stays. */
const struct fm_place *fm_places_get(uint16_t number);

/* How many numbers are in use, with 0.  Any thread. */
unsigned fm_places_count(void);

/* How many requests are parked at each place, for the metrics: counted only where that was asked for, before the first
 * request, as it takes each park an atomic addition that all threads share. */
void fm_places_watch(void);
extern atomic_bool fm_places_watched;

/* by: 1, or -1 for one that is not parked there any more.  Any thread. */
void fm_places_watch_one(uint16_t number, int by);

static inline void fm_places_park(uint16_t number, int by)
{
    if (atomic_load_explicit(&fm_places_watched, memory_order_relaxed))
        fm_places_watch_one(number, by);
}

/* Parked there now.  Any thread. */
unsigned fm_places_parked(uint16_t number);

#endif

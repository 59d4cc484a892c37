/* The table of places; see util/places.h. */
#include "fermata/util/places.h"

#include <stdlib.h>
#include <string.h>

#define LONGEST 255

/* An entry is written before the count is, by release, and not changed afterwards. */
static struct fm_place all[FM_PLACES];
static atomic_uint count = 1;

atomic_bool fm_places_watched;
static atomic_int parked[FM_PLACES];

/* At most so many bytes of it, from the end or from the beginning; no character is cut in two. */
static const char *cut(const char *text, bool from_end, size_t *len)
{
    *len = strlen(text);
    if (*len <= LONGEST)
        return text;
    if (!from_end) {
        for (*len = LONGEST; *len > 0 && ((unsigned char)text[*len] & 0xc0) == 0x80;)
            --*len;
        return text;
    }
    for (text += *len - LONGEST, *len = LONGEST; *len > 0 && ((unsigned char)*text & 0xc0) == 0x80; text++)
        --*len;
    return text;
}

uint16_t fm_places_add(const char *file, const char *function, unsigned line, bool guessed)
{
    unsigned number = atomic_load_explicit(&count, memory_order_relaxed);
    size_t file_len, function_len;
    file = cut(file, true, &file_len);
    function = cut(function, false, &function_len);
    char *text = number < FM_PLACES ? malloc(file_len + function_len + 2) : NULL;
    if (!text)
        return 0;
    memcpy(text, file, file_len);
    text[file_len] = '\0';
    memcpy(text + file_len + 1, function, function_len);
    text[file_len + 1 + function_len] = '\0';
    all[number] = (struct fm_place){text, text + file_len + 1, line, guessed};
    atomic_store_explicit(&count, number + 1, memory_order_release);
    return (uint16_t)number;
}

const struct fm_place *fm_places_get(uint16_t number)
{
    return number > 0 && number < FM_PLACES && number < fm_places_count() ? &all[number] : NULL;
}

unsigned fm_places_count(void) { return atomic_load_explicit(&count, memory_order_acquire); }

/* ---- requests that are parked there ---- */

void fm_places_watch(void) { atomic_store(&fm_places_watched, true); }

void fm_places_watch_one(uint16_t number, int by)
{
    atomic_fetch_add_explicit(&parked[number < FM_PLACES ? number : 0], by, memory_order_relaxed);
}

/* One that goes on may be taken away before the thread that has parked it has added it. */
unsigned fm_places_parked(uint16_t number)
{
    int n = number < FM_PLACES ? atomic_load_explicit(&parked[number], memory_order_relaxed) : 0;
    return n > 0 ? (unsigned)n : 0;
}

/* Where threads are that run the application, as it was found when somebody asked: for those who show it, and know no
 * Python. */
#ifndef FERMATA_UTIL_STACKS_H
#define FERMATA_UTIL_STACKS_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/buf.h"

#define FM_STACKS_MOST 64 /* threads */

struct fm_stack {
    unsigned thread;    /* its number, from 1: that of its name */
    uint64_t since;     /* when its step began (fm_now) */
    const char *why;    /* NULL, or why there are no frames */
    struct fm_buf text; /* the frames, innermost first, a line each: `  File "FILE", line N in FUNCTION` */
};

struct fm_stacks {
    uint64_t at; /* when they were found */
    bool alone;  /* each thread has said it by itself, as Python did not answer, or has no GIL */
    unsigned n;
    struct fm_stack all[FM_STACKS_MOST];
};

/* NULL: no memory. */
struct fm_stacks *fm_stacks_new(void);

/* NULL is fine. */
void fm_stacks_free(struct fm_stacks *s);

/* Appends frames from text that has other lines, too, as faulthandler's: only those that say where a frame is, without
 * those of threading with which each thread begins. */
void fm_stack_take(struct fm_stack *to, const char *text, size_t len);

#endif

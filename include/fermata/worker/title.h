/* What ps shows of this process: its command line is written over.  Texts of the command and of the environment lie one
 * after the other in memory that the kernel reads; there is room for as much as they took. */
#ifndef FERMATA_WORKER_TITLE_H
#define FERMATA_WORKER_TITLE_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/annotate.h"

/* Moves arguments and environment to memory of their own, so that their place can be written to; the arguments, from
 * now on.  First in main.  Without it, and where there is no memory, there are no titles. */
char **fm_title_take(int argc, char **argv);

/* The same in a process of Python's, which has read its arguments: the kernel says where they and the environment are.
 * Before any other thread starts, as environ becomes another one.  Where it does not say it, there are no titles. */
void fm_title_find(void);

/* "fermata: worker 2", with " [NAME]" behind it unless name is NULL.  Before any other thread starts. */
void fm_title_set(const char *what, const char *name);

/* Adds " (N parked)" to it; nothing for 0, and nothing is done where that is so already.  Never waits for long. */
void fm_title_parked(uint64_t n) FM_ANY_THREAD;

/* Is there a title? */
bool fm_title_is_set(void) FM_ANY_THREAD;

#endif

/* This same command, executed again for a task of its own: to read a file, to run hooks. */
#ifndef FERMATA_WORKER_AGAIN_H
#define FERMATA_WORKER_AGAIN_H

#include <sys/types.h>

struct fm_again {
    pid_t pid;
    int pidfd; /* or -1 */
};
#define FM_AGAIN_NONE ((struct fm_again){-1, -1})

/* Starts it with argv, in the directory (a descriptor), with `variable` in its environment naming fd, which stays open
 * in it.  It is killed when the calling thread ends.  Any number of threads may run.  0 or a negated errno. */
int fm_again_start(struct fm_again *a, char **argv, int directory, const char *variable, int fd);

/* Kills it, if it is not gone. */
void fm_again_kill(const struct fm_again *a);

/* Forgets it; it is to be reaped. */
void fm_again_end(struct fm_again *a);

/* In the process that was started: the descriptor, and the variable is taken away; else -1. */
int fm_again_taken(const char *variable);

#endif

/* The hook process of an arbiter: there only where the configuration file defines hooks of the arbiter's side.  It is
 * told what happens, in its order, and calls the file's functions.  Each has FM_HOOK_TIME; a process that takes longer,
 * or has ended, is given up, and another one is started when the next thing happens.  No worker waits for it. */
#ifndef FERMATA_ARBITER_HOOKS_H
#define FERMATA_ARBITER_HOOKS_H

#include "fermata/config/hooks.h"
#include "fermata/net/loop.h"
#include "fermata/util/clock.h"
#include "fermata/worker/again.h"

#define FM_HOOK_TIME (10 * FM_SEC)

struct fm_hook_process {
    struct fm_loop *loop;
    char **argv;    /* of this command */
    int directory;  /* in which it was given */
    unsigned hooks; /* that the file defines */
    struct fm_again process;
    int fd; /* to it, or -1: there is none */
    struct event *event, *timer;
    unsigned waiting;          /* hooks that have not returned */
    struct fm_again leaving;   /* that of the file before, until it has had its time */
    struct event *leave_timer; /* of it, or NULL */
};

/* The rest of *h is set by the caller. */
void fm_hook_process_init(struct fm_hook_process *h);

/* Another file was read: the process of the one before ends when it has called what it was told, for which it has
 * FM_HOOK_TIME, or until the next file is read. */
void fm_hook_process_renew(struct fm_hook_process *h, unsigned hooks) FM_ON_LOOP;

/* Something has happened; of child_exit and pre_fork the numbers are the worker's pid (or 0) and slot, of
 * nworkers_changed the new number and the old one.  No-op where the file has no such hook. */
void fm_hook_process_tell(struct fm_hook_process *h, enum fm_hook hook, long a, long b) FM_ON_LOOP;

/* Waits until all hooks have returned, or their time is over, or stop_fd becomes readable (-1: nothing else). */
void fm_hook_process_wait(struct fm_hook_process *h, int stop_fd) FM_ON_LOOP;

/* Has it end, and waits for that, FM_HOOK_TIME at most. */
void fm_hook_process_fini(struct fm_hook_process *h) FM_ON_LOOP;

#endif

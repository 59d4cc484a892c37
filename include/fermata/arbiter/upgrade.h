/* SIGUSR2: another program, most often the next version of this one, takes the place of the arbiter, in the same
 * process, with the same workers and sockets; a rolling reload then replaces the workers.
 *
 *   1. The program that the command names is started as a child, with the same arguments and a copy of the state.  It
 *      does all that it would do but for taking over, says so on a pipe, and exits.
 *   2. Only then, and if it exited with 0, it is executed in the arbiter's place, as soon as the admin port has
 * answered those who have connected to it; others wait in the socket's queue.  If that fails the arbiter goes on.
 *
 * What is handed over is arbiter/state.h. */
#ifndef FERMATA_ARBITER_UPGRADE_H
#define FERMATA_ARBITER_UPGRADE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fermata/arbiter/state.h"
#include "fermata/worker/process.h"

struct fm_admin;

struct fm_upgrade {
    const struct fm_state *state;
    struct fm_admin *admin; /* or NULL */
    char **argv;
    int directory; /* in which the command was given */
    pid_t checking;
    int pipe_fd;
    bool checked; /* it can: it takes over when the admin port has answered, or the time is up */
    uint64_t until;
};

/* Starts the check, unless one runs or has just succeeded.  False after a message in the log. */
bool fm_upgrade_begin(struct fm_upgrade *u, uint64_t now) FM_ON_LOOP;

/* Ends a check that takes too long, or takes over: then it returns only if that fails.  When it wants to be called:
 * UINT64_MAX if there is nothing to do. */
uint64_t fm_upgrade_tick(struct fm_upgrade *u, uint64_t now) FM_ON_LOOP;

/* A process has ended.  If it was the check, and all is well, the next ticks take over. */
void fm_upgrade_reaped(struct fm_upgrade *u, pid_t pid, int status) FM_ON_LOOP;

/* ---- in the program that is started so ---- */

struct fm_resumed {
    bool any;
    bool check;   /* it is to say whether it could */
    int state_fd; /* for fm_state_read */
    int pipe_fd;
};

/* Reads the variable and removes it.  False, after a message on stderr: it is not what an arbiter writes. */
bool fm_resumed_take(struct fm_resumed *r);

/* All has been read: says so, and exits. */
_Noreturn void fm_resumed_say_good(const struct fm_resumed *r);

#endif

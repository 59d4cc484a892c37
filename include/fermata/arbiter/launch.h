/* Starting this command again, as a worker or as a zygote. */
#ifndef FERMATA_ARBITER_LAUNCH_H
#define FERMATA_ARBITER_LAUNCH_H

#include <stdbool.h>
#include <sys/types.h>

#include "fermata/worker/handed.h"

struct fm_launch {
    char **argv;   /* of this command */
    int directory; /* in which it was given, open */
    bool terminal; /* for development: a debugger in it reads what is typed, and keys of the terminal reach it, too */
};

/* Forks, and executes the command with what is handed.  The descriptors stay open here, too.  The pid, or a negated
 * errno. */
pid_t fm_launch(const struct fm_launch *l, const struct fm_handed *h);

#endif

/* What an arbiter knows, written down for the program that is executed in its place (arbiter/upgrade.h): lines of text
 * in a memory file, "KEY NUMBER...", of which a reader passes over those that it does not know.  The descriptors that
 * they name stay open. */
#ifndef FERMATA_ARBITER_STATE_H
#define FERMATA_ARBITER_STATE_H

#include <stdbool.h>

#include "fermata/arbiter/children.h"
#include "fermata/arbiter/roster.h"
#include "fermata/server/conns.h"

struct fm_state { /* of whom; nothing of it is owned */
    struct fm_roster *roster;
    struct fm_children *children;
    struct fm_conns *conns;
    int admin_fd;                    /* or -1 */
    const struct fm_listener *admin; /* of that, to be written; or NULL */
    struct fm_listener admin_before; /* what was read of it: device, inode and path */
};

/* A descriptor, close-on-exec, or a negated errno. */
int fm_state_write(const struct fm_state *s) FM_ON_LOOP;

/* Reads it into a roster and a table of children that have been initialized, and adopts the listening sockets.  0, or a
 * negative number after a message in the log. */
int fm_state_read(struct fm_state *s, int fd, const struct fm_options *o) FM_ON_LOOP;

/* Has all descriptors stay open over an exec, or not.  Async-signal-safe. */
void fm_state_keep_open(const struct fm_state *s, bool open);

#endif

/* Which server a command asks. */
#ifndef FERMATA_COMMAND_TARGET_H
#define FERMATA_COMMAND_TARGET_H

#include <stdbool.h>
#include <stddef.h>

#include "fermata/net/addr.h"

#define FM_TARGET_TEXT 512

struct fm_target {
    struct fm_addr addr;
    char text[FM_TARGET_TEXT]; /* for messages */
    char host[FM_TARGET_TEXT]; /* what goes into Host */
};

#define FM_SENTENCE 1024 /* room for a message: a sentence without its end */

/* From HOST:PORT, http://HOST:PORT or unix:PATH.  May ask for a name.  False, with why[FM_SENTENCE]. */
bool fm_target_parse(struct fm_target *t, const char *text, char *why);

/* The admin port of that process.  The same. */
bool fm_target_of_process(struct fm_target *t, long pid, char *why);

/* That of the only server which runs and is this user's.  The same. */
bool fm_target_find(struct fm_target *t, char *why);

#endif

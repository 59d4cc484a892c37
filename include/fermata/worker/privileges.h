/* Rights that the process was started with and has no use for any more. */
#ifndef FERMATA_WORKER_PRIVILEGES_H
#define FERMATA_WORKER_PRIVILEGES_H

#include <stdbool.h>

#include "fermata/config/identity.h"

/* Before anything is opened and any thread starts: files are made for who this process is going to be (util/owner.h),
 * and no program that it executes, or its children, gets more rights by the setuid bit of its file.  False if it may
 * not become that user: exit code 2.  Nothing, if it is that user already. */
bool fm_privileges_prepare(const struct fm_identity *who);

/* Becomes the user and the group for good, with no other groups than are asked for and no capability, in all threads
 * that there are.  0, or a negated errno after a message in the log. */
int fm_privileges_drop(const struct fm_identity *who);

#endif

/* Whose the files are that the server makes while it still has the rights it was started with: those of the user that
 * it is going to be (--user).
 *
 * They are made as that user, so that a path that leads elsewhere, in a directory of the user's, leads no further than
 * the user could go.  Where the user may not, they are made with the rights that the process has, and given to the
 * user; the directory is not the user's then. */
#ifndef FERMATA_UTIL_OWNER_H
#define FERMATA_UTIL_OWNER_H

#include <stdbool.h>
#include <sys/types.h>

/* From now on files are made for this user and group.  Before any thread starts. */
void fm_owner_set(uid_t uid, gid_t gid);

/* The user as whom this thread opens files from now on, until fm_owner_leave.  False if none was set, and nothing is to
 * be left then.  Between the two no other work is done.  Any thread: the kernel keeps it for each (setfsuid(2)). */
struct fm_owner {
    uid_t uid;
    gid_t gid;
};
bool fm_owner_enter(struct fm_owner *before);
void fm_owner_leave(const struct fm_owner *before);

/* As open(2) with the mode 0644; a descriptor or a negated errno. */
int fm_owner_open(const char *path, int flags);

/* Gives what was made with other rights to the user.  0 or a negated errno; 0 if none was set. */
int fm_owner_give(const char *path);

#endif

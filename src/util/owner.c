/* Files for the user that the server is going to be; see util/owner.h. */
#include "fermata/util/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/fsuid.h>
#include <unistd.h>

static struct fm_owner owner;
static bool is_set;

void fm_owner_set(uid_t uid, gid_t gid)
{
    owner = (struct fm_owner){uid, gid};
    is_set = true;
}

/* The group first, and last on the way back: only root may change it.  Neither call tells of an error; what the process
 * may not become, it is already. */
bool fm_owner_enter(struct fm_owner *before)
{
    if (!is_set)
        return false;
    before->gid = (gid_t)setfsgid(owner.gid);
    before->uid = (uid_t)setfsuid(owner.uid);
    return true;
}

void fm_owner_leave(const struct fm_owner *before)
{
    setfsuid(before->uid);
    setfsgid(before->gid);
}

static int open_as_owner(const char *path, int flags)
{
    struct fm_owner before;
    bool entered = fm_owner_enter(&before);
    int fd = open(path, flags, 0644), err = errno;
    if (entered)
        fm_owner_leave(&before);
    return fd < 0 ? -err : fd;
}

/* What is there already is not given away: it may be anything. */
int fm_owner_open(const char *path, int flags)
{
    int fd = open_as_owner(path, flags);
    if (!is_set || (fd != -EACCES && fd != -EPERM))
        return fd;
    if (flags & O_CREAT) {
        fd = open(path, flags | O_EXCL | O_NOFOLLOW, 0644);
        if (fd >= 0) {
            (void)!fchown(fd, owner.uid,
                          owner.gid); /* if that fails it cannot be opened anew later, and is told then */
            return fd;
        }
        if (errno != EEXIST)
            return -errno;
    }
    fd = open(path, (flags & ~O_CREAT) | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

int fm_owner_give(const char *path) { return !is_set || lchown(path, owner.uid, owner.gid) == 0 ? 0 : -errno; }

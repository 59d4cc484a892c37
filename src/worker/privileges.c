/* Becoming another user; see worker/privileges.h. */
#include "fermata/worker/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/util/owner.h"

static bool is_user(uid_t uid)
{
    uid_t real, effective, saved;
    return getresuid(&real, &effective, &saved) == 0 && real == uid && effective == uid && saved == uid;
}

static bool is_group(gid_t gid)
{
    gid_t real, effective, saved;
    return getresgid(&real, &effective, &saved) == 0 && real == gid && effective == gid && saved == gid;
}

static bool differs(const struct fm_identity *who)
{
    return (who->has_user && !is_user(who->uid)) || (who->has_group && !is_group(who->gid));
}

static bool has_capability(unsigned which)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    return syscall(SYS_capget, &head, data) == 0 && (data[which / 32].effective & 1u << which % 32);
}

bool fm_privileges_prepare(const struct fm_identity *who)
{
    if (!differs(who))
        return true;
    if (!has_capability(CAP_SETGID) || (who->has_user && !is_user(who->uid) && !has_capability(CAP_SETUID)))
        return false;
    fm_owner_set(who->has_user ? who->uid : geteuid(), who->gid);
    return !who->has_user || who->uid == 0 || prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) == 0;
}

/* A change from root takes them away, one from another user does not. */
static int drop_capabilities(void)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0, 0, 0}};
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0L, 0L, 0L);
    return (int)syscall(SYS_capset, &head, none);
}

/* The groups first: afterwards it may not any more. */
static int become(const struct fm_identity *who)
{
    if (who->initgroups && *who->name) {
        if (initgroups(who->name, who->gid) != 0)
            return -errno;
    } else if (setgroups(1, &who->gid) != 0) {
        return -errno;
    }
    if (setresgid(who->gid, who->gid, who->gid) != 0)
        return -errno;
    if (!who->has_user || who->uid == 0)
        return 0;
    if (setresuid(who->uid, who->uid, who->uid) != 0 || drop_capabilities() != 0)
        return -errno;
    return setuid(0) == 0 ? -EPERM : 0; /* it must not come back */
}

int fm_privileges_drop(const struct fm_identity *who)
{
    if (!differs(who))
        return 0;
    int death = 0;
    prctl(PR_GET_PDEATHSIG, &death);
    int err = become(who);
    prctl(PR_SET_PDEATHSIG, death); /* a change of the user takes it away */
    if (err != 0)
        fm_log(FM_LOG_CRITICAL, "cannot become user %ld and group %ld: %s",
               who->has_user ? (long)who->uid : (long)getuid(), (long)who->gid, fm_strerror(err));
    return err;
}

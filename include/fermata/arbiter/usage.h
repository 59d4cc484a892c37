/* What the kernel says of memory: how much a worker has of its own, and whether it has killed for want of it. */
#ifndef FERMATA_ARBITER_USAGE_H
#define FERMATA_ARBITER_USAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FM_USAGE_UNKNOWN UINT64_MAX

/* Bytes that only this process has: private, of /proc/PID/smaps_rollup; what it shares with others, as the pages of a
 * common ancestor, is not its own.  FM_USAGE_UNKNOWN if that cannot be read. */
uint64_t fm_usage_private(pid_t pid);

/* The same of the file's text. */
uint64_t fm_usage_parse(const char *text);

struct fm_oom {
    char path[4400]; /* memory.events of this process's cgroup, or memory.oom_control of version 1; "": neither */
    bool version1;
    int fd;             /* that tells of kills, or -1 */
    uint64_t told_at;   /* when it did last */
    uint64_t killed;    /* how often the kernel had killed in it when it was looked at last */
    uint64_t unclaimed; /* of these, what no worker's end was told by yet */
    uint64_t seen_at;   /* when the last of them was seen, or told of */
};

/* Finds the file, of the cgroup that /proc/self/cgroup names below /sys/fs/cgroup, and reads it. */
void fm_oom_init(struct fm_oom *o);

/* The same with another root, and with text that /proc/self/cgroup might have. */
void fm_oom_find(struct fm_oom *o, const char *root, const char *text);

/* A descriptor that is readable when the kernel has killed, or, in version 1, is about to; or -1.  The caller's, open
 * for as long as o is used. */
int fm_oom_watch(struct fm_oom *o);

/* Empties it, and looks: so that kills are known when they happen, and those of long ago, of other processes of the
 * cgroup, are no worker's. */
void fm_oom_changed(struct fm_oom *o, uint64_t now);

/* A process of the cgroup has been killed: for want of memory?  False where that cannot be read: it is not guessed. */
bool fm_oom_has_killed(struct fm_oom *o, uint64_t now);

#endif

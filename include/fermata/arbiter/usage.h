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
    char path[4200];    /* memory.events of this process's cgroup (version 2); "" if there is none */
    uint64_t killed;    /* how often the kernel had killed in it when it was looked at last */
    uint64_t unclaimed; /* of these, what no worker's end was told by yet */
    uint64_t seen_at;   /* when the last of them was seen */
};

/* Finds the file, of the cgroup that /proc/self/cgroup names below /sys/fs/cgroup, and reads it. */
void fm_oom_init(struct fm_oom *o);

/* A descriptor (inotify) that is readable when the file has changed, or -1.  The caller's. */
int fm_oom_watch(const struct fm_oom *o);

/* Empties it, and looks: so that kills are known when they happen, and those of long ago, of other processes of the
 * cgroup, are nobody's. */
void fm_oom_changed(struct fm_oom *o, int fd, uint64_t now);

/* A process of the cgroup has been killed: for want of memory?  False where that cannot be read: it is not guessed. */
bool fm_oom_has_killed(struct fm_oom *o, uint64_t now);

#endif

/* The pid file; see worker/pidfile.h. */
#include "fermata/worker/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/util/owner.h"

#define SLACK 10 /* seconds that a clock may have been set by */

static char written[PATH_MAX]; /* the path; set before any other thread starts */

/* The number in a file, or 0. */
static long read_pid(const char *path, struct stat *st)
{
    char text[32], *end;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd >= 0 && fstat(fd, st) == 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    long pid = strtol(text, &end, 10);
    return (*end == '\0' || *end == '\n') && pid > 0 && pid <= INT_MAX ? pid : 0;
}

/* When the process began, in seconds of the clock that files have; 0 if that cannot be told. */
static long long began(long pid)
{
    char path[40], stat[512];
    unsigned long long ticks;
    struct timespec now, up;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(stat, 1, sizeof stat - 1, f) : 0;
    if (f)
        fclose(f);
    stat[n] = '\0';
    const char *behind = strrchr(stat, ')'); /* the name may hold anything */
    if (!behind ||
        sscanf(behind + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &ticks) != 1)
        return 0;
    clock_gettime(CLOCK_REALTIME, &now);
    clock_gettime(CLOCK_BOOTTIME, &up);
    return (long long)now.tv_sec - (long long)up.tv_sec + (long long)(ticks / (unsigned long long)sysconf(_SC_CLK_TCK));
}

/* Has the process whose file it is gone, or is it this one?  After a restart of the machine, or in a container, numbers
 * come again: who has begun after the file was written has not written it. */
static bool is_stale(long pid, const struct stat *st)
{
    if (pid == 0 || pid == (long)getpid() || (kill((pid_t)pid, 0) != 0 && errno == ESRCH))
        return true;
    return began(pid) > (long long)st->st_mtime + SLACK;
}

/* A file beside it; its descriptor or a negated errno. */
static int make(char *beside, const char *path)
{
    struct fm_owner before;
    snprintf(beside, PATH_MAX, "%s.XXXXXX", path);
    bool entered = fm_owner_enter(&before);
    int fd = mkostemp(beside, O_CLOEXEC), err = -errno;
    if (entered)
        fm_owner_leave(&before);
    if (fd >= 0 || !entered || (err != -EACCES && err != -EPERM))
        return fd >= 0 ? fd : err;
    snprintf(beside, PATH_MAX, "%s.XXXXXX", path);
    fd = mkostemp(beside, O_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

static int put(const char *path)
{
    char beside[PATH_MAX], text[32];
    int fd = make(beside, path), n = snprintf(text, sizeof text, "%ld\n", (long)getpid()), err = 0;
    if (fd < 0)
        return fd;
    if (write(fd, text, (size_t)n) != n || fchmod(fd, 0644) != 0 || rename(beside, path) != 0)
        err = errno ? -errno : -ENOSPC;
    close(fd);
    if (err != 0)
        unlink(beside);
    return err;
}

int fm_pidfile_write(const char *path)
{
    struct stat st;
    if (strlen(path) + sizeof ".XXXXXX" > PATH_MAX) {
        fm_log(FM_LOG_CRITICAL, "--pid %s: the path is too long", path);
        return -ENAMETOOLONG;
    }
    long pid = read_pid(path, &st);
    if (!is_stale(pid, &st)) {
        fm_log(FM_LOG_CRITICAL, "--pid %s: it is the file of process %ld, which runs", path, pid);
        return -EEXIST;
    }
    int err = put(path);
    if (err != 0)
        fm_log(FM_LOG_CRITICAL, "--pid %s: %s", path, fm_strerror(err));
    else
        memcpy(written, path, strlen(path) + 1);
    return err;
}

void fm_pidfile_remove(void)
{
    struct stat st;
    if (*written && read_pid(written, &st) == (long)getpid())
        unlink(written);
}

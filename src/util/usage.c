/* /proc/PID/stat and fd; see util/usage.h. */
#include "fermata/util/usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fermata/util/clock.h"

/* "/proc/PID/name", or of this process. */
static void path_of(pid_t pid, const char *name, char path[64])
{
    if (pid > 0)
        snprintf(path, 64, "/proc/%ld/%s", (long)pid, name);
    else
        snprintf(path, 64, "/proc/self/%s", name);
}

static uint64_t since(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / FM_MS;
}

/* proc(5): of what follows the name in parentheses, which may hold anything, number 3 is the first. */
static bool read_stat(pid_t pid, struct fm_usage *u)
{
    char path[64], text[1024];
    path_of(pid, "stat", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    char *at = strrchr(text, ')');
    uint64_t field[25] = {0}, tick = (uint64_t)sysconf(_SC_CLK_TCK);
    if (!at || strlen(at) < 4)
        return false;
    at += 3; /* the state, a letter */
    for (int i = 4; i < 25; i++)
        field[i] = strtoull(at + 1, &at, 10);
    u->cpu = (field[14] + field[15]) * (FM_SEC / tick);
    u->started = since(CLOCK_REALTIME) - (since(CLOCK_BOOTTIME) - field[22] * 1000 / tick);
    u->size = field[23];
    u->memory = field[24] * (uint64_t)sysconf(_SC_PAGESIZE);
    return true;
}

/* Since Linux 6.2 the size of the directory is how many there are. */
static uint64_t count_open(pid_t pid)
{
    char path[64];
    struct stat st;
    uint64_t n = 0;
    path_of(pid, "fd", path);
    if (stat(path, &st) == 0 && st.st_size > 0)
        return (uint64_t)st.st_size;
    DIR *dir = opendir(path);
    for (const struct dirent *entry; dir && (entry = readdir(dir));)
        n += entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return n > 0 && pid == 0 ? n - 1 : n; /* without that of the directory */
}

bool fm_usage_read(pid_t pid, struct fm_usage *u)
{
    struct rlimit most;
    memset(u, 0, sizeof *u);
    if (!read_stat(pid, u))
        return false;
    u->open = count_open(pid);
    u->most = prlimit(pid, RLIMIT_NOFILE, NULL, &most) == 0 ? most.rlim_cur : 0;
    return true;
}

void fm_usage_add(struct fm_usage *u, const struct fm_usage *other)
{
    u->cpu += other->cpu;
    u->memory += other->memory;
    u->size += other->size;
    if (other->most > 0 && (double)other->open * (double)u->most > (double)u->open * (double)other->most) {
        u->open = other->open;
        u->most = other->most;
    }
}

uint64_t fm_usage_ended(void)
{
    struct rusage used;
    if (getrusage(RUSAGE_CHILDREN, &used) != 0)
        return 0;
    return (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * FM_SEC +
           (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000;
}

/* A thread's clock, schedstat and stat; see util/thread_time.h. */
#include "fermata/util/thread_time.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fermata/util/clock.h"

/* The kernel's number of a thread's clock, as pthread_getcpuclockid makes it, which knows pthread_t only: the
 * complement of the id, then 4 for a thread and 2 for the time that the scheduler has counted. */
static clockid_t clock_of(int tid) { return (clockid_t)((~(unsigned)tid << 3) | 4 | 2); }

uint64_t fm_tid_used(int tid)
{
    struct timespec ts;
    if (clock_gettime(clock_of(tid), &ts) != 0)
        return 0;
    return (uint64_t)ts.tv_sec * FM_SEC + (uint64_t)ts.tv_nsec;
}

/* A file of the thread's directory as a string. */
static bool read_proc(int tid, const char *name, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/%s", tid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* The second number of schedstat. */
uint64_t fm_tid_delayed(int tid)
{
    char text[128];
    const char *second = read_proc(tid, "schedstat", text, sizeof text) ? strchr(text, ' ') : NULL;
    return second ? strtoull(second, NULL, 10) : 0;
}

/* Field 3 of stat. */
enum fm_tid_state fm_tid_state(int tid)
{
    char text[256];
    if (!read_proc(tid, "stat", text, sizeof text))
        return FM_TID_UNKNOWN;
    const char *paren = strrchr(text, ')'); /* the name may hold anything */
    if (!paren || paren[1] != ' ' || !paren[2])
        return FM_TID_UNKNOWN;
    return paren[2] == 'R' ? FM_TID_RUNNABLE : FM_TID_BLOCKED;
}

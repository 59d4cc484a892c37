/* For LD_PRELOAD: a disk that takes its time.  While the file $PREAD_HELD exists, pread() of a file makes $PREAD_HELD.in
 * and does not return; for half a minute at most. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static void hold(void)
{
    char in[4200];
    const char *gate = getenv("PREAD_HELD");
    if (!gate || access(gate, F_OK) != 0)
        return;
    snprintf(in, sizeof in, "%s.in", gate);
    close(open(in, O_CREAT | O_WRONLY, 0600));
    for (int i = 0; i < 3000 && access(gate, F_OK) == 0; i++)
        usleep(10000);
}

typedef ssize_t pread_fn(int, void *, size_t, off_t);

static ssize_t held(const char *name, int fd, void *data, size_t len, off_t at)
{
    hold();
    return ((pread_fn *)dlsym(RTLD_NEXT, name))(fd, data, len, at);
}

/* Each name that a compiler may have for it. */
ssize_t pread(int fd, void *data, size_t len, off_t at) { return held("pread", fd, data, len, at); }
ssize_t pread64(int fd, void *data, size_t len, off_t at) { return held("pread", fd, data, len, at); }
ssize_t __pread_chk(int fd, void *data, size_t len, off_t at, size_t room);
ssize_t __pread64_chk(int fd, void *data, size_t len, off_t at, size_t room);
ssize_t __pread_chk(int fd, void *data, size_t len, off_t at, size_t room)
{
    return len <= room ? held("pread", fd, data, len, at) : (abort(), -1);
}
ssize_t __pread64_chk(int fd, void *data, size_t len, off_t at, size_t room)
{
    return len <= room ? held("pread", fd, data, len, at) : (abort(), -1);
}

/* A stand-in for storage that does not answer: loaded into the server (LD_PRELOAD), it makes reading and writing of files
 * wait as long as the file that $FERMATA_TEST_SLOW_STORAGE names is there, and writes the name of the waiting call into it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

static void wait_for_storage(const char *call)
{
    const char *path = getenv("FERMATA_TEST_SLOW_STORAGE");
    char text[64] = "";
    int fd = path ? open(path, O_RDWR | O_APPEND) : -1;
    if (fd < 0)
        return;
    (void)!read(fd, text, sizeof text - 1);
    if (strncmp(text, "only ", 5) == 0 && strncmp(text + 5, call, strlen(call)) != 0) {
        close(fd);
        return;
    }
    (void)!write(fd, call, strlen(call));
    close(fd);
    while (access(path, F_OK) == 0)
        usleep(5000);
}

ssize_t sendfile(int to, int from, off_t *pos, size_t n)
{
    ssize_t (*real)(int, int, off_t *, size_t) = (ssize_t(*)(int, int, off_t *, size_t))dlsym(RTLD_NEXT, "sendfile");
    wait_for_storage("sendfile ");
    return real(to, from, pos, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t pos)
{
    ssize_t (*real)(int, const void *, size_t, off_t) =
        (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    wait_for_storage("pwrite ");
    return real(fd, p, n, pos);
}

ssize_t pread(int fd, void *p, size_t n, off_t pos)
{
    ssize_t (*real)(int, void *, size_t, off_t) = (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
    wait_for_storage("pread ");
    return real(fd, p, n, pos);
}

/* What is in the page cache does not wait, but a file system need not know that. */
ssize_t preadv2(int fd, const struct iovec *pieces, int n, off_t pos, int flags)
{
    ssize_t (*real)(int, const struct iovec *, int, off_t, int) =
        (ssize_t(*)(int, const struct iovec *, int, off_t, int))dlsym(RTLD_NEXT, "preadv2");
    if (!(flags & RWF_NOWAIT))
        wait_for_storage("preadv2 ");
    return real(fd, pieces, n, pos, flags);
}

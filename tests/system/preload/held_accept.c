/* For LD_PRELOAD: accept4 does not return as long as the file that $FERMATA_TEST_HELD names is there, to which it adds a
 * letter: a system call that the loop is stuck in. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    int (*real)(int, struct sockaddr *, socklen_t *, int) =
        (int (*)(int, struct sockaddr *, socklen_t *, int))dlsym(RTLD_NEXT, "accept4");
    const char *path = getenv("FERMATA_TEST_HELD");
    int held = path ? open(path, O_WRONLY | O_APPEND) : -1;
    if (held >= 0) {
        (void)!write(held, "a", 1);
        close(held);
    }
    while (held >= 0 && access(path, F_OK) == 0)
        usleep(5000);
    return real(fd, addr, len, flags);
}

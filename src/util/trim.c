/* malloc_trim, when it pays; see util/trim.h. */
#include "fermata/util/trim.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORTH_IT (32L * 1024 * 1024) /* bytes */

#ifdef __GLIBC__

/* Of glibc 2.33: what is built with an older one takes it where there is one. */
#if !__GLIBC_PREREQ(2, 33)
struct mallinfo2 {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct mallinfo2 mallinfo2(void);
#endif
#pragma weak mallinfo2

/* Bytes that are allocated; 0 if that is not known. */
static long in_use(void) { return mallinfo2 ? (long)mallinfo2().uordblks : 0; }

/* Resident bytes of the process: the second number of its statm; 0 if that cannot be read. */
static long resident(void)
{
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *second = strchr(text, ' ');
    return second ? strtol(second, NULL, 10) * sysconf(_SC_PAGESIZE) : 0;
}

void fm_trim(void)
{
    static long floor; /* what was resident after the last time, or less since */
    static long most;  /* in use at any of the quiet moments since */
    long used = in_use(), now = resident();
    most = used > most ? used : most;
    if (now > floor + WORTH_IT || most > used + WORTH_IT) {
        malloc_trim(0);
        floor = resident();
        most = used;
    } else if (now > 0 && now < floor) {
        floor = now;
    }
}

#else /* other libcs give memory back by themselves, or not at all */

void fm_trim(void) {}

#endif

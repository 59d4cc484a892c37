/* Where an admin port is, for other processes; see admin/published.h. */
#include "fermata/admin/published.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/util/fds.h"

#define NAME "fermata-admin"
#define LINK "/memfd:" NAME " (deleted)" /* what a descriptor of it is a link to, in /proc */
#define PATH "unix:/"
#define MOST 64 /* servers that are told apart */

static int describe(const struct fm_addr *addr, char *text)
{
    char url[FM_ADDR_TEXT], directory[FM_PUBLISHED_SIZE - FM_ADDR_TEXT];
    fm_addr_url(addr, url);
    if (!fm_addr_is_path(addr) || addr->u.un.sun_path[0] == '/')
        return snprintf(text, FM_PUBLISHED_SIZE, "%s", url);
    if (!getcwd(directory, sizeof directory))
        return -errno;
    return snprintf(text, FM_PUBLISHED_SIZE, "unix:%s/%s", directory, addr->u.un.sun_path);
}

int fm_published_make(const struct fm_addr *addr)
{
    char text[FM_PUBLISHED_SIZE];
    int n = describe(addr, text);
    int fd = n < 0 ? n : memfd_create(NAME, MFD_CLOEXEC);
    if (fd < 0)
        return n < 0 ? n : -errno;
    if (write(fd, text, (size_t)n) != n) {
        int err = errno ? -errno : -EIO;
        close(fd);
        return err;
    }
    fm_fds_own(fd);
    return fd;
}

/* ---- for other processes ---- */

/* A descriptor, or -1.  Whoever has a root directory of its own may have anything under that name; of a FIFO, opening
 * it would wait for somebody who writes. */
static int open_file(int dir, const char *name)
{
    struct stat st;
    int fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)))
        return fd;
    close(fd);
    return -1;
}

/* A descriptor of the file that the process has, or a negated errno. */
static int open_of(pid_t pid)
{
    char path[40], link[sizeof LINK + 1];
    snprintf(path, sizeof path, "/proc/%ld/fd", (long)pid);
    DIR *dir = opendir(path);
    int found = dir ? -ENOENT : errno == ENOENT ? -ESRCH : -errno;
    for (const struct dirent *e; dir && found == -ENOENT && (e = readdir(dir));) {
        ssize_t n = readlinkat(dirfd(dir), e->d_name, link, sizeof link);
        if (n != sizeof LINK - 1 || memcmp(link, LINK, sizeof LINK - 1) != 0)
            continue;
        int fd = open_file(dirfd(dir), e->d_name);
        found = fd >= 0 ? fd : found; /* else it is none, or has gone meanwhile */
    }
    if (dir)
        closedir(dir);
    return found;
}

/* Do we and that process have different networks (namespaces(7))? */
static bool has_another_network(pid_t pid)
{
    char path[40];
    struct stat own, its;
    snprintf(path, sizeof path, "/proc/%ld/ns/net", (long)pid);
    return stat("/proc/self/ns/net", &own) == 0 && stat(path, &its) == 0 && own.st_ino != its.st_ino;
}

/* Is something else there for us under the path at which that process has a file (mount_namespaces(7), chroot(2))? */
static bool has_other_files(pid_t pid, const char *path)
{
    char there[FM_PUBLISHED_SIZE + 40];
    struct stat own, its;
    snprintf(there, sizeof there, "/proc/%ld/root%s", (long)pid, path);
    return stat(there, &its) == 0 && (stat(path, &own) != 0 || own.st_ino != its.st_ino || own.st_dev != its.st_dev);
}

/* Closes fd. */
static int read_text(int fd, pid_t pid, char *text)
{
    ssize_t n = pread(fd, text, FM_PUBLISHED_SIZE - 1, 0);
    close(fd);
    if (n <= 0)
        return -ENOENT;
    text[n] = '\0';
    bool path = strncmp(text, PATH, sizeof PATH - 1) == 0;
    return (path ? has_other_files(pid, text + sizeof PATH - 2) : has_another_network(pid)) ? -EXDEV : 0;
}

int fm_published_read(pid_t pid, char *text)
{
    int fd = open_of(pid);
    return fd < 0 ? fd : read_text(fd, pid, text);
}

static pid_t number_of(const char *name)
{
    char *end;
    long pid = strtol(name, &end, 10);
    return *name >= '1' && *name <= '9' && *end == '\0' ? (pid_t)pid : 0;
}

void fm_published_each(bool (*see)(void *ctx, pid_t pid, const char *text), void *ctx)
{
    ino_t seen[MOST];
    size_t n = 0, i;
    char text[FM_PUBLISHED_SIZE];
    DIR *dir = opendir("/proc");
    for (const struct dirent *e; dir && n < MOST && (e = readdir(dir));) {
        struct stat st;
        pid_t pid = number_of(e->d_name);
        int fd = pid > 0 ? open_of(pid) : -1;
        if (fd < 0)
            continue;
        bool known = fstat(fd, &st) != 0;
        for (i = 0; i < n && !known; i++)
            known = seen[i] == st.st_ino;
        if (!known)
            seen[n++] = st.st_ino;
        if (read_text(fd, pid, text) == 0 && !known && !see(ctx, pid, text))
            break;
    }
    if (dir)
        closedir(dir);
}

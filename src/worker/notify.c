/* sd_notify's protocol; see worker/notify.h. */
#include "fermata/worker/notify.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/helper.h"
#include "fermata/util/log.h"

#define SIZE 512

static struct {
    int fd;
    struct stat is; /* the application may close the number, and open something else */
    uint64_t watchdog;
    char *kept[FM_NOTIFY_VARIABLES]; /* "NAME=VALUE" */
    unsigned nkept;
} manager = {.fd = -1};

/* ---- the variables ---- */

/* The value of one that is not there any more, or NULL. */
static const char *taken(const char *name)
{
    const char *value = getenv(name);
    if (!value)
        return NULL;
    size_t len = strlen(name), size = len + strlen(value) + 2;
    char *copy = fm_malloc(size);
    snprintf(copy, size, "%s=%s", name, value);
    manager.kept[manager.nkept++] = copy;
    unsetenv(name);
    return copy + len + 1;
}

static int connect_to(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if ((*path != '/' && *path != '@') || len >= sizeof to.sun_path)
        return -EAFNOSUPPORT;
    memcpy(to.sun_path, path, len);
    if (*path == '@')
        to.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        connect(fd, (struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) == 0 &&
        fstat(fd, &manager.is) == 0)
        return fd;
    int err = -errno;
    if (fd >= 0)
        close(fd);
    return err;
}

static uint64_t read_watchdog(const char *usec, const char *pid)
{
    if (!usec || (pid && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    return strtoull(usec, NULL, 10) * (FM_SEC / 1000000) / 2;
}

void fm_notify_take(void)
{
    const char *socket = taken("NOTIFY_SOCKET"), *usec = taken("WATCHDOG_USEC"), *pid = taken("WATCHDOG_PID");
    if (!socket)
        return;
    manager.fd = connect_to(socket);
    if (manager.fd < 0) {
        fm_warn("NOTIFY_SOCKET is %s: %s; the service manager is told nothing", socket, fm_strerror(manager.fd));
        return;
    }
    fm_fds_own(manager.fd);
    manager.watchdog = read_watchdog(usec, pid);
}

unsigned fm_notify_variables(char **to)
{
    for (unsigned i = 0; i < manager.nkept; i++)
        to[i] = manager.kept[i];
    return manager.nkept;
}

uint64_t fm_notify_watchdog(void) { return manager.watchdog; }

/* ---- sending ---- */

static void *send_late(void *text)
{
    pthread_setname_np(pthread_self(), "fermata-notify");
    (void)!send(manager.fd, text, strlen(text), MSG_NOSIGNAL);
    free(text);
    return NULL;
}

/* The manager's queue is full: it takes as long as it takes. */
static void have_it_sent(const char *text)
{
    char *copy = fm_strdup(text);
    if (fm_helper_start(send_late, copy, 0) != 0)
        free(copy);
}

static bool is_there(void)
{
    struct stat st;
    return manager.fd >= 0 && !atomic_load(&fm_forked) && fstat(manager.fd, &st) == 0 &&
           st.st_dev == manager.is.st_dev && st.st_ino == manager.is.st_ino;
}

void fm_notify(const char *format, ...)
{
    char text[SIZE];
    va_list ap;
    if (!is_there())
        return;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (send(manager.fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EAGAIN)
        have_it_sent(text);
}

void fm_notify_stopping(uint64_t time)
{
    fm_notify("STOPPING=1\nSTATUS=Stopping\nEXTEND_TIMEOUT_USEC=%llu", (unsigned long long)(time / 1000));
}

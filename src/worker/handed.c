/* What an arbiter hands over; see worker/handed.h. */
#include "fermata/worker/handed.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/vital.h"

/* "SLOT:CONTROL:COUNTERS:REPORT:LISTENER,LISTENER...", where 0 is no REPORT, or "zygote:SOCKET" */
#define ZYGOTE "zygote:"

static bool read_number(const char **at, char end, int *number)
{
    char *stop;
    errno = 0;
    long n = strtol(*at, &stop, 10);
    if (stop == *at || errno || n < 0 || n > 1 << 20 || (*stop != end && *stop != '\0'))
        return false;
    *number = (int)n;
    *at = *stop ? stop + 1 : stop;
    return true;
}

static bool read_all(struct fm_handed *h, const char *at)
{
    int slot;
    if (strncmp(at, ZYGOTE, sizeof ZYGOTE - 1) == 0) {
        at += sizeof ZYGOTE - 1;
        return read_number(&at, '\0', &h->zygote_fd);
    }
    if (!read_number(&at, ':', &slot) || !read_number(&at, ':', &h->control_fd) ||
        !read_number(&at, ':', &h->counters_fd) || !read_number(&at, ':', &h->report_fd))
        return false;
    h->report_fd = h->report_fd > 0 ? h->report_fd : -1;
    h->slot = (unsigned)slot;
    while (*at) {
        if (h->nlisteners == FM_MAX_LISTENERS || !read_number(&at, ',', &h->listeners[h->nlisteners]))
            return false;
        h->nlisteners++;
    }
    return h->nlisteners > 0;
}

static bool keep(int fd)
{
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return false;
    fm_fds_own(fd);
    return true;
}

/* All of them are the server's from now on, and closed where the application executes something. */
static bool keep_all(const struct fm_handed *h)
{
    if (h->zygote_fd >= 0)
        return keep(h->zygote_fd);
    bool good = keep(h->control_fd) && keep(h->counters_fd) && (h->report_fd < 0 || keep(h->report_fd));
    for (unsigned i = 0; good && i < h->nlisteners; i++)
        good = keep(h->listeners[i]);
    return good;
}

static bool note(struct fm_handed *h, int fd)
{
    struct stat st;
    bool good = fstat(fd, &st) == 0;
    h->device = good ? st.st_dev : 0;
    h->inode = good ? st.st_ino : 0;
    return good;
}

bool fm_handed_take(struct fm_handed *h)
{
    const char *text = getenv(FM_HANDED_VARIABLE);
    sigset_t none;
    *h = (struct fm_handed){.control_fd = -1, .counters_fd = -1, .report_fd = -1, .zygote_fd = -1};
    if (!text)
        return true;
    bool good = read_all(h, text) && keep_all(h) && note(h, h->zygote_fd >= 0 ? h->zygote_fd : h->control_fd);
    h->arbiter = getppid();
    if (!good)
        fprintf(stderr, "fermata: the environment's %s is %s, which is not what an arbiter hands to its worker\n",
                FM_HANDED_VARIABLE, text);
    unsetenv(FM_HANDED_VARIABLE);
    h->any = true;
    prctl(PR_SET_NAME, FM_HANDED_NAME);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    return good;
}

static bool is_ours(const char *variable)
{
    static const char *const names[] = {FM_HANDED_VARIABLE "=", FM_SLOT_VARIABLE "="};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

void fm_handed_write(const struct fm_handed *h, struct fm_handed_environment *to)
{
    size_t n = 0, k = 0;
    bool zygote = h->zygote_fd >= 0;
    int at = snprintf(to->handed, sizeof to->handed, "%s=", FM_HANDED_VARIABLE);
    if (zygote)
        snprintf(to->handed + at, sizeof to->handed - (size_t)at, ZYGOTE "%d", h->zygote_fd);
    else
        at += snprintf(to->handed + at, sizeof to->handed - (size_t)at, "%u:%d:%d:%d:", h->slot, h->control_fd,
                       h->counters_fd, h->report_fd < 0 ? 0 : h->report_fd);
    for (unsigned i = 0; !zygote && i < h->nlisteners; i++)
        at += snprintf(to->handed + at, sizeof to->handed - (size_t)at, "%s%d", i ? "," : "", h->listeners[i]);
    snprintf(to->slot, sizeof to->slot, "%s=%u", FM_SLOT_VARIABLE, h->slot);
    while (environ[n])
        n++;
    to->all = fm_calloc(n + 3, sizeof *to->all);
    for (size_t i = 0; i < n; i++)
        if (!is_ours(environ[i]))
            to->all[k++] = environ[i];
    to->all[k++] = to->handed;
    if (!zygote)
        to->all[k++] = to->slot;
}

static void stay_open(int fd) { fcntl(fd, F_SETFD, 0); }

void fm_handed_give(const struct fm_handed *h)
{
    if (h->zygote_fd >= 0) {
        stay_open(h->zygote_fd);
        return;
    }
    for (unsigned i = 0; i < h->nlisteners; i++)
        stay_open(h->listeners[i]);
    stay_open(h->control_fd);
    stay_open(h->counters_fd);
    if (h->report_fd >= 0)
        stay_open(h->report_fd);
}

int fm_handed_use_counters(const struct fm_handed *h)
{
    struct stat st;
    if (fstat(h->counters_fd, &st) != 0)
        return -errno;
    void *memory = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, h->counters_fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    fm_counters_place(memory, (size_t)st.st_size);
    fm_fds_close(h->counters_fd);
    return 0;
}

/* ---- to and from a zygote ---- */

#define FDS (3 + FM_MAX_LISTENERS)

struct message { /* with it come the control socket, the counters, the report, the listening sockets */
    unsigned slot;
    unsigned report; /* whether there is one */
};

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(FDS * sizeof(int))];
};

int fm_handed_send(int fd, const struct fm_handed *h)
{
    struct message what = {h->slot, h->report_fd >= 0};
    int fds[FDS] = {h->control_fd, h->counters_fd, h->report_fd};
    unsigned own = 2 + what.report, n = own + h->nlisteners;
    union control control = {.bytes = {0}};
    struct iovec data = {&what, sizeof what};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    memcpy(&fds[own], h->listeners, h->nlisteners * sizeof(int));
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(n * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), fds, n * sizeof(int));
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof what ? 0 : -errno;
}

void fm_handed_check(const struct fm_handed *h, int fd, const char *what)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_dev != h->device || st.st_ino != h->inode)
        fm_vital_lost(what);
}

void fm_handed_close(struct fm_handed *h)
{
    if (h->control_fd >= 0)
        fm_fds_close(h->control_fd);
    if (h->counters_fd >= 0)
        fm_fds_close(h->counters_fd);
    if (h->report_fd >= 0)
        fm_fds_close(h->report_fd);
    for (unsigned i = 0; i < h->nlisteners; i++)
        fm_fds_close(h->listeners[i]);
    h->control_fd = h->counters_fd = h->report_fd = -1;
    h->nlisteners = 0;
}

/* The descriptors of a message become those of *h. */
static bool take_fds(struct msghdr *message, struct fm_handed *h, bool report)
{
    size_t own = report ? 3 : 2;
    struct cmsghdr *c = CMSG_FIRSTHDR(message);
    int fds[FDS];
    if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len > CMSG_LEN(sizeof fds))
        return false;
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(c), n * sizeof(int));
    for (size_t i = 0; i < n; i++)
        fm_fds_own(fds[i]);
    h->control_fd = n > 0 ? fds[0] : -1;
    h->counters_fd = n > 1 ? fds[1] : -1;
    h->report_fd = report && n > 2 ? fds[2] : -1;
    h->nlisteners = n > own ? (unsigned)(n - own) : 0;
    for (unsigned i = 0; i < h->nlisteners && i < FM_MAX_LISTENERS; i++)
        h->listeners[i] = fds[own + i];
    if (h->nlisteners > 0 && h->nlisteners <= FM_MAX_LISTENERS && !(message->msg_flags & MSG_CTRUNC) &&
        note(h, h->control_fd))
        return true;
    fm_handed_close(h);
    return false;
}

int fm_handed_receive(const struct fm_handed *zygote, struct fm_handed *h)
{
    union control control;
    struct message what = {0, 0};
    struct iovec data = {&what, sizeof what};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t n;
    *h = (struct fm_handed){.any = true,
                            .loaded = true,
                            .zygote_fd = -1,
                            .control_fd = -1,
                            .counters_fd = -1,
                            .report_fd = -1,
                            .arbiter = zygote->arbiter};
    fm_handed_check(zygote, zygote->zygote_fd, "the socket to the arbiter");
    do
        n = recvmsg(zygote->zygote_fd, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n < 0 ? -errno : 0;
    h->slot = what.slot;
    return take_fds(&message, h, what.report) && n == (ssize_t)sizeof what ? 1 : -EBADMSG;
}

static bool is_the_socket(const struct fm_handed *h)
{
    struct stat st;
    return h->control_fd >= 0 && fstat(h->control_fd, &st) == 0 && st.st_dev == h->device && st.st_ino == h->inode;
}

void fm_handed_say_ready(struct fm_handed *h)
{
    if (h->control_fd < 0)
        return;
    fm_handed_check(h, h->control_fd, "the socket to the arbiter");
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* a change of the user takes it away */
    if (getppid() != h->arbiter)
        raise(SIGTERM);
    fm_handed_tell(h, FM_TELL_READY);
}

void fm_handed_tell(const struct fm_handed *h, enum fm_tell what)
{
    char byte = (char)what;
    if (is_the_socket(h))
        (void)!send(h->control_fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* ---- clients ---- */

union one {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

int fm_handed_give_client(int control_fd, int fd, const char *head, size_t len)
{
    union one control = {.bytes = {0}};
    struct iovec data = {(void *)(uintptr_t)head, len};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    ssize_t n = sendmsg(control_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EMSGSIZE;
}

int fm_handed_hear(const struct fm_handed *h, char *text, size_t size, int *fd)
{
    union one control;
    struct iovec data = {text, size};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t n;
    *fd = -1;
    do
        n = recvmsg(h->control_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n < 0 && errno == EAGAIN ? 0 : FM_ECLOSED;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof *fd))
        memcpy(fd, CMSG_DATA(c), sizeof *fd);
    return (int)n;
}

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

/* "SLOT:CONTROL:COUNTERS:LISTENER,LISTENER..." */

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
    if (!read_number(&at, ':', &slot) || !read_number(&at, ':', &h->control_fd) ||
        !read_number(&at, ':', &h->counters_fd))
        return false;
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

bool fm_handed_take(struct fm_handed *h)
{
    const char *text = getenv(FM_HANDED_VARIABLE);
    sigset_t none;
    *h = (struct fm_handed){.control_fd = -1, .counters_fd = -1};
    if (!text)
        return true;
    struct stat st;
    bool good = read_all(h, text) && keep(h->control_fd) && keep(h->counters_fd) && fstat(h->control_fd, &st) == 0;
    if (good) {
        h->device = st.st_dev;
        h->inode = st.st_ino;
        h->arbiter = getppid();
    }
    for (unsigned i = 0; good && i < h->nlisteners; i++)
        good = keep(h->listeners[i]);
    if (!good)
        fprintf(stderr, "fermata: the environment's %s is %s, which is not what an arbiter hands to its worker\n",
                FM_HANDED_VARIABLE, text);
    unsetenv(FM_HANDED_VARIABLE);
    h->any = true;
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
    int at = snprintf(to->handed, sizeof to->handed, "%s=%u:%d:%d:", FM_HANDED_VARIABLE, h->slot, h->control_fd,
                      h->counters_fd);
    for (unsigned i = 0; i < h->nlisteners; i++)
        at += snprintf(to->handed + at, sizeof to->handed - (size_t)at, "%s%d", i ? "," : "", h->listeners[i]);
    snprintf(to->slot, sizeof to->slot, "%s=%u", FM_SLOT_VARIABLE, h->slot);
    while (environ[n])
        n++;
    to->all = fm_calloc(n + 3, sizeof *to->all);
    for (size_t i = 0; i < n; i++)
        if (!is_ours(environ[i]))
            to->all[k++] = environ[i];
    to->all[k++] = to->handed;
    to->all[k++] = to->slot;
}

static void stay_open(int fd) { fcntl(fd, F_SETFD, 0); }

void fm_handed_give(const struct fm_handed *h)
{
    for (unsigned i = 0; i < h->nlisteners; i++)
        stay_open(h->listeners[i]);
    stay_open(h->control_fd);
    stay_open(h->counters_fd);
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

static bool is_the_socket(const struct fm_handed *h)
{
    struct stat st;
    return h->control_fd >= 0 && fstat(h->control_fd, &st) == 0 && st.st_dev == h->device && st.st_ino == h->inode;
}

void fm_handed_say_ready(struct fm_handed *h)
{
    if (h->control_fd < 0)
        return;
    if (!is_the_socket(h))
        fm_vital_lost("the socket to the arbiter");
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

bool fm_handed_hear(const struct fm_handed *h)
{
    char byte;
    ssize_t n;
    do
        n = recv(h->control_fd, &byte, 1, MSG_DONTWAIT);
    while (n > 0 || (n < 0 && errno == EINTR));
    return n < 0 && errno == EAGAIN;
}

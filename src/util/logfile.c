/* Lines through a bounded ring to a thread that writes them; see util/logfile.h. */
#include "fermata/util/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fermata/util/clock.h"
#include "fermata/util/fds.h"
#include "fermata/util/helper.h"
#include "fermata/util/owner.h"

#define BATCH (64 * 1024)  /* bytes written at a time to a regular file */
#define RETRY (FM_SEC / 2) /* until the next attempt after a write has failed */

struct fm_logfile {
    const struct fm_logfile_kind *kind;
    char *path;
    int fd;
    dev_t dev; /* what fd is, to notice that its number has become another file's; a standard stream may */
    ino_t ino;
    atomic_bool is_pipe;  /* or a socket, a terminal: only so much of what is written stays together; by the thread */
    bool captures;        /* standard output and error are dup'ed from fd */
    bool torn;            /* the last line in the file has no end, because a write failed within it; the thread's */
    char *batch;          /* being written; the thread's */
    bool started;         /* set once */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work;  /* there is something for the thread */
    pthread_cond_t idle;  /* it has done all */
    char *ring;
    size_t cap, head, len;
    bool waiting; /* the thread waits for work */
    bool reopen, stop, ended;
    uint64_t dropped; /* lines that did not fit, or could not be written, and were not told yet */
};

/* ---- opening ---- */

/* Where a file has captured standard output, a dup of what it was.  Set before any thread starts, as `shared`. */
static int output_before = STDOUT_FILENO;
static dev_t output_dev;
static ino_t output_ino;
static bool shared;

void fm_logfile_share(void) { shared = true; }

static bool is_file(int fd, dev_t dev, ino_t ino)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

static int standard_of(const struct fm_logfile *f)
{
    static const struct {
        const char *path;
        int fd;
    } names[] = {{"/dev/stdout", 1}, {"/dev/stderr", 2},     {"/dev/fd/1", 1},
                 {"/dev/fd/2", 2},   {"/proc/self/fd/1", 1}, {"/proc/self/fd/2", 2}};
    int fd = strcmp(f->path, "-") == 0 ? f->kind->standard : -1;
    for (size_t i = 0; fd < 0 && i < sizeof names / sizeof *names; i++)
        if (strcmp(f->path, names[i].path) == 0)
            fd = names[i].fd;
    return fd == STDOUT_FILENO ? output_before : fd;
}

/* The descriptor, or a negated errno.  A standard stream is used as it is: a socket could not be opened by its name,
 * and applications that close what is open behind 2 are not rare. */
static int open_path(const struct fm_logfile *f)
{
    int fd = standard_of(f);
    if (fd > STDERR_FILENO && !is_file(fd, output_dev, output_ino))
        return -EBADF; /* the application has closed it */
    if (fd < 0)
        fd = fm_owner_open(f->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY);
    return fd; /* not noted as the server's: a child that the application forks may log */
}

static void close_fd(struct fm_logfile *f)
{
    if (f->fd > STDERR_FILENO && f->fd != output_before)
        close(f->fd);
    f->fd = -1;
}

static int capture(int fd) { return dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0 ? -errno : 0; }

static void use(struct fm_logfile *f, int fd)
{
    struct stat st;
    if (f->captures)
        (void)!capture(fd); /* at once, so that nothing that is printed meanwhile is lost; no thread sees them closed */
    close_fd(f);
    f->fd = fd;
    bool known = fstat(fd, &st) == 0;
    f->is_pipe = !known || !S_ISREG(st.st_mode);
    f->dev = known ? st.st_dev : 0;
    f->ino = known ? st.st_ino : 0;
    f->torn = false;
}

struct fm_logfile *fm_logfile_open(const struct fm_logfile_kind *kind, const char *path, int *err)
{
    pthread_condattr_t attr;
    struct fm_logfile *f = calloc(1, sizeof *f);
    char *copy = strdup(path);
    int fd = -ENOMEM;
    if (f && copy) {
        *f = (struct fm_logfile){.kind = kind, .path = copy, .fd = -1};
        fd = open_path(f);
    }
    if (fd < 0) {
        *err = fd;
        free(copy);
        free(f);
        return NULL;
    }
    use(f, fd);
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->work, &attr);
    pthread_cond_init(&f->idle, &attr);
    pthread_condattr_destroy(&attr);
    *err = 0;
    return f;
}

int fm_logfile_capture(struct fm_logfile *f)
{
    if (standard_of(f) >= 0)
        return 0;
    struct stat st = {0};
    int before = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int err = before < 0 || fstat(before, &st) != 0 ? -errno : capture(f->fd);
    if (err == 0) {
        output_before = before;
        output_dev = st.st_dev;
        output_ino = st.st_ino;
    }
    f->captures = err == 0;
    return err;
}

/* ---- writing ---- */

static uint64_t count_lines(const char *p, size_t n)
{
    uint64_t lines = 0;
    for (const char *end = p + n; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++)
        lines++;
    return lines ? lines : 1;
}

/* All of it, waiting as long as it takes; a descriptor that was made non-blocking is polled.  How many bytes
 * were written before it failed; n if it did not. */
static size_t write_all(int fd, const char *p, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t k = write(fd, p + done, n - done);
        if (k > 0) {
            done += (size_t)k;
        } else if (k < 0 && errno == EAGAIN) {
            struct pollfd room = {fd, POLLOUT, 0};
            poll(&room, 1, 1000);
        } else if (k == 0 || errno != EINTR) {
            break;
        }
    }
    return done;
}

/* The application may have closed our descriptor, by number, and the number is another file's or a client's now: what
 * is logged must not go there.  True: the file is what it was, or was opened anew. */
static bool is_ours(struct fm_logfile *f)
{
    if (f->fd >= 0 && (f->fd <= STDERR_FILENO || is_file(f->fd, f->dev, f->ino)))
        return true;
    f->fd = -1; /* closed, or another file's: not ours to close */
    int fd = open_path(f);
    if (fd < 0)
        return false;
    use(f, fd);
    return true;
}

/* Writes whole lines, piece by piece.  False: it failed, and what was not written is dropped. */
static bool write_lines(struct fm_logfile *f, const char *p, size_t n)
{
    bool ours = is_ours(f);
    if (ours && f->torn && write_all(f->fd, "\n", 1) == 1)
        f->torn = false;
    size_t done = !ours || f->torn ? 0 : write_all(f->fd, p, n);
    if (done == n)
        return true;
    if (done > 0)
        f->torn = p[done - 1] != '\n';
    uint64_t lines = count_lines(p + done, n - done);
    fm_count_add(f->kind->dropped, lines);
    pthread_mutex_lock(&f->lock);
    f->dropped += lines;
    pthread_mutex_unlock(&f->lock);
    return false;
}

void fm_logfile_put(struct fm_logfile *f, const char *p, size_t n)
{
    if (n == 0)
        return;
    if (!f->started || atomic_load_explicit(&fm_forked, memory_order_relaxed)) {
        write_all(f->fd, p, n);
        return;
    }
    pthread_mutex_lock(&f->lock);
    if (n <= f->cap - f->len) {
        size_t at = (f->head + f->len) % f->cap, first = n < f->cap - at ? n : f->cap - at;
        memcpy(f->ring + at, p, first);
        memcpy(f->ring, p + first, n - first);
        f->len += n;
        if (f->waiting)
            pthread_cond_signal(&f->work);
        f->waiting = false;
    } else {
        uint64_t lines = count_lines(p, n);
        f->dropped += lines;
        fm_count_add(f->kind->dropped, lines);
    }
    pthread_mutex_unlock(&f->lock);
}

/* ---- the thread ---- */

/* Copies whole lines out of the ring: as many as fit into `most` bytes, or a part of one that is longer, which becomes
 * a line of its own where another process's could come between.  The lock is held. */
static size_t take(struct fm_logfile *f, size_t most)
{
    size_t n = f->len < most ? f->len : most, first = n < f->cap - f->head ? n : f->cap - f->head;
    memcpy(f->batch, f->ring + f->head, first);
    memcpy(f->batch + first, f->ring, n - first);
    const char *end = memrchr(f->batch, '\n', n);
    bool split = !end && n == most && shared && f->is_pipe;
    if (end)
        n = (size_t)(end - f->batch) + 1;
    if (split)
        for (n--; n > most - 4 && (f->batch[n] & 0xc0) == 0x80; n--)
            ; /* not within a character */
    f->head = (f->head + n) % f->cap;
    f->len -= n;
    if (split)
        f->batch[n++] = '\n';
    return n;
}

static void reopen(struct fm_logfile *f)
{
    int fd = open_path(f);
    if (fd >= 0)
        use(f, fd);
    else if (f->kind->not_reopened)
        f->kind->not_reopened(f->kind, f->path, fd);
}

static void pause_for(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / FM_SEC), (long)(ns % FM_SEC)};
    nanosleep(&t, NULL);
}

/* Waits until there is something to do; false: the end.  The lock is held. */
static bool wait_for_work(struct fm_logfile *f)
{
    while (f->len == 0 && !f->reopen && !f->stop) {
        pthread_cond_broadcast(&f->idle);
        f->waiting = true;
        pthread_cond_wait(&f->work, &f->lock);
        f->waiting = false;
        if (f->kind->gather > 0 && !f->stop) {
            pthread_mutex_unlock(&f->lock);
            pause_for(f->kind->gather);
            pthread_mutex_lock(&f->lock);
        }
    }
    return f->len > 0 || f->reopen;
}

/* The file takes again: says what is missing. */
static void tell_dropped(struct fm_logfile *f)
{
    char line[256];
    pthread_mutex_lock(&f->lock);
    uint64_t dropped = f->dropped;
    f->dropped = 0;
    pthread_mutex_unlock(&f->lock);
    if (dropped == 0)
        return;
    size_t n = f->kind->tell(line, sizeof line, dropped); /* straight to the file: the ring may be full again */
    if (n == 0 || write_lines(f, line, n))
        return;
    pthread_mutex_lock(&f->lock);
    f->dropped += dropped;
    pthread_mutex_unlock(&f->lock);
}

static void *run(void *arg)
{
    struct fm_logfile *f = arg;
    pthread_setname_np(pthread_self(), "fermata-log");
    pthread_mutex_lock(&f->lock);
    while (wait_for_work(f)) {
        bool again = f->reopen, good = true;
        f->reopen = false;
        size_t n = again ? 0 : take(f, f->is_pipe ? PIPE_BUF : BATCH);
        pthread_mutex_unlock(&f->lock);
        if (again)
            reopen(f);
        else
            good = write_lines(f, f->batch, n);
        if (good && n > 0)
            tell_dropped(f);
        else if (!good)
            pause_for(RETRY);
        pthread_mutex_lock(&f->lock);
    }
    f->ended = true;
    pthread_cond_broadcast(&f->idle);
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

int fm_logfile_start(struct fm_logfile *f, size_t ring)
{
    f->cap = ring;
    f->ring = malloc(ring);
    f->batch = malloc(BATCH);
    int err = f->ring && f->batch ? fm_helper_start(run, f, 0) : -ENOMEM;
    f->started = err == 0;
    return err;
}

/* ---- from outside ---- */

size_t fm_logfile_longest(struct fm_logfile *f) { return shared && f->is_pipe ? PIPE_BUF : SIZE_MAX; }

static void ask(struct fm_logfile *f, bool *what)
{
    pthread_mutex_lock(&f->lock);
    *what = true;
    f->waiting = false;
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->lock);
}

void fm_logfile_reopen(struct fm_logfile *f)
{
    if (f->started)
        ask(f, &f->reopen);
    else
        reopen(f);
}

/* Waits until the thread has nothing to do, or has ended. */
static bool wait_idle(struct fm_logfile *f, uint64_t until, bool ended)
{
    struct timespec t = {(time_t)(until / FM_SEC), (long)(until % FM_SEC)};
    bool late = false;
    pthread_mutex_lock(&f->lock);
    while (!late && !(f->ended || (!ended && f->len == 0 && f->waiting)))
        late = pthread_cond_timedwait(&f->idle, &f->lock, &t) == ETIMEDOUT;
    bool done = f->ended || (f->len == 0 && f->waiting);
    pthread_mutex_unlock(&f->lock);
    return done;
}

bool fm_logfile_flush(struct fm_logfile *f, uint64_t until)
{
    if (!f->started || atomic_load_explicit(&fm_forked, memory_order_relaxed))
        return true;
    return wait_idle(f, until, false);
}

void fm_logfile_close(struct fm_logfile *f, uint64_t until)
{
    if (!f)
        return;
    if (f->started) {
        ask(f, &f->stop);
        if (!wait_idle(f, until, true))
            return; /* it may still be using all of this */
    }
    close_fd(f);
    pthread_cond_destroy(&f->work);
    pthread_cond_destroy(&f->idle);
    pthread_mutex_destroy(&f->lock);
    free(f->ring);
    free(f->batch);
    free(f->path);
    free(f);
}

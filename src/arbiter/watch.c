/* The thread that watches files; see arbiter/watch.h. */
#include "fermata/arbiter/watch.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fermata/arbiter/tree.h"
#include "fermata/util/buf.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/helper.h"
#include "fermata/util/log.h"

#define SETTLE 50           /* ms without a change before the files are looked at */
#define SETTLE_MOST 20      /* times: a file that is written to without end is looked at, too */
#define INTERVAL 500        /* ms between two looks, where nothing tells of changes */
#define STOP_TIME FM_SEC    /* to end in */
#define STACK (1024 * 1024) /* some PATH_MAX for each level of directories */
#define EVENTS                                                                                                         \
    (IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct fm_watch {
    struct fm_loop *loop;
    void (*changed)(void *ctx, const char *path);
    void *ctx;
    int wake_fd;    /* eventfd: there are directories to add, or it is the end */
    int inotify_fd; /* -1: none */
    bool polls;     /* some directory tells nothing; the thread's */
    bool automatic, warned;
    struct fm_tree tree;   /* the thread's */
    struct fm_event event; /* posted when something has changed */
    pthread_mutex_t lock;  /* a leaf; guards what follows */
    pthread_cond_t gone;
    struct fm_buf more; /* directories to add */
    struct timespec since;
    char path[PATH_MAX];
    bool posted, stop, ended;
};

/* ---- to the loop ---- */

static void tell(struct fm_watch *w, const char *path)
{
    pthread_mutex_lock(&w->lock);
    bool post = !w->posted && !w->stop;
    w->posted = w->posted || post;
    snprintf(w->path, sizeof w->path, "%s", path);
    pthread_mutex_unlock(&w->lock);
    if (post)
        fm_loop_post(w->loop, &w->event, 0, NULL);
}

static void on_event(struct fm_event *event)
{
    struct fm_watch *w = FM_LIST_ENTRY(event, struct fm_watch, event);
    char path[PATH_MAX];
    fm_assert_on_loop();
    pthread_mutex_lock(&w->lock);
    memcpy(path, w->path, sizeof path);
    w->posted = false;
    pthread_mutex_unlock(&w->lock);
    w->changed(w->ctx, path);
}

/* ---- inotify ---- */

/* File systems on which others may change files without this kernel knowing. */
static bool tells_nothing(const char *directory)
{
    static const unsigned long kinds[] = {0x6969 /* NFS */,        0x517b /* SMB */,    0xfe534d42 /* SMB2 */,
                                          0xff534d42 /* CIFS */,   0x01021997 /* 9p */, 0x65735546 /* FUSE, virtiofs */,
                                          0x786f4256 /* vboxsf */, 0xbacbacbc /* vmhgfs */};
    struct statfs fs;
    if (statfs(directory, &fs) != 0)
        return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (((unsigned long)fs.f_type & 0xffffffff) == kinds[i])
            return true;
    return false;
}

static void watch_one(void *ctx, const char *directory)
{
    struct fm_watch *w = ctx;
    if (w->inotify_fd < 0)
        return;
    if (w->automatic && tells_nothing(directory))
        w->polls = true;
    if (inotify_add_watch(w->inotify_fd, directory, EVENTS) >= 0 || errno == ENOENT || errno == ENOTDIR ||
        errno == EACCES)
        return;
    w->polls = true;
    if (!w->warned)
        fm_warn("--reload: %s cannot be watched by inotify: %s; the files are looked at twice a second", directory,
                fm_strerror(-errno));
    w->warned = true;
}

/* Takes what inotify has; true if it is about a file that may matter. */
static bool take_events(const struct fm_watch *w)
{
    char events[16 * (sizeof(struct inotify_event) + NAME_MAX + 1)]
        __attribute__((aligned(__alignof__(struct inotify_event))));
    bool matters = false;
    ssize_t n;
    while ((n = read(w->inotify_fd, events, sizeof events)) > 0)
        for (const char *at = events; at < events + n;) {
            const struct inotify_event *e = (const void *)at;
            matters = matters || w->tree.npatterns > 0 || e->len == 0 || (e->mask & (IN_ISDIR | IN_Q_OVERFLOW)) ||
                      fm_tree_is_source(e->name);
            at += sizeof *e + e->len;
        }
    return matters;
}

/* ---- the thread ---- */

/* Directories that are to be added; false: the end. */
static bool take_more(struct fm_watch *w)
{
    struct fm_buf more;
    pthread_mutex_lock(&w->lock);
    struct timespec since = w->since;
    more = w->more;
    w->more = (struct fm_buf)FM_BUF_INIT;
    bool stop = w->stop;
    pthread_mutex_unlock(&w->lock);
    while (!stop && fm_buf_size(&more) > 0) {
        const char *path = fm_buf_head(&more);
        const char *nul = memchr(path, '\0', fm_buf_size(&more));
        if (!nul)
            break;
        fm_tree_add(&w->tree, path, &since);
        fm_buf_consume(&more, (size_t)(nul + 1 - path));
    }
    fm_buf_fini(&more);
    return !stop;
}

/* Waits until files are to be looked at, or there is something else to do. */
static void wait_for_change(struct fm_watch *w)
{
    struct pollfd fds[2] = {{w->wake_fd, POLLIN, 0}, {w->inotify_fd, POLLIN, 0}};
    eventfd_t count;
    for (;;) {
        int n = poll(fds, 2, w->polls || w->inotify_fd < 0 ? INTERVAL : -1);
        if (n == 0)
            return;
        if (n > 0 && fds[0].revents) {
            (void)!eventfd_read(w->wake_fd, &count);
            return;
        }
        bool matters = n > 0 && take_events(w);
        for (int i = 0; matters && i < SETTLE_MOST && poll(&fds[1], 1, SETTLE) > 0; i++)
            take_events(w);
        if (matters)
            return;
    }
}

/* Directories are watched before they are looked at, so that nothing happens unseen in between. */
static void *run(void *arg)
{
    struct fm_watch *w = arg;
    pthread_setname_np(pthread_self(), "fermata-watch");
    while (take_more(w)) {
        fm_tree_each(&w->tree, watch_one, w);
        const char *path = fm_tree_look(&w->tree);
        if (path)
            tell(w, path);
        wait_for_change(w);
    }
    pthread_mutex_lock(&w->lock);
    w->ended = true;
    pthread_cond_broadcast(&w->gone);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- life ---- */

static void free_watch(struct fm_watch *w)
{
    fm_tree_fini(&w->tree);
    fm_buf_fini(&w->more);
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    if (w->inotify_fd >= 0)
        close(w->inotify_fd);
    pthread_cond_destroy(&w->gone);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

struct fm_watch *fm_watch_start(const struct fm_options *o, struct fm_loop *loop,
                                void (*changed)(void *ctx, const char *path), void *ctx, int *err)
{
    struct fm_watch *w = fm_calloc(1, sizeof *w);
    pthread_condattr_t attr;
    w->loop = loop;
    w->changed = changed;
    w->ctx = ctx;
    w->automatic = o->reload_engine == FM_RELOAD_AUTO;
    w->more = (struct fm_buf)FM_BUF_INIT;
    fm_event_init(&w->event, on_event);
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->gone, &attr);
    pthread_condattr_destroy(&attr);
    w->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    w->inotify_fd = o->reload_engine == FM_RELOAD_POLL ? -1 : inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (w->inotify_fd < 0 && o->reload_engine != FM_RELOAD_POLL)
        fm_warn("--reload: there is no inotify: %s; the files are looked at twice a second", fm_strerror(-errno));
    for (unsigned i = 0; i < o->nreload_extra; i++)
        fm_tree_add_pattern(&w->tree, o->reload_extra[i]);
    *err = w->wake_fd >= 0 ? fm_helper_start(run, w, STACK) : -errno;
    if (*err == 0)
        return w;
    free_watch(w);
    return NULL;
}

void fm_watch_add(struct fm_watch *w, const char *directories, size_t size, const struct timespec *since)
{
    pthread_mutex_lock(&w->lock);
    if (fm_buf_size(&w->more) == 0)
        w->since = *since; /* of several reports the earliest */
    fm_buf_append(&w->more, directories, size);
    pthread_mutex_unlock(&w->lock);
    (void)!eventfd_write(w->wake_fd, 1);
}

void fm_watch_stop(struct fm_watch *w)
{
    if (!w)
        return;
    uint64_t until = fm_now() + STOP_TIME;
    struct timespec at = {(time_t)(until / FM_SEC), (long)(until % FM_SEC)};
    bool late = false;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    (void)!eventfd_write(w->wake_fd, 1);
    while (!w->ended && !late)
        late = pthread_cond_timedwait(&w->gone, &w->lock, &at) == ETIMEDOUT;
    bool ended = w->ended, posted = w->posted;
    pthread_mutex_unlock(&w->lock);
    if (posted)
        fm_loop_cancel(w->loop, &w->event);
    if (ended)
        free_watch(w);
}

/* Leaving a process behind whose threads do not end; see worker/end.h.
 *
 * Nothing here waits for long for anything that another thread may hold: the GIL, Python's and C's buffers, the logs.
 * What may wait does so in threads of its own, which are left behind as well. */
#include "fermata/worker/end.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fermata/py/interp.h"
#include "fermata/server/access.h"
#include "fermata/util/clock.h"
#include "fermata/util/log.h"
#include "fermata/worker/logs.h"
#include "fermata/worker/pidfile.h"
#include "fermata/worker/worker.h"

#define STOP_TIME (50 * FM_MS)   /* for threads that have nothing to do */
#define FLUSH_TIME (200 * FM_MS) /* for the GIL, and for standard streams */
#define NAMES_SIZE 700
#define MOST_TIDS 64

struct text {
    char *at;
    size_t len, size;
};

static void __attribute__((format(printf, 2, 3))) add(struct text *t, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(t->at + t->len, t->size - t->len, format, ap);
    va_end(ap);
    t->len += n > 0 ? (size_t)n : 0;
    if (t->len >= t->size)
        t->len = t->size - 1;
}

/* ---- what can be flushed, in threads that may hang ---- */

static struct {
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool named;               /* Python was asked for its threads */
    unsigned flushing;        /* how many are at it */
    char threads[NAMES_SIZE]; /* Python's own */
} last = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void one_is_done(void)
{
    pthread_mutex_lock(&last.lock);
    last.flushing--;
    pthread_cond_broadcast(&last.changed);
    pthread_mutex_unlock(&last.lock);
}

static void ask_python(void *arg) FM_UNCHECKED
{
    char names[NAMES_SIZE] = "";
    (void)arg;
    fm_interp_name_threads(names, sizeof names);
    pthread_mutex_lock(&last.lock);
    memcpy(last.threads, names, sizeof names);
    last.named = true;
    pthread_mutex_unlock(&last.lock);
    fm_interp_flush();
}

static void *python_main(void *arg)
{
    fm_interp_call(ask_python, arg);
    one_is_done();
    return arg;
}

static void *stdio_main(void *arg)
{
    fflush(NULL);
    one_is_done();
    return arg;
}

static void start(void *(*body)(void *))
{
    pthread_t thread;
    pthread_mutex_lock(&last.lock);
    if (pthread_create(&thread, NULL, body, NULL) == 0) {
        pthread_detach(thread);
        last.flushing++;
    }
    pthread_mutex_unlock(&last.lock);
}

static void flush(uint64_t until)
{
    struct timespec at = {(time_t)(until / FM_SEC), (long)(until % FM_SEC)};
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&last.changed, &attr);
    start(python_main);
    start(stdio_main);
    pthread_mutex_lock(&last.lock);
    while (last.flushing > 0 && pthread_cond_timedwait(&last.changed, &last.lock, &at) != ETIMEDOUT)
        ;
    pthread_mutex_unlock(&last.lock);
}

/* ---- names ---- */

/* Up to size - 1 bytes of a file of /proc, without the line feed. */
static bool read_proc(char *text, size_t size, const char *dir, long id, const char *file)
{
    char path[64];
    snprintf(path, sizeof path, "%s/%ld/%s", dir, id, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, size - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return n > 0;
}

static void add_thread(struct text *t, long tid)
{
    char name[32];
    if (read_proc(name, sizeof name, "/proc/self/task", tid, "comm"))
        add(t, "%s%ld %s", t->len ? ", " : "", tid, name);
}

/* Calls fn with the number of each entry of a directory of /proc that has one. */
static void each(const char *path, void (*fn)(struct text *t, long id), struct text *t)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (isdigit((unsigned char)e->d_name[0]))
            fn(t, atol(e->d_name));
    if (dir)
        closedir(dir);
}

/* A thread that is none of ours that only wait: the main thread, logs, those of this file. */
static void add_foreign(struct text *t, long tid)
{
    char name[32];
    if (tid != (long)getpid() && tid != syscall(SYS_gettid) &&
        read_proc(name, sizeof name, "/proc/self/task", tid, "comm") && strncmp(name, "fermata-", 8) != 0 &&
        strcmp(name, "fermata") != 0)
        add_thread(t, tid);
}

static void add_of_files(struct text *t, long tid)
{
    char name[32];
    if (read_proc(name, sizeof name, "/proc/self/task", tid, "comm") && strcmp(name, "fermata-file") == 0)
        add_thread(t, tid);
}

/* "1234 (name) S 1 ...": a child of ours that lives. */
static void add_child(struct text *t, long pid)
{
    char stat[256], *name, *end, state;
    long parent;
    if (!read_proc(stat, sizeof stat, "/proc", pid, "stat") || !(name = strchr(stat, '(')) ||
        !(end = strrchr(stat, ')')) || sscanf(end + 1, " %c %ld", &state, &parent) != 2)
        return;
    *end = '\0'; /* the name may hold anything */
    if (parent == (long)getpid() && state != 'Z' && state != 'X')
        add(t, "%s%ld %s", t->len ? ", " : "", pid, name + 1);
}

static void add_threads(struct text *t, enum fm_left what, const int *tids, unsigned n)
{
    switch (what) {
    case FM_LEFT_STEPS:
    case FM_LEFT_LOOP:
        for (unsigned i = 0; i < n && i < MOST_TIDS; i++)
            add_thread(t, tids[i]);
        break;
    case FM_LEFT_FILES: each("/proc/self/task", add_of_files, t); break;
    case FM_LEFT_PYTHON:
        pthread_mutex_lock(&last.lock);
        add(t, "%s", last.threads);
        if (!last.named) /* the GIL could not be had, or Python is beyond that */
            each("/proc/self/task", add_foreign, t);
        pthread_mutex_unlock(&last.lock);
        break;
    case FM_LEFT_MAIN:
    case FM_LEFT_IMPORT: add_thread(t, (long)getpid()); break;
    }
}

static void say(enum fm_left what, const int *tids, unsigned n)
{
    static const char *const texts[] = {
        [FM_LEFT_STEPS] = "steps are still running and cannot be interrupted",
        [FM_LEFT_LOOP] = "the event loop does not answer",
        [FM_LEFT_FILES] = "files are still being read or written, and their storage does not answer",
        [FM_LEFT_PYTHON] = "the application's threads or atexit handlers do not end",
        [FM_LEFT_MAIN] = "the main thread does not come back from a signal handler of the application, or a debugger",
        [FM_LEFT_IMPORT] = "the application is still being loaded, and that cannot be interrupted",
    };
    char threads_text[NAMES_SIZE] = "", children_text[NAMES_SIZE] = "", number[16] = "";
    struct text threads = {threads_text, 0, sizeof threads_text}, children = {children_text, 0, sizeof children_text};
    add_threads(&threads, what, tids, n);
    each("/proc", add_child, &children);
    if (what == FM_LEFT_STEPS)
        snprintf(number, sizeof number, "%u ", n);
    fm_error("%s%s; exiting without them%s%s%s%s%s", number, texts[what], threads.len || children.len ? ": " : "",
             threads.len ? "threads " : "", threads_text, children.len ? threads.len ? "; children " : "children " : "",
             children_text);
}

/* ---- the end ---- */

static atomic_bool leaving;

bool fm_end_is_leaving(void) { return atomic_load(&leaving); }

_Noreturn void fm_end_leave(struct fm_worker *w, enum fm_left what, int code)
{
    uint64_t now = fm_now();
    int tids[MOST_TIDS] = {0};
    bool polling = false;
    while (atomic_exchange(&leaving, true))
        pause(); /* another thread is about to exit */
    unsigned left = 0;
    if (what == FM_LEFT_STEPS || what == FM_LEFT_LOOP) {
        fm_sched_stop(&w->sched);
        fm_sched_join(&w->sched, now + STOP_TIME);
        left = fm_sched_left(&w->sched, tids, MOST_TIDS, &polling);
        what = polling ? FM_LEFT_LOOP : left > 0 ? FM_LEFT_STEPS : FM_LEFT_MAIN;
    }
    for (unsigned i = 0; i < w->conns.nbound; i++)
        fm_listener_unlink(&w->conns.bound[i].listener);
    fm_pidfile_remove();
    flush(now + FLUSH_TIME);
    say(what, tids, left);
    struct fm_access_log *access = atomic_load(&w->service.access);
    if (access)
        fm_access_log_leave(access, !polling, now + FM_END_LEAVE);
    fm_logs_flush(now + FM_END_LEAVE);
    _exit(code);
}

/* A pool of threads that waits for disks, so that nothing else has to; see util/files.h. */
#include "fermata/util/files.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "fermata/util/clock.h"
#include "fermata/util/fds.h"

#define IDLE_SECONDS 10
#define STACK (256 * 1024)

static struct {
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work;  /* a job was queued, or it is the end */
    pthread_cond_t gone;  /* a thread has ended */
    struct fm_list jobs;
    unsigned waiting; /* jobs queued */
    unsigned threads, idle;
    bool stopping;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .jobs = {&pool.jobs, &pool.jobs}};
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Timed waits follow the clock that does not jump. */
static void init_conditions(void)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool.work, &attr);
    pthread_cond_init(&pool.gone, &attr);
    pthread_condattr_destroy(&attr);
}

static struct timespec at(uint64_t time) { return (struct timespec){(time_t)(time / FM_SEC), (long)(time % FM_SEC)}; }

/* Waits for a job; NULL: this thread is to end.  The lock is held. */
static struct fm_list *next_job(void)
{
    struct timespec until = at(fm_now() + IDLE_SECONDS * FM_SEC);
    bool late = false;
    while (fm_list_empty(&pool.jobs)) {
        if (pool.stopping || late)
            return NULL;
        pool.idle++;
        late = pthread_cond_timedwait(&pool.work, &pool.lock, &until) == ETIMEDOUT;
        pool.idle--;
    }
    pool.waiting--;
    return fm_list_pop(&pool.jobs);
}

static void *serve(void *arg)
{
    struct fm_list *node;
    pthread_setname_np(pthread_self(), "fermata-file");
    pthread_mutex_lock(&pool.lock);
    while ((node = next_job())) {
        pthread_mutex_unlock(&pool.lock);
        struct fm_file_job *job = FM_LIST_ENTRY(node, struct fm_file_job, node);
        job->run(job);
        pthread_mutex_lock(&pool.lock);
    }
    pool.threads--;
    pthread_cond_broadcast(&pool.gone);
    pthread_mutex_unlock(&pool.lock);
    return arg;
}

/* One more thread, which takes no signals: they are the main thread's, or the application's.  0 or a negated errno. */
static int start_thread(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&thread, &attr, serve, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    pool.threads += err == 0;
    return -err;
}

int fm_files_submit(struct fm_file_job *job)
{
    int err = 0;
    pthread_once(&once, init_conditions);
    pthread_mutex_lock(&pool.lock);
    if (pool.stopping)
        err = -ECANCELED;
    else if (pool.waiting >= pool.idle && pool.threads < FM_FILES_THREADS)
        err = start_thread();
    if (err == 0 || (!pool.stopping && pool.threads > 0)) { /* one that is busy will come to it */
        fm_list_init(&job->node);
        fm_list_push(&pool.jobs, &job->node);
        pool.waiting++;
        pthread_cond_signal(&pool.work);
        err = 0;
    }
    pthread_mutex_unlock(&pool.lock);
    return err;
}

struct close_job {
    struct fm_file_job job;
    int fd;
};

static void run_close(struct fm_file_job *job)
{
    fm_fds_close(((struct close_job *)job)->fd);
    free(job);
}

void fm_files_close(int fd)
{
    struct close_job *c = malloc(sizeof *c);
    if (c) {
        *c = (struct close_job){.job.run = run_close, .fd = fd};
        if (fm_files_submit(&c->job) == 0)
            return;
    }
    free(c);
    fm_fds_close(fd);
}

void fm_files_start(void)
{
    pthread_mutex_lock(&pool.lock);
    pool.stopping = false;
    pthread_mutex_unlock(&pool.lock);
}

bool fm_files_stop(uint64_t until)
{
    struct timespec deadline = at(until);
    bool late = false;
    pthread_once(&once, init_conditions);
    pthread_mutex_lock(&pool.lock);
    pool.stopping = true;
    pthread_cond_broadcast(&pool.work);
    while (pool.threads > 0 && !late)
        late = pthread_cond_timedwait(&pool.gone, &pool.lock, &deadline) == ETIMEDOUT;
    bool done = pool.threads == 0;
    pthread_mutex_unlock(&pool.lock);
    return done;
}

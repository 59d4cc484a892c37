/* A pool of threads that waits for disks, so that nothing else has to; see util/files.h. */
#include "fermata/util/files.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "fermata/util/clock.h"
#include "fermata/util/fds.h"
#include "fermata/util/helper.h"

#define IDLE_SECONDS 10

struct pool { /* of one kind; its lock guards all of it */
    pthread_mutex_t lock;
    pthread_cond_t work; /* a job was queued, or it is the end */
    pthread_cond_t gone; /* a thread has ended */
    struct fm_list jobs;
    unsigned waiting; /* jobs queued */
    unsigned threads, idle;
    bool stopping;
};
static struct pool pools[FM_FILES_KINDS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Timed waits follow the clock that does not jump. */
static void init_pools(void)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    for (unsigned i = 0; i < FM_FILES_KINDS; i++) {
        pthread_mutex_init(&pools[i].lock, NULL);
        pthread_cond_init(&pools[i].work, &attr);
        pthread_cond_init(&pools[i].gone, &attr);
        fm_list_init(&pools[i].jobs);
    }
    pthread_condattr_destroy(&attr);
}

static struct pool *pool_of(enum fm_files_kind kind)
{
    pthread_once(&once, init_pools);
    return &pools[kind];
}

static struct timespec at(uint64_t time) { return (struct timespec){(time_t)(time / FM_SEC), (long)(time % FM_SEC)}; }

/* Waits for a job; NULL: this thread is to end.  The lock is held. */
static struct fm_list *next_job(struct pool *pool)
{
    struct timespec until = at(fm_now() + IDLE_SECONDS * FM_SEC);
    bool late = false;
    while (fm_list_empty(&pool->jobs)) {
        if (pool->stopping || late)
            return NULL;
        pool->idle++;
        late = pthread_cond_timedwait(&pool->work, &pool->lock, &until) == ETIMEDOUT;
        pool->idle--;
    }
    pool->waiting--;
    return fm_list_pop(&pool->jobs);
}

static void *serve(void *arg)
{
    struct pool *pool = arg;
    struct fm_list *node;
    pthread_setname_np(pthread_self(), "fermata-file");
    pthread_mutex_lock(&pool->lock);
    while ((node = next_job(pool))) {
        pthread_mutex_unlock(&pool->lock);
        struct fm_file_job *job = FM_LIST_ENTRY(node, struct fm_file_job, node);
        job->run(job);
        pthread_mutex_lock(&pool->lock);
    }
    pool->threads--;
    pthread_cond_broadcast(&pool->gone);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* 0 or a negated errno. */
static int start_thread(struct pool *pool)
{
    int err = fm_helper_start(serve, pool, 0);
    pool->threads += err == 0;
    return err;
}

int fm_files_submit(enum fm_files_kind kind, struct fm_file_job *job)
{
    struct pool *pool = pool_of(kind);
    int err = 0;
    pthread_mutex_lock(&pool->lock);
    if (pool->stopping)
        err = -ECANCELED;
    else if (pool->waiting >= pool->idle && pool->threads < FM_FILES_THREADS)
        err = start_thread(pool);
    if (err == 0 || (!pool->stopping && pool->threads > 0)) { /* one that is busy will come to it */
        fm_list_init(&job->node);
        fm_list_push(&pool->jobs, &job->node);
        pool->waiting++;
        pthread_cond_signal(&pool->work);
        err = 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return err;
}

bool fm_files_withdraw(enum fm_files_kind kind, struct fm_file_job *job)
{
    struct pool *pool = pool_of(kind);
    pthread_mutex_lock(&pool->lock);
    bool queued = !fm_list_empty(&job->node); /* a job that was taken off is in no list */
    if (queued) {
        fm_list_remove(&job->node);
        pool->waiting--;
    }
    pthread_mutex_unlock(&pool->lock);
    return queued;
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
        fm_file_job_init(&c->job, run_close);
        c->fd = fd;
        if (fm_files_submit(FM_FILES_CLOSE, &c->job) == 0)
            return; /* cppcheck-suppress memleak; run_close frees it */
    }
    free(c);
    fm_fds_close(fd);
}

void fm_files_start(void)
{
    for (unsigned i = 0; i < FM_FILES_KINDS; i++) {
        struct pool *pool = pool_of((enum fm_files_kind)i);
        pthread_mutex_lock(&pool->lock);
        pool->stopping = false;
        pthread_mutex_unlock(&pool->lock);
    }
}

static bool stop(struct pool *pool, uint64_t until)
{
    struct timespec deadline = at(until);
    bool late = false;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    while (pool->threads > 0 && !late)
        late = pthread_cond_timedwait(&pool->gone, &pool->lock, &deadline) == ETIMEDOUT;
    bool done = pool->threads == 0;
    pthread_mutex_unlock(&pool->lock);
    return done;
}

bool fm_files_stop(uint64_t until)
{
    bool done = true;
    for (unsigned i = 0; i < FM_FILES_KINDS; i++)
        done &= stop(pool_of((enum fm_files_kind)i), until);
    return done;
}

/* The zygotes of --preload (worker/zygote.h), seen from the arbiter: one for the generation that serves, and one for
 * the generation that a reload tries.
 *
 * A worker is asked for by a message, and comes to the arbiter when the zygote has forked it, some time later: until
 * then it goes by the pid of its zygote.  Of each zygote one worker at a time is under way.  So what happens to a
 * zygote that loads (the application cannot be imported, the import hangs, a signal) happens to the worker, and is
 * judged as with a worker that loads by itself.
 *
 * A zygote that is not needed any more is killed: it has nothing to put away.  A zygote that was killed is started
 * again for the next worker. */
#ifndef FERMATA_ARBITER_ZYGOTES_H
#define FERMATA_ARBITER_ZYGOTES_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "fermata/arbiter/launch.h"
#include "fermata/net/loop.h"

#define FM_ZYGOTES_MAX 8 /* two, and those that have been killed and are not gone yet */

struct fm_zygote {
    pid_t pid; /* 0: none */
    int fd;    /* our end; -1: closed */
    struct event *event;
    struct timespec since; /* CLOCK_REALTIME before it began */
    bool loaded;
    bool retired;    /* not to be asked any more */
    void *under_way; /* the worker that was asked for, as the caller names it, or NULL */
    struct fm_zygotes *of;
};

struct fm_zygotes_ops {
    /* The worker has a pid of its own now. */
    void (*born)(void *ctx, void *worker, pid_t pid);
    /* The import has started threads: this worker, and all others of the generation, are to load by themselves. */
    void (*alone)(void *ctx, void *worker);
    /* There will be no worker: it could not be forked, or the zygote has ended with this status of wait(2). */
    void (*failed)(void *ctx, void *worker, int status);
};

struct fm_zygote_generation {
    struct fm_zygote *zygote; /* NULL: none is there now */
    bool alone;               /* there is to be none */
};

struct fm_zygotes {
    struct fm_loop *loop;
    struct fm_launch launch;
    const struct fm_zygotes_ops *ops;
    void *ctx;
    struct fm_zygote all[FM_ZYGOTES_MAX];
    struct fm_zygote_generation serving, tried;
    bool reloading;  /* the next worker is of `tried` */
    bool impossible; /* orphans do not come to this process */
};

/* Has orphans come to this process.  The rest of *zs is set by the caller before. */
void fm_zygotes_init(struct fm_zygotes *zs);

/* Are the workers of this generation to load by themselves? */
bool fm_zygotes_alone(const struct fm_zygotes *zs);

/* May a worker be asked for?  If not: when the one that is under way is born. */
bool fm_zygotes_can(const struct fm_zygotes *zs);

/* Asks for a worker, where one may be; starts the zygote if there is none.  0 with its zygote in *of; -EAGAIN: the
 * zygote has ended, and that will be seen soon; else another negated errno. */
int fm_zygotes_ask(struct fm_zygotes *zs, const struct fm_handed *h, void *worker, struct fm_zygote **of) FM_ON_LOOP;

/* The worker that is under way is not wanted any more: a zygote that loads is killed; a signal waits for the worker
 * where it is about to be born, unless it is to be by force. */
void fm_zygotes_interrupt(struct fm_zygote *z, bool by_force);

/* A process was reaped: was it a zygote?  Also where it was none, this takes what zygotes have said: a worker may have
 * been born and have ended. */
bool fm_zygotes_reaped(struct fm_zygotes *zs, pid_t pid, int status) FM_ON_LOOP;

/* A reload begins; its first worker is ready; it has failed. */
void fm_zygotes_reload(struct fm_zygotes *zs) FM_ON_LOOP;
void fm_zygotes_keep(struct fm_zygotes *zs) FM_ON_LOOP;
void fm_zygotes_drop(struct fm_zygotes *zs) FM_ON_LOOP;

/* At the end, when there are no workers: none is left. */
void fm_zygotes_end(struct fm_zygotes *zs) FM_ON_LOOP;

#endif

/* The zygote of --preload: a process that loads the application once and forks the workers, which share its memory.
 *
 * It is executed by the arbiter, so that each reload begins with a fresh interpreter, and has one thread: what a fork
 * copies is that thread alone.  Nothing of the server that has threads, a loop or counters is made in it; a worker
 * makes them after the fork, as one that was executed does.  A worker's parent is a process that ends at once: so it
 * comes to the arbiter, which has made itself the one where orphans come. */
#ifndef FERMATA_WORKER_ZYGOTE_H
#define FERMATA_WORKER_ZYGOTE_H

#include "fermata/config/options.h"
#include "fermata/worker/handed.h"

/* What a zygote, or the process between it and a worker, tells the arbiter; one message of the socket each. */
enum fm_zygote_word {
    FM_ZYGOTE_LOADED, /* the application is loaded, and workers are forked from now on */
    FM_ZYGOTE_ALONE,  /* the import has started threads: each worker has to load the application by itself; it ends */
    FM_ZYGOTE_BORN,   /* `value` is the pid of the worker that was asked for */
    FM_ZYGOTE_BARREN, /* it could not be forked */
};

struct fm_zygote_says {
    int word; /* enum fm_zygote_word */
    int value;
};

/* Loads the application, then forks a worker for each message.  In a worker it returns -1, with *h for fm_worker_run;
 * else the exit code, when the arbiter has closed the socket or the application could not be loaded. */
int fm_zygote_run(const struct fm_options *o, const char *program, struct fm_handed *h);

#endif

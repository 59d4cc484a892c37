/* One worker process: how it starts, serves and ends.  What is process-wide (signals, limits, exit, fork) is done by
 * the files of this folder; architecture.md names the exceptions. */
#ifndef FERMATA_WORKER_WORKER_H
#define FERMATA_WORKER_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "fermata/config/options.h"
#include "fermata/net/loop.h"
#include "fermata/sched/sched.h"
#include "fermata/server/conns.h"
#include "fermata/server/service.h"
#include "fermata/worker/handed.h"

struct fm_admin;

struct fm_worker {
    const struct fm_options *options;
    struct fm_loop loop;
    struct fm_sched sched;
    struct fm_service service; /* what the connections see of it */
    struct fm_conns conns;
    struct fm_admin *admin;  /* or NULL */
    struct fm_handed handed; /* by an arbiter */
    unsigned max_conns, max_body_files;
    atomic_bool ready;            /* the application is loaded */
    atomic_bool gil_may_change;   /* see gil.h */
    atomic_flag gil_is_looked_at; /* guards gil_is_on, gil_since and gil_is_told */
    _Atomic uint64_t gil_looked;  /* when it was looked at last */
    uint64_t gil_since;           /* when it was found so first */
    bool gil_is_on, gil_is_told;
    atomic_bool replaced;                                    /* others accept what waits; written by the guard */
    bool quick, ending;                                      /* see drain.c; loop only */
    struct fm_timer delay, graceful, last, spread, watchdog; /* loop only */
    unsigned spread_steps;                                   /* that have been; loop only */
    struct fm_timer look;                                    /* health.c; loop only, as the next three */
    bool exhausted, no_gil;                                  /* the threads do not get on */
    struct event *control_event;                             /* control.c; or NULL */
    uint64_t started;                                        /* fm_now */
    uint64_t told_at;                                        /* that there is a client; loop only */
    struct fm_event open;                                    /* posted by the main thread */
    struct fm_event leave_event, drain_event, quick_event, hurry_event; /* posted by the guard */
};

/* Binds, or takes over what an arbiter has bound; starts threads, loads the application, serves until a signal, drains.
 * program is how the command was called.  Returns the exit code. */
int fm_worker_run(const struct fm_options *o, const char *program, const struct fm_handed *handed);

/* Tells the service manager that all is well, if it wants to be told, and goes on to. */
fm_timer_fn fm_worker_timeout_watchdog;
/* --check-config: starts Python and loads the application, as a worker would, and listens nowhere.  The exit code. */
int fm_worker_check(const struct fm_options *o, const char *program);

#endif

/* What connections and their requests see of the worker that they belong to. */
#ifndef FERMATA_SERVER_SERVICE_H
#define FERMATA_SERVER_SERVICE_H

#include <stdatomic.h>

#include "fermata/config/options.h"
#include "fermata/net/loop.h"
#include "fermata/sched/sched.h"
#include "fermata/server/slow.h"

struct fm_access_log;
struct fm_statsd;

struct fm_service { /* set before any thread starts, but for the flags; outlives all connections */
    struct fm_loop *loop;
    struct fm_sched *sched;
    const struct fm_options *options;              /* timeouts and limits among them */
    struct fm_access_log *_Atomic access;          /* or NULL; the guard reads it, too */
    struct fm_statsd *statsd;                      /* or NULL */
    uint64_t begun;                                /* requests, the number of the last one; loop only */
    struct fm_slow slow;                           /* loop only */
    uint64_t served, enough;                       /* requests; when there are enough of them; 0: never.  Loop only */
    void (*on_enough)(struct fm_service *service); /* once, on the loop */
    void (*on_client)(struct fm_service *service); /* there is one, and was none; on the loop; or NULL */
    /* Logs where the thread (fm_call.thread) is, for `what` has waited for it in vain.  Never waits; or NULL. */
    void (*report_stack)(unsigned long thread, const char *what);
    atomic_bool leaving;  /* responses say that the connection ends; written by the guard */
    atomic_bool draining; /* no new requests; written by the loop */
    /* In a drain: clients lose nothing by it, as others serve them, so idle connections are given a moment in which the
     * request that may be on its way is answered; written by the loop. */
    atomic_bool others_serve;
};

#endif

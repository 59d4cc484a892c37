/* What the admin port asks of whom it belongs to: a worker, or an arbiter. */
#ifndef FERMATA_ADMIN_SOURCE_H
#define FERMATA_ADMIN_SOURCE_H

#include <stdbool.h>

#include "fermata/admin/guard.h"

struct fm_buf;
struct fm_inquiry;
struct fm_counters_sum;
struct fm_ages_sum;
struct fm_usage;
struct fm_status;
struct fm_status_about;
struct fm_stacks;

#define FM_ADMIN_HEAD 16384 /* bytes of a head that is handed over, at most */

struct fm_admin_source { /* what the page asks the server; any thread, never blocking */
    bool (*ready)(void *ctx);
    void (*threads)(void *ctx, unsigned *busy, unsigned *idle);
    void *ctx;
    struct fm_admin_rules rules;
    const char *(*why_ill)(void *ctx); /* NULL, or why /healthz is to say 503; the function or NULL: it never is */
    /* Each of these may be NULL: */
    const char *python; /* the version, for fermata_build_info; lives as long as the admin port */
    void (*counters)(void *ctx, struct fm_counters_sum *sum, struct fm_ages_sum *ages); /* else those of this process */
    /* Or NULL: there are no status pages.  Visits more of the requests, first the first: true if those were the last.
     */
    bool (*walk)(void *ctx, struct fm_status *s, bool first);
    void (*about)(void *ctx, struct fm_status_about *about); /* with walk: fills in what it knows */
    bool (*usage)(void *ctx, struct fm_usage *usage);        /* the same */
    void (*more_metrics)(void *ctx, struct fm_buf *to);      /* what follows on the metrics page */
    /* Or NULL: there is no POST /stacks.  Has a thread find out where the threads are that run the application (0, or a
     * negated errno), which calls found once, with what is found, then the caller's, or NULL.  It is not called again
     * before that. */
    int (*ask_stacks)(void *ctx, void (*found)(void *arg, struct fm_stacks *stacks), void *arg);
    /* Both (util/inquiry.h) outlive the admin port; they are waited for as long as these timeout kinds of the loop say.
     */
    struct fm_inquiry *app_metrics; /* /metrics/app */
    struct fm_inquiry *futures;     /* with walk: what requests wait for (wsgi/inquiries.h) */
    unsigned metrics_kind, futures_kind;
    void (*workers)(void *ctx, struct fm_buf *to); /* /workers, as JSON; else there is no such page */
    /* With workers: hands a client over, with the head of its request, to the worker that is asked for.  0: it is that
     * worker's; the caller closes its own descriptor.  Or the status of an answer, with a sentence for its body. */
    int (*hand_over)(void *ctx, unsigned slot, int fd, const char *head, size_t len, struct fm_buf *to);
    void (*slots)(void *ctx, struct fm_buf *to); /* with it: "0, 1, 2", the workers that there are */
};

#endif

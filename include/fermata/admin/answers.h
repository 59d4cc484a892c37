/* What the admin port answers to which request; who sends it, and when, is admin.c's.  On the loop. */
#ifndef FERMATA_ADMIN_ANSWERS_H
#define FERMATA_ADMIN_ANSWERS_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/admin/metrics.h"
#include "fermata/admin/source.h"
#include "fermata/admin/status.h"
#include "fermata/util/buf.h"
#include "fermata/util/clock.h"

struct fm_request;

struct fm_admin_answers {
    struct fm_admin_source source;
    bool is_local;   /* only processes of this machine can connect */
    bool is_checked; /* who hands its clients over has looked who may see what */
    struct fm_metrics_shown shown;
    uint64_t rate_at, answered; /* when requests were counted last, and how many there were */
    double last_rate;
    struct fm_stacks *stacks; /* that were found last, or NULL; admin.c's */
};

struct fm_admin_answer {
    int status;
    const char *type, *fields; /* Content-Type, and whole lines of other fields */
    char age[32];              /* the line of the field Age, or "" */
    struct fm_buf body;        /* the caller's to free */
};

struct fm_admin_asked { /* what of the requests in the server is to be shown */
    bool app_metrics;   /* none of it, but the application's metrics */
    bool hand_over;     /* nothing of ours: the worker in this slot is asked */
    unsigned slot;
    uint8_t page;
    struct fm_status_query query;
};

/* Are stacks asked for?  Then somebody is to find them first, before the requests are looked at. */
bool fm_admin_wants_stacks(const struct fm_admin_asked *asked);

/* Where they cannot be found. */
void fm_admin_answer_no_stacks(struct fm_admin_answer *answer, int err);

/* How old the application's metrics may be: those of a Python that does not answer any more say nothing of now. */
#define FM_APP_METRICS_OLDEST (60 * FM_SEC)

/* How long they are waited for: so long the source's metrics_kind is. */
#define FM_APP_METRICS_WAIT FM_SEC

/* True with *answer; false with *asked: first the requests are to be looked at, or the application is to be asked for
 * its metrics, or another process is to answer. */
bool fm_admin_answer(struct fm_admin_answers *a, const struct fm_request *r, struct fm_admin_answer *answer,
                     struct fm_admin_asked *asked);

/* Hands the client on fd over to the worker that it asks for.  True: it is that one's.  Else *answer says why not. */
bool fm_admin_hand_over(struct fm_admin_answers *a, const struct fm_admin_asked *asked, const struct fm_request *r,
                        int fd, struct fm_admin_answer *answer);

/* When all have been seen; s may be NULL: there is no memory. */
void fm_admin_answer_status(struct fm_admin_answers *a, uint8_t page, struct fm_status *s,
                            struct fm_admin_answer *answer);

/* Is the answer to what requests wait for (source.futures) worth to be waited for?  It mostly comes in a moment; a
 * Python that has not answered so far holds nobody up. */
#define FM_FUTURES_WAIT (5 * FM_MS)
bool fm_admin_waits_for_futures(const struct fm_admin_answers *a, uint8_t page);

/* With the application's metrics as they were told last: when they have been, or have been waited for long enough. */
void fm_admin_answer_app(struct fm_admin_answers *a, struct fm_admin_answer *answer);

#endif

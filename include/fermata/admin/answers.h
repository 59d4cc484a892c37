/* What the admin port answers to which request; who sends it, and when, is admin.c's.  On the loop. */
#ifndef FERMATA_ADMIN_ANSWERS_H
#define FERMATA_ADMIN_ANSWERS_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/admin/metrics.h"
#include "fermata/admin/source.h"
#include "fermata/admin/status.h"
#include "fermata/util/buf.h"

struct fm_request;

struct fm_admin_answers {
    struct fm_admin_source source;
    bool is_local; /* only processes of this machine can connect */
    struct fm_metrics_shown shown;
    uint64_t rate_at, answered; /* when requests were counted last, and how many there were */
    double last_rate;
    struct fm_stacks *stacks; /* that were found last, or NULL; admin.c's */
};

struct fm_admin_answer {
    int status;
    const char *type, *fields; /* Content-Type, and whole lines of other fields */
    struct fm_buf body;        /* the caller's to free */
};

struct fm_admin_asked { /* what of the requests in the server is to be shown */
    uint8_t page;
    struct fm_status_query query;
};

/* Are stacks asked for?  Then somebody is to find them first, before the requests are looked at. */
bool fm_admin_wants_stacks(const struct fm_admin_asked *asked);

/* Where they cannot be found. */
void fm_admin_answer_no_stacks(struct fm_admin_answer *answer, int err);

/* True with *answer; false with *asked: first the requests are to be looked at. */
bool fm_admin_answer(struct fm_admin_answers *a, const struct fm_request *r, struct fm_admin_answer *answer,
                     struct fm_admin_asked *asked);

/* When all have been seen; s may be NULL: there is no memory. */
void fm_admin_answer_status(struct fm_admin_answers *a, uint8_t page, struct fm_status *s,
                            struct fm_admin_answer *answer);

#endif

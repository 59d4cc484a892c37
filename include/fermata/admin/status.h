/* What the status pages show: gathered a part at a time, then rendered (admin/render.h).  All of it on the loop.
 *
 * Of all requests in the server there are groups by where they wait, and of the oldest a page: never a list of all.
 * What requests carry beside method, path and client's address is not in here, so that it cannot be shown. */
#ifndef FERMATA_ADMIN_STATUS_H
#define FERMATA_ADMIN_STATUS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fermata/util/places.h"

/* X(ID, "name"): as in the metrics. */
#define FM_STATUS_STATES(X)                                                                                            \
    X(QUEUED, "queued")                                                                                                \
    X(RUNNING, "running")                                                                                              \
    X(PARKED_FUTURE, "parked_future")                                                                                  \
    X(PARKED_CLIENT, "parked_client")                                                                                  \
    X(SENDING, "sending")

enum fm_status_state {
#define X(id, name) FM_STATUS_##id,
    FM_STATUS_STATES(X)
#undef X
        FM_STATUS_STATE_COUNT,
};

const char *fm_status_state_name(enum fm_status_state state);

#define FM_STATUS_PATH 256
#define FM_STATUS_METHOD 24
#define FM_STATUS_CLIENT 46
#define FM_STATUS_TRACE 32
#define FM_STATUS_MOST 1000 /* requests on a page */
#define FM_STATUS_MOST_RUNNING 64
#define FM_STATUS_MOST_GROUPS 100

struct fm_status_request {
    uint64_t number;        /* since the start, by when they came */
    uint64_t age, in_state; /* ns */
    uint8_t state;          /* enum fm_status_state */
    uint16_t place;         /* of what is parked on a future */
    uint16_t thread;        /* of what runs: the number of the thread, from 1 */
    uint16_t status;        /* of what is over; 0: none */
    char method[FM_STATUS_METHOD + 1], client[FM_STATUS_CLIENT];
    char path[FM_STATUS_PATH + 1];   /* cut */
    char trace[FM_STATUS_TRACE + 1]; /* the id of its trace, or "" */
};

struct fm_status_group { /* requests that wait at one place */
    uint16_t place;
    uint16_t ages; /* of which number theirs are, until it is finished */
    uint8_t state; /* parked on a future, or on the client: of these there is one group */
    unsigned n;
    uint64_t oldest, median; /* how long they have been parked, in ns; the latter within a tenth */
    uint64_t example;        /* the number of the oldest */
};

struct fm_status_query { /* which requests are wanted */
    int place, state;    /* -1: any */
    uint64_t after;      /* those with greater numbers */
    unsigned limit;      /* FM_STATUS_MOST at most; 0: none */
};

struct fm_status_worker { /* one of those that these are sums of */
    unsigned slot;
    pid_t pid;
    const char *state, *why; /* what it does; why it is to end, or "" */
    uint64_t since;          /* that it does, in ns */
    uint64_t requests;       /* answered */
    uint64_t connections, parked;
};

struct fm_status_about { /* what is asked for at the end; texts live as long as the admin port */
    const char *application, *python;
    pid_t pid;
    bool ready, draining, has_places;
    unsigned threads, busy;
    unsigned workers; /* that these are sums of: then there are no groups and no requests; 0: it is one process */
    const struct fm_status_worker *each; /* all of them, by slot, also those that are not ready */
    unsigned neach;
    bool is_worker; /* one of several, this one: */
    unsigned slot;
    uint64_t up;                          /* ns */
    double rate;                          /* requests answered a second, lately; below 0: not known yet */
    const struct fm_status_request *slow; /* lately, the slowest first; age is how long it took */
    unsigned nslow;
};

struct fm_status_kind { /* of futures that requests wait for at a place */
    uint16_t place;
    unsigned n; /* of those that were looked at */
    const char *text;
};

struct fm_status_python { /* what Python has answered, in ns; kinds are as they were then */
    bool asked;           /* else nothing is known of it */
    bool answered;        /* once at least, `age` ago */
    uint64_t age, silent; /* for so long it has not answered; 0: it has, or was asked just now */
    struct fm_status_kind *kinds;
    unsigned nkinds;
    char *text; /* that they are in */
};

struct fm_status {
    struct fm_status_about about;
    struct fm_status_python python;
    struct {
        uint64_t n, oldest;
    } in[FM_STATUS_STATE_COUNT];
    struct fm_status_group *groups; /* once it is finished the FM_STATUS_MOST_GROUPS largest, these first */
    unsigned ngroups;
    unsigned more_groups;               /* that are not among them, */
    uint64_t in_more;                   /* and how many requests they have */
    struct fm_status_request *requests; /* as wanted, oldest first, once it is finished */
    unsigned nrequests;
    uint64_t more; /* that were wanted, and are not among them */
    struct fm_status_request running[FM_STATUS_MOST_RUNNING];
    unsigned nrunning;
    bool failed; /* there was no memory for all */
    struct fm_status_work *work;
};

/* A request as it is seen; texts are copied as far as they are kept. */
struct fm_status_seen {
    uint64_t number, age, in_state;
    enum fm_status_state state;
    uint16_t place, thread;
    const char *method, *path, *client;
    const char *trace; /* FM_STATUS_TRACE characters, or NULL: it belongs to none */
    unsigned method_len, path_len;
};

/* NULL: no memory. */
struct fm_status *fm_status_new(const struct fm_status_query *query);
void fm_status_free(struct fm_status *s);

void fm_status_see(struct fm_status *s, const struct fm_status_seen *seen);

/* Copies what is seen, cut to what there is room for. */
void fm_status_take(struct fm_status_request *to, const struct fm_status_seen *seen);

/* All have been seen: sorts, cuts to the largest groups, and takes their medians. */
void fm_status_finish(struct fm_status *s);

struct fm_inquiry;

/* Takes the last answer (wsgi/inquiries.h says what it is) at `now`, fm_now.  Without memory there is none. */
void fm_status_take_kinds(struct fm_status *s, struct fm_inquiry *futures, uint64_t now);
void fm_status_free_kinds(struct fm_status *s);

/* The kinds at a place: the first, or NULL; those of a place are next to each other. *n of them; *looked_at: the sum of
 * what there is of each. */
const struct fm_status_kind *fm_status_kinds_at(const struct fm_status *s, uint16_t place, unsigned *n,
                                                unsigned *looked_at);

#endif

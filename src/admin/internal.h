/* What the files of the admin port share: the port, its connections, and how they wait.  All of it on the loop, where
 * nothing else is said. */
#ifndef FERMATA_ADMIN_INTERNAL_H
#define FERMATA_ADMIN_INTERNAL_H

#include <stdatomic.h>

#include "fermata/admin/admin.h"
#include "fermata/admin/answers.h"
#include "fermata/net/listener.h"
#include "fermata/net/loop.h"
#include "fermata/net/stream.h"

struct answered { /* what was asked of Python; posted, once at a time, when there is an answer */
    struct fm_event event;
    atomic_bool posted;
    struct fm_admin *admin;
};

struct fm_admin {
    struct fm_loop *loop; /* NULL: it has not been started */
    struct fm_listener listener;
    struct fm_admin_answers answers;
    struct fm_list conns; /* the one whose last request is oldest first */
    unsigned nconns, most, idle_kind;
    int published; /* a descriptor, or less than 0 */
    bool paused;
    struct fm_list waiting;   /* clients for whom the requests are looked at, one after the other */
    struct fm_status *status; /* what has been seen so far, for the first of them */
    struct fm_event survey;   /* posted while there are any, and the first one's is not `walked` */
    bool walked;              /* all have been seen for the first: it waits for what Python says of them */
    struct fm_list asking;    /* clients for whom the application is asked for its metrics */
    struct answered metrics, futures;
    struct fm_list for_stacks; /* clients for whom stacks are being found; they wait for the requests afterwards */
    struct fm_event found;     /* posted when they are */
    bool finding;              /* somebody is at it, until then */
    struct fm_stacks *_Atomic stacks; /* what was found; from the thread that has found it */
};

enum admin_state {
    OPEN,
    WAITING, /* for the requests to be looked at, or for the application; what comes is kept */
    ENDING,  /* the last answer is given: what comes is dropped, and the client closes, or the idle timeout does */
    CLOSED,
};

struct admin_conn {
    struct fm_stream stream;
    struct fm_list node;
    struct fm_timer idle;
    struct fm_admin *admin;
    struct fm_parser *parser;
    struct fm_buf ahead;         /* requests behind the one that was answered in this turn of the loop */
    struct fm_event more;        /* posted while there are any */
    struct fm_event gone;        /* frees it, at the end of the turn in which it was closed */
    struct fm_list wait;         /* in one of the admin's lists, while WAITING */
    struct fm_timer late;        /* while it waits for what is asked of Python */
    struct fm_admin_asked asked; /* what for */
    bool keep, is_head;          /* of the request that is answered */
    uint8_t state;               /* enum admin_state */
    bool answered;               /* and nothing has come since */
};

/* ---- conn.c ---- */

/* 0, or FM_ECLOSED: then the connection is to be closed.  The answer's body is freed. */
int fm_admin_send(struct admin_conn *c, struct fm_admin_answer *answer) FM_ON_LOOP;

/* Goes on with what was read ahead, unless the client has to read first: then it is called when that has. */
void fm_admin_answer_more(struct admin_conn *c) FM_ON_LOOP;

/* After an answer for which the connection has waited: what was read ahead meanwhile is read now. */
void fm_admin_go_on(struct admin_conn *c) FM_ON_LOOP;

/* It waits for nothing any more, and is freed at the end of the turn: by this event. */
void fm_admin_close(struct admin_conn *c) FM_ON_LOOP;
void fm_admin_conn_free(struct fm_event *gone);

/* ---- gather.c: what takes more than a turn of the loop ---- */

void fm_admin_gather_init(struct fm_admin *a);

/* What Python answers is heard of, from now on or no more. */
void fm_admin_gather_listen(struct fm_admin *a, bool listen);

/* Nothing is posted any more; frees what was found. */
void fm_admin_gather_fini(struct fm_admin *a) FM_ON_LOOP;

/* The connection waits for what it has asked for, and is answered then; or it is answered at once, as that cannot be
 * had.  0, or FM_ECLOSED. */
int fm_admin_gather(struct admin_conn *c) FM_ON_LOOP;

#endif

/* One request and its response, the server's half: between its connection on the loop and the steps on the threads.
 *
 * An exchange is part of its connection and serves one request after another.  It knows the stream that the response
 * goes to and what it belongs to (server/service.h), but no connection and no protocol: of the protocol's it has the
 * request, which it gives back, and on_over.
 *
 *   begin    the connection has a whole request; its task goes to the scheduler
 *   end      from outside: the client is gone, or has no patience any more, or we have none
 *   output   the loop has sent some of what was kept
 *   on_over  called once for each begin: the response is with the kernel, or never will be
 *
 * Who may touch what: the loop owns the exchange before begin and after its finished event; in between the task's
 * holder owns the call, and the loop only reads the task's state, aborts it, and uses writer and stream under their
 * locks.  Locks in order: writer, stream, then the leaf locks of scheduler and inbox. */
#ifndef FERMATA_SERVER_REQUEST_H
#define FERMATA_SERVER_REQUEST_H

#include "fermata/net/stream.h"
#include "fermata/server/service.h"
#include "fermata/wsgi/call.h"

struct fm_exchange;

/* On the loop, as the last thing that a function below does.  broken: the client must see that the response is not
 * whole.  The connection takes the request back (fm_exchange_drop), and may close, or begin the next one at once. */
typedef void fm_over_fn(struct fm_exchange *x, bool broken);

struct fm_exchange {
    struct fm_call call;
    struct fm_service *service;
    struct fm_stream *stream; /* the connection's */
    fm_over_fn *on_over;
    struct fm_event finished;    /* posted by the thread of the last step */
    struct fm_timer deadline;    /* --request-timeout */
    struct fm_timer queue_timer; /* --queue-timeout */
    pthread_cond_t drained;      /* write() waits on it, with the stream's lock */
    atomic_bool urgent;          /* set by the loop: something waits for the end of this exchange */
    atomic_bool more;            /* bytes of the next request are there; set by the connection, read with the head */
    atomic_bool kept;            /* the connection has kept of what it was given last; written with the writer's lock */
    uint64_t number;             /* of the request, since the start */
    uint64_t begun;              /* when the request was complete */
    uint64_t over;               /* when its last step or its last byte was, whichever is later; 0: not yet */
    uint64_t sending_since;      /* while `sending`: when its last step was over; loop only */
    _Atomic uint16_t status;     /* answered by the server itself, or 0; written by who has claimed the writer */
    uint64_t sent_before;        /* what the stream had sent before the response */
    uint16_t answer_len;         /* bytes of the server's own answer; written with status */
    bool sending;                /* its last step is over, its last bytes are not with the kernel yet; loop only */
    bool ending;                 /* ended from outside; loop only */
    uint8_t outcome;             /* enum fm_outcome, once finished */
};

/* peer: its texts live as long as the exchange. */
void fm_exchange_init(struct fm_exchange *x, struct fm_service *service, struct fm_stream *stream,
                      const struct fm_peer *peer, fm_over_fn *on_over) FM_ON_LOOP;
void fm_exchange_fini(struct fm_exchange *x) FM_ON_LOOP;

/* Takes the request over and puts it on the run queue. */
void fm_exchange_begin(struct fm_exchange *x, struct fm_request *request) FM_ON_LOOP;

/* In on_over: gives the request back.  The writer keeps nothing after a complete response. */
struct fm_request *fm_exchange_drop(struct fm_exchange *x) FM_ON_LOOP;

/* Has some of the response been sent, and is more of it to come? */
bool fm_exchange_is_streaming(struct fm_exchange *x) FM_ON_LOOP;

/* The connection closes: the same where a request is left (no thread has it any more), else NULL; on_over will not be
 * called. */
struct fm_request *fm_exchange_close(struct fm_exchange *x) FM_ON_LOOP;

/* Why a request is ended from outside. */
enum fm_end { FM_END_GONE, FM_END_HALF_CLOSED, FM_END_DEADLINE, FM_END_SHUTDOWN, FM_END_SEND_TIMEOUT };

/* Ends the request: answers where nothing has left (504, 503), and has the last step run.  It is over at once if it had
 * not begun, or was being sent; otherwise its finished event will come. */
void fm_exchange_end(struct fm_exchange *x, enum fm_end why) FM_ON_LOOP;

/* The loop has sent some output: resumes a request or a write() that waits for room, and ends what was being sent. */
void fm_exchange_output(struct fm_exchange *x) FM_ON_LOOP;

/* The second answers 503 where no thread has begun the request. */
fm_timer_fn fm_exchange_timeout_request, fm_exchange_timeout_queue;

#endif

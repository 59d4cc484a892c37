/* One client connection: bytes in, requests out, one at a time, in order.
 *
 * Created and freed by the loop only.  At most one exchange at a time; it lives as long as its connection needs it, so
 * a connection is not freed while a thread runs a step for it.
 *
 *   READING    waiting for (the rest of) a request
 *   STORING    all of a request is there, but its body is still being written to a file
 *   BUSY       the scheduler has the exchange
 *   SENDING    its last step is over, its last bytes are not with the kernel yet
 *   LINGERING  our direction is ended; what the client still sends is read and dropped, so that it can read our answer
 */
#ifndef FERMATA_SERVER_CONN_H
#define FERMATA_SERVER_CONN_H

#include "fermata/http/h1/parser.h"
#include "fermata/net/stream.h"
#include "fermata/server/pace.h"
#include "fermata/server/server.h"
#include "fermata/wsgi/call.h"

enum fm_conn_state { FM_CONN_READING, FM_CONN_STORING, FM_CONN_BUSY, FM_CONN_SENDING, FM_CONN_LINGERING };

struct fm_conn;

struct fm_exchange { /* one request and its response; used again for the next one on the connection */
    struct fm_call call;
    struct fm_conn *conn;
    struct fm_event finished;    /* posted by the thread of the last step */
    struct fm_timer deadline;    /* --request-timeout */
    struct fm_timer queue_timer; /* --queue-timeout */
    pthread_cond_t drained;      /* write() waits on it, with the stream's lock */
    atomic_bool urgent;          /* set by the loop: something waits for the end of this exchange */
    uint64_t begun;              /* when the request was complete */
    uint64_t over;               /* when its last step or its last byte was, whichever is later */
    _Atomic uint16_t status;     /* answered by the server itself, or 0; written by whoever claimed the writer */
    uint64_t sent_before;        /* what the stream had sent before the response */
    uint16_t answer_len;         /* bytes of the server's own answer; written with status */
    bool ending;                 /* ended from outside; loop only */
    uint8_t outcome;             /* enum fm_outcome, once finished */
};

struct fm_conn {
    struct fm_stream stream;
    struct fm_list node; /* in server->conns */
    struct fm_server *server;
    struct fm_parser *parser;
    struct fm_exchange *exchange; /* &own while there is one, or NULL */
    struct fm_exchange own;
    struct fm_buf ahead;   /* bytes that came while busy */
    struct fm_timer timer; /* whichever timeout counts now */
    uint8_t state;         /* enum fm_conn_state */
    uint8_t listener;      /* which one accepted it */
    bool ended;            /* the client ended its direction */
    bool slow_disk;        /* READING, but nothing is read until the body's file has taken what is there */
    bool served;           /* a request of it has been answered */
    bool last_read;        /* draining: nothing is read any more behind its request but once */
    atomic_bool more;      /* bytes of the next request are there; written by the loop, read by who writes a head */
    uint8_t timing;        /* enum fm_timeout that `timer` runs for, while READING */
    uint16_t remote_port;
    struct fm_pace pace;
    char remote[46];
};

/* on_accept of the listeners. */
fm_accept_fn fm_conn_accept;

/* The drain begins: an idle connection ends, a busy one when what has arrived is answered. */
void fm_conn_drain(struct fm_conn *c) FM_ON_LOOP;

/* The graceful timeout has passed: whatever it does ends now (503 if no head has left). */
void fm_conn_expire(struct fm_conn *c) FM_ON_LOOP;

fm_timer_fn fm_conn_timeout_idle, fm_conn_timeout_header, fm_conn_timeout_body, fm_conn_timeout_send,
    fm_conn_timeout_linger, fm_conn_timeout_drain, fm_conn_timeout_request, fm_conn_timeout_queue;

/* spools.c: from now on bodies go into files without the loop waiting for the disk, and fm_conn_stored is called. */
void fm_spools_start(struct fm_loop *l);

/* Some of the body of its request has been written to its file. */
void fm_conn_stored(struct fm_conn *c) FM_ON_LOOP;

/* For exchange.c: the exchange's response is complete or broken, on the loop. */
void fm_conn_exchange_over(struct fm_conn *c, bool broken) FM_ON_LOOP;
void fm_conn_close(struct fm_conn *c) FM_ON_LOOP;

/* exchange.c */
void fm_exchange_init(struct fm_exchange *x, struct fm_conn *c) FM_ON_LOOP;
void fm_exchange_fini(struct fm_exchange *x) FM_ON_LOOP;

/* Takes the request over and puts it on the run queue. */
void fm_exchange_begin(struct fm_exchange *x, struct fm_request *request) FM_ON_LOOP;

/* Frees the request; nobody else uses the exchange any more.  The writer keeps nothing after a complete response. */
void fm_exchange_drop(struct fm_exchange *x) FM_ON_LOOP;

/* Why a request is ended from outside. */
enum fm_end { FM_END_GONE, FM_END_HALF_CLOSED, FM_END_DEADLINE, FM_END_SHUTDOWN, FM_END_SEND_TIMEOUT };

/* Ends the request: answers where nothing has left (504, 503), and has the last step run.  True if the exchange is over
 * at once (it had not begun); otherwise its finished event will come. */
bool fm_exchange_end(struct fm_exchange *x, enum fm_end why) FM_ON_LOOP;

/* Nobody has begun the request: takes it back and answers 503.  False: a thread has it. */
bool fm_exchange_shed(struct fm_exchange *x) FM_ON_LOOP;

/* Running thread or loop, after fm_writer_claim: the server's own answer. */
void fm_exchange_answer(struct fm_exchange *x, int status) FM_ANY_THREAD;

/* The loop sent some output: resumes a request or a write() that waits for room. */
void fm_exchange_output(struct fm_exchange *x) FM_ON_LOOP;

/* Counts and logs the request at its end. */
void fm_exchange_account(struct fm_exchange *x, bool complete) FM_ON_LOOP;

#endif

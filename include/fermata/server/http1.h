/* One HTTP/1 connection: bytes in, requests out, one at a time, in order.
 *
 * All of it on the loop.  Its one exchange (server/request.h) is part of it, and is used for one request after another.
 * Its states, and who changes them when, are the two tables below; debug builds check each transition.  Only http1.c
 * changes a state.  A connection that is CLOSED is out of everything (its socket, its timers, the set it was in) and is
 * freed at the end of the loop's turn: what is called on it after that, in that turn, does nothing. */
#ifndef FERMATA_SERVER_HTTP1_H
#define FERMATA_SERVER_HTTP1_H

#include "fermata/http/h1/parser.h"
#include "fermata/net/stream.h"
#include "fermata/server/pace.h"
#include "fermata/server/request.h"
#include "fermata/server/service.h"

/* X(STATE, "what it is") */
#define FM_HTTP1_STATES(X)                                                                                             \
    X(READING, "waiting for a request, or for the rest of one")                                                        \
    X(STORING, "all of a request is there, but its body is still being written to a file")                             \
    X(BUSY, "the exchange has the request, until the last byte of the response is with the kernel")                    \
    X(LINGERING, "our direction is ended; what the client still sends is read and dropped, so that it can read our "   \
                 "answer")                                                                                             \
    X(CLOSED, "about to be freed")

/* X(FROM, TO, "when"): every transition there is. */
#define FM_HTTP1_MOVES(X)                                                                                              \
    X(READING, STORING, "the last byte of a request came before its body was stored")                                  \
    X(READING, BUSY, "a request is complete")                                                                          \
    X(STORING, BUSY, "its body is stored")                                                                             \
    X(READING, LINGERING, "what came is refused, or came too late")                                                    \
    X(STORING, LINGERING, "the body could not be stored, or too many wait for a thread")                               \
    X(BUSY, READING, "the response is with the kernel, and the connection is kept")                                    \
    X(BUSY, LINGERING, "... and is not")                                                                               \
    X(READING, CLOSED, "the client has left, or said nothing for too long; a drain begins")                            \
    X(STORING, CLOSED, "the client has left; what came is refused, and it had ended its direction")                    \
    X(BUSY, CLOSED, "the response is broken off; it is complete, and the client sends nothing more")                   \
    X(LINGERING, CLOSED, "the client has ended its direction too, or takes too long")

enum fm_http1_state {
#define X(state, what) FM_HTTP1_##state,
    FM_HTTP1_STATES(X)
#undef X
        FM_HTTP1_STATE_COUNT,
};

struct fm_http1;
typedef void fm_http1_closed_fn(struct fm_http1 *c);

struct fm_http1 {
    struct fm_stream stream;
    struct fm_list node; /* the owner's */
    struct fm_service *service;
    void *owner;
    fm_http1_closed_fn *on_closed;
    struct fm_parser *parser;
    struct fm_exchange exchange; /* has a request while BUSY */
    struct fm_buf ahead;         /* bytes that came while busy */
    struct fm_timer timer;       /* the timeout that counts now */
    struct fm_event gone;        /* frees it, at the end of the turn in which it was closed */
    struct fm_pace pace;
    uint8_t state;  /* enum fm_http1_state */
    uint8_t timing; /* enum fm_timeout that `timer` runs for, while READING */
    bool ended;     /* the client ended its direction */
    bool slow_disk; /* READING, but nothing is read until the body's file has taken what is there */
    bool served;    /* a request of it has been answered */
    bool unnamed;   /* the PROXY protocol has named no client: then its headers are not a proxy's */
    bool tls;       /* the PROXY protocol says that the client came with TLS */
    bool last_read; /* draining: nothing is read any more behind its request but once */
    char remote[FM_IP_TEXT];
    char via[FM_IP_TEXT]; /* the proxy that has told it; "" if none has */
};

bool fm_http1_move_allowed(enum fm_http1_state from, enum fm_http1_state to);
const char *fm_http1_state_name(enum fm_http1_state state);

/* Takes over fd, and starts to read.  peer: its remote address is copied, the server's name and port live as long as
 * the connection.  on_closed is called once, when it is CLOSED, and takes it out of the owner's set.  0, or a negated
 * errno and *made NULL: fd is the caller's still. */
int fm_http1_new(struct fm_http1 **made, struct fm_service *service, int fd, const struct fm_peer *peer, void *owner,
                 fm_http1_closed_fn *on_closed) FM_ON_LOOP;

/* The drain begins: an idle connection ends, a busy one when what has arrived is answered. */
void fm_http1_drain(struct fm_http1 *c) FM_ON_LOOP;

/* Is its response under way? */
static inline bool fm_http1_is_streaming(struct fm_http1 *c) FM_ON_LOOP
{
    return c->state == FM_HTTP1_BUSY && fm_exchange_is_streaming(&c->exchange);
}

/* The graceful timeout has passed: whatever it does ends now (503 if no head has left). */
void fm_http1_expire(struct fm_http1 *c) FM_ON_LOOP;

/* At once.  No thread has its request. */
void fm_http1_close(struct fm_http1 *c) FM_ON_LOOP;

/* Some of the body of its request has been written to its file: for server/spools.h. */
void fm_http1_stored(void *connection) FM_ON_LOOP;

fm_timer_fn fm_http1_timeout_idle, fm_http1_timeout_header, fm_http1_timeout_body, fm_http1_timeout_send,
    fm_http1_timeout_linger, fm_http1_timeout_drain;

#endif

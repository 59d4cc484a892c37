/* Listening sockets.  Opened before the loop exists (open), then watched by it (start). */
#ifndef FERMATA_NET_LISTENER_H
#define FERMATA_NET_LISTENER_H

#include <stdbool.h>

#include "fermata/net/addr.h"
#include "fermata/net/loop.h"

struct fm_listener;
typedef void fm_accept_fn(struct fm_listener *l, int fd, const union fm_sockaddr *peer);

struct fm_listener {
    struct fm_addr addr; /* as bound: port 0 is replaced by the real one */
    int fd;
    struct fm_loop *loop;
    struct event *event;
    struct fm_timer retry; /* after EMFILE and the like */
    unsigned retry_kind;
    bool wanted;     /* accepting is not paused by its owner */
    bool complained; /* a failing accept is logged once until it works again, and seldom */
    fm_accept_fn *on_accept;
    void *owner;
};

/* Socket, bind, listen.  0 or a negated errno, with *what set to the call that failed.  A unix socket that nobody
 * listens on any more is replaced. */
int fm_listener_open(struct fm_listener *l, const struct fm_addr *addr, int backlog, const char **what);

/* Starts accepting on the loop; on_accept owns each fd (non-blocking, close-on-exec).  retry_kind is a kind of
 * l->loop->timers that the caller defined with fm_listener_retry. */
int fm_listener_start(struct fm_listener *l, struct fm_loop *loop, unsigned retry_kind, fm_accept_fn *on_accept,
                      void *owner) FM_ON_LOOP;
fm_timer_fn fm_listener_retry;

/* Pauses or resumes accepting. */
void fm_listener_want(struct fm_listener *l, bool wanted) FM_ON_LOOP;

/* Somebody else has closed the socket, and its number is another's now: stops accepting without touching it. */
void fm_listener_lost(struct fm_listener *l) FM_ON_LOOP;

/* False if somebody else has closed the socket. */
bool fm_listener_is_open(const struct fm_listener *l) FM_ON_LOOP;

/* Closes the socket and removes the path of a unix one; repeatable. */
void fm_listener_close(struct fm_listener *l);

#endif

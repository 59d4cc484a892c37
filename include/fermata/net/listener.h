/* Listening sockets.  Opened before the loop exists (open), then watched by it (start). */
#ifndef FERMATA_NET_LISTENER_H
#define FERMATA_NET_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>

#include "fermata/net/addr.h"
#include "fermata/net/loop.h"

#define FM_LISTENER_SPARES 4  /* at most */
#define FM_LISTENER_PATH 4096 /* bytes */

struct fm_listener_options {
    int backlog;
    unsigned keepalive;    /* seconds of silence until TCP asks for the client, FM_KEEPALIVE_PROBES times; 0: never */
    unsigned user_timeout; /* milliseconds that TCP waits for an acknowledgement; 0: the system's minutes */
    unsigned mode;         /* of the path of a unix socket; 0: what the umask leaves of 0777 */
    bool only_ipv6;        /* [::] takes IPv6 alone, so that an IPv4 address can be bound beside it */
    unsigned spares;       /* descriptors kept back for connections of this listener when there are no others */
};

#define FM_KEEPALIVE_PROBES 3
#define FM_KEEPALIVE_INTERVAL 5 /* seconds between them, but no more than the silence before */

/* Bytes that TCP takes beyond what it has sent.  A client that does not read costs the kernel this, not the megabytes
 * that a send buffer grows to. */
#define FM_NOT_SENT (256 * 1024)

struct fm_listener;
typedef void fm_accept_fn(struct fm_listener *l, int fd, const union fm_sockaddr *peer);

struct fm_listener {
    struct fm_addr addr; /* as bound: port 0 is replaced by the real one */
    int fd;
    int left;                    /* connections to accept in the end: no more can wait at a time */
    char path[FM_LISTENER_PATH]; /* of a unix socket, absolute: the application may change the directory */
    dev_t device;                /* of that path, with the next: is it ours still? */
    ino_t inode;
    int pinned; /* the path, open, once the socket is left: so that no other one gets its inode; or -1 */
    struct fm_loop *loop;
    struct event *event;
    struct fm_timer retry; /* after EMFILE and the like, or when others had their chance */
    unsigned retry_kind;
    /* With `shared`, on the loop: has this process nothing to serve another connection with, so that others had better
     * take it?  They have for it what the timer of yield_kind takes, then it is accepted here.  NULL: never. */
    bool (*is_busy)(const struct fm_listener *l);
    unsigned yield_kind;
    bool wanted; /* accepting is not paused by its owner */
    bool shared; /* other processes accept from it as well: one connection a wake, so that each gets its share */
    bool lent;   /* it was open when this process began, and goes on to be open elsewhere when this process has ended */
    int spares[FM_LISTENER_SPARES];
    unsigned nspares, wanted_spares;
    bool complained; /* a failing accept is logged once until it works again, rate-limited */
    fm_accept_fn *on_accept;
    void *owner;
};

/* Socket, bind, listen.  0 or a negated errno, with *what set to the call that failed.  A unix socket on which no
 * process listens any more is replaced. */
int fm_listener_open(struct fm_listener *l, const struct fm_addr *addr, const struct fm_listener_options *o,
                     const char **what);

/* Takes over a listening socket that another process has opened, and has the path of.  0 or a negated errno. */
int fm_listener_adopt(struct fm_listener *l, int fd, const struct fm_listener_options *o);

/* The path of a unix socket that was adopted, as the listener of before had it: unlink and close remove it. */
void fm_listener_take_path(struct fm_listener *l, const struct fm_listener *before);

/* Takes over a socket that who started this process has left open (fd://N, LISTEN_FDS), which listens afterwards if it
 * did not; how long its queue is stays as it is.  0 or a negated errno: it is none of the kinds that can be served. */
int fm_listener_take(struct fm_listener *l, int fd, const struct fm_listener_options *o);

/* Closes this process's descriptor alone: others go on accepting, and the path stays until fm_listener_unlink. */
void fm_listener_leave(struct fm_listener *l);

/* A connection that this listener accepted has been closed: keeps its descriptor back, if a spare one is missing. */
void fm_listener_refill(struct fm_listener *l) FM_ON_LOOP;

/* Starts accepting on the loop; on_accept owns each fd (non-blocking, close-on-exec).  retry_kind is a kind of
 * l->loop->timers that the caller defined with fm_listener_retry.  is_busy, and yield_kind, with fm_listener_yielded,
 * may be set before. */
int fm_listener_start(struct fm_listener *l, struct fm_loop *loop, unsigned retry_kind, fm_accept_fn *on_accept,
                      void *owner) FM_ON_LOOP;
fm_timer_fn fm_listener_retry, fm_listener_yielded;

/* A connection that the kernel has given to this process, by accept or from another process: the number that it is to
 * have, or -1, and errno says why it is closed.  Standard streams that the application has closed stay what they are,
 * and if it has closed one of ours whose number this is, that one's owner is told. */
int fm_listener_number(struct fm_loop *loop, int conn) FM_ON_LOOP;

/* Pauses or resumes accepting. */
void fm_listener_want(struct fm_listener *l, bool wanted) FM_ON_LOOP;

/* The application has closed the socket, and its number is another's now: stops accepting without touching it. */
void fm_listener_lost(struct fm_listener *l) FM_ON_LOOP;

/* False if the application has closed the socket. */
bool fm_listener_is_open(const struct fm_listener *l) FM_ON_LOOP;

/* Accepts the connections that wait for it, paused or not, `most` of them, and closes when none is left: true.
 * Else it is to be called again when more may come, or there is a descriptor for more; nothing is accepted in between.
 */
bool fm_listener_finish(struct fm_listener *l, unsigned most) FM_ON_LOOP;

/* Removes the path of a unix socket, unless a successor's is there by now.  Whatever the loop does. */
void fm_listener_unlink(struct fm_listener *l) FM_ANY_THREAD;

/* Closes the socket and removes the path of a unix one; repeatable. */
void fm_listener_close(struct fm_listener *l);

#endif

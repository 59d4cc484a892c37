/* Health and metrics, served by the leader itself: they need no thread, no GIL and no Python, so they answer while
 * everything else is busy. */
#ifndef FERMATA_ADMIN_ADMIN_H
#define FERMATA_ADMIN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>

#include "fermata/admin/source.h"
#include "fermata/net/addr.h"
#include "fermata/net/loop.h"
#include "fermata/util/annotate.h"

struct fm_admin;

/* Binds; only_ipv6 as in net/listener.h.  A unix socket is its owner's (0600).  NULL after a message in the log. */
struct fm_admin *fm_admin_new(const struct fm_addr *addr, bool only_ipv6, const struct fm_admin_source *source);

/* Takes over a socket that listens already.  NULL after a message in the log. */
struct fm_admin *fm_admin_adopt(int fd, const struct fm_admin_source *source);

/* One without a socket: its clients are those alone that fm_admin_take brings, and each is closed with its answer.
 * idle_kind as below. */
struct fm_admin *fm_admin_portless(struct fm_loop *loop, unsigned idle_kind, const struct fm_admin_source *source);

/* A client that another process has accepted and handed over, with the head of its request, which that has read.  The
 * descriptor is taken over, whatever becomes of it.  Of a few dozens the oldest gives way. */
void fm_admin_take(struct fm_admin *a, int fd, const char *head, size_t len) FM_ON_LOOP;

/* Its listening socket; lives as long as the admin port. */
const struct fm_listener *fm_admin_listener(const struct fm_admin *a);

/* After fm_admin_adopt, of a unix socket: see net/listener.h. */
void fm_admin_take_path(struct fm_admin *a, const struct fm_listener *before);

/* Starts accepting.  idle_kind: a timeout kind of the loop for its connections; accept_kind as in net/listener.h. */
int fm_admin_start(struct fm_admin *a, struct fm_loop *loop, unsigned idle_kind, unsigned accept_kind) FM_ON_LOOP;
fm_timer_fn fm_admin_timeout;
fm_timer_fn fm_admin_late; /* of the source's metrics_kind and futures_kind */

/* Accepts no more, and closes each connection with its next answer, those that have had one at once: another program
 * is to go on with the socket.  resume undoes that for new ones. */
void fm_admin_pause(struct fm_admin *a) FM_ON_LOOP;
void fm_admin_resume(struct fm_admin *a) FM_ON_LOOP;

/* Does a client wait for an answer, or has not read it yet?  One that has sent nothing so far waits, too. */
bool fm_admin_is_busy(const struct fm_admin *a) FM_ON_LOOP;

/* "http://127.0.0.1:8001" */
void fm_admin_url(const struct fm_admin *a, char *text);

/* As loop->lost, for the admin's own connections. */
bool fm_admin_lost(struct fm_admin *a, int fd) FM_ON_LOOP;

/* Closes its connections and the listening socket. */
void fm_admin_free(struct fm_admin *a) FM_ON_LOOP;

#endif

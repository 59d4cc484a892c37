/* One worker process: the loop, the scheduler, the connections, and how it starts and drains. */
#ifndef FERMATA_SERVER_SERVER_H
#define FERMATA_SERVER_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "fermata/net/listener.h"
#include "fermata/net/loop.h"
#include "fermata/sched/sched.h"
#include "fermata/config/options.h"
#include "fermata/util/list.h"

/* Kinds of timeouts of the loop. */
enum fm_timeout {
    FM_T_KEEP_ALIVE,
    FM_T_HEADER,
    FM_T_BODY,
    FM_T_SEND,
    FM_T_REQUEST,
    FM_T_QUEUE,
    FM_T_LINGER,
    FM_T_DRAIN, /* in a drain: for half a head, the first request, a client that was answered */
    FM_T_DELAY,
    FM_T_GRACEFUL,
    FM_T_LAST,
    FM_T_ACCEPT,
    FM_T_ADMIN,
    FM_T_END, /* one more than the last */
};

_Static_assert(FM_T_END <= FM_TIMER_KINDS, "each kind of timeout has a place in the loop's timers");

struct fm_access_log;
struct fm_admin;

#define FM_MAX_LISTENERS (2 * FM_MAX_BINDS) /* localhost has two addresses */

struct fm_server {
    const struct fm_options *options;
    struct fm_loop loop;
    struct fm_sched sched;
    struct fm_listener listeners[FM_MAX_LISTENERS];
    char names[FM_MAX_LISTENERS][FM_ADDR_TEXT]; /* SERVER_NAME of each */
    char ports[FM_MAX_LISTENERS][8];
    unsigned nlisteners;
    struct fm_admin *admin;                /* or NULL */
    struct fm_access_log *access;          /* or NULL */
    struct fm_list conns;                  /* all connections; loop only */
    unsigned max_conns, max_body_files;    /* set before any thread starts */
    unsigned nconns;                       /* loop only */
    atomic_bool ready;                     /* the application is loaded */
    atomic_bool leaving;                   /* responses say that the connection ends; written by the guard */
    atomic_bool draining;                  /* no new requests; written by the loop */
    bool quick, ending;                    /* see drain.c; loop only */
    struct fm_timer delay, graceful, last; /* loop only */
    struct fm_event open;                  /* posted by the main thread */
    struct fm_event leave_event, drain_event, quick_event; /* posted by the guard */
};

/* descriptors.c: raises the limit of open files, and says how many of them connections and bodies may take. */
void fm_server_share_descriptors(struct fm_server *s);

/* listen.c: opens all that --bind asks for, before the loop runs.  0, or a negated errno after a message in the log. */
int fm_server_listen(struct fm_server *s);
void fm_server_unlisten(struct fm_server *s) FM_ON_LOOP;

/* Is an IPv4 address with the port of this one bound as well, or the admin's?  Then [::] must not take IPv4 too. */
bool fm_server_only_ipv6(const struct fm_options *o, const struct fm_addr *addr);

/* Do we still listen everywhere?  Until we drain only the application could have changed it; that is said once. */
bool fm_server_is_listening(struct fm_server *s) FM_ON_LOOP;

/* "Listening at". */
void fm_server_announce(struct fm_server *s, const char *version);

/* Called by connections, on the loop: one is gone. */
void fm_server_conn_gone(struct fm_server *s) FM_ON_LOOP;

#endif

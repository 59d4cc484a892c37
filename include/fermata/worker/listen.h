/* The listening sockets: what --bind asks for. */
#ifndef FERMATA_WORKER_LISTEN_H
#define FERMATA_WORKER_LISTEN_H

#include <stdbool.h>

#include "fermata/config/options.h"
#include "fermata/server/conns.h"

/* Opens all of them, before the loop runs.  0, or a negated errno after a message in the log. */
int fm_listen_open(struct fm_conns *conns, const struct fm_options *o);

/* Takes over what an arbiter has opened.  0, or a negated errno after a message in the log. */
int fm_listen_adopt(struct fm_conns *conns, const struct fm_options *o, const int *fds, unsigned n);

/* Says in the log which of the addresses that are asked for are none of those that were taken over. */
void fm_listen_warn_of_others(const struct fm_conns *conns, const struct fm_options *o);

/* Repeatable. */
void fm_listen_close(struct fm_conns *conns) FM_ON_LOOP;

/* Is an IPv4 address with the port of this one bound as well, or the admin's?  Then [::] must not take IPv4 too. */
bool fm_listen_only_ipv6(const struct fm_options *o, const struct fm_addr *addr);

/* Do we still listen everywhere?  Until we drain only the application could have changed it; that is said once. */
bool fm_listen_is_open(struct fm_conns *conns) FM_ON_LOOP;

/* The application has closed a descriptor, and its number is another's now.  False if it was none of theirs. */
bool fm_listen_lost(struct fm_conns *conns, int fd) FM_ON_LOOP;

/* "Listening at". */
void fm_listen_announce(const struct fm_conns *conns, const struct fm_options *o);

#endif

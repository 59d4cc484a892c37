/* The arbiter's admin port: opened, or taken over from the program before. */
#ifndef FERMATA_ARBITER_PORT_H
#define FERMATA_ARBITER_PORT_H

#include "fermata/admin/admin.h"
#include "fermata/arbiter/pages.h"
#include "fermata/arbiter/state.h"
#include "fermata/net/loop.h"

/* Opens what p->options ask for, or goes on with the socket that *before has: then it stays as it is, and the log says
 * if another one is asked for; if none is, it is closed.  *made: it, the caller's, or NULL.  0, or a negative number
 * after a message in the log. */
int fm_port_start(struct fm_admin **made, struct fm_pages *p, struct fm_loop *loop, struct fm_state *before) FM_ON_LOOP;

#endif

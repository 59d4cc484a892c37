/* Sockets that systemd, or what else speaks its protocol, has opened for this process (sd_listen_fds(3)). */
#ifndef FERMATA_WORKER_ACTIVATION_H
#define FERMATA_WORKER_ACTIVATION_H

#include <stdbool.h>

#include "fermata/config/options.h"

/* Has them served instead of what --bind names, beside its fd://N; says which addresses are passed over.  LISTEN_PID,
 * LISTEN_FDS and LISTEN_FDNAMES are not there any more, whomever they were for.  False, after a message in the log:
 * more than can be served.  Before any thread starts. */
bool fm_activation_take(struct fm_options *o);

#endif

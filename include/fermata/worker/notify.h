/* What a service manager is told (sd_notify(3)): one datagram each, to the socket that $NOTIFY_SOCKET names. */
#ifndef FERMATA_WORKER_NOTIFY_H
#define FERMATA_WORKER_NOTIFY_H

#include <stdint.h>

#include "fermata/util/annotate.h"

/* Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that nothing that the application
 * starts speaks for the server, and connects.  Before any thread starts.  Without the variable the rest does nothing.
 */
void fm_notify_take(void);

/* Sends assignments, a line each ("READY=1\nSTATUS=...").  It does not wait: where the manager is behind, a thread
 * does.
 */
void fm_notify(const char *format, ...) FM_ANY_THREAD __attribute__((format(printf, 1, 2)));

/* The process is ending, and has this much longer to do so (nanoseconds). */
void fm_notify_stopping(uint64_t time) FM_ANY_THREAD;

/* How often the manager wants to be told WATCHDOG=1, in nanoseconds: half of what it waits for.  0: it does not. */
uint64_t fm_notify_watchdog(void) FM_ANY_THREAD;

/* The variables as they were, each "NAME=VALUE", for a program that is executed in this one's place: at most
 * FM_NOTIFY_VARIABLES, which stay this file's.  How many. */
#define FM_NOTIFY_VARIABLES 3
unsigned fm_notify_variables(char **to);

#endif

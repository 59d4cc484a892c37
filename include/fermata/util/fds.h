/* The descriptors that the server works with, and whose numbers nothing else in the process may use: listening sockets,
 * connections, eventfds, a timerfd.
 *
 * The application lives in the same process.  It may fork: a child that lives on must not keep our sockets open.  And
 * it may close a number that is not its own, most often one that it has closed before: the kernel then gives the number
 * to the next connection, while we still take it for the last one. */
#ifndef FERMATA_UTIL_FDS_H
#define FERMATA_UTIL_FDS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "fermata/util/annotate.h"

/* Notes that fd is the server's, until fm_fds_close.  Numbers beyond some large one are not noted. */
void fm_fds_own(int fd) FM_ANY_THREAD;
bool fm_fds_is_own(int fd) FM_ANY_THREAD;

/* Closes a descriptor that is the server's. */
void fm_fds_close(int fd) FM_ANY_THREAD;

/* In a child of a fork, before any of its code runs (pthread_atfork): closes what is the server's, and sets fm_forked.
 */
void fm_fds_in_child(void);

/* Is this a child of the process that serves?  Set before any code of the child runs. */
extern atomic_bool fm_forked;

#endif

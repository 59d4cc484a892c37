/* How `fermata status` finds the admin port of a server that it is given by its process, or not at all: the server has
 * a file of memory (memfd_create(2)) with the address in it, which the system's own users see in /proc/PID/fd, each
 * those of their own processes.  It lies in no directory, is the truth whatever the port was asked for, and is gone
 * with the process. */
#ifndef FERMATA_ADMIN_PUBLISHED_H
#define FERMATA_ADMIN_PUBLISHED_H

#include <stdbool.h>
#include <sys/types.h>

#include "fermata/net/addr.h"

#define FM_PUBLISHED_SIZE 512 /* room for any address that is published */

/* A descriptor, which is the server's (util/fds.h), or a negated errno.  A relative path of a unix socket is taken for
 * one of the current directory. */
int fm_published_make(const struct fm_addr *addr);

/* 0 with the address in text[FM_PUBLISHED_SIZE], as fm_addr_url has it; or a negated errno: -ENOENT: that process is
 * none with an admin port; -ESRCH: there is no such process; -EACCES: it is another user's; -EXDEV: it has another
 * network than we, or other files where the address is a path, so that it means something else here. */
int fm_published_read(pid_t pid, char *text);

/* Calls see for each process that has one and that may be read, in no order; a file that several processes have is one
 * (a child that was forked a moment ago).  Returns when see returns false. */
void fm_published_each(bool (*see)(void *ctx, pid_t pid, const char *text), void *ctx);

#endif

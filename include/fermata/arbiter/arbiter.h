/* The arbiter: the process of --workers N that starts workers, replaces them, and ends with them.  It knows no Python
 * and has one thread beside the log's.  It owns the listening sockets and answers on the admin port, whatever the
 * workers do. */
#ifndef FERMATA_ARBITER_ARBITER_H
#define FERMATA_ARBITER_ARBITER_H

#include "fermata/arbiter/upgrade.h"
#include "fermata/config/options.h"

/* Binds, starts the workers, and serves until a signal ends all; or takes over sockets and workers of the program that
 * was executed in this process before (resumed).  argv is the command's; directory is open on the one
 * in which it was given.  Returns the exit code: 0, 3 (the application could not be loaded, or what else the first
 * worker has exited with), 4 (something had to be killed), 1 (anything else). */
int fm_arbiter_run(const struct fm_options *o, char **argv, int directory, const struct fm_resumed *resumed);

#endif

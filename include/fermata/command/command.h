/* `fermata status`, `fermata top`, `fermata stacks`: they ask the admin port of a server that runs, and start none.
 * Nothing of Python's is needed, so that they are quick, and the same in both products.
 *
 * A word is a command only where it is the first argument, as it stands: `fermata status:app` and `fermata -- status`
 * serve a module of that name. */
#ifndef FERMATA_COMMAND_COMMAND_H
#define FERMATA_COMMAND_COMMAND_H

#include <stdbool.h>

/* Is the first argument a command? */
bool fm_command_is_one(int argc, char *const *argv);

/* Runs it, where fm_command_is_one says so: SIGINT and SIGPIPE end the process, as they do with other commands.  Main
 * thread, before there are others.  The exit code: 0; 1: there was no answer, or no good one; 2: it cannot be asked
 * like that. */
int fm_command_run(int argc, char *const *argv);

#endif

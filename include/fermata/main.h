/* The command, whichever product it is of: src/main.c.  src/embedding.c and src/extension.c are what calls it. */
#ifndef FERMATA_MAIN_H
#define FERMATA_MAIN_H

#include <stdbool.h>

/* Reads the command line and serves until a signal ends that, as an arbiter with workers or as a server by itself;
 * alone: the latter, whatever $WEB_CONCURRENCY says.  Signals have handlers (fm_signals_first).  Main thread, once a
 * process; argv is kept.  Returns the exit code. */
int fm_main(int argc, char **argv, bool alone);

#endif

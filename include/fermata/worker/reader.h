/* The config reader: this same command, executed again for a moment, which executes the configuration file and prints
 * what it sets into a pipe.  A file that raises, exits, hangs or crashes ends it, and nothing else. */
#ifndef FERMATA_WORKER_READER_H
#define FERMATA_WORKER_READER_H

#include "fermata/config/options.h"
#include "fermata/util/buf.h"
#include "fermata/worker/again.h"

#define FM_READER_VARIABLE "FERMATA_READER"

struct fm_reader {
    struct fm_again process;
    int fd; /* what it prints comes here */
    struct fm_buf text;
};
#define FM_READER_NONE ((struct fm_reader){.process = FM_AGAIN_NONE, .fd = -1})

/* Starts it in the directory (a descriptor), with this command's arguments.  0 or a negated errno. */
int fm_reader_start(struct fm_reader *r, char **argv, int directory);

/* Takes what has come.  1: all of it; 0: more will come; or a negated errno: it has ended without having said all, or
 * has said too much. */
int fm_reader_read(struct fm_reader *r);

/* Closes the pipe and frees the text.  The process is left to be reaped. */
void fm_reader_end(struct fm_reader *r);

/* What one does.  The exit code. */
int fm_reader_be(const struct fm_options *o, const char *program, int fd);

#endif

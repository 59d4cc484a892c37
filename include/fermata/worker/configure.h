/* Options from all their sources, whichever process this is: by itself and in an arbiter a configuration file is read
 * by a process of its own (worker/reader.h); a worker gets from its arbiter what was read, so that those of a
 * generation have the same, and a file is executed once. */
#ifndef FERMATA_WORKER_CONFIGURE_H
#define FERMATA_WORKER_CONFIGURE_H

#include "fermata/config/options.h"

#define FM_SETTINGS_VARIABLE "FERMATA_SETTINGS"

/* fm_options_parse, and what the file adds.  Messages went to stderr where it is WRONG.  In a config reader, and in a
 * hook process, it does not return. */
enum fm_options_outcome fm_configure(struct fm_options *o, int argc, char **argv);

/* In an arbiter, before it has threads: what was read of the file is handed to all that it starts from now on, as a
 * descriptor whose number is in the environment.  0 or a negated errno; 0 if there is no file. */
int fm_configure_share(const struct fm_options *o);

/* Another reading takes the place of the one before.  Returns the descriptor of that one, for fm_configure_back or
 * close, or a negated errno, and nothing has changed. */
int fm_configure_share_again(const struct fm_options *o);
void fm_configure_back(int before);

/* Says in the log which names of the file mean nothing, or that there is a file that gunicorn would read; in the
 * directory in which the command was given. */
void fm_configure_warn(const struct fm_options *o);

#endif

/* What is shown of the table of options: --help, the man page, the table of the manual. */
#ifndef FERMATA_SRC_CONFIG_HELP_H
#define FERMATA_SRC_CONFIG_HELP_H

#include "given.h"

/* --help, --help=man, --help=settings or --version, on stdout.  False: the argument of --help is none of these, or
 * stdout does not take it. */
bool fm_options_show(const struct fm_shown *what, const char *python);

#endif

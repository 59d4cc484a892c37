/* `fermata top`: the status, again and again. */
#ifndef FERMATA_COMMAND_TOP_H
#define FERMATA_COMMAND_TOP_H

#include "fermata/command/collect.h"
#include "fermata/command/target.h"

/* `wanted` is the status.  On a terminal it redraws the screen until q, ^C or a signal to end; elsewhere it prints one
 * status below the other. The exit code: 1 if the first answer is none; later ones are waited for, as a server may be
 * about to be replaced, and what is missing is shown in their place. */
int fm_top(const struct fm_target *t, const struct fm_wanted *wanted);

#endif

/* Putting what a server has answered on a terminal. */
#ifndef FERMATA_COMMAND_SHOW_H
#define FERMATA_COMMAND_SHOW_H

#include <stdio.h>

#include "fermata/util/buf.h"

/* A copy of the text in which only line feeds are control characters: what a terminal would obey is shown as \xNN.
 * Servers do that themselves; but who answers need not be one.  To be freed by the caller. */
struct fm_buf fm_show_safe(const struct fm_buf *text);

/* Writes "fermata: " and the first line of the text, safe, to standard error. */
void fm_show_complaint(const char *text);

#endif

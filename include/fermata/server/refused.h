/* What the error log says of requests that are refused. */
#ifndef FERMATA_SERVER_REFUSED_H
#define FERMATA_SERVER_REFUSED_H

#include "fermata/http/h1/parser.h"
#include "fermata/util/annotate.h"

/* Says why, and of what the parser knows of the request: each time at level debug, else each reason at most once in ten
 * seconds, for it may happen very often.  remote: the client's address, "" of a unix socket. */
void fm_refused_log(const struct fm_http_error *error, const struct fm_parser *parser, const char *remote) FM_ON_LOOP;

#endif

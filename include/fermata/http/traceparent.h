/* The field traceparent of W3C Trace Context: the trace that a request belongs to, as a proxy or another service began
 * it.
 *
 * Nothing is made and nothing is sent: that is a tracer's, in the application.  What the server takes is the trace's
 * id, for its own logs, and only from a field that the recommendation lets a tracer take, so that the two say the same.
 */
#ifndef FERMATA_HTTP_TRACEPARENT_H
#define FERMATA_HTTP_TRACEPARENT_H

#include "fermata/http/request.h"

/* Does this text say which trace a request belongs to (W3C Trace Context, 3.2 and 4.3)?  Version 00 has exactly 55
 * characters; a later one may have more behind a dash; ff is none.  Hexadecimal digits are lower-case; ids are not all
 * zeros.  The trace's id is the FM_TRACE_ID characters from the fourth on. */
bool fm_traceparent_is_good(const char *p, size_t n);

/* Notes the id of the request's trace, if it has one field traceparent and that is good. */
void fm_traceparent_take(struct fm_request *r);

#endif

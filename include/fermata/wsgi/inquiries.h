/* What the admin port asks Python for: the GIL is waited for by a thread of its own (util/inquiry.h). */
#ifndef FERMATA_WSGI_INQUIRIES_H
#define FERMATA_WSGI_INQUIRIES_H

#include "fermata/util/annotate.h"
#include "fermata/util/inquiry.h"

/* The metrics of the application, which it has in prometheus_client's registry: FM_ANSWER_ABSENT if it has not imported
 * that.  The collectors are the application's code, and may do anything.  Any thread. */
struct fm_inquiry *fm_inquiry_of_metrics(void);

/* What kinds of futures parked requests wait for, of each place (util/places.h) that some of them wait at: a line for
 * each kind, "PLACE\tN\tTEXT\n", in UTF-8; N of 20 at most that were looked at.  Only where the gateway was configured
 * so.  Nothing of the application's is called.  Any thread. */
struct fm_inquiry *fm_inquiry_of_futures(void);

#endif

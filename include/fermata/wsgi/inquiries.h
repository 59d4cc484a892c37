/* What the admin port asks Python for: the GIL is waited for by a thread of its own (util/inquiry.h). */
#ifndef FERMATA_WSGI_INQUIRIES_H
#define FERMATA_WSGI_INQUIRIES_H

#include "fermata/util/annotate.h"
#include "fermata/util/inquiry.h"

/* The metrics of the application, which it has in prometheus_client's registry: FM_ANSWER_ABSENT if it has not imported
 * that.  The collectors are the application's code, and may do anything.  Any thread. */
struct fm_inquiry *fm_inquiry_of_metrics(void);

#endif

/* Where a request ends, as http-parser reads it: the second reading beside ours.
 *
 * It is shown, in whole, checked pieces, what decides that: the fields that frame, the end of the head, and all of a
 * body's framing.  What it reports is compared with our reading at each step, and a request that the two read
 * differently is refused: a proxy in front of us might read it in either way (RFC 9112, 11.2).  Bodies are stored as it
 * reports them.  One thread at a time: the parser's. */
#ifndef FERMATA_HTTP_H1_FRAMING_H
#define FERMATA_HTTP_H1_FRAMING_H

#include <http_parser.h>
#include <stdbool.h>
#include <stdint.h>

#include "fermata/http/refusal.h"
#include "fermata/http/request.h"
#include "head.h"

struct fm_framing { /* all but lib is zero when a request begins */
    struct fm_request *request;
    uint64_t chunk;      /* what our reading of a chunk line found, before that is shown */
    bool head, done;     /* the end of the head, of the request, was reported */
    uint16_t fields;     /* field lines it has reported */
    uint16_t shown;      /* field lines it was shown */
    enum fm_refusal why; /* what has been found wrong */
    http_parser lib;     /* set by fm_framing_head */
};

/* Once before the first request; any thread, again. */
void fm_framing_init(void);

/* The head of r, whose framing follows.  Like the next one: FM_REFUSE_NOTHING, or why the request is refused. */
enum fm_refusal fm_framing_head(struct fm_framing *f, struct fm_request *r);

/* What follows the head: exactly `body` bytes of it have to be reported as body, and the end of the request if `last`.
 */
enum fm_refusal fm_framing_read(struct fm_framing *f, const char *data, size_t len, size_t body, bool last);

/* Why a body was not stored (err: of fm_body_append), which is logged. */
enum fm_refusal fm_framing_not_stored(int err);

static inline bool fm_request_has_body(const struct fm_request *r) { return r->chunked || r->content_length > 0; }

#endif

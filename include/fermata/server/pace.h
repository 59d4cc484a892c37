/* How slowly a client may send its body and take its response.  One per connection, embedded; all of it on the loop. */
#ifndef FERMATA_SERVER_PACE_H
#define FERMATA_SERVER_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/net/stream.h"
#include "fermata/config/options.h"

struct fm_pace {
    uint64_t body_since, body_seen; /* when --limit-body-rate began to look, and how much of the body was there then */
    uint64_t taken, taken_at; /* what the client had taken of the stream when it was last looked at, and since when */
    uint64_t taken_stall;     /* what it was at the last stall: since then the client has taken the difference */
    uint64_t tcp_patience;    /* what TCP was last told to allow */
    bool stalled;             /* --send-timeout has passed without a byte taken; the client may still be reading */
};

/* A body begins, or goes on after a time in which nothing was read for our own reasons; `size` bytes of it are there.
 */
void fm_pace_body(struct fm_pace *p, uint64_t now, uint64_t size) FM_ON_LOOP;

/* Bytes have come, `size` in all.  Did they come more slowly than --limit-body-rate, all through a window of
 * --body-timeout?  Then the client keeps what others need. */
bool fm_pace_body_is_too_slow(struct fm_pace *p, const struct fm_options *o, uint64_t now, uint64_t size) FM_ON_LOOP;

/* A response begins; nothing is kept of the last one. */
void fm_pace_response(struct fm_pace *p, const struct fm_stream *s, uint64_t now) FM_ON_LOOP;

/* Output is kept: looks at what the client has taken, before --send-timeout is started. */
void fm_pace_look(struct fm_pace *p, struct fm_stream *s, const struct fm_options *o, uint64_t now) FM_ON_LOOP;

/* --send-timeout has passed since.  False: the client has taken something, or may take it yet; start it anew. */
bool fm_pace_is_over(struct fm_pace *p, struct fm_stream *s, const struct fm_options *o, uint64_t now) FM_ON_LOOP;

#endif

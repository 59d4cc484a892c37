/* Makes octets of a response: what stands between a writer (http/writer.h), which has a status, fields and blocks of a
 * body, and the version of HTTP that its client speaks.  http/h1/framer.h is HTTP/1.x.
 *
 * A framer is a part of its writer and called under the writer's lock.  It never waits; where there is no memory for
 * its octets, the buffer that they go to has failed. */
#ifndef FERMATA_HTTP_FRAMER_H
#define FERMATA_HTTP_FRAMER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "fermata/http/response.h"
#include "fermata/util/buf.h"

enum fm_body_framing {
    FM_FRAME_NONE,   /* no body is sent: HEAD, 204, 205, 304 */
    FM_FRAME_LENGTH, /* as it is, and its length has been said */
    FM_FRAME_BLOCKS, /* each block has octets around it, and the end has its own: chunks */
    FM_FRAME_CLOSE,  /* as it is, until the connection ends: HTTP/1.0 */
};

struct fm_framer {   /* of one response */
    uint8_t framing; /* enum fm_body_framing, once the head is made */
    uint8_t minor;   /* of the request */
    bool is_head;    /* the request is HEAD */
    bool keep;       /* in: request and server allow another request; out: the connection goes on after the response */
};

struct fm_framer_ops {
    /* Decides the framing, and moves *r into *out, which is empty, as the octets of the whole head.  total: the length
     * of the body, or -1 if it is not known. */
    void (*head)(struct fm_framer *f, struct fm_response *r, int64_t total, struct fm_buf *out);

    /* For FM_FRAME_BLOCKS alone: appends what stands in front of n > 0 bytes; says what stands behind them, which is
     * static; appends the end of the body. */
    void (*before_block)(const struct fm_framer *f, uint64_t n, struct fm_buf *out);
    struct iovec (*after_block)(const struct fm_framer *f);
    void (*end)(const struct fm_framer *f, struct fm_buf *out);
};

#endif

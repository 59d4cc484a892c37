/* A response head in the making: what the application said, checked and already in wire form.
 *
 * Owned by whoever holds the request; nothing here blocks or allocates without bound (the application's own strings
 * bound it).  The server names below are what WSGI calls status and response headers (PEP 3333, start_response). */
#ifndef FERMATA_HTTP_RESPONSE_H
#define FERMATA_HTTP_RESPONSE_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/buf.h"

struct fm_response {
    struct fm_buf head; /* status line and fields so far, each with CRLF */
    int64_t length;     /* Content-Length as given, -1: not given */
    uint16_t status;
    bool has_date, has_server;
    bool close; /* the application asked for Connection: close */
};

enum fm_framing {
    FM_FRAME_NONE,    /* no body: HEAD, 204, 205, 304 */
    FM_FRAME_LENGTH,  /* Content-Length */
    FM_FRAME_CHUNKED, /* Transfer-Encoding: chunked */
    FM_FRAME_CLOSE,   /* until the connection ends (HTTP/1.0) */
};

/* Starts over with a status such as "200 OK" (RFC 9112, 4; PEP 3333); "200" alone has an empty reason.  0, or FM_EINVAL
 * with *why.  A 1xx is no final response, so it is refused. */
int fm_response_start(struct fm_response *r, const char *status, size_t len, const char **why);

/* What is to be done with fields of this name, or FM_EINVAL if it is no token. */
int fm_response_name(const char *name, size_t len);

/* Adds one field; what is of fm_response_name.  0; 1 if it is hop-by-hop and was dropped (PEP 3333 forbids it;
 * `Connection: close` is honoured); FM_EINVAL with *why if it may not be sent: a value with CR, LF, NUL or other
 * controls, a Content-Length that is no number or another one than before.  A Content-Length is sent once, without the
 * blanks that were around it. */
int fm_response_put(struct fm_response *r, int what, const char *name, size_t nlen, const char *value, size_t vlen,
                    const char **why);

/* Both together. */
int fm_response_add(struct fm_response *r, const char *name, size_t nlen, const char *value, size_t vlen,
                    const char **why);

/* Completes the head: Date and Server unless given, Content-Length (length >= 0 and not given), Transfer-Encoding,
 * Connection (keep as decided by the caller; minor is the request's HTTP/1.minor), and the empty line. */
void fm_response_finish(struct fm_response *r, enum fm_framing framing, int64_t length, bool keep, int minor);

/* Does a response with this status have a body at all (RFC 9110, 6.4.1)? */
bool fm_status_has_body(int status);

/* "Not Found" and the like, for the answers the server makes itself. */
const char *fm_status_reason(int status);

/* A complete plain-text answer of the server itself, closing the connection: head and a one-line body (left out for
 * HEAD).  503 asks the client to come again after a second (RFC 9110, 10.2.3).  How long it is; it needs no memory, as
 * there may be none. */
#define FM_PLAIN_SIZE 512
size_t fm_response_plain(char text[FM_PLAIN_SIZE], int status, bool is_head);

/* Bytes of the body of such an answer. */
size_t fm_response_plain_body(int status, bool is_head);

void fm_response_fini(struct fm_response *r);

#endif

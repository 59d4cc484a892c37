/* A response's status and fields: what the application said, checked.  A framer makes octets of them (http/framer.h).
 *
 * They are lines of text in one buffer, in the order in which they came, because that is one copy and one allocation of
 * what HTTP/1.x sends as it is: its framer adds to both ends and takes the buffer over.  A framer for which lines are
 * nothing iterates over names and values (fm_response_fields), which costs it a look for each colon and CRLF.  A table
 * of names and values was the alternative: it has each field copied twice for HTTP/1.x, or keeps the application's
 * strings alive beyond the step, where there is no GIL to drop them.
 *
 * Owned by the thread that holds the request; nothing here blocks or allocates without bound (the application's own
 * strings bound it).  The names below are what WSGI calls status and response headers (PEP 3333, start_response). */
#ifndef FERMATA_HTTP_RESPONSE_H
#define FERMATA_HTTP_RESPONSE_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/buf.h"
#include "fermata/util/version.h"

#define FM_RESPONSE_FRONT 9 /* bytes before the status that a framer may use, until the lines have to grow */
#define FM_RESPONSE_BACK 64 /* bytes behind the last field that it may use, once the response is complete */

struct fm_response {
    struct fm_buf lines; /* the status ("200 OK"), then the fields ("Name: value"), each with CRLF */
    int64_t length;      /* Content-Length as given, -1: not given */
    uint16_t status;
    bool has_date, has_server;
    bool close; /* the application asked for Connection: close */
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
int fm_response_add_as(struct fm_response *r, int what, const char *name, size_t nlen, const char *value, size_t vlen,
                       const char **why);

/* Both together. */
int fm_response_add(struct fm_response *r, const char *name, size_t nlen, const char *value, size_t vlen,
                    const char **why);

/* Adds what every response says, for the framer: Server and Date unless given, and Content-Length if length >= 0 and
 * none was given.  Behind them FM_RESPONSE_BACK bytes are free, unless the lines have failed for want of memory. */
void fm_response_complete(struct fm_response *r, int64_t length);

#define FM_SERVER_FIELD "Server: fermata/" FM_VERSION "\r\n"

/* The fields so far, in their order; the response is not changed meanwhile. */
struct fm_response_fields {
    const char *next, *end;
    const char *name, *value; /* of the field that fm_response_next has found */
    size_t name_len, value_len;
};
struct fm_response_fields fm_response_fields(const struct fm_response *r);
bool fm_response_next(struct fm_response_fields *it);

/* Does a response with this status have a body at all (RFC 9110, 6.4.1)? */
bool fm_status_has_body(int status);

/* "Not Found" and the like, for the answers the server makes itself. */
const char *fm_status_reason(int status);

void fm_response_fini(struct fm_response *r);

#endif

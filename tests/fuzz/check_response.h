/* Reads a response strictly, as it left the server, for the fuzz targets that let an application say anything. */
#ifndef FERMATA_TESTS_CHECK_RESPONSE_H
#define FERMATA_TESTS_CHECK_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>

#include "fermata/http/writer.h"
#include "fermata/util/buf.h"

struct check_response {
    int minor; /* of the request: HTTP/1.minor */
    bool is_head;
    const struct fm_buf *out;    /* all that was sent */
    const struct fm_buf *fields; /* the application's field lines that are to be sent, each with CRLF, in order */
    const struct fm_buf *body;   /* what the application gave, whole */
    int status;                  /* that it gave */
    long long length;            /* the Content-Length that it gave, or -1 */
    bool keep;                   /* the server says that the connection goes on */
    bool is_short;               /* the server says that the body is too short */
};

/* Aborts unless the response is one by the grammar of RFC 9112 (status line, fields, framing), says what the
 * application said and nothing else, and ends where its framing says. */
void check_response(const struct check_response *c);

/* A sink that writes down what it is given. */
struct check_sink {
    struct fm_buf out;
    bool may_keep;
};
extern const struct fm_sink_ops check_sink_ops;

#endif

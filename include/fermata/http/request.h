/* One parsed request.  Built by the loop, read-only once it is dispatched, freed by the loop (fm_request_free).
 *
 * All text lies in one block, `head`; fields are (offset, length) into it; both lie behind the struct, so a parked
 * request costs one allocation.  Text is as it came, never NUL-terminated; the parser has already refused
 * everything that could surprise a reader (spec: RFC 9112, and the list in http/h1/parser.h). */
#ifndef FERMATA_HTTP_REQUEST_H
#define FERMATA_HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/http/body.h"
#include "fermata/util/ip.h"

struct fm_span {
    uint32_t off, len; /* into fm_request.head */
};

enum fm_scheme { FM_SCHEME_UNTOLD, FM_SCHEME_HTTP, FM_SCHEME_HTTPS };

/* What was told and is believed; len 0, port 0: not told.  Spans are into the request's head. */
struct fm_forwarded {
    struct fm_ip client;
    struct fm_span host;
    struct fm_span prefix; /* begins with a slash and does not end with one */
    uint16_t client_port;
    uint16_t port;
    uint8_t scheme; /* enum fm_scheme */
    bool has_client;
    bool any; /* one of these was told */
};

/* One header field; the name keeps its case, the value has no white space around it. */
struct fm_field {
    uint32_t name_off, value_off;
    uint32_t value_len;
    uint16_t name_len;
    uint16_t id; /* enum fm_header_id, FM_H_OTHER if not one of them */
};

#define FM_ID_MADE 32       /* characters of an id that is made */
#define FM_TRACE_ID 32      /* characters of a trace's id */
#define FM_REQUEST_TEXT 680 /* bytes of what fm_request_describe says */

struct fm_request {
    char *head;
    struct fm_field *fields; /* in the order they came; names with an underscore are not among them */
    uint32_t head_len;
    uint32_t block;     /* bytes of the block with this struct, fields and text */
    uint32_t id_off;    /* of the id, into head, or 0: it is made_id */
    uint32_t trace_off; /* of the id of its trace, into head, or 0: it says none (http/traceparent.h) */
    uint16_t nfields;
    uint8_t id_len;         /* 0: it has no id (http/request_id.h) */
    uint8_t minor;          /* HTTP/1.minor, 0 or 1 */
    bool keep_alive;        /* what version and Connection header ask for */
    bool expect_continue;   /* 1.1 and "Expect: 100-continue" */
    bool chunked;           /* Transfer-Encoding: chunked */
    bool is_head;           /* method HEAD */
    bool from_proxy;        /* it has fields that proxies set, which fm_forwarded_read reads */
    bool sends_id;          /* it has a field X-Request-ID */
    bool sends_trace;       /* it has a field traceparent */
    int64_t content_length; /* -1: none was sent */
    struct fm_span method;
    struct fm_span target; /* as sent */
    struct fm_span path;   /* still percent-encoded; "*" for asterisk-form; "/" if an absolute-form has none */
    struct fm_span query;  /* after the first '?', len 0 if there is none */
    struct fm_span host;   /* the Host to use: absolute-form's authority wins over the field; len 0 if none (1.0) */
    struct fm_forwarded forwarded; /* what a proxy that is trusted says of it; all zero if none does */
    struct fm_body body;           /* complete before the request is dispatched */
    char made_id[FM_ID_MADE];
};

/* id_len characters, not NUL-terminated. */
static inline const char *fm_request_id(const struct fm_request *r)
{
    return r->id_off ? r->head + r->id_off : r->made_id;
}

/* FM_TRACE_ID characters, not NUL-terminated; NULL if it belongs to no trace. */
static inline const char *fm_request_trace(const struct fm_request *r)
{
    return r->trace_off ? r->head + r->trace_off : NULL;
}

static inline const char *fm_request_text(const struct fm_request *r, struct fm_span s) { return r->head + s.off; }

/* A request with a copy of this text and these fields; the rest is to be filled in.  spare: NULL, or the memory of
 * another one, which is used or freed.  NULL if there is no memory. */
struct fm_request *fm_request_new(struct fm_request *spare, const char *head, uint32_t len,
                                  const struct fm_field *fields, uint16_t nfields);

/* Frees what the request holds, and itself unless it is small enough to be kept as a spare, which is then returned. */
struct fm_request *fm_request_spare(struct fm_request *r);

/* Frees the request and what it holds; NULL is fine.  A body that was moved out (fm_body_move) is not touched. */
void fm_request_free(struct fm_request *r);

/* "GET /path (id 0123)" for log lines, cut to size (FM_REQUEST_TEXT is enough) and NUL-terminated, into text. */
void fm_request_describe(const struct fm_request *r, char *text, size_t size);

/* First field with this id, or NULL. */
const struct fm_field *fm_request_find(const struct fm_request *r, unsigned id);

#endif

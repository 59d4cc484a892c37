/* The strict HTTP/1.x request parser: bytes in, one fm_request out.  No sockets, no threads, no Python.
 *
 * head.c and strict.c refuse what is not strictly HTTP; where a request ends is read a second time by http-parser,
 * which is lenient where RFC 9112 is strict today (src/http/h1/framing.h).  Refused, with the status of fm_parser_error
 * (one line each in http/refusal.h):
 *   400  Content-Length with Transfer-Encoding; repeated or malformed Content-Length; any Transfer-Encoding but exactly
 *        one final "chunked"; Transfer-Encoding in HTTP/1.0; bare LF or CR; obs-fold; white space before the colon;
 *        empty or non-token field names and methods; control characters in values and targets; a missing (1.1),
 *        repeated or malformed Host; a target that is no origin-, absolute- or asterisk-form (CONNECT's authority-form
 *        is refused with 501); chunk sizes with signs, white space, prefixes or overflow; oversized or malformed chunk
 *        extensions; malformed or oversized trailers; a fragment or white space in the target
 *   505  an HTTP version other than 1.x (400 if it is no version at all, such as "HTTP/1.x" or "GET / FTP/1.1")
 *   414  a request line longer than limits.request_line
 *   431  more than limits.fields fields, or a field longer than limits.field_size
 *   413  a body larger than limits.body: by its Content-Length at once, chunked as soon as it passes the limit
 *   417  an Expect other than 100-continue
 *   501  CONNECT
 * Transfer-Encoding other than chunked, alone and well formed (e.g. gzip, chunked): 501 is what RFC 9112 6.1 wants for
 * a coding the server does not know; 400 where chunked is not final or is repeated.
 *
 * A chunk's size and extensions may take 256 bytes.  What is over 8 bytes of each such line may in all be as long as
 * the body so far and 4096 bytes more, so that a client cannot feed us extensions instead of data.  Trailers have the
 * limits of fields; those that frame or route (Content-Length, Transfer-Encoding, Host) are refused.  Any token is a
 * method. Upgrade is ignored.  Where http-parser reads a request that passes all this in another way, it is refused
 * with 400; no such request is known.
 *
 * Field names with an underscore are dropped (they would shadow the dashed ones in environ).  Up to eight empty
 * lines (CRLF) before the request line are skipped (RFC 9112, 2.2).  HTTP/1.2 and higher are processed as 1.1 (RFC
 * 9110, 2.5).  Trailers are checked and dropped.
 *
 * After an error the parser takes nothing more: fm_parser_feed keeps answering FM_PARSE_ERROR. */
#ifndef FERMATA_HTTP_H1_PARSER_H
#define FERMATA_HTTP_H1_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/http/refusal.h"
#include "fermata/http/request.h"

struct fm_http_limits {
    uint32_t request_line; /* bytes of the request line without CRLF */
    uint32_t fields;       /* number of fields */
    uint32_t field_size;   /* bytes of one field line without CRLF */
    uint64_t body;         /* bytes of a body; the chunk framing does not count */
};

enum fm_parse {
    FM_PARSE_MORE,  /* all bytes were taken, more are needed */
    FM_PARSE_HEAD,  /* the head is complete and acceptable: *used bytes were taken; look at fm_parser_request (Expect),
                       then feed the rest.  Reported once per request, also when there is no body. */
    FM_PARSE_DONE,  /* the whole request is there: take it with fm_parser_take once it is stored (fm_parser_stored);
                     *used  bytes were taken, what follows belongs to the next request */
    FM_PARSE_ERROR, /* refused, see fm_parser_error; *used means nothing */
};

struct fm_parser; /* private to parser.c */

/* limits must outlive the parser.  NULL if there is no memory.  Cheap: an idle connection keeps one. */
struct fm_parser *fm_parser_new(const struct fm_http_limits *limits);
void fm_parser_free(struct fm_parser *p);

/* Where the next bytes may be put so that fm_parser_feed, called with just them, need not copy them: memory of a large
 * body.  NULL: there is no such place.  *len is untouched then, else how many. */
char *fm_parser_buffer(struct fm_parser *p, size_t *len);

/* Takes bytes of the connection.  Never calls back.  With len 0 it answers without taking anything.  When the whole
 * head of a request lies in one call, it is copied once, into the request. */
enum fm_parse fm_parser_feed(struct fm_parser *p, const char *data, size_t len, size_t *used);

/* Between two requests: has any byte of the next request been taken? (for the keep-alive and header timeouts)  The
 * empty line that old clients send after a body does not begin one. */
int fm_parser_started(const struct fm_parser *p);

/* The request whose head has been reported; NULL before that.  Owned by the parser.  Stays after an error in the body.
 */
struct fm_request *fm_parser_request(const struct fm_parser *p);

/* The body of the request that is being read, while it goes to a file (http/body.h); else NULL. */
struct fm_spool *fm_parser_spool(const struct fm_parser *p);

/* Asks anew after FM_PARSE_DONE, or when a write of the body is over: FM_PARSE_DONE if the request may be taken,
 * FM_PARSE_MORE if bytes of the client or of its body's file are still missing, FM_PARSE_ERROR. */
enum fm_parse fm_parser_stored(struct fm_parser *p);

/* When the whole request is there and stored: hands it over to the caller, and the parser is ready for the next one.
 * Else NULL. */
struct fm_request *fm_parser_take(struct fm_parser *p);

/* The request is over: frees what it holds; its memory may serve the connection's next one. */
void fm_parser_give_back(struct fm_parser *p, struct fm_request *r);

/* After FM_PARSE_ERROR; static.  NULL before. */
const struct fm_http_error *fm_parser_error(const struct fm_parser *p);

/* The request is refused: its body is dropped, with what it has in the quotas. */
void fm_parser_drop_body(struct fm_parser *p);

/* Does the request that is being read, or was refused, begin with the method HEAD?  Its answer has no body (RFC 9110,
 * 9.3.2), whatever else is wrong with it. */
bool fm_parser_is_head(const struct fm_parser *p);

/* What came of the request line that is being read, or was refused: up to 256 bytes, as they are. */
const char *fm_parser_line(const struct fm_parser *p, size_t *len);

/* "GET /path" of what is known of the request line so far, for log lines; NUL-terminated into buf (control characters
 * are escaped by the log).  Without the query, which may hold secrets.  Empty if nothing is known. */
void fm_parser_describe(const struct fm_parser *p, char *buf, size_t size);

#endif

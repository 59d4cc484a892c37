/* A second reading of HTTP/1.1 requests, for the fuzz targets to compare the server's with.
 *
 * Written from the grammar of RFC 9112, 9110 and 3986 alone, and as simply as can be: recursive descent over bytes that
 * are all there, no states, no limits, no speed.  It shares no code with src/http. */
#ifndef FERMATA_TESTS_RECOGNISER_H
#define FERMATA_TESTS_RECOGNISER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the server differs from the grammar on purpose; everything else that differs is a defect.  The same list, for
 * people, is in tests/fuzz/README.md.
 *
 * X(ID, slug of the refusal, or NULL if the server accepts what the grammar does not, what) */
#define REC_DIFFERENCES(X)                                                                                             \
    X(TARGET_CHAR, NULL, "a target with a character or a '%' that should be percent-encoded (RFC 3986, 3.3)")          \
    X(EMPTY_ELEMENT, "bad_transfer_encoding", "empty elements in the list of codings (RFC 9110, 5.6.1.2)")             \
    X(PORT_WITHOUT_HOST, "bad_host", "a Host of only a port, which no URI leads to (RFC 9110, 4.2.1 and 7.2)")         \
    X(PORT_RANGE, "bad_host", "a port over 65535")                                                                     \
    X(IP_FUTURE, "bad_host", "an IPvFuture address: there is none (RFC 3986, 3.2.2)")                                  \
    X(EXPECTATION, "expectation", "an Expect that is not one 100-continue: 417 (RFC 9110, 10.1.1)")                    \
    X(HUGE_LENGTH, "bad_content_length", "a Content-Length of 2^63 or more")                                           \
    X(HUGE_CHUNK, "bad_chunk", "a chunk size of 2^63 or more")                                                         \
    X(TRAILER, "bad_trailer", "Content-Length, Transfer-Encoding or Host as a trailer (RFC 9110, 6.5.1)")

enum {
#define X(id, slug, what) REC_BIT_##id,
    REC_DIFFERENCES(X)
#undef X
        REC_DIFFERENCES_END
};

enum {
#define X(id, slug, what) REC_##id = 1 << REC_BIT_##id,
    REC_DIFFERENCES(X)
#undef X
};

enum rec_verdict {
    REC_ACCEPT, /* a request, and `end` says where the next begins */
    REC_MORE,   /* it is not complete; the head may be */
    REC_REFUSE,
};

struct rec_text { /* a piece of the stream; at is NULL if there is no such part */
    const char *at;
    size_t len;
};

struct rec_field {
    struct rec_text name, value;
};

#define REC_FIELDS 512
#define REC_EMPTY_LINES 8 /* before a request line */

struct rec_request {
    bool has_head; /* the head is complete and acceptable: what follows is set */
    struct rec_text method, target, path, query;
    struct rec_text host; /* the one to use: the target's authority, else the field's value */
    int minor;            /* HTTP/1.minor */
    bool persists;        /* what version and Connection say (RFC 9112, 9.3) */
    bool chunked;
    bool has_length;
    uint64_t length; /* Content-Length; UINT64_MAX if it is more */

    /* Sizes, for the limits: without CRLF. */
    size_t line_len, longest_field, longest_chunk_line, ntrailers, longest_trailer;

    char *body; /* what has come of it, decoded; owned */
    size_t body_len;
    size_t end;         /* bytes of the whole request */
    unsigned different; /* set of differences that the request has */
    const char *why;    /* the rule that was broken, if refused; static */

    size_t nfields;
    struct rec_field fields[REC_FIELDS];
};

/* Reads the first request of the stream s.  *r is to be given to rec_fini in any case; its texts point into s. */
enum rec_verdict rec_read(const char *s, size_t len, struct rec_request *r);
void rec_fini(struct rec_request *r);

/* May a tracer take this value of the field traceparent? */
bool rec_traceparent(struct rec_text value);

/* The chunked body alone, with its trailers: s begins behind the head.  Sets body, end, different and sizes of *r. */
enum rec_verdict rec_read_chunked(const char *s, size_t len, struct rec_request *r);

#endif

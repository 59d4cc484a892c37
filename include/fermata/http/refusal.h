/* Why a request is refused: each rule once, with the status that answers it and the name the metrics count it under.
 *
 * The parser raises most of them; the connection raises the timeouts, and what concerns the queue. */
#ifndef FERMATA_HTTP_REFUSAL_H
#define FERMATA_HTTP_REFUSAL_H

/* X(ID, status, "slug", "reason") */
#define FM_REFUSALS(X)                                                                                                 \
    X(BAD_REQUEST_LINE, 400, "bad_request_line", "malformed request line")                                             \
    X(REQUEST_LINE_TOO_LONG, 414, "request_line_too_long", "request line over the limit")                              \
    X(EMPTY_LINES, 400, "empty_lines", "more than eight empty lines before the request line")                          \
    X(BAD_METHOD, 400, "bad_method", "method is no token")                                                             \
    X(CONNECT, 501, "connect", "CONNECT is not supported")                                                             \
    X(BAD_TARGET, 400, "bad_target", "malformed request target")                                                       \
    X(BAD_VERSION, 400, "bad_version", "malformed HTTP version")                                                       \
    X(VERSION_NOT_SUPPORTED, 505, "version_not_supported", "HTTP version other than 1.x")                              \
    X(BARE_LF, 400, "bare_lf", "LF without CR")                                                                        \
    X(BARE_CR, 400, "bare_cr", "CR without LF")                                                                        \
    X(CONTROL_CHAR, 400, "control_char", "control character in the head")                                              \
    X(OBS_FOLD, 400, "obs_fold", "field line begins with white space")                                                 \
    X(BAD_FIELD_NAME, 400, "bad_field_name", "malformed field name")                                                   \
    X(SPACE_BEFORE_COLON, 400, "space_before_colon", "white space between field name and colon")                       \
    X(TOO_MANY_FIELDS, 431, "too_many_fields", "more fields than the limit")                                           \
    X(FIELD_TOO_LONG, 431, "field_too_long", "field line over the limit")                                              \
    X(HOST_MISSING, 400, "host_missing", "no Host in an HTTP/1.1 request")                                             \
    X(HOST_REPEATED, 400, "host_repeated", "more than one Host")                                                       \
    X(BAD_HOST, 400, "bad_host", "malformed Host or authority")                                                        \
    X(BAD_CONTENT_LENGTH, 400, "bad_content_length", "malformed Content-Length")                                       \
    X(LENGTH_REPEATED, 400, "content_length_repeated", "more than one Content-Length")                                 \
    X(LENGTH_AND_CODING, 400, "content_length_and_coding", "Content-Length with Transfer-Encoding")                    \
    X(BAD_CODING, 400, "bad_transfer_encoding", "Transfer-Encoding is not one final chunked")                          \
    X(CODING_IN_1_0, 400, "transfer_encoding_in_1_0", "Transfer-Encoding in an HTTP/1.0 request")                      \
    X(CODING_UNKNOWN, 501, "transfer_coding_unknown", "transfer coding other than chunked")                            \
    X(EXPECTATION, 417, "expectation", "expectation other than 100-continue")                                          \
    X(BAD_CHUNK, 400, "bad_chunk", "malformed chunk")                                                                  \
    X(BAD_CHUNK_EXT, 400, "bad_chunk_ext", "malformed chunk extension")                                                \
    X(CHUNK_LINE_TOO_LONG, 400, "chunk_line_too_long", "chunk sizes and extensions over the limit")                    \
    X(BAD_TRAILER, 400, "bad_trailer", "trailer field that frames or routes a request")                                \
    X(TRAILERS_TOO_LARGE, 400, "trailers_too_large", "trailers over the limits for fields")                            \
    X(BODY_TOO_LARGE, 413, "body_too_large", "body over the limit")                                                    \
    X(BODY_STORE, 503, "body_store", "the body could not be stored")                                                   \
    X(BODY_FILES, 503, "body_files", "--limit-body-files or --limit-body-disk is reached")                             \
    X(NO_MEMORY, 503, "no_memory", "there is no memory for the request")                                               \
    X(DISAGREEMENT, 400, "disagreement", "http-parser reads the request differently")                                  \
    X(HEADER_TIMEOUT, 408, "header_timeout", "the head did not arrive in time")                                        \
    X(BODY_TIMEOUT, 408, "body_timeout", "the body did not arrive in time")                                            \
    X(BODY_RATE, 408, "body_rate", "the body came more slowly than --limit-body-rate")                                 \
    X(QUEUE_FULL, 503, "queue_full", "--limit-queue requests wait for a thread")                                       \
    X(QUEUE_TIMEOUT, 503, "queue_timeout", "no thread was free within --queue-timeout")                                \
    X(SHUTDOWN, 503, "shutdown", "the server ends, and the request had not come")

enum fm_refusal {
    FM_REFUSE_NOTHING = 0, /* acceptable */
#define X(id, status, slug, reason) FM_REFUSE_##id,
    FM_REFUSALS(X)
#undef X
        FM_REFUSALS_END, /* one more than the last: the size of a table of them */
};

struct fm_http_error {
    enum fm_refusal id;
    int status;         /* 400, 413, ...; 503 if it could not be stored */
    const char *reason; /* static text for the log: which rule was broken */
    const char *slug;   /* static short name for the metrics label, e.g. "bad_chunk" */
};

/* The error of a refusal; static.  NULL for FM_REFUSE_NOTHING.  Any thread. */
const struct fm_http_error *fm_refusal_error(enum fm_refusal id);

#endif

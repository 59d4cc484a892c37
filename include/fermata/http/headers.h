/* Header names we know, each once: its id, its usual spelling, the environ key WSGI gives it. */
#ifndef FERMATA_HTTP_HEADERS_H
#define FERMATA_HTTP_HEADERS_H

#include <stdbool.h>
#include <stddef.h>

/* X(ID, "spelling", "ENVIRON_KEY")  (Content-Type and Content-Length have no HTTP_ prefix: PEP 3333) */
#define FM_HEADERS(X)                                                                                                  \
    X(ACCEPT, "Accept", "HTTP_ACCEPT")                                                                                 \
    X(ACCEPT_CHARSET, "Accept-Charset", "HTTP_ACCEPT_CHARSET")                                                         \
    X(ACCEPT_ENCODING, "Accept-Encoding", "HTTP_ACCEPT_ENCODING")                                                      \
    X(ACCEPT_LANGUAGE, "Accept-Language", "HTTP_ACCEPT_LANGUAGE")                                                      \
    X(AUTHORIZATION, "Authorization", "HTTP_AUTHORIZATION")                                                            \
    X(CACHE_CONTROL, "Cache-Control", "HTTP_CACHE_CONTROL")                                                            \
    X(CONNECTION, "Connection", "HTTP_CONNECTION")                                                                     \
    X(CONTENT_LENGTH, "Content-Length", "CONTENT_LENGTH")                                                              \
    X(CONTENT_TYPE, "Content-Type", "CONTENT_TYPE")                                                                    \
    X(COOKIE, "Cookie", "HTTP_COOKIE")                                                                                 \
    X(DNT, "DNT", "HTTP_DNT")                                                                                          \
    X(EXPECT, "Expect", "HTTP_EXPECT")                                                                                 \
    X(FORWARDED, "Forwarded", "HTTP_FORWARDED")                                                                        \
    X(HOST, "Host", "HTTP_HOST")                                                                                       \
    X(IF_MATCH, "If-Match", "HTTP_IF_MATCH")                                                                           \
    X(IF_MODIFIED_SINCE, "If-Modified-Since", "HTTP_IF_MODIFIED_SINCE")                                                \
    X(IF_NONE_MATCH, "If-None-Match", "HTTP_IF_NONE_MATCH")                                                            \
    X(IF_RANGE, "If-Range", "HTTP_IF_RANGE")                                                                           \
    X(IF_UNMODIFIED_SINCE, "If-Unmodified-Since", "HTTP_IF_UNMODIFIED_SINCE")                                          \
    X(KEEP_ALIVE, "Keep-Alive", "HTTP_KEEP_ALIVE")                                                                     \
    X(ORIGIN, "Origin", "HTTP_ORIGIN")                                                                                 \
    X(PRAGMA, "Pragma", "HTTP_PRAGMA")                                                                                 \
    X(PRIORITY, "Priority", "HTTP_PRIORITY")                                                                           \
    X(PROXY_CONNECTION, "Proxy-Connection", "HTTP_PROXY_CONNECTION")                                                   \
    X(RANGE, "Range", "HTTP_RANGE")                                                                                    \
    X(REFERER, "Referer", "HTTP_REFERER")                                                                              \
    X(SEC_CH_UA, "Sec-CH-UA", "HTTP_SEC_CH_UA")                                                                        \
    X(SEC_CH_UA_MOBILE, "Sec-CH-UA-Mobile", "HTTP_SEC_CH_UA_MOBILE")                                                   \
    X(SEC_CH_UA_PLATFORM, "Sec-CH-UA-Platform", "HTTP_SEC_CH_UA_PLATFORM")                                             \
    X(SEC_FETCH_DEST, "Sec-Fetch-Dest", "HTTP_SEC_FETCH_DEST")                                                         \
    X(SEC_FETCH_MODE, "Sec-Fetch-Mode", "HTTP_SEC_FETCH_MODE")                                                         \
    X(SEC_FETCH_SITE, "Sec-Fetch-Site", "HTTP_SEC_FETCH_SITE")                                                         \
    X(SEC_FETCH_USER, "Sec-Fetch-User", "HTTP_SEC_FETCH_USER")                                                         \
    X(TE, "TE", "HTTP_TE")                                                                                             \
    X(TRACEPARENT, "Traceparent", "HTTP_TRACEPARENT")                                                                  \
    X(TRACESTATE, "Tracestate", "HTTP_TRACESTATE")                                                                     \
    X(TRAILER, "Trailer", "HTTP_TRAILER")                                                                              \
    X(TRANSFER_ENCODING, "Transfer-Encoding", "HTTP_TRANSFER_ENCODING")                                                \
    X(UPGRADE, "Upgrade", "HTTP_UPGRADE")                                                                              \
    X(UPGRADE_INSECURE_REQUESTS, "Upgrade-Insecure-Requests", "HTTP_UPGRADE_INSECURE_REQUESTS")                        \
    X(USER_AGENT, "User-Agent", "HTTP_USER_AGENT")                                                                     \
    X(VIA, "Via", "HTTP_VIA")                                                                                          \
    X(X_CSRFTOKEN, "X-CSRFToken", "HTTP_X_CSRFTOKEN")                                                                  \
    X(X_FORWARDED_FOR, "X-Forwarded-For", "HTTP_X_FORWARDED_FOR")                                                      \
    X(X_FORWARDED_HOST, "X-Forwarded-Host", "HTTP_X_FORWARDED_HOST")                                                   \
    X(X_FORWARDED_PORT, "X-Forwarded-Port", "HTTP_X_FORWARDED_PORT")                                                   \
    X(X_FORWARDED_PREFIX, "X-Forwarded-Prefix", "HTTP_X_FORWARDED_PREFIX")                                             \
    X(X_FORWARDED_PROTO, "X-Forwarded-Proto", "HTTP_X_FORWARDED_PROTO")                                                \
    X(X_FORWARDED_PROTOCOL, "X-Forwarded-Protocol", "HTTP_X_FORWARDED_PROTOCOL")                                       \
    X(X_FORWARDED_SSL, "X-Forwarded-Ssl", "HTTP_X_FORWARDED_SSL")                                                      \
    X(X_REAL_IP, "X-Real-IP", "HTTP_X_REAL_IP")                                                                        \
    X(X_REQUEST_ID, "X-Request-ID", "HTTP_X_REQUEST_ID")                                                               \
    X(X_REQUESTED_WITH, "X-Requested-With", "HTTP_X_REQUESTED_WITH")

enum fm_header_id {
#define X(id, name, key) FM_H_##id,
    FM_HEADERS(X)
#undef X
        FM_H_OTHER, /* also the number of known names */
};

/* The id of a field name, case-insensitively; FM_H_OTHER if it is none of ours.  Any thread. */
unsigned fm_header_lookup(const char *name, size_t len);

/* RFC 9110 tchar, and what may stand in a field value (HTAB, SP, VCHAR, obs-text). */
bool fm_is_token(const char *p, size_t len);
bool fm_is_field_value(const char *p, size_t len);

/* Case-insensitive equality of ASCII text. */
bool fm_ascii_ieq(const char *a, size_t alen, const char *b, size_t blen);

#endif

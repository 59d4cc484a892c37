/* How a line of the access log is made of a response: gunicorn's atoms, %(NAME)s, or one JSON object a line.
 *
 * What a client sent is escaped, so that it cannot forge a line or leave a field. */
#ifndef FERMATA_HTTP_LOGFORMAT_H
#define FERMATA_HTTP_LOGFORMAT_H

#include "fermata/http/request.h"
#include "fermata/util/buf.h"

struct fm_logformat;

struct fm_access_entry {
    const char *remote;               /* the client's address, "" for a unix socket */
    const struct fm_request *request; /* NULL: refused before its head was whole */
    const char *line;                 /* then what came of its request line */
    size_t line_len;
    unsigned status; /* 499: the client went away before any answer (nginx's number for it) */
    uint64_t bytes;  /* of the body, sent */
    uint64_t took;   /* ns from the complete request to the end of its response; 0 where it was refused */
    char end;        /* 'X': broken off before the end of the response; '+': the connection is kept; '-': it ends */
};

/* The combined format, and how the connection went on. */
#define FM_LOGFORMAT_DEFAULT "%(h)s - %(u)s %(t)s \"%(r)s\" %(s)s %(B)s \"%(f)s\" \"%(a)s\" %(X)s"

/* Reads a format; it is kept, and the caller keeps its text.  NULL, with *why what it takes: a static text. */
struct fm_logformat *fm_logformat_new(const char *format, const char **why);

/* Lines of JSON. */
struct fm_logformat *fm_logformat_json(void);

void fm_logformat_free(struct fm_logformat *f);

/* Appends a line with its end, of `most` bytes at most (4096 or more): where it would be longer its texts are cut, and
 * end with "...". */
void fm_logformat_line(const struct fm_logformat *f, struct fm_buf *to, const struct fm_access_entry *e, size_t most);

#endif

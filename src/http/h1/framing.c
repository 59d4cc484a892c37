/* The adapter around http-parser; nothing else includes http_parser.h.  See framing.h.
 *
 * Instead of the request line it is shown "POST / HTTP/1.x": it knows 34 methods and refuses others, but only CONNECT
 * changes the framing, and that never comes here.  Neither does it see fields that frame nothing, Connection and
 * Upgrade among them: keep-alive is decided in head.c, and Upgrade is ignored (RFC 9110, 7.8).  It would take up to 50
 * instructions a byte for them: see spec/internals/adr/0006. */
#include "framing.h"

#include <errno.h>
#include <pthread.h>

#include "fermata/http/headers.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"

enum fm_refusal fm_framing_not_stored(int err)
{
    if (err == -EDQUOT) {
        fm_error_ratelimited(
            "request body: --limit-body-files or --limit-body-disk is reached; the request is refused");
        return FM_REFUSE_BODY_FILES;
    }
    fm_error_ratelimited("request body: %s: %s; the request is refused", fm_body_dir(), fm_strerror(err));
    return FM_REFUSE_BODY_STORE;
}

/* Refuses from a callback: http_parser_execute stops. */
static int refuse(struct fm_framing *f, enum fm_refusal why)
{
    f->why = why;
    return 1;
}

/* The name of a field that it was shown, or of a trailer. */
static int on_header_field(http_parser *lib, const char *at, size_t len)
{
    struct fm_framing *f = lib->data;
    if (f->head)
        return 0;
    f->fields++;
    return at[-1] == '\n' && at[len] == ':' ? 0 : refuse(f, FM_REFUSE_DISAGREEMENT);
}

/* Has it read a head as we have?  UINT64_MAX is -1: no length in both readings. */
static bool agrees(const http_parser *lib, const struct fm_framing *f)
{
    const struct fm_request *r = f->request;
    bool version = lib->http_major == 1 && lib->http_minor == r->minor;
    bool length = lib->content_length == (uint64_t)r->content_length;
    bool chunked = ((lib->flags & F_CHUNKED) != 0) == r->chunked;
    return version && length && chunked && f->fields == f->shown;
}

static int on_headers_complete(http_parser *lib)
{
    struct fm_framing *f = lib->data;
    if (!agrees(lib, f))
        return refuse(f, FM_REFUSE_DISAGREEMENT);
    f->head = true;
    return 0;
}

static int on_chunk_header(http_parser *lib)
{
    struct fm_framing *f = lib->data;
    return lib->content_length == f->chunk ? 0 : refuse(f, FM_REFUSE_DISAGREEMENT);
}

static int on_body(http_parser *lib, const char *at, size_t len)
{
    struct fm_framing *f = lib->data;
    int rc = fm_body_append(&f->request->body, at, len);
    return rc == 0 ? 0 : refuse(f, fm_framing_not_stored(rc));
}

static int on_message_complete(http_parser *lib)
{
    struct fm_framing *f = lib->data;
    if (f->done)
        return refuse(f, FM_REFUSE_DISAGREEMENT);
    f->done = true;
    return 0;
}

static const http_parser_settings callbacks = {
    .on_header_field = on_header_field,
    .on_headers_complete = on_headers_complete,
    .on_chunk_header = on_chunk_header,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* What http-parser refuses on its own, in our words. */
static enum fm_refusal lib_refusal(const struct fm_framing *f)
{
    switch (HTTP_PARSER_ERRNO(&f->lib)) {
    case HPE_INVALID_CONTENT_LENGTH: return FM_REFUSE_BAD_CONTENT_LENGTH;
    case HPE_INVALID_TRANSFER_ENCODING: return FM_REFUSE_BAD_CODING;
    default: return FM_REFUSE_DISAGREEMENT;
    }
}

/* Shows http-parser bytes that were checked; it must take them all. */
static enum fm_refusal run(struct fm_framing *f, const char *data, size_t len)
{
    size_t taken = http_parser_execute(&f->lib, &callbacks, data, len);
    if (f->why == FM_REFUSE_NOTHING && HTTP_PARSER_ERRNO(&f->lib) != HPE_OK)
        f->why = lib_refusal(f);
    if (f->why == FM_REFUSE_NOTHING && taken != len)
        f->why = FM_REFUSE_DISAGREEMENT;
    return f->why;
}

enum fm_refusal fm_framing_read(struct fm_framing *f, const char *data, size_t len, size_t body, bool last)
{
    uint64_t size = f->request->body.size;
    if (run(f, data, len) == FM_REFUSE_NOTHING && (f->request->body.size - size != body || f->done != last))
        f->why = FM_REFUSE_DISAGREEMENT;
    return f->why;
}

/* http-parser after it has read the request line that every head is shown, for HTTP/1.0 and 1.1. */
static http_parser begun[2];

static void prepare(void)
{
    static const http_parser_settings none;
    static const char line[] = "POST / HTTP/1.0\r\nPOST / HTTP/1.1\r\n";
    http_parser_set_max_header_size(UINT32_MAX); /* one for the process; our limits are checked before */
    for (size_t i = 0; i < 2; i++) {
        http_parser_init(&begun[i], HTTP_REQUEST);
        http_parser_execute(&begun[i], &none, line + 17 * i, 17);
    }
}

void fm_framing_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
}

enum fm_refusal fm_framing_head(struct fm_framing *f, struct fm_request *r)
{
    f->request = r;
    f->lib = begun[r->minor];
    f->lib.data = f;
    for (unsigned i = 0; i < r->nfields; i++) {
        const struct fm_field *field = &r->fields[i];
        if (field->id != FM_H_CONTENT_LENGTH && field->id != FM_H_TRANSFER_ENCODING)
            continue;
        f->shown++;
        /* The blanks behind a value are no part of it (RFC 9110, 5.5), and http-parser would take no HTAB there. */
        if (run(f, r->head + field->name_off, fm_head_field_len(field)) || run(f, "\r\n", 2))
            return f->why;
    }
    if (run(f, r->head + r->head_len - 2, 2) == FM_REFUSE_NOTHING && (!f->head || f->done == fm_request_has_body(r)))
        f->why = FM_REFUSE_DISAGREEMENT;
    return f->why;
}

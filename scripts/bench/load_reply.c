/* Responses, bit by bit.  Only as strict as it takes to know where one ends. */
#include "load.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int on_status(struct reply *r, const char *line)
{
    if (strncmp(line, "HTTP/1.", 7) != 0 || !isdigit((unsigned char)line[7]) || line[8] != ' ')
        return -1;
    r->status = (unsigned)strtoul(line + 9, NULL, 10);
    r->close = line[7] == '0';
    r->state = REPLY_FIELD;
    return r->status >= 100 && r->status <= 599 ? 0 : -1;
}

/* The value if the line is that header, else NULL. */
static const char *value_of(const char *line, const char *name)
{
    size_t n = strlen(name);
    if (strncasecmp(line, name, n) != 0 || line[n] != ':')
        return NULL;
    return line + n + 1 + strspn(line + n + 1, " \t");
}

static int on_head_end(struct reply *r)
{
    if (r->status < 200)
        r->state = REPLY_STATUS;
    else if (r->status == 204 || r->status == 304)
        r->state = REPLY_COMPLETE;
    else if (r->chunked)
        r->state = REPLY_SIZE;
    else if (r->has_length)
        r->state = r->left ? REPLY_BODY : REPLY_COMPLETE;
    else
        r->state = REPLY_REST;
    return 0;
}

static int on_field(struct reply *r, const char *line)
{
    const char *value;
    if (!*line)
        return on_head_end(r);
    if ((*line | 32) != 'c' && (*line | 32) != 't')
        return 0;
    if ((value = value_of(line, "content-length"))) {
        if (!isdigit((unsigned char)*value))
            return -1;
        r->left = strtoull(value, NULL, 10);
        r->has_length = true;
    } else if ((value = value_of(line, "transfer-encoding"))) {
        r->chunked = strcasecmp(value, "chunked") == 0;
    } else if ((value = value_of(line, "connection"))) {
        if (strcasecmp(value, "close") == 0)
            r->close = true;
        else if (strcasecmp(value, "keep-alive") == 0)
            r->close = false;
    }
    return 0;
}

static int on_size(struct reply *r, const char *line)
{
    if (!isxdigit((unsigned char)*line))
        return -1;
    r->left = strtoull(line, NULL, 16);
    r->state = r->left ? REPLY_CHUNK : REPLY_TRAILER;
    return 0;
}

static int on_line(struct reply *r, const char *line)
{
    switch (r->state) {
    case REPLY_STATUS: return on_status(r, line);
    case REPLY_FIELD: return on_field(r, line);
    case REPLY_SIZE: return on_size(r, line);
    case REPLY_CHUNK_END: r->state = REPLY_SIZE; return *line ? -1 : 0;
    default: /* REPLY_TRAILER */
        if (!*line)
            r->state = REPLY_COMPLETE;
        return 0;
    }
}

/* Takes up to the end of a line.  Of a long one only the begin is kept. */
static ssize_t feed_line(struct reply *r, const char *data, size_t n)
{
    const char *newline = memchr(data, '\n', n);
    size_t len = newline ? (size_t)(newline - data) : n;
    size_t room = sizeof r->line - 1 - r->nline;
    memcpy(r->line + r->nline, data, len < room ? len : room);
    r->nline += (unsigned char)(len < room ? len : room);
    if (!newline)
        return (ssize_t)n;
    if (r->nline > 0 && r->line[r->nline - 1] == '\r')
        r->nline--;
    r->line[r->nline] = '\0';
    r->nline = 0;
    return on_line(r, r->line) == 0 ? (ssize_t)len + 1 : -1;
}

static size_t feed_body(struct reply *r, const char *data, size_t n, reply_body_fn *body, void *arg)
{
    if (r->state != REPLY_REST && n > r->left)
        n = (size_t)r->left;
    if (body)
        body(arg, data, n);
    if (r->state == REPLY_REST)
        return n;
    r->left -= n;
    if (r->left == 0)
        r->state = r->state == REPLY_CHUNK ? REPLY_CHUNK_END : REPLY_COMPLETE;
    return n;
}

ssize_t reply_feed(struct reply *r, const char *data, size_t n, reply_body_fn *body, void *arg)
{
    size_t taken = 0;
    r->begun = true;
    while (taken < n && r->state != REPLY_COMPLETE) {
        bool in_body = r->state == REPLY_BODY || r->state == REPLY_CHUNK || r->state == REPLY_REST;
        ssize_t step =
            in_body ? (ssize_t)feed_body(r, data + taken, n - taken, body, arg) : feed_line(r, data + taken, n - taken);
        if (step < 0)
            return -1;
        taken += (size_t)step;
    }
    return (ssize_t)taken;
}

bool reply_ended(const struct reply *r) { return r->state == REPLY_REST; }

/* Access log lines: %h - %u [%t] "%r" %s %b "%{Referer}" "%{User-Agent}" %X. */
#include "fermata/server/access.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fermata/http/headers.h"
#include "fermata/util/buf.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/util/logfile.h"
#include "fermata/util/text.h"

#define GATHER (FM_SEC / 1000) /* under load a line is no reason to wake a thread each time */

struct fm_access_log {
    struct fm_logfile *file;
    struct fm_buf lines; /* of this turn of the loop */
};

/* The access log has no place for it. */
static size_t tell_dropped(char *line, size_t size, uint64_t dropped)
{
    (void)line, (void)size;
    fm_warn("%llu lines of the access log were dropped while it could not be written", (unsigned long long)dropped);
    return 0;
}

static const struct fm_logfile_kind kind = {"access log", STDOUT_FILENO, FM_C_LOST_ACCESS,
                                            GATHER,       tell_dropped,  fm_log_not_reopened};

struct fm_access_log *fm_access_log_open(const char *path, size_t ring, int *err)
{
    struct fm_logfile *file = fm_logfile_open(&kind, path, err);
    if (!file)
        return NULL;
    *err = fm_logfile_start(file, ring);
    if (*err != 0) { /* the loop writes nothing itself */
        fm_logfile_close(file, fm_now());
        return NULL;
    }
    struct fm_access_log *a = fm_calloc(1, sizeof *a);
    a->file = file;
    return a;
}

void fm_access_log_close(struct fm_access_log *a, uint64_t until)
{
    if (!a)
        return;
    fm_access_log_flush(a);
    fm_logfile_close(a->file, until);
    fm_buf_fini(&a->lines);
    free(a);
}

void fm_access_log_leave(struct fm_access_log *a, bool gathered, uint64_t until) FM_UNCHECKED
{
    if (gathered)
        fm_access_log_flush(a);
    fm_logfile_flush(a->file, until);
}

void fm_access_log_reopen(struct fm_access_log *a) { fm_logfile_reopen(a->file); }

void fm_access_log_flush(struct fm_access_log *a)
{
    if (fm_buf_size(&a->lines) == 0)
        return;
    fm_logfile_put(a->file, fm_buf_head(&a->lines), fm_buf_size(&a->lines));
    fm_buf_clear(&a->lines);
}

/* What a client sent, with quotes, backslashes and everything unprintable escaped: it cannot forge a line. */
static void put_escaped(struct fm_buf *b, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == '"' || c == '\\' || c < 0x20 || c >= 0x7f) {
            char escaped[4];
            fm_escape_byte(c, escaped);
            fm_buf_append(b, escaped, sizeof escaped);
        } else {
            fm_buf_append(b, p + i, 1);
        }
    }
}

static void put_field(struct fm_buf *b, const struct fm_request *r, unsigned id)
{
    const struct fm_field *f = r ? fm_request_find(r, id) : NULL;
    fm_buf_puts(b, " \"");
    if (f)
        put_escaped(b, r->head + f->value_off, f->value_len);
    else
        fm_buf_puts(b, "-");
    fm_buf_puts(b, "\"");
}

/* The value of a base64 digit, or -1 (RFC 4648, 4). */
static int digit64(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The user of Basic credentials (RFC 7617, 2), as far as it goes into `user`; its length, 0 if there is none. */
static size_t basic_user(const struct fm_request *r, char *user, size_t size)
{
    const struct fm_field *f = r ? fm_request_find(r, FM_H_AUTHORIZATION) : NULL;
    const char *p = f ? r->head + f->value_off : "", *end = p + (f ? f->value_len : 0);
    unsigned bits = 0, held = 0;
    size_t n = 0;
    if (end - p < 6 || !fm_ascii_ieq(p, 6, "Basic ", 6))
        return 0;
    for (p += 6; p < end && *p == ' '; p++)
        ;
    for (int d; p < end && (d = digit64(*p)) >= 0; p++) {
        held = held << 6 | (unsigned)d;
        bits += 6;
        if (bits < 8)
            continue;
        bits -= 8;
        char c = (char)(held >> bits & 0xff);
        if (c == ':')
            return n;
        if (n == size)
            return n;
        user[n++] = c;
    }
    return 0; /* no colon: these are no Basic credentials */
}

static void put_user(struct fm_buf *b, const struct fm_request *r)
{
    char user[128];
    size_t n = basic_user(r, user, sizeof user);
    if (n > 0)
        put_escaped(b, user, n);
    else
        fm_buf_puts(b, "-");
}

static void put_request_line(struct fm_buf *b, const struct fm_access_entry *e)
{
    const struct fm_request *r = e->request;
    fm_buf_puts(b, "\"");
    if (r) {
        put_escaped(b, fm_request_text(r, r->method), r->method.len);
        fm_buf_puts(b, " ");
        put_escaped(b, fm_request_text(r, r->target), r->target.len);
        fm_buf_printf(b, " HTTP/1.%d", r->minor);
    } else if (e->line_len > 0) {
        put_escaped(b, e->line, e->line_len);
    } else {
        fm_buf_puts(b, "-");
    }
    fm_buf_puts(b, "\"");
}

void fm_access_log_add(struct fm_access_log *a, const struct fm_access_entry *e)
{
    struct fm_buf *b = &a->lines;
    size_t before = fm_buf_size(b); /* what is consumed may be dropped on the way */
    fm_buf_printf(b, "%s - ", *e->remote ? e->remote : "-");
    put_user(b, e->request);
    fm_buf_printf(b, " [%s] ", fm_clf_date());
    put_request_line(b, e);
    fm_buf_printf(b, " %u %llu", e->status, (unsigned long long)e->bytes);
    put_field(b, e->request, FM_H_REFERER);
    put_field(b, e->request, FM_H_USER_AGENT);
    fm_buf_printf(b, " %c\n", e->end);
    if (b->failed) {
        fm_error_ratelimited("access log: %s; lines are left out", fm_strerror(-ENOMEM));
        fm_count(FM_C_LOST_ACCESS);
        b->len = b->off + before;
        b->failed = false;
    }
    if (fm_buf_size(b) > 16 * 1024)
        fm_access_log_flush(a);
}

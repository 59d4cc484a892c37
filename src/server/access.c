/* Access log lines: %h - - [%t] "%r" %s %b "%{Referer}" "%{User-Agent}". */
#include "fermata/server/access.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fermata/http/headers.h"
#include "fermata/util/buf.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"

struct fm_access_log {
    int fd;
    struct fm_buf lines;
};

struct fm_access_log *fm_access_log_open(const char *path)
{
    int fd = strcmp(path, "-") == 0 ? dup(1) : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return NULL;
    struct fm_access_log *a = fm_calloc(1, sizeof *a);
    a->fd = fd;
    return a;
}

void fm_access_log_close(struct fm_access_log *a)
{
    if (!a)
        return;
    close(a->fd);
    fm_buf_fini(&a->lines);
    free(a);
}

void fm_access_log_flush(struct fm_access_log *a)
{
    while (fm_buf_size(&a->lines) > 0) {
        ssize_t n = write(a->fd, fm_buf_head(&a->lines), fm_buf_size(&a->lines));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            fm_error_seldom("access log: %s; lines are left out", fm_strerror(n < 0 ? -errno : -EIO));
            fm_buf_clear(&a->lines); /* a full disk must not fill the memory too */
            return;
        }
        fm_buf_consume(&a->lines, (size_t)n);
    }
}

/* What a client sent, with quotes, backslashes and everything unprintable escaped: it cannot forge a line. */
static void put_escaped(struct fm_buf *b, const char *p, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == '"' || c == '\\' || c < 0x20 || c >= 0x7f) {
            char escaped[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
            fm_buf_append(b, escaped, 4);
        } else {
            fm_buf_append(b, p + i, 1);
        }
    }
}

static void put_field(struct fm_buf *b, const struct fm_request *r, unsigned id)
{
    const struct fm_field *f = fm_request_find(r, id);
    fm_buf_puts(b, " \"");
    if (f)
        put_escaped(b, r->head + f->value_off, f->value_len);
    else
        fm_buf_puts(b, "-");
    fm_buf_puts(b, "\"");
}

void fm_access_log_add(struct fm_access_log *a, const char *remote, const struct fm_request *r, unsigned status,
                       uint64_t bytes)
{
    struct fm_buf *b = &a->lines;
    size_t before = fm_buf_size(b); /* what is consumed may be dropped on the way */
    fm_buf_printf(b, "%s - - [%s] \"", *remote ? remote : "-", fm_clf_date());
    put_escaped(b, fm_request_text(r, r->method), r->method.len);
    fm_buf_puts(b, " ");
    put_escaped(b, fm_request_text(r, r->target), r->target.len);
    fm_buf_printf(b, " HTTP/1.%d\" %u %llu", r->minor, status, (unsigned long long)bytes);
    put_field(b, r, FM_H_REFERER);
    put_field(b, r, FM_H_USER_AGENT);
    fm_buf_puts(b, "\n");
    if (b->failed) {
        fm_error_seldom("access log: %s; lines are left out", fm_strerror(-ENOMEM));
        b->len = b->off + before;
        b->failed = false;
    }
    if (fm_buf_size(b) > 64 * 1024)
        fm_access_log_flush(a);
}

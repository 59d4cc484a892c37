/* The error log: every record is one write(2) to a descriptor opened for appending. */
#include "fermata/util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fermata/util/buf.h"
#include "fermata/util/clock.h"

enum fm_log_level fm_log_threshold = FM_LOG_INFO;
static int log_fd = 2; /* set before any thread starts */

static const char *const level_names[] = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"};

int fm_log_open(const char *path)
{
    if (strcmp(path, "-") == 0) {
        log_fd = 2;
        return 0;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    if (log_fd != 2)
        close(log_fd);
    log_fd = fd;
    return 0;
}

void fm_log_set_level(enum fm_log_level level) { fm_log_threshold = level; }

void fm_log_raw(const char *p, size_t n)
{
    while (n > 0) {
        ssize_t k = write(log_fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return; /* nowhere to report to */
        p += k;
        n -= (size_t)k;
    }
}

/* Appends to a line of `size` bytes. */
struct line {
    char *text;
    size_t len, size;
};

static void put(struct line *l, char c)
{
    if (l->len < l->size)
        l->text[l->len++] = c;
}

/* Appends text with control characters as \xNN: one record stays one line. */
static void put_escaped(struct line *l, const char *s)
{
    static const char hex[] = "0123456789abcdef";
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c >= 0x20 && c != 0x7f) {
            put(l, *s);
            continue;
        }
        put(l, '\\');
        put(l, 'x');
        put(l, hex[c >> 4]);
        put(l, hex[c & 15]);
    }
}

#define TEXT_MAX 2048
#define LINE_SIZE (80 + 4 * TEXT_MAX + 1)

/* The head line, with its end; how long it is.  No memory is allocated: there may be none, and that is what the line
 * says. */
static size_t __attribute__((format(printf, 3, 0)))
head_line(char out[LINE_SIZE], enum fm_log_level level, const char *fmt, va_list ap)
{
    char text[TEXT_MAX], when[40];
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S %z", &tm);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    if (n >= (int)sizeof text)
        memcpy(text + sizeof text - 4, "...", 4);
    n = snprintf(out, 80, "[%s] [%ld] [%s] ", when, (long)getpid(), level_names[level]);
    struct line l = {out, n > 0 ? (size_t)n : 0, LINE_SIZE - 1};
    put_escaped(&l, text);
    out[l.len++] = '\n';
    return l.len;
}

static void __attribute__((format(printf, 2, 0))) log_line(enum fm_log_level level, const char *fmt, va_list ap)
{
    char line[LINE_SIZE];
    int saved = errno;
    size_t n = head_line(line, level, fmt, ap);
    fm_log_raw(line, n);
    errno = saved;
}

void fm_log(enum fm_log_level level, const char *fmt, ...)
{
    va_list ap;
    if (!fm_log_on(level))
        return;
    va_start(ap, fmt);
    log_line(level, fmt, ap);
    va_end(ap);
}

void fm_log_seldom(struct fm_seldom *place, enum fm_log_level level, const char *fmt, ...)
{
    char text[TEXT_MAX];
    uint64_t now = fm_now(), next = atomic_load(&place->next);
    va_list ap;
    if (!fm_log_on(level))
        return;
    if (now < next || !atomic_compare_exchange_strong(&place->next, &next, now + FM_LOG_PAUSE * FM_MS)) {
        atomic_fetch_add(&place->left_out, 1);
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    unsigned left_out = atomic_exchange(&place->left_out, 0);
    if (left_out > 0)
        fm_log(level, "%s (and %u times before, unsaid)", text, left_out);
    else
        fm_log(level, "%s", text);
}

void fm_log_text(enum fm_log_level level, const char *text, size_t len, const char *fmt, ...)
{
    char line[LINE_SIZE];
    if (!fm_log_on(level))
        return;
    va_list ap;
    va_start(ap, fmt);
    size_t head = head_line(line, level, fmt, ap);
    va_end(ap);
    struct fm_buf b = FM_BUF_INIT;
    fm_buf_append(&b, line, head);
    fm_buf_append(&b, text, len);
    if (len > 0 && text[len - 1] != '\n')
        fm_buf_append(&b, "\n", 1);
    if (!b.failed) {
        fm_log_raw(fm_buf_head(&b), fm_buf_size(&b));
    } else { /* in pieces, where others may come between */
        fm_log_raw(line, head);
        fm_log_raw(text, len);
    }
    fm_buf_fini(&b);
}

/* The error log: every record is one write(2) to a descriptor opened for appending. */
#include "fermata/util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fermata/util/buf.h"

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

/* Appends text with control characters as \xNN: one record stays one line. */
static void append_escaped(struct fm_buf *b, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == 0x7f)
            fm_buf_printf(b, "\\x%02x", c);
        else
            fm_buf_append(b, s, 1);
    }
}

static void __attribute__((format(printf, 3, 0))) head_line(struct fm_buf *b, enum fm_log_level level, const char *fmt,
                                                            va_list ap)
{
    char text[2048], when[40];
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S %z", &tm);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    if (n >= (int)sizeof text)
        memcpy(text + sizeof text - 4, "...", 4);
    fm_buf_printf(b, "[%s] [%ld] [%s] ", when, (long)getpid(), level_names[level]);
    append_escaped(b, text);
    fm_buf_append(b, "\n", 1);
}

void fm_log(enum fm_log_level level, const char *fmt, ...)
{
    if (!fm_log_on(level))
        return;
    int saved = errno;
    struct fm_buf b = FM_BUF_INIT;
    va_list ap;
    va_start(ap, fmt);
    head_line(&b, level, fmt, ap);
    va_end(ap);
    fm_log_raw(fm_buf_head(&b), fm_buf_size(&b));
    fm_buf_fini(&b);
    errno = saved;
}

void fm_log_text(enum fm_log_level level, const char *text, size_t len, const char *fmt, ...)
{
    if (!fm_log_on(level))
        return;
    struct fm_buf b = FM_BUF_INIT;
    va_list ap;
    va_start(ap, fmt);
    head_line(&b, level, fmt, ap);
    va_end(ap);
    fm_buf_append(&b, text, len);
    if (len > 0 && text[len - 1] != '\n')
        fm_buf_append(&b, "\n", 1);
    fm_log_raw(fm_buf_head(&b), fm_buf_size(&b));
    fm_buf_fini(&b);
}

/* The error log: each record is put into its file as a whole (util/logfile.h). */
#include "fermata/util/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fermata/util/buf.h"
#include "fermata/util/logfile.h"
#include "fermata/util/clock.h"
#include "fermata/util/text.h"

enum fm_log_level fm_log_threshold = FM_LOG_INFO;
static struct fm_logfile *file; /* NULL: standard error; set before any thread starts */

static const char *const level_names[] = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"};

static size_t tell_dropped(char *line, size_t size, uint64_t dropped);

static const struct fm_logfile_kind kind = {"error log", STDERR_FILENO, FM_C_LOST_ERROR,
                                            0,           tell_dropped,  fm_log_not_reopened};

/* ---- the journal ---- */

static bool journal; /* set before any thread starts */

bool fm_log_is_journal(void) { return journal; }

/* $JOURNAL_STREAM is DEVICE:INODE of what standard output or error is connected to. */
static bool is_journal(const char *path)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    return (strcmp(path, "-") == 0 || strcmp(path, "/dev/stderr") == 0) && stream &&
           sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device &&
           st.st_ino == inode;
}

int fm_log_open(const char *path)
{
    int err;
    struct fm_logfile *f = fm_logfile_open(&kind, path, &err);
    if (!f)
        return err;
    fm_logfile_close(file, fm_now());
    file = f;
    journal = is_journal(path);
    return 0;
}

int fm_log_capture(void) { return file ? fm_logfile_capture(file) : 0; }

int fm_log_start(size_t ring) { return file ? fm_logfile_start(file, ring) : 0; }

void fm_log_reopen(void)
{
    if (file)
        fm_logfile_reopen(file);
}

bool fm_log_flush(uint64_t until) { return !file || fm_logfile_flush(file, until); }

void fm_log_set_level(enum fm_log_level level) { fm_log_threshold = level; }

static void put_out(const char *p, size_t n)
{
    if (file)
        fm_logfile_put(file, p, n);
    else
        (void)!write(STDERR_FILENO, p, n);
}

#define PIECE (16 * 1024) /* of a text that may be of any length */

static void put_pieces(const char *p, size_t n)
{
    while (n > PIECE) {
        const char *end = memrchr(p, '\n', PIECE);
        size_t k = end ? (size_t)(end - p) + 1 : PIECE;
        put_out(p, k);
        p += k;
        n -= k;
    }
    if (n > 0)
        put_out(p, n);
}

/* ---- elsewhere ---- */

static struct {
    fm_log_tap_fn *fn;
    void *ctx;
} taps[FM_LOG_TAPS];

void fm_log_tap(fm_log_tap_fn *fn, void *ctx)
{
    unsigned i = 0;
    while (taps[i].fn)
        i++;
    taps[i].fn = fn;
    taps[i].ctx = ctx;
}

static void put_elsewhere(enum fm_log_level level, enum fm_log_shape shape, const char *text, size_t n)
{
    for (unsigned i = 0; i < FM_LOG_TAPS && taps[i].fn; i++)
        taps[i].fn(taps[i].ctx, level, shape, text, n);
}

unsigned fm_log_severity(enum fm_log_level level)
{
    static const unsigned char severities[] = {7, 6, 4, 3, 2};
    return severities[level];
}

/* Each line is a message of its own in the journal, so each has the priority.  A last one without an end gets one. */
static void put_journal(unsigned severity, const char *p, size_t n)
{
    const char prefix[3] = {'<', (char)('0' + severity), '>'};
    struct fm_buf b = FM_BUF_INIT;
    while (n > 0) {
        const char *end = memchr(p, '\n', n);
        size_t k = end ? (size_t)(end - p) : n;
        fm_buf_append(&b, prefix, sizeof prefix);
        fm_buf_append(&b, p, k);
        fm_buf_append(&b, "\n", 1);
        k += end != NULL;
        p += k;
        n -= k;
    }
    put_pieces(fm_buf_head(&b), fm_buf_size(&b)); /* as much as there was memory for */
    fm_buf_fini(&b);
}

void fm_log_raw(const char *p, size_t n)
{
    put_elsewhere(FM_LOG_INFO, FM_LOG_RAW, p, n);
    if (journal)
        put_journal(FM_SEVERITY_NOTICE, p, n);
    else
        put_pieces(p, n);
}

/* ---- lines ---- */

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

/* How many bytes at s are one character that may stand in a line as it is; 0: the first one has to be escaped.  Not as
 * they are: control characters, those of C1 too, which some terminals and viewers take for a new line (U+0085), the
 * separators U+2028 and U+2029, and what is no UTF-8. */
static size_t plain(const char *s)
{
    const unsigned char *c = (const unsigned char *)s;
    if (c[0] < 0x80)
        return c[0] >= 0x20 && c[0] != 0x7f;
    size_t n = c[0] >= 0xf0 && c[0] <= 0xf4 ? 4 : c[0] >= 0xe0 ? 3 : c[0] >= 0xc2 ? 2 : 0;
    if (c[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    bool c1 = n == 2 && c[0] == 0xc2 && c[1] < 0xa0;
    bool separator = n == 3 && c[0] == 0xe2 && c[1] == 0x80 && (c[2] == 0xa8 || c[2] == 0xa9);
    bool overlong = (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90);
    return c1 || separator || overlong ? 0 : n;
}

/* Appends text with everything else as \xNN: one record stays one line. */
static void put_escaped(struct line *l, const char *s)
{
    while (*s) {
        size_t n = plain(s);
        for (size_t i = 0; i < n; i++)
            put(l, s[i]);
        s += n;
        if (n > 0)
            continue;
        char escaped[4];
        fm_escape_byte((unsigned char)*s++, escaped);
        for (size_t i = 0; i < sizeof escaped; i++)
            put(l, escaped[i]);
    }
}

#define TEXT_MAX 2048
#define LINE_SIZE (80 + 4 * TEXT_MAX + 1)

/* A line, with its end: what it says begins at `at`, behind time, pid and level, or the journal's priority.  No memory
 * is allocated: there may be none, and that is what the line says. */
struct record {
    char text[LINE_SIZE];
    size_t at, len;
};

static size_t put_head(char out[80], enum fm_log_level level)
{
    char when[40];
    struct timespec now;
    struct tm tm;
    if (journal)
        return (size_t)snprintf(out, 80, "<%u>", fm_log_severity(level));
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S %z", &tm);
    int n = snprintf(out, 80, "[%s] [%ld] [%s] ", when, (long)getpid(), level_names[level]);
    return n > 0 ? (size_t)n : 0;
}

static void __attribute__((format(printf, 3, 0)))
make_record(struct record *r, enum fm_log_level level, const char *fmt, va_list ap)
{
    char text[TEXT_MAX];
    int n = vsnprintf(text, sizeof text, fmt, ap);
    if (n >= (int)sizeof text)
        memcpy(text + sizeof text - 4, "...", 4);
    r->at = put_head(r->text, level);
    struct line l = {r->text, r->at, LINE_SIZE - 1};
    put_escaped(&l, text);
    r->text[l.len++] = '\n';
    r->len = l.len;
}

static void __attribute__((format(printf, 3, 4)))
make_line(struct record *r, enum fm_log_level level, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    make_record(r, level, fmt, ap);
    va_end(ap);
}

static size_t tell_dropped(char *line, size_t size, uint64_t dropped)
{
    struct record whole;
    make_line(&whole, FM_LOG_WARNING, "%llu lines of this log were dropped while it could not be written",
              (unsigned long long)dropped);
    size_t n = whole.len < size ? whole.len : size;
    memcpy(line, whole.text, n);
    return n;
}

static void __attribute__((format(printf, 2, 0))) log_line(enum fm_log_level level, const char *fmt, va_list ap)
{
    struct record r;
    int saved = errno;
    make_record(&r, level, fmt, ap);
    put_out(r.text, r.len);
    put_elsewhere(level, FM_LOG_LINE, r.text + r.at, r.len - r.at);
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

void fm_log_not_reopened(const struct fm_logfile_kind *of, const char *path, int err)
{
    fm_error("%s %s: %s; writing to the old file goes on", of->name, path, strerror(-err));
}

void fm_log_ratelimited(struct fm_ratelimit *place, enum fm_log_level level, const char *fmt, ...)
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
        fm_log(level, "%s (%u similar messages suppressed)", text, left_out);
    else
        fm_log(level, "%s", text);
}

void fm_log_text(enum fm_log_level level, const char *text, size_t len, const char *fmt, ...)
{
    struct record r;
    if (!fm_log_on(level))
        return;
    va_list ap;
    va_start(ap, fmt);
    make_record(&r, level, fmt, ap);
    va_end(ap);
    struct fm_buf b = FM_BUF_INIT;
    fm_buf_append(&b, r.text, r.len);
    fm_buf_append(&b, text, len);
    if (len > 0 && text[len - 1] != '\n')
        fm_buf_append(&b, "\n", 1);
    const char *whole = fm_buf_head(&b);
    size_t n = fm_buf_size(&b);
    if (b.failed) { /* in pieces, where others may come between */
        put_out(r.text, r.len);
        put_pieces(text, len);
        put_elsewhere(level, FM_LOG_LINE, r.text + r.at, r.len - r.at);
    } else {
        put_elsewhere(level, FM_LOG_TEXT, whole + r.at, n - r.at);
        if (journal)
            put_journal(fm_log_severity(level), whole + r.at, n - r.at);
        else
            put_pieces(whole, n);
    }
    fm_buf_fini(&b);
}

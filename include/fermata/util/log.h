/* The error log: one line per call, put into its file as a whole, so that lines of different threads never mix.  Once
 * it was started no thread that logs waits for the file (util/logfile.h).  Any thread; fm_log_open, fm_log_start and
 * fm_log_set_level before any other thread starts. */
#ifndef FERMATA_UTIL_LOG_H
#define FERMATA_UTIL_LOG_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fm_log_level { FM_LOG_DEBUG, FM_LOG_INFO, FM_LOG_WARNING, FM_LOG_ERROR, FM_LOG_CRITICAL };

extern enum fm_log_level fm_log_threshold;

/* The numbers that syslog and the journal have for levels (RFC 5424, 6.2.1), and one for text of which the level is not
 * known. */
#define FM_SEVERITY_NOTICE 5
unsigned fm_log_severity(enum fm_log_level level);

/* What a record is. */
enum fm_log_shape {
    FM_LOG_LINE, /* one line */
    FM_LOG_TEXT, /* a line with lines below it: a traceback, a stack */
    FM_LOG_RAW,  /* what an application has written to wsgi.errors; its level says nothing */
};

/* Where each record goes besides the file, without time, pid and level: called in the thread that logs, which may hold
 * any leaf lock, so it must not wait or log.  FM_LOG_TAPS at most, before any other thread starts. */
#define FM_LOG_TAPS 2
typedef void fm_log_tap_fn(void *ctx, enum fm_log_level level, enum fm_log_shape shape, const char *text, size_t n);
void fm_log_tap(fm_log_tap_fn *fn, void *ctx);

/* Opens path for appending ("-" is standard error).  0 or a negated errno; on failure the old file stays.  Where that
 * is the journal ($JOURNAL_STREAM, systemd.exec(5)) lines begin with their priority, "<6>", in place of time, pid and
 * level, which the journal has itself. */
int fm_log_open(const char *path);
void fm_log_set_level(enum fm_log_level level);

/* Has standard output and standard error go where the log goes, also after it was opened anew; no-op where that is
 * standard error itself.  The access log's standard output is the one that there was.  0 or a negated errno. */
int fm_log_capture(void);

/* From now on a thread writes, through a ring of so many bytes.  0, or a negated errno, and callers go on writing. */
int fm_log_start(size_t ring);

/* Opens the file anew, for logrotate. */
void fm_log_reopen(void);

/* Says that a log's file could not be opened anew (fm_logfile_kind.not_reopened). */
struct fm_logfile_kind;
void fm_log_not_reopened(const struct fm_logfile_kind *of, const char *path, int err);

/* Waits until all is written; false if it is not by `until` (fm_now). */
bool fm_log_flush(uint64_t until);

/* Is a message of this level written?  For callers that would have to build an argument. */
static inline bool fm_log_on(enum fm_log_level level) { return level >= fm_log_threshold; }

/* Is the file the journal? */
bool fm_log_is_journal(void);

/* One line, with time, pid and level in front, as gunicorn writes them.  Control characters in the text are escaped,
 * so that what a peer sends cannot forge a line. */
void fm_log(enum fm_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A text of several lines (a traceback): head line as fm_log, then the text as it is. */
void fm_log_text(enum fm_log_level level, const char *text, size_t len, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* For what may happen very often: one line from each place in FM_LOG_PAUSE, and the next one says how many were left
 * out. */
#ifndef FM_LOG_PAUSE
#define FM_LOG_PAUSE 10000 /* milliseconds */
#endif
struct fm_ratelimit {      /* static, one for each place */
    _Atomic uint64_t next; /* fm_now of the next line */
    atomic_uint left_out;
};
void fm_log_ratelimited(struct fm_ratelimit *place, enum fm_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Raw bytes to the error log (wsgi.errors): lines that end, whole if they are shorter than 16 KiB. */
void fm_log_raw(const char *p, size_t n);

#define fm_debug(...)                                                                                                  \
    do {                                                                                                               \
        if (fm_log_on(FM_LOG_DEBUG))                                                                                   \
            fm_log(FM_LOG_DEBUG, __VA_ARGS__);                                                                         \
    } while (0)
#define fm_info(...) fm_log(FM_LOG_INFO, __VA_ARGS__)
#define fm_warn(...) fm_log(FM_LOG_WARNING, __VA_ARGS__)
#define fm_error(...) fm_log(FM_LOG_ERROR, __VA_ARGS__)
#define fm_error_ratelimited(...)                                                                                      \
    do {                                                                                                               \
        static struct fm_ratelimit place_;                                                                             \
        fm_log_ratelimited(&place_, FM_LOG_ERROR, __VA_ARGS__);                                                        \
    } while (0)

#endif

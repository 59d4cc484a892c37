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

/* Opens path for appending ("-" is standard error).  0 or a negated errno; on failure the old file stays. */
int fm_log_open(const char *path);
void fm_log_set_level(enum fm_log_level level);

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

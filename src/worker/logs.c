/* The logs of a process; see worker/logs.h. */
#include "fermata/worker/logs.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/http/logformat.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/util/logfile.h"
#include "fermata/util/statsd.h"
#include "fermata/util/syslog.h"
#include "fermata/worker/end.h"

/* Set before any other thread starts. */
static struct {
    struct fm_syslog_config syslog_config;
    struct fm_statsd_config statsd_config;
    struct fm_syslog *syslog; /* or NULL */
    struct fm_statsd *statsd; /* or NULL */
} logs;

struct fm_statsd *fm_logs_statsd(void) { return logs.statsd; }

/* ---- where records go ---- */

static void to_syslog(void *ctx, enum fm_log_level level, enum fm_log_shape shape, const char *text, size_t n)
{
    fm_syslog_put(ctx, shape == FM_LOG_RAW ? FM_SEVERITY_NOTICE : fm_log_severity(level), "error", text, n);
}

static void access_to_syslog(const char *line, size_t n)
{
    fm_syslog_put(logs.syslog, fm_log_severity(FM_LOG_INFO), "access", line, n);
}

/* What gunicorn counts: a traceback is an exception, and no error. */
static void to_statsd(void *ctx, enum fm_log_level level, enum fm_log_shape shape, const char *text, size_t n)
{
    (void)text, (void)n;
    if (shape == FM_LOG_RAW || level < FM_LOG_WARNING)
        return;
    fm_statsd_log(ctx, level == FM_LOG_WARNING    ? FM_STATSD_WARNING
                       : level == FM_LOG_CRITICAL ? FM_STATSD_CRITICAL
                       : shape == FM_LOG_TEXT     ? FM_STATSD_EXCEPTION
                                                  : FM_STATSD_ERROR);
}

static void syslog_trouble(int err, unsigned long long lines)
{
    if (err != 0)
        fm_warn("--log-syslog-to: %s; lines wait until it can be reached", fm_strerror(err));
    else
        fm_warn("--log-syslog-to: %llu lines were dropped while it could not be reached", lines);
}

static void statsd_trouble(int err, unsigned long long values)
{
    if (err != 0)
        fm_warn("--statsd-host: %s; metrics are lost until it can be reached", fm_strerror(err));
    else
        fm_warn("--statsd-host: it is reached again, and %llu values were lost", values);
}

/* ---- opening ---- */

/* Are standard output and standard error the same, so that the access log and the error log may be? */
static bool streams_are_one(void)
{
    struct stat out, err;
    return fstat(STDOUT_FILENO, &out) == 0 && fstat(STDERR_FILENO, &err) == 0 && out.st_dev == err.st_dev &&
           out.st_ino == err.st_ino;
}

int fm_logs_open(const struct fm_options *o, bool arbiter)
{
    fm_log_set_level(o->log_level);
    if (o->workers > 0 || streams_are_one())
        fm_logfile_share();
    int err = fm_log_open(o->error_logfile);
    if (err == 0 && o->capture_output && !arbiter)
        err = fm_log_capture();
    if (err != 0) {
        fprintf(stderr, "fermata: --error-logfile %s: %s\n", o->error_logfile, fm_strerror(err));
        return FM_EXIT_OTHER;
    }
    return 0;
}

void fm_logs_gather(const struct fm_options *o)
{
    if (o->log_syslog) {
        logs.syslog_config = o->syslog;
        logs.syslog_config.trouble = syslog_trouble;
        logs.syslog = fm_syslog_new(&logs.syslog_config, o->log_buffer);
        fm_log_tap(to_syslog, logs.syslog);
    }
    if (o->has_statsd) {
        logs.statsd_config = o->statsd;
        logs.statsd_config.trouble = statsd_trouble;
        logs.statsd = fm_statsd_new(&logs.statsd_config);
        fm_log_tap(to_statsd, logs.statsd);
    }
}

int fm_logs_start(const struct fm_options *o)
{
    int err = fm_log_start(o->log_buffer);
    if (err == 0 && logs.syslog)
        err = fm_syslog_start(logs.syslog);
    if (err == 0 && logs.statsd)
        err = fm_statsd_start(logs.statsd);
    if (err != 0)
        fm_log(FM_LOG_CRITICAL, "cannot start a thread for the logs: %s", fm_strerror(err));
    return err;
}

bool fm_logs_has_access(const struct fm_options *o)
{
    return o->access_logfile || (o->log_syslog && !o->no_access_to_syslog);
}

int fm_logs_open_access(const struct fm_options *o, struct fm_access_log **to)
{
    bool also = o->log_syslog && !o->no_access_to_syslog;
    const char *why;
    int err;
    *to = NULL;
    if (!fm_logs_has_access(o))
        return 0;
    struct fm_access_config config = {.path = o->access_logfile,
                                      .also = also ? access_to_syslog : NULL,
                                      .ring = o->log_buffer,
                                      .format = o->access_log_json
                                                    ? fm_logformat_json()
                                                    : fm_logformat_new(o->access_logformat ? o->access_logformat
                                                                                           : FM_LOGFORMAT_DEFAULT,
                                                                       &why),
                                      .excluded = o->access_log_exclude,
                                      .nexcluded = o->nexcluded};
    *to = fm_access_log_open(&config, &err);
    if (*to)
        return 0;
    fm_logformat_free(config.format);
    fm_log(FM_LOG_CRITICAL, "--access-logfile %s: %s", o->access_logfile, fm_strerror(err));
    return err;
}

bool fm_logs_flush(uint64_t until)
{
    bool all = !logs.syslog || fm_syslog_flush(logs.syslog, until);
    all = (!logs.statsd || fm_statsd_flush(logs.statsd, until)) && all;
    return fm_log_flush(until) && all;
}

/* The command line: every option once, in a table that parsing, --help and the README's option list come from. */
#ifndef FERMATA_CONFIG_OPTIONS_H
#define FERMATA_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "fermata/config/identity.h"
#include "fermata/http/forwarded.h"
#include "fermata/http/h1/parser.h"
#include "fermata/http/request_id.h"
#include "fermata/net/addr.h"
#include "fermata/util/log.h"
#include "fermata/util/statsd.h"
#include "fermata/util/syslog.h"

#define FM_MAX_BINDS 16
#define FM_MAX_EXCLUDED 32
#define FM_MAX_WORKERS 256
#define FM_PATH_SIZE 4096
#define FM_LIKE_SEND_TIMEOUT UINT64_MAX

struct fm_options {
    const char *app;
    struct fm_addr bind[FM_MAX_BINDS];
    unsigned nbinds;
    bool has_bind; /* they were given, rather than the default */
    struct fm_addr admin;
    bool has_admin;
    unsigned socket_mode; /* of unix sockets */
    int umask;            /* -1: as it is */
    struct fm_identity identity;
    unsigned workers; /* 0: one process, without an arbiter */
    unsigned threads;
    unsigned backlog;
    unsigned worker_connections;
    unsigned limit_queue;
    unsigned limit_body_files;
    uint64_t limit_body_disk;                 /* bytes */
    uint64_t limit_body_rate;                 /* bytes a second; 0: off */
    uint64_t tcp_keepalive, tcp_user_timeout; /* ns; the latter FM_LIKE_SEND_TIMEOUT unless it was given */
    uint64_t keep_alive, header_timeout, body_timeout, send_timeout; /* ns */
    uint64_t request_timeout, queue_timeout, graceful_timeout;       /* ns */
    uint64_t drain_delay;                                            /* ns */
    bool allow_half_close;
    struct fm_http_limits limits;
    struct fm_proxy_rules proxy;
    unsigned proxy_protocol; /* a bit for each version that is taken: 1, 2 */
    struct fm_peers proxy_allow_from;
    bool has_proxy_allow_from;
    struct fm_id_rule request_id;
    const char *root_path; /* "/shop", or NULL */
    char root_text[1024];
    const char *chdir, *pythonpath;
    const char *name;    /* in titles of processes, or NULL */
    const char *pidfile; /* absolute, or NULL */
    const char *venv;    /* absolute, as log files are: relative to where the command was given, not to --chdir */
    char **args;         /* what follows --, without an application that is named there: the application's arguments */
    int nargs;
    enum fm_log_level log_level;
    const char *error_logfile, *access_logfile; /* absolute, or "-" */
    const char *access_logformat;               /* or NULL: the default */
    bool access_log_json;
    const char *access_log_exclude[FM_MAX_EXCLUDED]; /* paths */
    unsigned nexcluded;
    uint64_t log_buffer; /* bytes, of each log */
    bool capture_output;
    const char *log_config, *log_config_json; /* absolute */
    const char *log_config_dict;              /* gunicorn's logconfig_dict, as JSON; no option sets it */
    bool log_syslog, no_access_to_syslog;
    struct fm_syslog_config syslog;
    bool has_statsd;
    struct fm_statsd_config statsd;
    /* Where paths are kept that were given as relative ones. */
    char venv_path[FM_PATH_SIZE], error_path[FM_PATH_SIZE], access_path[FM_PATH_SIZE], pid_path[FM_PATH_SIZE];
    char log_config_path[FM_PATH_SIZE], log_config_json_path[FM_PATH_SIZE];
};

enum fm_options_outcome { FM_OPTIONS_RUN, FM_OPTIONS_SHOWN, FM_OPTIONS_WRONG };

/* Reads the command line; the options point into argv, the environment and themselves.  SHOWN: --help or --version went
 * to stdout, exit 0.  WRONG: a message that names the option and what it takes went to stderr, exit 2.  --env has been
 * put into the environment.  python: the version that --version names. */
enum fm_options_outcome fm_options_parse(struct fm_options *o, int argc, char **argv, const char *python);

/* hints.c: what to do instead of an option of gunicorn's (as it was written: "--workers=4", "-w4") that there is not,
 * or NULL. */
const char *fm_options_hint(const char *text);

/* --help's text. */
void fm_options_help(FILE *to);

#endif

/* Options: every one once, in a table (src/config/table.h) that the command line, files, --help, the man page and the
 * manual come from.  What later wins: defaults, the environment (PORT and such), a file, $FERMATA_CMD_ARGS or
 * $GUNICORN_CMD_ARGS, the command line.  One thread at a time. */
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
#define FM_MAX_ADMIN_HOSTS 16
#define FM_MAX_EXCLUDED 32
#define FM_MAX_WORKERS 256
#define FM_PATH_SIZE 4096
#define FM_LIKE_SEND_TIMEOUT UINT64_MAX
#define FM_LIKE_GRACEFUL_TIMEOUT UINT64_MAX

#define FM_MAX_RELOAD_EXTRA 64
#define FM_RELOAD_GRACE (2 * UINT64_C(1000000000)) /* ns that requests have to end in, at most, with --reload */

enum fm_reload_engine { FM_RELOAD_AUTO, FM_RELOAD_INOTIFY, FM_RELOAD_POLL };

struct fm_givens;

struct fm_options {
    const char *app;
    const char *python; /* the version of the interpreter that runs it */
    const char *config; /* a file to read, or NULL */
    bool check_config, print_config;
    unsigned hooks; /* that the file defines: a bit for each enum fm_hook */
    struct fm_addr bind[FM_MAX_BINDS];
    unsigned nbinds;
    bool has_bind; /* they were given, rather than the default */
    struct fm_addr admin;
    bool has_admin, admin_status, no_places, no_status_paths, metrics_places;
    const char *admin_hosts[FM_MAX_ADMIN_HOSTS];
    unsigned nadmin_hosts;
    unsigned socket_mode; /* of unix sockets */
    int umask;            /* -1: as it is */
    struct fm_identity identity;
    unsigned workers; /* 0: one process, without an arbiter */
    bool preload;     /* with workers: they are forked from a process that has loaded the application */
    bool reload;      /* when files change */
    enum fm_reload_engine reload_engine;
    const char *reload_extra[FM_MAX_RELOAD_EXTRA]; /* patterns of glob(3) */
    unsigned nreload_extra;
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
    uint64_t drain_delay, drain_idle;                                /* ns */
    uint64_t drain_timeout;                                          /* ns; FM_LIKE_GRACEFUL_TIMEOUT unless given */
    unsigned drain_workers;                                          /* 0: as many as workers, 2 at least */
    uint64_t timeout, gil_timeout;                                   /* ns; 0: off */
    unsigned max_requests, max_requests_jitter;                      /* 0: off */
    uint64_t max_worker_memory;                                      /* bytes; 0: off */
    uint64_t worker_lifetime;                                        /* ns; 0: off */
    unsigned min_ready;
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
    bool venv_is_active; /* it is $VIRTUAL_ENV */
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
    const char *log_config_dict;              /* gunicorn's logconfig_dict, as JSON; only a file sets it */
    bool log_syslog, no_access_to_syslog;
    struct fm_syslog_config syslog;
    bool has_statsd;
    struct fm_statsd_config statsd;
    /* Where paths are kept that were given as relative ones. */
    char venv_path[FM_PATH_SIZE], error_path[FM_PATH_SIZE], access_path[FM_PATH_SIZE], pid_path[FM_PATH_SIZE];
    char log_config_path[FM_PATH_SIZE], log_config_json_path[FM_PATH_SIZE];
    const char *wrong;        /* the sentence that was said, or would have been */
    struct fm_givens *givens; /* what was given where; texts of the options are in it */
};

/* What --threads is where it is not given, in a Python that runs threads at the same time: before fm_options_parse. */
void fm_options_default_threads(unsigned n);

enum fm_options_outcome { FM_OPTIONS_RUN, FM_OPTIONS_SHOWN, FM_OPTIONS_WRONG };

/* Reads the command line and the environment; the options point into argv, the environment and themselves, until
 * fm_options_free.  SHOWN: --help or --version went to stdout, exit 0.  WRONG: a message that names the option and what
 * it takes went to stderr, exit 2.  --env has been put into the environment.  python: the version that --version names;
 * it is kept. RUN with o->config: there is a file to read, and nothing else is complete before fm_options_configure. */
enum fm_options_outcome fm_options_parse(struct fm_options *o, int argc, char **argv, const char *python);

/* Applies what a config reader has printed of o->config (src/config/settings.c has the form): takes the memory over, of
 * malloc.  RUN, or WRONG after a message on stderr; quiet: only in o->wrong.  May be done again. */
enum fm_options_outcome fm_options_configure(struct fm_options *o, char *settings, size_t size, bool quiet);

/* For another reading of the file: *o is what the same command line says, ready for fm_options_configure; *before stays
 * as it is.  Changes no environment. */
void fm_options_again(struct fm_options *o, const struct fm_options *before);

/* What was handed to fm_options_configure: owned by *o; NULL: nothing. */
const char *fm_options_settings(const struct fm_options *o, size_t *size);

/* Puts the variables that the file asks for into the environment; those of the command line win. */
void fm_options_environment(const struct fm_options *o);

/* Sentences for the log: names that the file sets and that mean nothing.  NULL: there are not so many. */
const char *fm_options_warning(const struct fm_options *o, size_t i);

void fm_options_free(struct fm_options *o);

/* --print-config: each option with its value and where it comes from, as a file in TOML that says the same. */
void fm_options_print(const struct fm_options *o, FILE *to);

/* hints.c: what to do instead of an option of gunicorn's (as it was written: "--workers=4", "-w4") that there is not,
 * or NULL. */
const char *fm_options_hint(const char *text);

/* The same of a name in a file.  *fatal: what it asks for must not be passed over (TLS, daemon). */
const char *fm_setting_hint(const char *name, bool *fatal);

/* --help's text. */
void fm_options_help(FILE *to);

#endif

/* Every option, once: parsing, --help and the manual's list come from here. */
#ifndef FERMATA_SRC_CONFIG_TABLE_H
#define FERMATA_SRC_CONFIG_TABLE_H

/* X(short or 0, "long", KIND, field, default, "ARG", "help")
 * KIND is one of kinds.h, which says what it takes; field is the one of struct fm_options that it fills.  FLAG options
 * take no argument. */
#define FM_OPTIONS(X)                                                                                                  \
    X('b', "bind", BIND, bind, NULL, "ADDRESS",                                                                        \
      "HOST:PORT, [IPv6]:PORT, unix:PATH, unix:@NAME (abstract) or fd://N (open already) to serve on; repeatable "     \
      "[127.0.0.1:8000, or 0.0.0.0:$PORT if PORT is set]")                                                             \
    X(0, "socket-mode", MODE, socket_mode, NULL, "MODE",                                                               \
      "permissions of unix sockets, octal [777 without the bits of --umask]")                                          \
    X('m', "umask", MASK, umask, NULL, "MASK",                                                                         \
      "permissions that files made by this process do not have, octal [as it is]")                                     \
    X('u', "user", USER, identity, NULL, "USER",                                                                       \
      "become this user, by name or number, when all is open; with --workers the workers do [as it is]")               \
    X('g', "group", GROUP, identity, NULL, "GROUP", "become this group, by name or number [that of --user]")           \
    X(0, "initgroups", FLAG, identity.initgroups, NULL, NULL, "with all groups that --user is in")                     \
    X('p', "pid", TEXT, pidfile, NULL, "FILE", "write the number of the process here [none]")                          \
    X('n', "name", TEXT, name, NULL, "NAME", "what ps shows in titles of processes, beside what each is [none]")       \
    X('w', "workers", WORKERS, workers, NULL, "N",                                                                     \
      "processes that serve, with one more that starts and replaces them; auto: one for each processor "               \
      "[$WEB_CONCURRENCY, or one process that does all itself]")                                                       \
    X(0, "preload", FLAG, preload, NULL, NULL,                                                                         \
      "with --workers: the application is loaded once, and the workers are forked from there and share its memory")    \
    X(0, "reload", FLAG, reload, NULL, NULL,                                                                           \
      "for development: the application is loaded anew when one of its files changes, and what cannot be loaded is a " \
      "page with the traceback; one worker, unless --workers says otherwise")                                          \
    X(0, "reload-extra-file", PATTERN, reload_extra, NULL, "PATTERN",                                                  \
      "files that count as well, with *, ? and [...], or a directory with all below it; repeatable")                   \
    X(0, "reload-engine", ENGINE, reload_engine, "auto", "ENGINE",                                                     \
      "how changes are noticed: inotify, poll (twice a second), or auto")                                              \
    X('k', "worker-class", CLASS, app, NULL, "CLASS",                                                                  \
      "taken for gunicorn's sake: there is one kind of worker, for WSGI applications")                                 \
    X(0, "threads", COUNT, threads, "8", "N",                                                                          \
      "threads that run the application; in a Python without the GIL as many as processors, where there are more")     \
    X(0, "backlog", COUNT, backlog, "2048", "N", "connections the kernel keeps waiting to be accepted")                \
    X(0, "worker-connections", COUNT, worker_connections, "10000", "N",                                                \
      "connections open at once; beyond it accepting pauses")                                                          \
    X(0, "keep-alive", SECONDS, keep_alive, "5", "SEC", "how long an idle connection is kept")                         \
    X(0, "header-timeout", SECONDS, header_timeout, "10", "SEC", "time for a whole request head; 0 is off")            \
    X(0, "body-timeout", SECONDS, body_timeout, "30", "SEC", "time without a byte of the request body; 0 is off")      \
    X(0, "send-timeout", SECONDS, send_timeout, "30", "SEC", "time without the client taking a byte; 0 is off")        \
    X(0, "request-timeout", SECONDS, request_timeout, "0", "SEC",                                                      \
      "time from a complete request to the end of its response; 0 is off")                                             \
    X(0, "limit-queue", MAYBE, limit_queue, "0", "N",                                                                  \
      "requests that may wait for a thread; one more is answered 503; 0 is off")                                       \
    X(0, "queue-timeout", SECONDS, queue_timeout, "0", "SEC",                                                          \
      "how long a request may wait for a thread until it is answered 503; 0 is off")                                   \
    X(0, "drain-delay", SECONDS, drain_delay, "0", "SEC",                                                              \
      "time after SIGTERM in which all is served still, but /readyz says 503 and responses Connection: close")         \
    X(0, "graceful-timeout", SECONDS, graceful_timeout, "30", "SEC", "time for requests to end after SIGTERM")         \
    X(0, "drain-idle", SECONDS, drain_idle, "1", "SEC",                                                                \
      "time for an idle connection's next request, for half a head and for a client that was answered, in a drain")    \
    X(0, "drain-timeout", SECONDS, drain_timeout, NULL, "SEC",                                                         \
      "time for requests to end in a worker that is replaced [as --graceful-timeout]")                                 \
    X(0, "drain-workers", MAYBE, drain_workers, "0", "N",                                                              \
      "replaced workers that may drain at a time: another one goes on until one has ended or has had "                 \
      "--graceful-timeout; 0 is as many as --workers, and 2 at least")                                                 \
    X('t', "timeout", SECONDS, timeout, "30", "SEC",                                                                   \
      "a worker is replaced that does not answer for so long, or whose threads are all in one step for so long "       \
      "while requests wait; 0 is off")                                                                                 \
    X(0, "gil-timeout", SECONDS, gil_timeout, "0", "SEC",                                                              \
      "a worker is replaced in which the GIL is not to be had for so long; 0 is off")                                  \
    X(0, "max-requests", MAYBE, max_requests, "0", "N", "requests after which a worker is replaced; 0 is off")         \
    X(0, "max-requests-jitter", MAYBE, max_requests_jitter, "0", "N", "up to so many more, by chance")                 \
    X(0, "max-worker-memory", SIZE, max_worker_memory, "0", "BYTES",                                                   \
      "memory of its own with which a worker is replaced; 0 is off")                                                   \
    X(0, "worker-lifetime", SECONDS, worker_lifetime, "0", "SEC", "time after which a worker is replaced; 0 is off")   \
    X(0, "min-ready", COUNT, min_ready, "1", "N", "workers with which /readyz says that it is ready")                  \
    X(0, "allow-half-close", FLAG, allow_half_close, NULL, NULL,                                                       \
      "a client that ended its direction still gets the response of a parked request")                                 \
    X(0, "limit-request-line", LIMIT, limits.request_line, "8190", "BYTES", "longest request line; 0 is 16777216")     \
    X(0, "limit-request-fields", LIMIT, limits.fields, "100", "N", "most header fields of a request; 0 is 16777216")   \
    X(0, "limit-request-field_size", LIMIT, limits.field_size, "8190", "BYTES", "longest header field; 0 is 16777216") \
    X(0, "limit-request-body", SIZE, limits.body, "1073741824", "BYTES", "largest request body")                       \
    X(0, "limit-body-rate", SIZE, limit_body_rate, "500", "BYTES",                                                     \
      "bytes a second that a request body must come with, over a whole body timeout; 0 is off")                        \
    X(0, "limit-body-files", COUNT, limit_body_files, "1000", "N",                                                     \
      "request bodies in temporary files at a time; one more is answered 503")                                         \
    X(0, "limit-body-disk", SIZE, limit_body_disk, "8589934592", "BYTES",                                              \
      "bytes of request bodies in temporary files at a time; what is beyond is answered 503")                          \
    X(0, "tcp-keepalive", TCP_SECONDS, tcp_keepalive, "15", "SEC",                                                     \
      "silence after which TCP asks whether the client is still there, three times at most; 0 is off")                 \
    X(0, "tcp-user-timeout", TCP_SECONDS, tcp_user_timeout, NULL, "SEC",                                               \
      "how long TCP waits for a client's acknowledgement until it ends the connection; 0 is off [a quarter more than " \
      "the "                                                                                                           \
      "send timeout]")                                                                                                 \
    X(0, "forwarded-allow-ips", PEERS, proxy.trusted, "127.0.0.1,::1,unix", "LIST",                                    \
      "proxies whose headers are believed: addresses, networks, unix for unix sockets, * for all; "                    \
      "$FORWARDED_ALLOW_IPS if that is set")                                                                           \
    X(0, "proxy-headers", PARTS, proxy.parts, "proto", "LIST",                                                         \
      "what they are believed about: some of proto, for, host, port and prefix, or off")                               \
    X(0, "forwarded-header", FIELDS, proxy.rfc7239, "x-forwarded", "NAME",                                             \
      "which headers: x-forwarded for X-Forwarded-*, forwarded for RFC 7239's")                                        \
    X(0, "proxy-protocol", VERSIONS, proxy_protocol, "off", "VERSION",                                                 \
      "connections begin with a header of the PROXY protocol: v1, v2, auto for both, or off")                          \
    X(0, "proxy-allow-from", SENDERS, proxy_allow_from, NULL, "LIST",                                                  \
      "who may send it, as --forwarded-allow-ips [the same]")                                                          \
    X(0, "request-id-header", IDS, request_id, "X-Request-ID", "NAME",                                                 \
      "field of a request that has its id; where it has none that can stand in a log one is made; off is none at all") \
    X(0, "root-path", ROOT, root_path, NULL, "PATH",                                                                   \
      "the path below which the application is: SCRIPT_NAME [$SCRIPT_NAME, or none]")                                  \
    X(0, "chdir", TEXT, chdir, NULL, "DIR", "change to this directory before the application is loaded")               \
    X(0, "pythonpath", TEXT, pythonpath, NULL, "DIRS", "directories to put on sys.path, separated by commas")          \
    X('e', "env", ENV, app, NULL, "NAME=VALUE", "set an environment variable; repeatable")                             \
    X(0, "venv", TEXT, venv, NULL, "DIR", "virtual environment to use [$VIRTUAL_ENV]")                                 \
    X(0, "log-level", LEVEL, log_level, "info", "LEVEL", "debug, info, warning, error or critical")                    \
    X(0, "error-logfile", TEXT, error_logfile, "-", "FILE", "where the log goes; - is standard error")                 \
    X(0, "access-logfile", TEXT, access_logfile, NULL, "FILE",                                                         \
      "where a line per request goes; - is standard output [none]")                                                    \
    X(0, "access-logformat", LOGFORMAT, access_logformat, NULL, "FORMAT",                                              \
      "what such a line says, with gunicorn's %(NAME)s [the combined format, and how the connection went on]")         \
    X(0, "access-log-json", FLAG, access_log_json, NULL, NULL, "such a line is an object in JSON")                     \
    X(0, "access-log-exclude", EXCLUDED, app, NULL, "PATH",                                                            \
      "requests with this path have no such line, as those of health checks; repeatable")                              \
    X(0, "log-buffer", BUFFER, log_buffer, "1048576", "BYTES",                                                         \
      "lines of each log that may wait for its file; what does not fit is dropped and counted")                        \
    X(0, "capture-output", FLAG, capture_output, NULL, NULL, "what is printed goes into the file of --error-logfile")  \
    X(0, "log-config", PATH, log_config, NULL, "FILE",                                                                 \
      "a file of logging.config that Python's logging is set up with before the application is loaded")                \
    X(0, "log-config-json", PATH, log_config_json, NULL, "FILE", "the same as a dictionary in JSON")                   \
    X(0, "log-syslog", FLAG, log_syslog, NULL, NULL, "both logs go to syslog, too")                                    \
    X(0, "log-syslog-to", SYSLOG, syslog.to, "udp://localhost:514", "ADDRESS",                                         \
      "udp://HOST:PORT, tcp://HOST:PORT or unix://PATH, with #dgram or #stream behind the path")                       \
    X(0, "log-syslog-prefix", SYSLOG_NAME, syslog.name, "fermata", "NAME", "what its messages come from")              \
    X(0, "log-syslog-facility", FACILITY, syslog.facility, "user", "NAME", "user, daemon, local0 and so on")           \
    X(0, "disable-redirect-access-to-syslog", FLAG, no_access_to_syslog, NULL, NULL,                                   \
      "only the error log goes to syslog")                                                                             \
    X(0, "statsd-host", STATSD, statsd.to, NULL, "ADDRESS",                                                            \
      "send gunicorn's metrics to a statsd: HOST:PORT, or unix://PATH")                                                \
    X(0, "statsd-prefix", STATSD_TEXT, statsd.prefix, NULL, "TEXT", "what their names begin with, before a dot")       \
    X(0, "dogstatsd-tags", STATSD_TEXT, statsd.tags, NULL, "TAGS", "NAME:VALUE,... behind each value")                 \
    X(0, "admin-bind", ADMIN, admin, NULL, "ADDRESS",                                                                  \
      "serve health, metrics and status here: HOST:PORT, [IPv6]:PORT or unix:PATH [off]")                              \
    X(0, "admin-host", HOST, admin_hosts, NULL, "NAME",                                                                \
      "a name that the status is asked for by, beside localhost and IP addresses; repeatable")                         \
    X(0, "admin-status", FLAG, admin_status, NULL, NULL,                                                               \
      "show the status to other machines, too, where --admin-bind is not on this one alone")                           \
    X(0, "status-paths", PATHS, no_status_paths, "path", "WHAT",                                                       \
      "what the status shows of requests' targets: path, or none where paths have secrets in them")                    \
    X(0, "no-places", FLAG, no_places, NULL, NULL,                                                                     \
      "do not note at which line of the application parked requests wait")                                             \
    X(0, "metrics-places", FLAG, metrics_places, NULL, NULL,                                                           \
      "have fermata_parked_requests among the metrics, by the line of the application; with --workers among a "        \
      "worker's")                                                                                                      \
    X('c', "config", TEXT, config, NULL, "FILE",                                                                       \
      "read options from this file: Python with gunicorn's names and hooks, or TOML; python:MODULE is a module "       \
      "[none]")                                                                                                        \
    X(0, "check-config", FLAG, check_config, NULL, NULL,                                                               \
      "check all options and load the application, then exit: 0, 2 or 3")                                              \
    X(0, "print-config", FLAG, print_config, NULL, NULL,                                                               \
      "show each option's value and where it comes from, as a file in TOML, then exit")                                \
    X('h', "help", HELP, app, NULL, NULL, "show this text and exit")                                                   \
    X('v', "version", VERSION, app, NULL, NULL, "show the version and exit")

/* X(option, setting): what the option is called in a file, where that is not its name with underscores. */
#define FM_OPTION_SETTINGS(X)                                                                                          \
    X("access-logfile", "accesslog")                                                                                   \
    X("access-logformat", "access_log_format")                                                                         \
    X("error-logfile", "errorlog")                                                                                     \
    X("log-level", "loglevel")                                                                                         \
    X("log-config", "logconfig")                                                                                       \
    X("log-config-json", "logconfig_json")                                                                             \
    X("log-syslog", "syslog")                                                                                          \
    X("log-syslog-to", "syslog_addr")                                                                                  \
    X("log-syslog-prefix", "syslog_prefix")                                                                            \
    X("log-syslog-facility", "syslog_facility")                                                                        \
    X("keep-alive", "keepalive")                                                                                       \
    X("env", "raw_env")                                                                                                \
    X("pid", "pidfile")                                                                                                \
    X("name", "proc_name")                                                                                             \
    X("preload", "preload_app")                                                                                        \
    X("reload-extra-file", "reload_extra_files")                                                                       \
    X("proxy-allow-from", "proxy_allow_ips")

/* X(spelling, option): other ways to write it, on the command line and in a file. */
#define FM_OPTION_ALIASES(X)                                                                                           \
    X("log-file", "error-logfile")                                                                                     \
    X("access-log-format", "access-logformat")                                                                         \
    X("limit-request-field-size", "limit-request-field_size")                                                          \
    X("trusted-proxies", "forwarded-allow-ips")

/* X(short or 0, "long", "ARG" or NULL, "why"): options of gunicorn's that are taken, and do nothing, because nothing is
 * lost by that. */
#define FM_OPTIONS_IGNORED(X)                                                                                          \
    X(0, "worker-tmp-dir", "DIR", "no worker has to prove that it is alive by a file")                                 \
    X(0, "no-sendfile", NULL, "sendfile is only used where that is the same")                                          \
    X(0, "sendfile", NULL, "sendfile is only used where that is the same")                                             \
    X(0, "reuse-port", NULL, "workers share the sockets of --bind")                                                    \
    X(0, "no-control-socket", NULL, "there is none")                                                                   \
    X(0, "control-socket-disable", NULL, "there is none")                                                              \
    X(0, "control-socket", "PATH", "there is none")                                                                    \
    X(0, "control-socket-mode", "MODE", "there is none")                                                               \
    X('R', "enable-stdio-inheritance", NULL, "standard streams are inherited")                                         \
    X(0, "suppress-ragged-eofs", NULL, "it is about TLS")                                                              \
    X(0, "do-handshake-on-connect", NULL, "it is about TLS")                                                           \
    X(0, "http-parser", "NAME", "there is one")                                                                        \
    X(0, "default-proc-name", "NAME", "see --name")

#endif

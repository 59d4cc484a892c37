/* Option parsing from one table. */
#include "fermata/config/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "fermata/http/logformat.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/version.h"

/* X(short or 0, "long", KIND, field, default, "ARG", "help")
 * KIND is a parse_KIND function below; a field of what it fills.  FLAG options take no argument. */
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
      "processes that serve, with one more that starts and replaces them "                                             \
      "[$WEB_CONCURRENCY, or one process that does all itself]")                                                       \
    X(0, "threads", COUNT, threads, "8", "N", "threads that run the application")                                      \
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
    X(0, "allow-half-close", FLAG, allow_half_close, NULL, NULL,                                                       \
      "a client that ended its direction still gets the response of a parked request")                                 \
    X(0, "limit-request-line", LIMIT, limits.request_line, "8190", "BYTES", "longest request line")                    \
    X(0, "limit-request-fields", LIMIT, limits.fields, "100", "N", "most header fields of a request")                  \
    X(0, "limit-request-field_size", LIMIT, limits.field_size, "8190", "BYTES", "longest header field")                \
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
    X(0, "log-buffer", BUFFER, log_buffer, "1048576", "BYTES",                                                         \
      "lines of each log that may wait for its file; what does not fit is dropped and counted")                        \
    X(0, "admin-bind", ADMIN, admin, NULL, "HOST:PORT", "serve /healthz, /readyz and /metrics here [off]")             \
    X('h', "help", HELP, app, NULL, NULL, "show this text and exit")                                                   \
    X('v', "version", VERSION, app, NULL, NULL, "show the version and exit")

enum kind {
    KIND_BIND,
    KIND_COUNT,
    KIND_WORKERS,
    KIND_MAYBE,
    KIND_SECONDS,
    KIND_TCP_SECONDS,
    KIND_FLAG,
    KIND_PEERS,
    KIND_PARTS,
    KIND_FIELDS,
    KIND_VERSIONS,
    KIND_SENDERS,
    KIND_ROOT,
    KIND_LOGFORMAT,
    KIND_LIMIT,
    KIND_SIZE,
    KIND_BUFFER,
    KIND_TEXT,
    KIND_ENV,
    KIND_MODE,
    KIND_MASK,
    KIND_USER,
    KIND_GROUP,
    KIND_LEVEL,
    KIND_ADMIN,
    KIND_HELP,
    KIND_VERSION,
};

struct option {
    char letter;
    const char *name;
    enum kind kind;
    size_t offset;
    const char *fallback, *arg, *help;
};

static const struct option table[] = {
#define X(letter, name, kind, field, fallback, arg, help)                                                              \
    {letter, name, KIND_##kind, offsetof(struct fm_options, field), fallback, arg, help},
    FM_OPTIONS(X)
#undef X
};
#define NOPTIONS (sizeof table / sizeof table[0])

/* Each returns NULL, or what the option takes. */

static const char *parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end || errno || n < min || n > max)
        return "";
    *out = n;
    return NULL;
}

static const char *parse_whole(unsigned *to, const char *text, unsigned min, unsigned max)
{
    static char takes[64];
    uint64_t n;
    if (parse_number(text, min, max, &n)) {
        snprintf(takes, sizeof takes, "takes a whole number from %u to %u", min, max);
        return takes;
    }
    *to = (unsigned)n;
    return NULL;
}

static const char *parse_size(uint64_t *to, const char *text)
{
    return parse_number(text, 0, INT64_MAX, to) ? "takes a number of bytes" : NULL;
}

static const char *parse_buffer(uint64_t *to, const char *text)
{
    return parse_number(text, 64 << 10, 1 << 30, to) ? "takes a number of bytes from 65536 to 1073741824" : NULL;
}

static const char *parse_seconds(uint64_t *to, const char *text)
{
    char *end;
    double s = strtod(text, &end);
    if (!(isdigit((unsigned char)text[0]) || text[0] == '.') || *end || !(s >= 0 && s <= 1e8) ||
        strpbrk(text, "xXnNiIeE"))
        return "takes a number of seconds, such as 30 or 0.5";
    *to = (uint64_t)(s * 1e9);
    return NULL;
}

/* What the kernel takes (TCP_KEEPIDLE). */
static const char *parse_tcp_seconds(uint64_t *to, const char *text)
{
    uint64_t n;
    if (parse_seconds(&n, text) || n > 32767 * FM_SEC)
        return "takes a number of seconds up to 32767, such as 15 or 0.5";
    *to = n;
    return NULL;
}

static const char *parse_for(struct fm_addr *to, const char *text, const char *takes)
{
    static char why[200];
    const char *reason = "";
    if (fm_addr_parse(text, to, &reason) == 0)
        return NULL;
    snprintf(why, sizeof why, "%s: %s", takes, reason);
    return why;
}

static const char *parse_address(struct fm_addr *to, const char *text)
{
    return parse_for(to, text, "takes HOST:PORT, [IPv6]:PORT, unix:PATH, unix:@NAME or fd://N");
}

static const char *parse_admin(struct fm_addr *to, const char *text)
{
    static const char takes[] = "takes HOST:PORT or [IPv6]:PORT";
    return strncmp(text, "unix:", 5) == 0 || strncmp(text, "fd:", 3) == 0 ? takes : parse_for(to, text, takes);
}

static const char *parse_level(enum fm_log_level *to, const char *text)
{
    static const struct {
        const char *name;
        enum fm_log_level level;
    } names[] = {{"debug", FM_LOG_DEBUG},  {"info", FM_LOG_INFO},   {"warning", FM_LOG_WARNING},
                 {"warn", FM_LOG_WARNING}, {"error", FM_LOG_ERROR}, {"critical", FM_LOG_CRITICAL}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(text, names[i].name) == 0) {
            *to = names[i].level;
            return NULL;
        }
    return "takes debug, info, warning, error or critical";
}

/* As chmod and umask take it; 0o in front is Python's way to say that it is octal. */
static bool is_octal(const char *text, unsigned *out)
{
    unsigned n = 0;
    text += strncmp(text, "0o", 2) == 0 ? 2 : 0;
    if (!*text || strlen(text) > 5)
        return false;
    for (; *text >= '0' && *text <= '7'; text++)
        n = n * 8 + (unsigned)(*text - '0');
    *out = n;
    return !*text && n <= 0777;
}

static const char *parse_mode(unsigned *to, const char *text)
{
    return is_octal(text, to) && *to > 0 ? NULL : "takes an octal number from 1 to 777";
}

static const char *parse_mask(int *to, const char *text)
{
    unsigned n;
    if (!is_octal(text, &n))
        return "takes an octal number from 0 to 777";
    *to = (int)n;
    return NULL;
}

static const char *parse_fields(bool *rfc7239, const char *text)
{
    *rfc7239 = strcmp(text, "forwarded") == 0;
    return *rfc7239 || strcmp(text, "x-forwarded") == 0 ? NULL : "takes x-forwarded or forwarded";
}

static const char *parse_versions(unsigned *to, const char *text)
{
    static const char *const names[] = {"off", "v1", "v2", "auto"}; /* a bit for each version */
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            *to = i;
            return NULL;
        }
    return "takes off, v1, v2 or auto";
}

/* Slashes at its end are left out; of "/" nothing is left. */
static const char *parse_root(struct fm_options *o, const char *text)
{
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '/')
        len--;
    if ((*text && *text != '/') || len >= sizeof o->root_text || strchr(text, '%'))
        return "takes a path that begins with a slash, as it is without %-escapes, of 1023 bytes at most";
    memcpy(o->root_text, text, len);
    o->root_text[len] = '\0';
    o->root_path = len > 0 ? o->root_text : NULL;
    return NULL;
}

static const char *parse_logformat(const char **to, const char *text)
{
    const char *why = NULL;
    fm_logformat_free(fm_logformat_new(text, &why));
    *to = text;
    return why;
}

static const char *parse_env(const char *text)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return "takes NAME=VALUE";
    char *name = fm_strndup(text, (size_t)(equals - text));
    setenv(name, equals + 1, 1);
    free(name);
    return NULL;
}

static const char *apply(struct fm_options *o, const struct option *opt, const char *text)
{
    void *field = (char *)o + opt->offset;
    switch (opt->kind) {
    case KIND_BIND:
        if (o->nbinds == FM_MAX_BINDS)
            return "may be given 16 times";
        const char *why = parse_address(&o->bind[o->nbinds], text);
        o->nbinds += !why;
        return why;
    case KIND_ADMIN: o->has_admin = true; return parse_admin(field, text);
    case KIND_WORKERS: return parse_whole(field, text, 1, FM_MAX_WORKERS);
    case KIND_COUNT: return parse_whole(field, text, 1, 1000000);
    case KIND_MAYBE: return parse_whole(field, text, 0, 1000000);
    case KIND_LIMIT: return parse_whole(field, text, 1, 1 << 24);
    case KIND_SIZE: return parse_size(field, text);
    case KIND_BUFFER: return parse_buffer(field, text);
    case KIND_SECONDS: return parse_seconds(field, text);
    case KIND_TCP_SECONDS: return parse_tcp_seconds(field, text);
    case KIND_LEVEL: return parse_level(field, text);
    case KIND_ENV: return parse_env(text);
    case KIND_MODE: return parse_mode(field, text);
    case KIND_MASK: return parse_mask(field, text);
    case KIND_USER: return fm_identity_user(field, text);
    case KIND_GROUP: return fm_identity_group(field, text);
    case KIND_FLAG: *(bool *)field = true; return NULL;
    case KIND_PEERS: return fm_peers_parse(field, text);
    case KIND_PARTS: return fm_forwarded_parse_parts(field, text);
    case KIND_FIELDS: return parse_fields(field, text);
    case KIND_VERSIONS: return parse_versions(field, text);
    case KIND_SENDERS: o->has_proxy_allow_from = true; return fm_peers_parse(field, text);
    case KIND_ROOT: return parse_root(o, text);
    case KIND_LOGFORMAT: return parse_logformat(field, text);
    case KIND_TEXT:
        if (!*text)
            return "takes a value that is not empty";
        *(const char **)field = text;
        return NULL;
    case KIND_HELP:
    case KIND_VERSION: break;
    }
    return NULL;
}

void fm_options_help(FILE *to)
{
    fprintf(to,
            "usage: fermata [options] MODULE[:CALLABLE] [-- ARGUMENTS]\n\n"
            "Serves a WSGI or WSGI+ application.  CALLABLE may be dotted, or a call such as create_app(\"prod\");\n"
            "without it `application`, then `app`, is looked for.  ARGUMENTS are the application's: sys.argv[1:].\n\n"
            "options:\n");
    for (size_t i = 0; i < NOPTIONS; i++) {
        const struct option *o = &table[i];
        char left[64], letter[5] = "    ";
        if (o->letter)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "  %s--%s %s", letter, o->name, o->arg ? o->arg : "");
        fprintf(to, "%-40s %s", left, o->help);
        if (o->fallback)
            fprintf(to, " [%s]", o->fallback);
        fputc('\n', to);
    }
}

static enum fm_options_outcome __attribute__((format(printf, 1, 2))) wrong(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fputs("fermata: ", stderr);
    vfprintf(stderr, format, ap);
    fputs("\nfermata: see fermata --help\n", stderr);
    va_end(ap);
    return FM_OPTIONS_WRONG;
}

static const struct option *find(const char *name, size_t len, char letter)
{
    for (size_t i = 0; i < NOPTIONS; i++) {
        if (name ? strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0 : table[i].letter == letter)
            return &table[i];
    }
    return NULL;
}

static enum fm_options_outcome show(enum kind kind, const char *python)
{
    if (kind == KIND_HELP)
        fm_options_help(stdout);
    else
        printf("fermata %s (Python %s)\n", FM_VERSION, python);
    return fflush(stdout) == 0 ? FM_OPTIONS_SHOWN : FM_OPTIONS_WRONG;
}

/* One option at argv[*i]; advances *i over its argument. */
static enum fm_options_outcome parse_one(struct fm_options *o, int argc, char **argv, int *i, const char *python)
{
    const char *text = argv[*i], *value = NULL;
    const struct option *opt;
    if (text[1] == '-') {
        size_t len = strcspn(text + 2, "=");
        opt = find(text + 2, len, 0);
        if (text[2 + len] == '=')
            value = text + 3 + len;
    } else {
        opt = find(NULL, 0, text[1]);
        if (text[2])
            value = text + 2 + (text[2] == '=');
    }
    if (!opt) {
        const char *hint = fm_options_hint(text);
        return wrong("there is no option %s%s%s", text, hint ? ": " : "", hint ? hint : "");
    }
    if (!opt->arg && value)
        return wrong("--%s takes no argument", opt->name);
    if (opt->kind == KIND_HELP || opt->kind == KIND_VERSION)
        return show(opt->kind, python);
    if (opt->arg && !value) {
        if (*i + 1 >= argc)
            return wrong("--%s takes an argument: %s, %s", opt->name, opt->arg, opt->help);
        value = argv[++*i];
    }
    const char *takes = apply(o, opt, value);
    return takes ? wrong("--%s %s: it %s", opt->name, value ? value : "", takes) : FM_OPTIONS_RUN;
}

static enum fm_options_outcome default_bind(struct fm_options *o)
{
    char text[64] = "127.0.0.1:8000";
    const char *port = getenv("PORT");
    if (port && *port)
        snprintf(text, sizeof text, "0.0.0.0:%s", port);
    if (parse_address(&o->bind[0], text))
        return wrong("the environment's PORT is %s: it takes a number from 0 to 65535", port);
    o->nbinds = 1;
    return FM_OPTIONS_RUN;
}

static enum fm_options_outcome find_workers(struct fm_options *o)
{
    const char *text = getenv("WEB_CONCURRENCY"), *takes;
    if (o->workers > 0 || !text || !*text)
        return FM_OPTIONS_RUN;
    takes = parse_whole(&o->workers, text, 1, FM_MAX_WORKERS);
    return takes ? wrong("the environment's WEB_CONCURRENCY is %s: it %s", text, takes) : FM_OPTIONS_RUN;
}

/* What gunicorn reads, too; options come after it. */
static enum fm_options_outcome take_environment(struct fm_options *o)
{
    const char *trusted = getenv("FORWARDED_ALLOW_IPS"), *root = getenv("SCRIPT_NAME"), *takes;
    if (trusted && (takes = fm_peers_parse(&o->proxy.trusted, trusted)))
        return wrong("the environment's FORWARDED_ALLOW_IPS is %s: it %s", trusted, takes);
    if (root && (takes = parse_root(o, root)))
        return wrong("the environment's SCRIPT_NAME is %s: it %s", root, takes);
    return FM_OPTIONS_RUN;
}

/* Without --venv it is the active one. */
static void find_venv(struct fm_options *o)
{
    const char *active = getenv("VIRTUAL_ENV");
    if (!o->venv)
        o->venv = active && *active ? active : NULL;
}

/* Absolute paths for what was named relative to where the command was given: --chdir, and the application, change the
 * directory later. */
static enum fm_options_outcome make_absolute(struct fm_options *o)
{
    const struct {
        const char *option, **path;
        char *to;
    } paths[] = {{"venv", &o->venv, o->venv_path},
                 {"error-logfile", &o->error_logfile, o->error_path},
                 {"access-logfile", &o->access_logfile, o->access_path},
                 {"pid", &o->pidfile, o->pid_path}};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        const char **path = paths[i].path;
        if (!*path || **path == '/' || (path != &o->venv && path != &o->pidfile && strcmp(*path, "-") == 0))
            continue;
        if (!getcwd(paths[i].to, FM_PATH_SIZE))
            return wrong("--%s %s: the current directory is gone, or its path too long", paths[i].option, *path);
        size_t len = strlen(paths[i].to), room = FM_PATH_SIZE - len;
        if (snprintf(paths[i].to + len, room, "/%s", *path) >= (int)room)
            return wrong("--%s %s: the path is too long", paths[i].option, *path);
        *path = paths[i].to;
    }
    return FM_OPTIONS_RUN;
}

/* Behind `--` come operands: the application, if it was not named before, and its own arguments. */
static void take_operands(struct fm_options *o, int argc, char **argv)
{
    if (!o->app && argc > 0) {
        o->app = argv[0];
        argc--;
        argv++;
    }
    o->args = argv;
    o->nargs = argc;
}

enum fm_options_outcome fm_options_parse(struct fm_options *o, int argc, char **argv, const char *python)
{
    memset(o, 0, sizeof *o);
    for (size_t i = 0; i < NOPTIONS; i++)
        if (table[i].fallback)
            apply(o, &table[i], table[i].fallback);
    o->tcp_user_timeout = FM_LIKE_SEND_TIMEOUT;
    o->umask = -1;
    enum fm_options_outcome environment = take_environment(o);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            take_operands(o, argc - i - 1, argv + i + 1);
            break;
        } else if (argv[i][0] == '-' && argv[i][1]) {
            enum fm_options_outcome outcome = parse_one(o, argc, argv, &i, python);
            if (outcome != FM_OPTIONS_RUN)
                return outcome;
        } else if (o->app) {
            return wrong("one application is served, but two are named: %s and %s (its arguments come behind --)",
                         o->app, argv[i]);
        } else {
            o->app = argv[i];
        }
    }
    if (environment != FM_OPTIONS_RUN)
        return environment;
    if (!o->app || !*o->app)
        return wrong("which application? Name it as MODULE[:CALLABLE]");
    if (o->tcp_user_timeout == FM_LIKE_SEND_TIMEOUT)
        o->tcp_user_timeout = o->send_timeout + o->send_timeout / 4; /* --send-timeout comes first, where it can tell */
    if (o->socket_mode == 0)
        o->socket_mode = 0777 & ~(unsigned)(o->umask < 0 ? 0 : o->umask);
    const char *missing = fm_identity_complete(&o->identity);
    if (missing)
        return wrong("%s", missing);
    if (!o->has_proxy_allow_from)
        o->proxy_allow_from = o->proxy.trusted;
    find_venv(o);
    if (find_workers(o) != FM_OPTIONS_RUN || make_absolute(o) != FM_OPTIONS_RUN)
        return FM_OPTIONS_WRONG;
    o->has_bind = o->nbinds > 0;
    return o->has_bind ? FM_OPTIONS_RUN : default_bind(o);
}

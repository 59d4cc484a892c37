/* Option parsing from one table. */
#include "fermata/config/options.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fermata/util/version.h"
#include "kinds.h"
#include "table.h"

struct option {
    char letter;
    const char *name;
    enum fm_option_kind kind;
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

static enum fm_options_outcome show(enum fm_option_kind kind, const char *python)
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
    const char *takes = fm_option_apply(o, opt->kind, opt->offset, value);
    return takes ? wrong("--%s %s: it %s", opt->name, value ? value : "", takes) : FM_OPTIONS_RUN;
}

static enum fm_options_outcome default_bind(struct fm_options *o)
{
    char text[64] = "127.0.0.1:8000";
    const char *port = getenv("PORT");
    if (port && *port)
        snprintf(text, sizeof text, "0.0.0.0:%s", port);
    if (fm_option_address(&o->bind[0], text))
        return wrong("the environment's PORT is %s: it takes a number from 0 to 65535", port);
    o->nbinds = 1;
    return FM_OPTIONS_RUN;
}

static enum fm_options_outcome find_workers(struct fm_options *o)
{
    const char *text = getenv("WEB_CONCURRENCY"), *takes;
    if (o->workers > 0 || !text || !*text)
        return FM_OPTIONS_RUN;
    takes = fm_option_whole(&o->workers, text, 1, FM_MAX_WORKERS);
    return takes ? wrong("the environment's WEB_CONCURRENCY is %s: it %s", text, takes) : FM_OPTIONS_RUN;
}

/* What gunicorn reads, too; options come after it. */
static enum fm_options_outcome take_environment(struct fm_options *o)
{
    const char *trusted = getenv("FORWARDED_ALLOW_IPS"), *root = getenv("SCRIPT_NAME"), *takes;
    if (trusted && (takes = fm_peers_parse(&o->proxy.trusted, trusted)))
        return wrong("the environment's FORWARDED_ALLOW_IPS is %s: it %s", trusted, takes);
    if (root && (takes = fm_option_root(o, root)))
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
                 {"log-config", &o->log_config, o->log_config_path},
                 {"log-config-json", &o->log_config_json, o->log_config_json_path},
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
            fm_option_apply(o, table[i].kind, table[i].offset, table[i].fallback);
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

/* Options: what was given is applied in its order, defaults first; see config/options.h. */
#include "fermata/config/options.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "given.h"
#include "help.h"

/* A sentence without its end: which option, and what it takes. */
static enum fm_options_outcome __attribute__((format(printf, 2, 3)))
wrong(struct fm_options *o, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    o->wrong = fm_givens_format(o->givens, format, ap);
    va_end(ap);
    return FM_OPTIONS_WRONG;
}

static enum fm_options_outcome say(const struct fm_options *o, enum fm_options_outcome outcome)
{
    if (outcome == FM_OPTIONS_WRONG)
        fprintf(stderr, "fermata: %s\nfermata: see fermata --help\n", o->wrong);
    return outcome;
}

/* ---- the environment ---- */

static void take_variable(struct fm_options *o, const char *option, const char *name)
{
    const char *value = getenv(name);
    struct fm_given given = {fm_option_by_name(option, strlen(option)), value, FM_FROM_ENVIRONMENT, name, 0};
    if (value && (*value || strcmp(option, "workers") != 0))
        fm_givens_add(o->givens, given);
}

/* What gunicorn reads, too. */
static void take_environment(struct fm_options *o)
{
    take_variable(o, "forwarded-allow-ips", "FORWARDED_ALLOW_IPS");
    take_variable(o, "root-path", "SCRIPT_NAME");
    take_variable(o, "workers", "WEB_CONCURRENCY");
}

static enum fm_options_outcome default_bind(struct fm_options *o)
{
    char text[64] = "127.0.0.1:8000";
    const char *port = getenv("PORT");
    if (port && *port)
        snprintf(text, sizeof text, "0.0.0.0:%s", port);
    if (fm_option_address(&o->bind[0], text))
        return wrong(o, "the environment's PORT is %s: it takes a number from 0 to 65535", port);
    o->nbinds = 1;
    return FM_OPTIONS_RUN;
}

/* For development: a worker beside the process that watches, and no request keeps the old code for long. */
static void apply_reload(struct fm_options *o)
{
    if (!o->reload)
        return;
    if (o->workers == 0)
        o->workers = 1;
    if (o->graceful_timeout > FM_RELOAD_GRACE)
        o->graceful_timeout = FM_RELOAD_GRACE;
    if (o->drain_timeout > FM_RELOAD_GRACE)
        o->drain_timeout = FM_RELOAD_GRACE;
}

static enum fm_options_outcome check_ready(struct fm_options *o)
{
    unsigned most = o->workers ? o->workers : 1;
    return o->min_ready > most
               ? wrong(o, "--min-ready %u: it takes at most the number of --workers, %u", o->min_ready, most)
               : FM_OPTIONS_RUN;
}

/* Without --venv it is the active one. */
static void find_venv(struct fm_options *o)
{
    const char *active = getenv("VIRTUAL_ENV");
    o->venv_is_active = !o->venv && active && *active;
    if (o->venv_is_active)
        o->venv = active;
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
            return wrong(o, "--%s %s: the current directory is gone, or its path too long", paths[i].option, *path);
        size_t len = strlen(paths[i].to), room = FM_PATH_SIZE - len;
        if (snprintf(paths[i].to + len, room, "/%s", *path) >= (int)room)
            return wrong(o, "--%s %s: the path is too long", paths[i].option, *path);
        *path = paths[i].to;
    }
    return FM_OPTIONS_RUN;
}

/* ---- applying ---- */

/* Variables of the environment count only where nothing else is given, and what may be repeated replaces what comes
 * before it: neither is looked at otherwise. */
static const char *apply(struct fm_options *o, const struct fm_given *given)
{
    const struct fm_option *option = given->option;
    bool list = fm_option_lists(option->kind) == FM_LIST_REPEATED && option->kind != KIND_ENV;
    if ((list || given->source == FM_FROM_ENVIRONMENT) && fm_givens_of(o->givens, option, 0)->source != given->source)
        return NULL;
    return fm_option_apply(o, option->kind, option->offset, given->value);
}

/* --env.  What a file asks for is put there by who calls fm_options_environment: an arbiter's own environment is to
 * stay as it is, for the file may be another one at the next reload. */
static void set_environment(const struct fm_options *o, enum fm_source from)
{
    const struct fm_givens *g = o->givens;
    for (unsigned source = from; source < FM_SOURCES; source++)
        for (size_t i = 0; i < g->n; i++)
            if (g->all[i].option->kind == KIND_ENV && (unsigned)g->all[i].source == source)
                fm_option_set_env(g->all[i].value);
}

static unsigned default_threads; /* 0: as the table has it */

void fm_options_default_threads(unsigned n) { default_threads = n; }

/* All that was given, in the order of its sources. */
static enum fm_options_outcome apply_all(struct fm_options *o)
{
    struct fm_givens *g = o->givens;
    const char *python = o->python;
    memset(o, 0, sizeof *o);
    o->givens = g;
    o->python = python;
    o->args = g->args;
    o->nargs = g->nargs;
    o->hooks = g->hooks;
    for (size_t i = 0; i < fm_option_count; i++) {
        const struct fm_option *option = &fm_option_table[i];
        if (option->fallback)
            fm_option_apply(o, option->kind, option->offset, option->fallback);
    }
    if (default_threads > o->threads)
        o->threads = default_threads;
    o->tcp_user_timeout = FM_LIKE_SEND_TIMEOUT;
    o->drain_timeout = FM_LIKE_GRACEFUL_TIMEOUT;
    o->umask = -1;
    for (unsigned n = 1; n <= FM_SOURCES; n++)
        for (size_t i = 0; i < g->n; i++) {
            unsigned source =
                n % FM_SOURCES; /* the environment last, where it can: mistakes in it are the least likely */
            const char *takes = (unsigned)g->all[i].source == source ? apply(o, &g->all[i]) : NULL;
            if (takes)
                return wrong(o, "%s: it %s", fm_given_place(g, &g->all[i]), takes);
        }
    return FM_OPTIONS_RUN;
}

/* What follows from other options. */
static enum fm_options_outcome complete(struct fm_options *o)
{
    if (!o->app || !*o->app)
        return wrong(o, "which application? Name it as MODULE[:CALLABLE]%s",
                     o->config ? ", or as wsgi_app in the file" : "");
    if (o->tcp_user_timeout == FM_LIKE_SEND_TIMEOUT)
        o->tcp_user_timeout = o->send_timeout + o->send_timeout / 4; /* --send-timeout comes first, where it can tell */
    if (o->drain_timeout == FM_LIKE_GRACEFUL_TIMEOUT)
        o->drain_timeout = o->graceful_timeout;
    if (o->socket_mode == 0)
        o->socket_mode = 0777 & ~(unsigned)(o->umask < 0 ? 0 : o->umask);
    const char *missing = fm_identity_complete(&o->identity);
    if (missing)
        return wrong(o, "%s", missing);
    if (!o->has_proxy_allow_from)
        o->proxy_allow_from = o->proxy.trusted;
    find_venv(o);
    if (check_ready(o) != FM_OPTIONS_RUN || make_absolute(o) != FM_OPTIONS_RUN)
        return FM_OPTIONS_WRONG;
    apply_reload(o);
    o->has_bind = o->nbinds > 0;
    return o->has_bind ? FM_OPTIONS_RUN : default_bind(o);
}

/* ---- the command ---- */

static enum fm_options_outcome take_words(struct fm_options *o, struct fm_shown *shown)
{
    static const char *const variables[] = {"FERMATA_CMD_ARGS", "GUNICORN_CMD_ARGS"};
    struct fm_givens *g = o->givens;
    const char *said = fm_givens_take_words(g, g->argv + 1, g->argc > 0 ? g->argc - 1 : 0, FM_FROM_COMMAND, shown);
    for (size_t i = 0; i < sizeof variables / sizeof *variables && !said && !shown->any && !g->variable; i++) {
        const char *text = getenv(variables[i]);
        g->variable = text ? variables[i] : NULL;
        said = text ? fm_givens_take_text(g, text, shown) : NULL;
    }
    return said ? wrong(o, "%s", said) : FM_OPTIONS_RUN;
}

enum fm_options_outcome fm_options_parse(struct fm_options *o, int argc, char **argv, const char *python)
{
    struct fm_shown shown = {false, KIND_HELP, NULL};
    memset(o, 0, sizeof *o);
    o->python = python;
    o->givens = fm_givens_new(argc, argv);
    enum fm_options_outcome outcome = take_words(o, &shown);
    if (outcome == FM_OPTIONS_RUN && shown.any) {
        if (fm_options_show(&shown, python))
            return FM_OPTIONS_SHOWN;
        return say(o, wrong(o, "--help=%s: it takes man or settings", shown.value ? shown.value : ""));
    }
    take_environment(o);
    if (outcome == FM_OPTIONS_RUN)
        outcome = apply_all(o);
    if (outcome == FM_OPTIONS_RUN)
        set_environment(o, FM_FROM_VARIABLE);
    if (outcome == FM_OPTIONS_RUN && o->config) {
        find_venv(o); /* which the reader of the file uses */
        return say(o, make_absolute(o));
    }
    return say(o, outcome == FM_OPTIONS_RUN ? complete(o) : outcome);
}

enum fm_options_outcome fm_options_configure(struct fm_options *o, char *settings, size_t size, bool quiet)
{
    struct fm_givens *g = o->givens;
    g->file = o->config;
    const char *said = fm_givens_take_settings(g, settings, size);
    enum fm_options_outcome outcome = said ? wrong(o, "%s", said) : apply_all(o);
    if (outcome == FM_OPTIONS_RUN)
        outcome = complete(o);
    return quiet ? outcome : say(o, outcome);
}

void fm_options_environment(const struct fm_options *o) { set_environment(o, FM_FROM_FILE); }

void fm_options_again(struct fm_options *o, const struct fm_options *before)
{
    struct fm_shown shown = {false, KIND_HELP, NULL};
    memset(o, 0, sizeof *o);
    o->python = before->python;
    o->givens = fm_givens_new(before->givens->argc, before->givens->argv);
    take_words(o, &shown);
    take_environment(o);
    const struct fm_given *file = fm_givens_of(o->givens, fm_option_by_name("config", strlen("config")), 0);
    o->config = file ? file->value : NULL;
}

const char *fm_options_settings(const struct fm_options *o, size_t *size)
{
    *size = o->givens->size;
    return o->givens->settings;
}

const char *fm_options_warning(const struct fm_options *o, size_t i)
{
    return i < o->givens->nwarnings ? o->givens->warnings[i] : NULL;
}

void fm_options_free(struct fm_options *o)
{
    fm_givens_free(o->givens);
    o->givens = NULL;
}

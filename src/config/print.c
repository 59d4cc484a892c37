/* --print-config: a file in TOML that says what all options are, with where each comes from in a comment. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/util/text.h"
#include "fermata/util/version.h"
#include "given.h"

static void put_string(FILE *to, const char *text)
{
    fputc('"', to);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(to, "\\%c", *p);
        else if (*p < 0x20 || *p == 0x7f)
            fprintf(to, "\\u%04x", *p);
        else
            fputc(*p, to);
    }
    fputc('"', to);
}

/* Is it a number as TOML writes it? */
static bool is_number(const char *text)
{
    const char *p = text;
    while (fm_is_digit(*p))
        p++;
    if (p == text || (*text == '0' && p > text + 1))
        return false;
    if (*p == '.' && fm_is_digit(p[1]))
        for (p++; fm_is_digit(*p); p++)
            ;
    return *p == '\0';
}

static void put_value(FILE *to, const struct fm_option *option, const char *text)
{
    switch (option->kind) {
    case KIND_FLAG: fputs(!text || *text == 't' || *text == 'T' || *text == '1' ? "true" : "false", to); break;
    case KIND_MODE:
    case KIND_MASK: put_string(to, text); break; /* a number would be decimal */
    default:
        if (is_number(text) && !fm_option_is_text(option->kind))
            fputs(text, to);
        else
            put_string(to, text);
    }
}

static void put_list(FILE *to, const struct fm_givens *g, const struct fm_option *option)
{
    const struct fm_given *given;
    fputc('[', to);
    for (size_t i = 0; (given = fm_givens_of(g, option, i)); i++) {
        fputs(i ? ", " : "", to);
        put_string(to, given->value);
    }
    fputc(']', to);
}

/* The variable that it comes from, where that is not known as what was given, or NULL. */
static const char *variable(const struct fm_options *o, const struct fm_option *option, const char **value)
{
    const char *port = getenv("PORT");
    if (option->kind == KIND_BIND && port && *port) {
        *value = fm_givens_text(o->givens, "0.0.0.0:%s", port);
        return "$PORT";
    }
    if (strcmp(option->name, "venv") == 0 && o->venv) {
        *value = o->venv;
        return "$VIRTUAL_ENV";
    }
    if (strcmp(option->name, "threads") == 0) { /* if it was not given, it depends on the machine */
        *value = fm_givens_text(o->givens, "%u", o->threads);
        return NULL;
    }
    *value = option->kind == KIND_BIND ? "127.0.0.1:8000" : option->kind == KIND_FLAG ? "false" : option->fallback;
    return NULL;
}

static void put_assignment(FILE *to, const struct fm_options *o, const struct fm_option *option,
                           const struct fm_given *given, const char *value)
{
    char name[FM_SETTING_SIZE];
    bool list = fm_option_lists(option->kind) == FM_LIST_REPEATED;
    /* "# " in front: it has no value, and would have none if it was not there. */
    fprintf(to, "%s%s = ", given || value ? "" : "# ", fm_option_setting_name(option, name));
    if (given && list)
        put_list(to, o->givens, option);
    else if (given && option->kind == KIND_WORKERS)
        fprintf(to, "%u", o->workers); /* "auto" has become a number */
    else if (given)
        put_value(to, option, given->value);
    else if (value) {
        fputs(list ? "[" : "", to);
        put_value(to, option, value);
        fputs(list ? "]" : "", to);
    }
}

static void put_option(FILE *to, const struct fm_options *o, const struct fm_option *option)
{
    const struct fm_given *given = NULL, *more;
    char source[300], *line = NULL;
    const char *value, *from = variable(o, option, &value);
    size_t size;
    FILE *memory = open_memstream(&line, &size);
    if (!memory)
        return;
    for (size_t i = 0; (more = fm_givens_of(o->givens, option, i)); i++)
        given = more;
    put_assignment(memory, o, option, given, value);
    fclose(memory);
    fprintf(to, "%-45s # %s\n", line, from && !given ? from : fm_given_source(o->givens, given, source, sizeof source));
    free(line);
}

/* What is about this very command. */
static bool is_shown(const struct fm_option *option)
{
    static const char *const others[] = {"config", "check-config", "print-config", "worker-class", "help", "version"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(option->name, others[i]) == 0)
            return false;
    return true;
}

void fm_options_print(const struct fm_options *o, FILE *to)
{
    const struct fm_given *app = fm_givens_of(o->givens, &fm_option_app, 0);
    char source[300];
    fprintf(to, "# fermata %s\n", FM_VERSION);
    if (app) {
        fputs("wsgi_app = ", to);
        put_string(to, app->value);
        fprintf(to, " # %s\n", fm_given_source(o->givens, app, source, sizeof source));
    }
    for (size_t i = 0; i < fm_option_count; i++)
        if (is_shown(&fm_option_table[i]))
            put_option(to, o, &fm_option_table[i]);
}

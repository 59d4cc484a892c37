/* What was given, and the words of a command line; see given.h. */
#include "given.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/util/err.h"

struct fm_givens *fm_givens_new(int argc, char **argv)
{
    struct fm_givens *g = fm_calloc(1, sizeof *g);
    g->argc = argc;
    g->argv = argv;
    return g;
}

void fm_givens_free(struct fm_givens *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->ntexts; i++)
        free(g->texts[i]);
    free(g->texts);
    free(g->warnings);
    free(g->all);
    free(g);
}

void fm_givens_add(struct fm_givens *g, struct fm_given given)
{
    if (g->n == g->room) {
        g->room = g->room ? 2 * g->room : 32;
        g->all = fm_realloc(g->all, g->room * sizeof *g->all);
    }
    g->all[g->n++] = given;
}

void fm_givens_drop_file(struct fm_givens *g)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n; i++)
        if (g->all[i].source != FM_FROM_FILE)
            g->all[n++] = g->all[i];
    g->n = n;
    g->nwarnings = 0;
    g->hooks = 0;
}

char *fm_givens_keep(struct fm_givens *g, char *text)
{
    g->texts = fm_realloc(g->texts, (g->ntexts + 1) * sizeof *g->texts);
    return g->texts[g->ntexts++] = text;
}

char *fm_givens_format(struct fm_givens *g, const char *format, va_list ap)
{
    char *text = NULL;
    if (vasprintf(&text, format, ap) < 0)
        fm_die("out of memory");
    return fm_givens_keep(g, text);
}

char *fm_givens_text(struct fm_givens *g, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    char *text = fm_givens_format(g, format, ap);
    va_end(ap);
    return text;
}

void fm_givens_warn(struct fm_givens *g, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g->warnings = fm_realloc(g->warnings, (g->nwarnings + 1) * sizeof *g->warnings);
    g->warnings[g->nwarnings++] = fm_givens_format(g, format, ap);
    va_end(ap);
}

const struct fm_given *fm_givens_of(const struct fm_givens *g, const struct fm_option *option, size_t i)
{
    enum fm_source source = FM_FROM_ENVIRONMENT;
    for (size_t k = 0; k < g->n; k++)
        if (g->all[k].option == option && g->all[k].source > source)
            source = g->all[k].source;
    for (size_t k = 0; k < g->n; k++)
        if (g->all[k].option == option && g->all[k].source == source && i-- == 0)
            return &g->all[k];
    return NULL;
}

/* ---- words ---- */

struct words {
    char **at;
    int n;
    enum fm_source source;
    const char *app; /* named before */
};

static const char *unknown(struct fm_givens *g, const struct words *w, const char *text)
{
    const char *in = w->source == FM_FROM_VARIABLE ? g->variable : "", *dollar = *in ? "$" : "",
               *colon = *in ? ": " : "";
    const char *hint = fm_options_hint(text), *near = NULL;
    if (!hint && text[1] == '-')
        near = fm_option_nearest(text + 2, strcspn(text + 2, "="));
    return fm_givens_text(g, "%s%s%sthere is no option %s%s%s%s%s", dollar, in, colon, text, hint ? ": " : "",
                          hint ? hint : "", near ? ", but there is --" : "", near ? near : "");
}

/* One option at w->at[*i]; advances *i over its argument. */
static const char *take_option(struct fm_givens *g, const struct words *w, int *i, struct fm_shown *shown)
{
    const char *text = w->at[*i], *value = NULL;
    const struct fm_option *option;
    if (text[1] == '-') {
        size_t len = strcspn(text + 2, "=");
        option = fm_option_by_name(text + 2, len);
        if (text[2 + len] == '=')
            value = text + 3 + len;
    } else {
        option = fm_option_by_letter(text[1]);
        if (text[2])
            value = text + 2 + (text[2] == '=');
    }
    if (!option)
        return unknown(g, w, text);
    if (option->kind == KIND_HELP || option->kind == KIND_VERSION) {
        *shown = (struct fm_shown){true, option->kind, value};
        return NULL;
    }
    if (!option->arg && value)
        return fm_givens_text(g, "--%s takes no argument", option->name);
    if (option->arg && !value) {
        if (*i + 1 >= w->n)
            return fm_givens_text(g, "--%s takes an argument: %s, %s", option->name, option->arg, option->help);
        value = w->at[++*i];
    }
    fm_givens_add(g, (struct fm_given){option, value, w->source, NULL, 0});
    return NULL;
}

static const char *take_operand(struct fm_givens *g, struct words *w, const char *text)
{
    if (w->source == FM_FROM_VARIABLE)
        return fm_givens_text(g, "$%s has %s in it, but takes options alone", g->variable, text);
    if (w->app)
        return fm_givens_text(g,
                              "one application is served, but two are named: %s and %s (its arguments come behind --)",
                              w->app, text);
    w->app = text;
    fm_givens_add(g, (struct fm_given){&fm_option_app, text, w->source, NULL, 0});
    return NULL;
}

/* Behind `--` come operands: the application, if it was not named before, and its own arguments. */
static void take_rest(struct fm_givens *g, struct words *w, int i)
{
    if (!w->app && i < w->n)
        take_operand(g, w, w->at[i++]);
    g->args = w->at + i;
    g->nargs = w->n - i;
}

const char *fm_givens_take_words(struct fm_givens *g, char **words, int n, enum fm_source source,
                                 struct fm_shown *shown)
{
    struct words w = {words, n, source, NULL};
    for (int i = 0; i < n; i++) {
        const char *wrong;
        if (strcmp(words[i], "--") == 0 && source == FM_FROM_COMMAND) {
            take_rest(g, &w, i + 1);
            return NULL;
        }
        wrong = words[i][0] == '-' && words[i][1] ? take_option(g, &w, &i, shown) : take_operand(g, &w, words[i]);
        if (wrong || shown->any)
            return wrong;
    }
    return NULL;
}

/* The next word of *at, into to; advances *at behind it.  False: there is none. */
static bool next_word(const char **at, char *to)
{
    const char *p = *at + strspn(*at, " \t\r\n");
    char quote = '\0';
    if (!*p)
        return false;
    for (; *p && (quote || !strchr(" \t\r\n", *p)); p++) {
        if (!quote && (*p == '"' || *p == '\''))
            quote = *p;
        else if (*p == quote)
            quote = '\0';
        else if (*p == '\\' && quote != '\'' && p[1])
            *to++ = *++p;
        else
            *to++ = *p;
    }
    *to = '\0';
    *at = p;
    return true;
}

const char *fm_givens_take_text(struct fm_givens *g, const char *text, struct fm_shown *shown)
{
    size_t size = strlen(text) + 1;
    char **words = NULL, *to = fm_givens_keep(g, fm_malloc(size));
    int n = 0;
    for (const char *at = text; next_word(&at, to); to += strlen(to) + 1) {
        words = fm_realloc(words, (size_t)(n + 1) * sizeof *words);
        words[n++] = to;
    }
    const char *wrong = fm_givens_take_words(g, words, n, FM_FROM_VARIABLE, shown);
    free(words);
    return wrong;
}

/* ---- where it stands ---- */

const char *fm_given_place(struct fm_givens *g, const struct fm_given *given)
{
    const char *value = given->value ? given->value : "", *name = given->option->name;
    switch (given->source) {
    case FM_FROM_ENVIRONMENT: return fm_givens_text(g, "the environment's %s is %s", given->name, value);
    case FM_FROM_VARIABLE: return fm_givens_text(g, "$%s: --%s %s", g->variable, name, value);
    case FM_FROM_FILE:
        return given->line > 0 ? fm_givens_text(g, "%s:%u: %s = %s", g->file, given->line, given->name, value)
                               : fm_givens_text(g, "%s: %s = %s", g->file, given->name, value);
    default: return fm_givens_text(g, "--%s %s", name, value);
    }
}

const char *fm_given_source(const struct fm_givens *g, const struct fm_given *given, char *to, size_t size)
{
    if (!given)
        snprintf(to, size, "default");
    else if (given->source == FM_FROM_ENVIRONMENT)
        snprintf(to, size, "$%s", given->name);
    else if (given->source == FM_FROM_FILE && given->line > 0)
        snprintf(to, size, "%s:%u", g->file, given->line);
    else if (given->source == FM_FROM_FILE)
        snprintf(to, size, "%s", g->file);
    else if (given->source == FM_FROM_VARIABLE)
        snprintf(to, size, "$%s", g->variable);
    else
        snprintf(to, size, "command line");
    return to;
}

/* Settings of a file, as a config reader prints them: records of four texts, each ended by a zero byte.
 *
 *     NAME LINE TYPE VALUE
 *
 * LINE is where it is set, or 0.  TYPE is one letter: s text, i and f numbers, b true or false, n None, l an element of
 * a list or tuple, d one of a dictionary as KEY=VALUE, e an empty list or dictionary, h what can be called, c a class,
 * o another object, whose type VALUE then names.  A second letter, u, is there if the file sets the name and does not
 * use it: it can only be meant as a setting.  The last record's NAME is "." */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "given.h"

struct record {
    const char *name, *type, *value;
    unsigned line;
};

/* False: there is no whole record at *at. */
static bool next_record(const char **at, const char *end, struct record *r)
{
    const char *fields[4];
    for (size_t i = 0; i < 4; i++) {
        const char *stop = *at && *at < end ? memchr(*at, '\0', (size_t)(end - *at)) : NULL;
        if (!stop)
            return false;
        fields[i] = *at;
        *at = stop + 1;
    }
    *r = (struct record){fields[0], fields[2], fields[3], (unsigned)strtoul(fields[1], NULL, 10)};
    return *fields[2] != '\0';
}

static bool is_octal(enum fm_option_kind kind) { return kind == KIND_MODE || kind == KIND_MASK; }

/* The value as it would be written on the command line, or NULL: it cannot. */
static const char *as_text(struct fm_givens *g, enum fm_option_kind kind, const struct record *r)
{
    switch (r->type[0]) {
    case 's': return kind != KIND_JSON ? r->value : NULL;
    case 'c': return kind == KIND_CLASS ? r->value : NULL;
    case 'b':
        if (kind == KIND_VERSIONS)
            return strcmp(r->value, "true") == 0 ? "auto" : "off";
        return kind != KIND_FLAG ? NULL : strcmp(r->value, "true") == 0 ? "true" : "false";
    case 'i':
        if (is_octal(kind))
            return fm_givens_text(g, "%lo", strtoul(r->value, NULL, 10));
        return fm_option_is_text(kind) ? NULL : r->value;
    case 'f': return fm_option_is_text(kind) || is_octal(kind) ? NULL : r->value;
    case 'd': return kind == KIND_ENV ? r->value : NULL;
    case 'j': return kind == KIND_JSON ? r->value : NULL;
    default: return NULL;
    }
}

static const char *said_type(const struct record *r)
{
    switch (r->type[0]) {
    case 'b': return strcmp(r->value, "true") == 0 ? "True" : "False";
    case 'l': return "a list";
    case 'd':
    case 'j':
    case 'e': return "a dictionary or a list";
    case 'h': return "a function";
    case 'c': return "a class";
    case 'o': return r->value;
    default: return "";
    }
}

/* Of a value that is of another type than the option can have. */
static const char *refuse(struct fm_givens *g, const struct fm_option *option, const struct record *r)
{
    static struct fm_options scratch;
    const char *takes = fm_option_apply(&scratch, option->kind, option->offset, "\x7f"), *type = said_type(r);
    struct fm_given given = {option, *type ? type : r->value, FM_FROM_FILE, r->name, r->line};
    return fm_givens_text(g, "%s: it %s", fm_given_place(g, &given),
                          fm_option_is_text(option->kind) || !takes ? "takes text" : takes);
}

static void add(struct fm_givens *g, const struct fm_option *option, const struct record *r, const char *value)
{
    fm_givens_add(g, (struct fm_given){option, value, FM_FROM_FILE, r->name, r->line});
}

/* As gunicorn reads the text of a setting that is a list: elements with commas between them. */
static void add_each(struct fm_givens *g, const struct fm_option *option, const struct record *r)
{
    char *rest = NULL, *text = fm_givens_text(g, "%s", r->value);
    for (char *word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        word += strspn(word, " ");
        size_t n = strlen(word);
        while (n > 0 && word[n - 1] == ' ')
            word[--n] = '\0';
        if (*word)
            add(g, option, r, word);
    }
}

/* All elements of a list in one text; r is the first one, *at is behind it, and is behind the last afterwards. */
static void add_joined(struct fm_givens *g, const struct fm_option *option, const struct record *r, const char **at,
                       const char *end)
{
    const char *text = r->value, *behind = *at;
    struct record more;
    while (next_record(&behind, end, &more) && more.type[0] == 'l' && strcmp(more.name, r->name) == 0) {
        text = fm_givens_text(g, "%s,%s", text, more.value);
        *at = behind;
    }
    add(g, option, r, text);
}

/* NULL, or what is wrong. */
static const char *take_value(struct fm_givens *g, const struct fm_option *option, const struct record *r,
                              const char **at, const char *end)
{
    enum fm_option_lists lists = fm_option_lists(option->kind);
    const char *text = as_text(g, option->kind, r);
    switch (r->type[0]) {
    case 'n': return NULL;
    case 'e':
        if (lists != FM_LIST_REFUSED || option->kind == KIND_JSON)
            return NULL;
        break;
    case 'l':
        if (lists == FM_LIST_JOINED)
            add_joined(g, option, r, at, end);
        else if (lists == FM_LIST_REPEATED)
            add(g, option, r, r->value);
        if (lists != FM_LIST_REFUSED)
            return NULL;
        break;
    case 's':
        if (lists == FM_LIST_REPEATED) {
            add_each(g, option, r);
            return NULL;
        }
        break;
    default: break;
    }
    if (!text)
        return refuse(g, option, r);
    if (*text || !fm_option_is_text(option->kind)) /* as None: text is not empty */
        add(g, option, r, text);
    return NULL;
}

/* Is it as if it was not set at all? */
static bool is_nothing(const struct record *r)
{
    return r->type[0] == 'n' || r->type[0] == 'e' || !*r->value ||
           (strchr("bi", r->type[0]) && (strcmp(r->value, "false") == 0 || strcmp(r->value, "0") == 0));
}

static const char *where(struct fm_givens *g, const struct record *r)
{
    return r->line > 0 ? fm_givens_text(g, "%s:%u", g->file, r->line) : g->file;
}

/* A name that is none of ours. */
static const char *take_unknown(struct fm_givens *g, const struct record *r)
{
    char near[FM_SETTING_SIZE];
    bool fatal = false;
    const char *hint = fm_setting_hint(r->name, &fatal);
    if (hint && is_nothing(r))
        return NULL;
    if (hint && fatal)
        return fm_givens_text(g, "%s: %s: %s", where(g, r), r->name, hint);
    if (hint) {
        fm_givens_warn(g, "%s: %s does nothing here: %s", where(g, r), r->name, hint);
        return NULL;
    }
    const char *nearest = r->type[1] == 'u' ? fm_setting_nearest(r->name, near) : NULL;
    if (r->type[1] == 'u' && (nearest || r->type[0] != 'h'))
        fm_givens_warn(g, "%s: there is no setting %s%s%s", where(g, r), r->name, nearest ? ", but there is " : "",
                       nearest ? nearest : "");
    return NULL;
}

static const char *take_record(struct fm_givens *g, const struct record *r, const char **at, const char *end)
{
    const struct fm_option *option = fm_option_by_setting(r->name);
    unsigned hook = fm_hook_bit(r->name);
    if (hook) {
        g->hooks |= r->type[0] == 'h' || r->type[0] == 's' ? hook : 0;
        return NULL;
    }
    if (!option)
        return take_unknown(g, r);
    if (option->kind == KIND_IGNORED || option->kind == KIND_HELP || option->kind == KIND_VERSION)
        return NULL;
    if (strcmp(option->name, "config") == 0)
        return NULL; /* a file does not name another */
    return take_value(g, option, r, at, end);
}

const char *fm_givens_take_settings(struct fm_givens *g, char *settings, size_t size)
{
    const char *at = fm_givens_keep(g, settings), *end = at + size, *wrong = NULL;
    struct record r;
    g->settings = settings;
    g->size = size;
    fm_givens_drop_file(g);
    while (!wrong) {
        if (!next_record(&at, end, &r))
            return fm_givens_text(g, "%s: the reader of it has not said all", g->file);
        if (strcmp(r.name, ".") == 0)
            return NULL;
        if (strcmp(r.name, "!") == 0)
            return *r.value ? fm_givens_text(g, "%s", r.value) : fm_givens_text(g, "%s: it cannot be read", g->file);
        wrong = take_record(g, &r, &at, end);
    }
    return wrong;
}

/* Names of options; see names.h. */
#include "names.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "fermata/config/hooks.h"
#include "table.h"

const struct fm_option fm_option_table[] = {
#define X(letter, name, kind, field, fallback, arg, help)                                                              \
    {letter, name, KIND_##kind, offsetof(struct fm_options, field), fallback, arg, help},
    FM_OPTIONS(X)
#undef X
};
#define NOPTIONS (sizeof fm_option_table / sizeof fm_option_table[0])
const size_t fm_option_count = NOPTIONS;

static const struct fm_option ignored[] = {
#define X(letter, name, arg, why) {letter, name, KIND_IGNORED, 0, NULL, arg, why},
    FM_OPTIONS_IGNORED(X)
#undef X
};
#define NIGNORED (sizeof ignored / sizeof ignored[0])

const struct fm_option fm_option_app = {0,    "wsgi_app",          KIND_APP,         offsetof(struct fm_options, app),
                                        NULL, "MODULE[:CALLABLE]", "the application"};

const struct fm_option fm_option_log_dict = {
    0, "logconfig_dict", KIND_JSON, offsetof(struct fm_options, log_config_dict), NULL, "DICT", "Python's logging"};

static const struct {
    const char *spelling, *option;
} aliases[] = {
#define X(spelling, option) {spelling, option},
    FM_OPTION_ALIASES(X)
#undef X
};
#define NALIASES (sizeof aliases / sizeof aliases[0])

static const struct {
    const char *option, *setting;
} settings[] = {
#define X(option, setting) {option, setting},
    FM_OPTION_SETTINGS(X)
#undef X
};
#define NSETTINGS (sizeof settings / sizeof settings[0])

static const char *const hooks[] = {
#define X(name) #name,
    FM_ARBITER_HOOKS(X) FM_WORKER_HOOKS(X)
#undef X
};
#define NHOOKS (sizeof hooks / sizeof hooks[0])

static bool is(const char *name, const char *text, size_t len)
{
    return strlen(name) == len && memcmp(name, text, len) == 0;
}

static const struct fm_option *exact(const char *name, size_t len)
{
    for (size_t i = 0; i < NOPTIONS; i++)
        if (is(fm_option_table[i].name, name, len))
            return &fm_option_table[i];
    for (size_t i = 0; i < NIGNORED; i++)
        if (is(ignored[i].name, name, len))
            return &ignored[i];
    return NULL;
}

const struct fm_option *fm_option_by_name(const char *name, size_t len)
{
    const struct fm_option *found = exact(name, len);
    for (size_t i = 0; !found && i < NALIASES; i++)
        if (is(aliases[i].spelling, name, len))
            found = exact(aliases[i].option, strlen(aliases[i].option));
    return found;
}

const struct fm_option *fm_option_by_letter(char letter)
{
    for (size_t i = 0; i < NOPTIONS; i++)
        if (fm_option_table[i].letter == letter)
            return &fm_option_table[i];
    for (size_t i = 0; i < NIGNORED; i++)
        if (ignored[i].letter == letter)
            return &ignored[i];
    return NULL;
}

/* As on the command line, where underscores are dashes but for one of gunicorn's. */
static bool dashed(const char *name, char *to)
{
    size_t len = strlen(name);
    if (len >= FM_SETTING_SIZE)
        return false;
    for (size_t i = 0; i <= len; i++)
        to[i] = name[i] == '_' ? '-' : name[i];
    return true;
}

const struct fm_option *fm_option_by_setting(const char *name)
{
    char text[FM_SETTING_SIZE];
    if (strcmp(name, fm_option_app.name) == 0 || strcmp(name, "wsgi-app") == 0)
        return &fm_option_app;
    if (strcmp(name, fm_option_log_dict.name) == 0)
        return &fm_option_log_dict;
    for (size_t i = 0; i < NSETTINGS; i++)
        if (strcmp(settings[i].setting, name) == 0)
            return exact(settings[i].option, strlen(settings[i].option));
    return dashed(name, text) ? fm_option_by_name(text, strlen(text)) : NULL;
}

const char *fm_option_setting_name(const struct fm_option *option, char *to)
{
    const char *name = option->name;
    for (size_t i = 0; i < NSETTINGS; i++)
        if (strcmp(settings[i].option, option->name) == 0)
            name = settings[i].setting;
    size_t len = strlen(name);
    for (size_t i = 0; i <= len && i < FM_SETTING_SIZE; i++)
        to[i] = name[i] == '-' ? '_' : name[i];
    return to;
}

const char *fm_option_aliases(const struct fm_option *option, const char *before, char *to, size_t size)
{
    size_t at = 0;
    *to = '\0';
    for (size_t i = 0; i < NALIASES && at < size; i++)
        if (strcmp(aliases[i].option, option->name) == 0)
            at += (size_t)snprintf(to + at, size - at, "%s%s%s", at ? ", " : "", before, aliases[i].spelling);
    return to;
}

unsigned fm_hook_bit(const char *name)
{
    for (unsigned i = 0; i < NHOOKS; i++)
        if (strcmp(hooks[i], name) == 0)
            return 1u << i;
    return 0;
}

/* ---- near ---- */

static unsigned least(unsigned a, unsigned b, unsigned c) { return a < b ? (a < c ? a : c) : (b < c ? b : c); }

/* How many letters have to be inserted, left out, changed, or swapped with the next one. */
static unsigned distance(const char *a, size_t na, const char *b, size_t nb)
{
    unsigned rows[3][FM_SETTING_SIZE + 1], *before = rows[0], *above = rows[1], *row = rows[2];
    for (unsigned j = 0; j <= nb; j++)
        above[j] = j;
    memcpy(before, above, sizeof rows[0]);
    for (unsigned i = 1; i <= na; i++) {
        row[0] = i;
        for (unsigned j = 1; j <= nb; j++) {
            row[j] = least(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
        unsigned *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[nb];
}

/* Does one stand in the other as a word, or several: "timeout" in "worker_timeout"? */
static bool is_part(const char *part, size_t n, const char *whole, size_t size)
{
    for (size_t i = 0; n >= 4 && i + n < size + 1; i++) {
        bool begins = i == 0 || whole[i - 1] == '_' || whole[i - 1] == '-';
        bool ends = i + n == size || whole[i + n] == '_' || whole[i + n] == '-';
        if (begins && ends && memcmp(whole + i, part, n) == 0)
            return true;
    }
    return false;
}

/* Is one what the other begins with: "on_start" and "on_starting"? */
static bool is_beginning(const char *a, size_t na, const char *b, size_t nb)
{
    size_t n = na < nb ? na : nb;
    return n >= 5 && memcmp(a, b, n) == 0;
}

struct nearest {
    const char *name;
    unsigned distance;
};

static void compare(struct nearest *n, const char *known, const char *name, size_t len)
{
    size_t size = strlen(known);
    if (len < 3 || len > FM_SETTING_SIZE || size > FM_SETTING_SIZE)
        return;
    unsigned most = len < 6 ? 1 : (unsigned)len / 3, d = distance(name, len, known, size);
    if (d > most &&
        (is_part(name, len, known, size) || is_part(known, size, name, len) || is_beginning(name, len, known, size)))
        d = most;
    if (d <= most && (!n->name || d < n->distance))
        *n = (struct nearest){known, d};
}

const char *fm_option_nearest(const char *name, size_t len)
{
    struct nearest n = {NULL, 0};
    for (size_t i = 0; i < NOPTIONS; i++)
        compare(&n, fm_option_table[i].name, name, len);
    for (size_t i = 0; i < NALIASES; i++)
        compare(&n, aliases[i].spelling, name, len);
    return n.name;
}

const char *fm_setting_nearest(const char *name, char *to)
{
    struct nearest n = {NULL, 0}, found;
    char setting[FM_SETTING_SIZE];
    size_t len = strlen(name);
    for (size_t i = 0; i < NOPTIONS; i++) {
        if (fm_option_table[i].kind == KIND_HELP || fm_option_table[i].kind == KIND_VERSION)
            continue;
        found = n;
        compare(&found, fm_option_setting_name(&fm_option_table[i], setting), name, len);
        if (found.distance == n.distance && n.name)
            continue;
        if (found.name) {
            snprintf(to, FM_SETTING_SIZE, "%s", setting);
            n = (struct nearest){to, found.distance};
        }
    }
    for (size_t i = 0; i < NHOOKS; i++)
        compare(&n, hooks[i], name, len);
    compare(&n, fm_option_app.name, name, len);
    return n.name;
}

/* What was given to options, each with where it stands, before it is applied: words of the command line and of a
 * variable, settings of a file. */
#ifndef FERMATA_SRC_CONFIG_GIVEN_H
#define FERMATA_SRC_CONFIG_GIVEN_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "names.h"

/* What comes later wins. */
enum fm_source {
    FM_FROM_ENVIRONMENT, /* PORT, WEB_CONCURRENCY and so on */
    FM_FROM_FILE,
    FM_FROM_VARIABLE, /* FERMATA_CMD_ARGS or GUNICORN_CMD_ARGS */
    FM_FROM_COMMAND,
    FM_SOURCES,
};

struct fm_given {
    const struct fm_option *option;
    const char *value; /* NULL: a FLAG without one */
    enum fm_source source;
    const char *name; /* of the environment's variable, or of the setting in the file */
    unsigned line;    /* in the file; 0: not known */
};

struct fm_givens {
    int argc;
    char **argv;
    struct fm_given *all;
    size_t n, room;
    char **texts; /* that values point into, freed with this */
    size_t ntexts;
    char **warnings;
    size_t nwarnings;
    char **args; /* behind -- */
    int nargs;
    unsigned hooks;
    const char *variable; /* FERMATA_CMD_ARGS, GUNICORN_CMD_ARGS or NULL */
    const char *file;     /* as --config has it */
    const char *settings; /* what was read of it, `size` bytes */
    size_t size;
};

struct fm_givens *fm_givens_new(int argc, char **argv);
void fm_givens_free(struct fm_givens *g);

void fm_givens_add(struct fm_givens *g, struct fm_given given);

/* The i-th that counts of an option: of the last source that gives any.  NULL: there are not so many. */
const struct fm_given *fm_givens_of(const struct fm_givens *g, const struct fm_option *option, size_t i);

/* Forgets what came from the file. */
void fm_givens_drop_file(struct fm_givens *g);

/* Keeps what malloc has given; the text of a format; a sentence for the log. */
char *fm_givens_keep(struct fm_givens *g, char *text);
char *fm_givens_format(struct fm_givens *g, const char *format, va_list ap) __attribute__((format(printf, 2, 0)));
char *fm_givens_text(struct fm_givens *g, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fm_givens_warn(struct fm_givens *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Words of the command line, words[0] not being its name, or of the variable.  NULL, or a sentence that says what is
 * wrong, which g keeps.  *shown is KIND_HELP or KIND_VERSION where that is asked for, with its argument. */
struct fm_shown {
    bool any;
    enum fm_option_kind kind;
    const char *value;
};
const char *fm_givens_take_words(struct fm_givens *g, char **words, int n, enum fm_source source,
                                 struct fm_shown *shown);

/* The same of a text with a shell's quotes: of the variable. */
const char *fm_givens_take_text(struct fm_givens *g, const char *text, struct fm_shown *shown);

/* What a config reader has printed (py/fermata/settings.py says how).  NULL, or a sentence as above.  g takes the
 * memory over. */
const char *fm_givens_take_settings(struct fm_givens *g, char *settings, size_t size);

/* Where it stands, as messages begin: "--threads x", "$GUNICORN_CMD_ARGS: --threads x", "conf.py:3: threads = x". */
const char *fm_given_place(struct fm_givens *g, const struct fm_given *given);

/* Where its value comes from, for --print-config. */
const char *fm_given_source(const struct fm_givens *g, const struct fm_given *given, char *to, size_t size);

#endif

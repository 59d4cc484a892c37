/* What options are called: on the command line, in a file, and what is nearest to a name that there is not. */
#ifndef FERMATA_SRC_CONFIG_NAMES_H
#define FERMATA_SRC_CONFIG_NAMES_H

#include <stddef.h>

#include "kinds.h"

struct fm_option {
    char letter; /* or 0 */
    const char *name;
    enum fm_option_kind kind;
    size_t offset;
    const char *fallback, *arg, *help;
};

/* The rows of table.h. */
extern const struct fm_option fm_option_table[];
extern const size_t fm_option_count;

/* The application: `wsgi_app` in a file, an operand on the command line. */
extern const struct fm_option fm_option_app;

/* gunicorn's `logconfig_dict`, which only a file can have. */
extern const struct fm_option fm_option_log_dict;

#define FM_SETTING_SIZE 64

/* What an option is called in a file.  Returns to, of FM_SETTING_SIZE bytes. */
const char *fm_option_setting_name(const struct fm_option *option, char *to);

/* By --NAME (len bytes of it), by -LETTER, or by what stands in a file.  Options that do nothing are found, too.  NULL:
 * there is none of that name. */
const struct fm_option *fm_option_by_name(const char *name, size_t len);
const struct fm_option *fm_option_by_letter(char letter);
const struct fm_option *fm_option_by_setting(const char *name);

/* The bit of a hook of that name (1 << enum fm_hook), or 0. */
unsigned fm_hook_bit(const char *name);

/* The name that is nearest to one that there is not: on the command line, or in a file.  NULL: none is near. */
const char *fm_option_nearest(const char *name, size_t len);
const char *fm_setting_nearest(const char *name, char *to);

/* The spellings of FM_OPTION_ALIASES of an option, separated by ", ", each with `before` in front.  Returns to. */
const char *fm_option_aliases(const struct fm_option *option, const char *before, char *to, size_t size);

#endif

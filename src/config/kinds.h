/* The kinds of values that options take: what each takes, and how it is read. */
#ifndef FERMATA_SRC_CONFIG_KINDS_H
#define FERMATA_SRC_CONFIG_KINDS_H

#include <stddef.h>

#include "fermata/config/options.h"

#define FM_OPTION_KINDS(X)                                                                                             \
    X(BIND)                                                                                                            \
    X(COUNT)                                                                                                           \
    X(WORKERS)                                                                                                         \
    X(MAYBE)                                                                                                           \
    X(SECONDS)                                                                                                         \
    X(TCP_SECONDS)                                                                                                     \
    X(FLAG)                                                                                                            \
    X(PEERS)                                                                                                           \
    X(PARTS)                                                                                                           \
    X(FIELDS)                                                                                                          \
    X(VERSIONS)                                                                                                        \
    X(SENDERS)                                                                                                         \
    X(IDS)                                                                                                             \
    X(ROOT)                                                                                                            \
    X(LOGFORMAT)                                                                                                       \
    X(EXCLUDED)                                                                                                        \
    X(LIMIT)                                                                                                           \
    X(SIZE)                                                                                                            \
    X(BUFFER)                                                                                                          \
    X(PATTERN)                                                                                                         \
    X(ENGINE)                                                                                                          \
    X(TEXT)                                                                                                            \
    X(PATH)                                                                                                            \
    X(SYSLOG)                                                                                                          \
    X(SYSLOG_NAME)                                                                                                     \
    X(FACILITY)                                                                                                        \
    X(STATSD)                                                                                                          \
    X(STATSD_TEXT)                                                                                                     \
    X(ENV)                                                                                                             \
    X(MODE)                                                                                                            \
    X(MASK)                                                                                                            \
    X(USER)                                                                                                            \
    X(GROUP)                                                                                                           \
    X(LEVEL)                                                                                                           \
    X(PATHS)                                                                                                           \
    X(HOST)                                                                                                            \
    X(ADMIN)                                                                                                           \
    X(CLASS)                                                                                                           \
    X(APP)                                                                                                             \
    X(JSON)                                                                                                            \
    X(IGNORED)                                                                                                         \
    X(HELP)                                                                                                            \
    X(VERSION)

enum fm_option_kind {
#define X(name) KIND_##name,
    FM_OPTION_KINDS(X)
#undef X
};

/* Its values are text in a file, also where they look like numbers. */
bool fm_option_is_text(enum fm_option_kind kind);

/* What a list in a file means for an option of the kind. */
enum fm_option_lists {
    FM_LIST_REFUSED,
    FM_LIST_REPEATED, /* each element is as if the option had been given with it */
    FM_LIST_JOINED,   /* the elements with commas between them */
};
enum fm_option_lists fm_option_lists(enum fm_option_kind kind);

/* Reads text into the field of *o that is at the offset; NULL is what a FLAG has on the command line.  Each of
 * these returns NULL, or what the option takes: a text that lives until the next call.  The options may keep text. */
const char *fm_option_apply(struct fm_options *o, enum fm_option_kind kind, size_t offset, const char *text);

/* For what the environment says. */
const char *fm_option_whole(unsigned *to, const char *text, unsigned min, unsigned max);
const char *fm_option_address(struct fm_addr *to, const char *text);
const char *fm_option_root(struct fm_options *o, const char *text);

/* Puts NAME=VALUE into the environment. */
void fm_option_set_env(const char *text);

#endif

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
    X(ADMIN)                                                                                                           \
    X(HELP)                                                                                                            \
    X(VERSION)

enum fm_option_kind {
#define X(name) KIND_##name,
    FM_OPTION_KINDS(X)
#undef X
};

/* Reads text into the field of *o that is at the offset; of a FLAG, HELP and VERSION it is not looked at.  Each of
 * these returns NULL, or what the option takes: a text that lives until the next call.  The options may keep text. */
const char *fm_option_apply(struct fm_options *o, enum fm_option_kind kind, size_t offset, const char *text);

/* For what the environment says. */
const char *fm_option_whole(unsigned *to, const char *text, unsigned min, unsigned max);
const char *fm_option_address(struct fm_addr *to, const char *text);
const char *fm_option_root(struct fm_options *o, const char *text);

#endif

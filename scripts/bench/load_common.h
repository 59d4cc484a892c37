/* What the benchmark's tools share: options from a table, the clock, room for descriptors, a listener. */
#ifndef FERMATA_BENCH_LOAD_COMMON_H
#define FERMATA_BENCH_LOAD_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

/* Ends the tool: 2 for wrong usage, 1 for anything else. */
noreturn void usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

enum option_kind {
    OPTION_COUNT,   /* unsigned: 1 to 1000000 */
    OPTION_PORT,    /* unsigned: 1 to 65535 */
    OPTION_SECONDS, /* double: 0 to 3600 */
    OPTION_TEXT,    /* const char * */
    OPTION_PATH,    /* const char *, begins with a slash */
    OPTION_HEADER,  /* char *: `Name: value` lines, each with its CRLF, one after another; repeatable */
};

struct option_row {
    const char *name; /* "--port", or "-c" */
    enum option_kind kind;
    void *to;
    const char *arg, *help;
};

/* Fills what the rows point to from argv[1] on.  --help prints `head` and the rows, and exits. */
void parse_options(char **argv, const char *head, const struct option_row *rows, size_t n);

/* CLOCK_MONOTONIC in nanoseconds: the same clock for every process of the machine, Python's monotonic_ns() too. */
uint64_t now_ns(void);

/* Makes room for `need` descriptors, or dies saying what the limit is. */
void need_descriptors(unsigned need);

/* A listening socket on 127.0.0.1, not blocking. */
int listen_on(unsigned port);

/* malloc and realloc that do not return NULL. */
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);

#endif

/* Any command line: it is either parsed, to values within the bounds that the options have, or there is a message that
 * names what is wrong (and the command would exit 2); the same arguments give the same again.
 *
 * Input: the arguments behind the command's name, each ended by NUL.  Names of hosts are not looked up (getaddrinfo
 * knows only numbers here), and --env changes no environment.
 *
 * Covers: src/config/options.c src/config/given.c src/config/names.c src/config/kinds.c src/config/identity.c
 * src/net/addr.c */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "fermata/config/options.h"
#include "outside.h"

#define ARGS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    struct fm_options options;
    enum fm_options_outcome outcome;
    char *out, *err; /* what was printed */
};

static void parse(struct run *r, int argc, char **argv)
{
    size_t n;
    FILE *out = stdout, *err = stderr;
    stdout = open_memstream(&r->out, &n);
    stderr = open_memstream(&r->err, &n);
    r->outcome = fm_options_parse(&r->options, argc, argv, "3");
    fclose(stdout);
    fclose(stderr);
    stdout = out;
    stderr = err;
}

/* Does text name one of the arguments, or one of our options? */
static bool names_one(const char *text, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (*argv[i] && strstr(text, argv[i]))
            return true;
    return strncmp(text, "fermata: --", 11) == 0;
}

static void check_wrong(const struct run *r, int argc, char **argv)
{
    static const char end[] = "\nfermata: see fermata --help\n";
    size_t n = strlen(r->err);
    if (strncmp(r->err, "fermata: ", 9) != 0 || n < sizeof end || strcmp(r->err + n - (sizeof end - 1), end) != 0)
        fuzz_fail("the message is: %s", r->err);
    if (!names_one(r->err, argc, argv) && !strstr(r->err, "application"))
        fuzz_fail("the message names no argument: %s", r->err);
}

static bool is_within(uint64_t n, uint64_t min, uint64_t max) { return n >= min && n <= max; }

static void check_run(const struct fm_options *o)
{
    const uint64_t seconds = 100000000ull * 1000000000;
    const uint32_t limit = 1 << 24;
    if (o->config)
        return; /* what the command reads then makes it whole */
    bool good = o->app && *o->app && is_within(o->nbinds, 1, FM_MAX_BINDS) && is_within(o->threads, 1, 1000000) &&
                is_within(o->backlog, 1, 1000000) && is_within(o->worker_connections, 1, 1000000) &&
                o->keep_alive <= seconds && o->header_timeout <= seconds && o->body_timeout <= seconds &&
                o->send_timeout <= seconds && o->request_timeout <= seconds && o->graceful_timeout <= seconds &&
                is_within(o->limits.request_line, 1, limit) && is_within(o->limits.fields, 1, limit) &&
                is_within(o->limits.field_size, 1, limit) && o->limits.body <= INT64_MAX &&
                (unsigned)o->log_level <= FM_LOG_CRITICAL && o->error_logfile;
    for (unsigned i = 0; i < o->nbinds; i++) {
        int family = o->bind[i].u.sa.sa_family;
        good = good && (o->bind[i].is_fd ||
                        ((family == AF_UNIX || family == AF_INET || family == AF_INET6) && o->bind[i].len > 0));
    }
    if (o->has_admin)
        good = good && (o->admin.u.sa.sa_family == AF_INET || o->admin.u.sa.sa_family == AF_INET6 ||
                        (o->admin.u.sa.sa_family == AF_UNIX && o->admin.u.un.sun_path[0]));
    if (!good)
        fuzz_fail("a value is out of its bounds");
}

static int split(char *text, size_t size, char **argv)
{
    int argc = 1;
    argv[0] = (char *)(uintptr_t) "fermata";
    for (size_t i = 0; i < size && argc < ARGS; i += strlen(text + i) + 1)
        argv[argc++] = text + i;
    argv[argc] = NULL;
    return argc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *argv[ARGS + 1], *text = malloc(size + 1);
    struct run first = {0}, again = {0};
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    int argc = split(text, size, argv);
    memset(&first.options, 0xa5, sizeof first.options);
    parse(&first, argc, argv);
    parse(&again, argc, argv);
    if (first.outcome != again.outcome || strcmp(first.err, again.err) != 0 || strcmp(first.out, again.out) != 0)
        fuzz_fail("parsed twice, it is not the same");
    switch (first.outcome) {
    case FM_OPTIONS_RUN: check_run(&first.options); break;
    case FM_OPTIONS_WRONG: check_wrong(&first, argc, argv); break;
    case FM_OPTIONS_SHOWN: break;
    }
    if ((first.outcome == FM_OPTIONS_WRONG) != (*first.err != '\0') ||
        (first.outcome == FM_OPTIONS_SHOWN) != (*first.out != '\0'))
        fuzz_fail("outcome %d, but printed were '%s' and '%s'", first.outcome, first.out, first.err);
    if (first.outcome == FM_OPTIONS_RUN &&
        memcmp(&first.options.limits, &again.options.limits, sizeof first.options.limits) != 0)
        fuzz_fail("parsed twice, the limits differ");
    fm_options_free(&first.options);
    fm_options_free(&again.options);
    free(first.out);
    free(first.err);
    free(again.out);
    free(again.err);
    free(text);
    return 0;
}

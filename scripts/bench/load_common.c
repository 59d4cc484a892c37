/* Options, clock, limits, listener, memory. */
#include "load_common.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

static noreturn void end(int code, const char *fmt, va_list ap)
{
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    exit(code);
}

void usage_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    end(2, fmt, ap);
}

void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    end(1, fmt, ap);
}

/* ---- options ---- */

static unsigned whole_number(const char *name, const char *text, unsigned most)
{
    char *rest;
    errno = 0;
    unsigned long n = strtoul(text, &rest, 10);
    if (!isdigit((unsigned char)text[0]) || *rest || errno || n < 1 || n > most)
        usage_error("%s takes a whole number from 1 to %u, not '%s'", name, most, text);
    return (unsigned)n;
}

static double seconds(const char *name, const char *text)
{
    char *rest;
    double s = strtod(text, &rest);
    if (!(isdigit((unsigned char)text[0]) || text[0] == '.') || *rest || !(s >= 0 && s <= 3600))
        usage_error("%s takes seconds, 0 to 3600, not '%s'", name, text);
    return s;
}

static void add_header(char **headers, const char *name, const char *text)
{
    const char *colon = strchr(text, ':');
    if (!colon || colon == text || strpbrk(text, "\r\n"))
        usage_error("%s takes 'Name: value', not '%s'", name, text);
    size_t had = *headers ? strlen(*headers) : 0;
    *headers = xrealloc(*headers, had + strlen(text) + 3);
    sprintf(*headers + had, "%s\r\n", text);
}

static void set_option(const struct option_row *row, const char *text)
{
    switch (row->kind) {
    case OPTION_COUNT: *(unsigned *)row->to = whole_number(row->name, text, 1000000); break;
    case OPTION_PORT: *(unsigned *)row->to = whole_number(row->name, text, 65535); break;
    case OPTION_SECONDS: *(double *)row->to = seconds(row->name, text); break;
    case OPTION_TEXT: *(const char **)row->to = text; break;
    case OPTION_PATH:
        if (text[0] != '/' || strpbrk(text, " \r\n"))
            usage_error("%s takes a path that begins with a slash, not '%s'", row->name, text);
        *(const char **)row->to = text;
        break;
    case OPTION_HEADER: add_header(row->to, row->name, text); break;
    }
}

static noreturn void help(const char *head, const struct option_row *rows, size_t n)
{
    printf("%s\n\noptions:\n", head);
    for (size_t i = 0; i < n; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", rows[i].name, rows[i].arg);
        printf("  %-24s %s\n", left, rows[i].help);
    }
    exit(0);
}

/* The row whose option argv begins with; *value is set if it has the form --name=value. */
static const struct option_row *find_row(const char *arg, const struct option_row *rows, size_t n, const char **value)
{
    size_t len = strncmp(arg, "--", 2) == 0 ? strcspn(arg, "=") : strlen(arg);
    *value = arg[len] ? arg + len + 1 : NULL;
    for (size_t i = 0; i < n; i++)
        if (strlen(rows[i].name) == len && strncmp(rows[i].name, arg, len) == 0)
            return &rows[i];
    usage_error("unknown option %s (see --help)", arg);
}

void parse_options(char **argv, const char *head, const struct option_row *rows, size_t n)
{
    for (char **a = argv + 1; *a; a++) {
        if (strcmp(*a, "--help") == 0 || strcmp(*a, "-h") == 0)
            help(head, rows, n);
        const char *value;
        const struct option_row *row = find_row(*a, rows, n, &value);
        if (!value && !(value = *++a))
            usage_error("%s takes %s", row->name, row->arg);
        set_option(row, value);
    }
}

/* ---- the rest ---- */

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void need_descriptors(unsigned need)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need)
        return;
    struct rlimit more = {need, limit.rlim_max > need ? limit.rlim_max : need};
    if (setrlimit(RLIMIT_NOFILE, &more) != 0)
        die("needs %u descriptors, and only %lu are allowed: raise the limit (ulimit -Hn, LimitNOFILE=, "
            "docker --ulimit nofile=)",
            need, (unsigned long)limit.rlim_max);
}

int listen_on(unsigned port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) != 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 4096) != 0)
        die("--port %u: %s", port, strerror(errno));
    return fd;
}

void *xcalloc(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (!p)
        die("out of memory");
    return p;
}

void *xrealloc(void *p, size_t size)
{
    p = realloc(p, size);
    if (!p)
        die("out of memory");
    return p;
}

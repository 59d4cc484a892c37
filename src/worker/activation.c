/* LISTEN_FDS; see worker/activation.h. */
#include "fermata/worker/activation.h"

#include <stdlib.h>
#include <unistd.h>

#include "fermata/util/log.h"

#define FIRST 3 /* their numbers follow each other */

static unsigned long number(const char *variable)
{
    const char *text = getenv(variable);
    char *end;
    unsigned long n = text ? strtoul(text, &end, 10) : 0;
    return text && *text && !*end ? n : 0;
}

static bool has(const struct fm_addr *all, unsigned n, int fd)
{
    for (unsigned i = 0; i < n; i++)
        if (all[i].fd == fd)
            return true;
    return false;
}

/* What is bound by name where sockets were handed over is most often what the socket's unit binds. */
static bool replace(struct fm_options *o, unsigned n)
{
    struct fm_addr all[FM_MAX_BINDS];
    for (unsigned i = 0; i < n; i++)
        all[i] = (struct fm_addr){.is_fd = true, .fd = FIRST + (int)i};
    for (unsigned i = 0; i < o->nbinds; i++) {
        char url[FM_ADDR_TEXT];
        fm_addr_url(&o->bind[i], url);
        if (!o->bind[i].is_fd && o->has_bind)
            fm_warn("--bind %s is passed over, because LISTEN_FDS hands over sockets to serve", url);
        if (!o->bind[i].is_fd || has(all, n, o->bind[i].fd))
            continue;
        if (n == FM_MAX_BINDS)
            return false;
        all[n++] = o->bind[i];
    }
    for (unsigned i = 0; i < n; i++)
        o->bind[i] = all[i];
    o->nbinds = n;
    return true;
}

bool fm_activation_take(struct fm_options *o)
{
    unsigned long pid = number("LISTEN_PID"), n = number("LISTEN_FDS");
    static const char *const variables[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    if (n == 0 || pid != (unsigned long)getpid())
        return true;
    if (n <= FM_MAX_BINDS && replace(o, (unsigned)n))
        return true;
    fm_log(FM_LOG_CRITICAL, "LISTEN_FDS is %lu: at most %d sockets can be served", n, FM_MAX_BINDS);
    return false;
}

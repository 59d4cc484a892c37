/* The listening sockets of the server: what --bind asks for. */
#include "fermata/server/server.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fermata/py/interp.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"

#define PORT_0_TRIES 8 /* a port that is free for one address may be taken for the other */

/* What environ says of a listener (PEP 3333: neither may be empty; RFC 3875, 4.1.14: an IPv6 address has brackets). */
static void name(struct fm_server *s, unsigned i)
{
    char host[FM_ADDR_TEXT];
    const struct fm_addr *a = &s->listeners[i].addr;
    unsigned port = fm_addr_host(&a->u, host);
    if (a->u.sa.sa_family == AF_UNIX) {
        snprintf(host, sizeof host, "localhost");
        port = 80;
    }
    snprintf(s->names[i], sizeof s->names[i], strchr(host, ':') ? "[%.64s]" : "%.64s", host);
    snprintf(s->ports[i], sizeof s->ports[i], "%u", port & 0xffff);
}

bool fm_server_only_ipv6(const struct fm_options *o, const struct fm_addr *addr)
{
    if (addr->u.sa.sa_family != AF_INET6)
        return false;
    in_port_t port = addr->u.in6.sin6_port;
    bool found = o->has_admin && o->admin.u.sa.sa_family == AF_INET && o->admin.u.in.sin_port == port;
    for (unsigned i = 0; i < o->nbinds; i++)
        found = found || (o->bind[i].u.sa.sa_family == AF_INET && o->bind[i].u.in.sin_port == port);
    return found && port != 0;
}

static int open_one(struct fm_server *s, const struct fm_addr *addr, const char **what)
{
    const struct fm_options *o = s->options;
    const struct fm_listener_options how = {
        .backlog = (int)o->backlog,
        .keepalive = (unsigned)((o->tcp_keepalive + FM_SEC - 1) / FM_SEC),
        .user_timeout = (unsigned)(o->tcp_user_timeout / FM_MS),
        .mode = o->socket_mode,
        .only_ipv6 = fm_server_only_ipv6(o, addr),
    };
    int err = fm_listener_open(&s->listeners[s->nlisteners], addr, &how, what);
    if (err == 0)
        name(s, s->nlisteners++);
    return err;
}

static void close_last(struct fm_server *s) FM_ON_LOOP { fm_listener_close(&s->listeners[--s->nlisteners]); }

/* The other address of localhost, with the same port.  Where there is no IPv6 there is just one. */
static int open_other(struct fm_server *s, const struct fm_addr *addr, const char **what)
{
    struct fm_addr other;
    fm_addr_other_localhost(addr, fm_addr_port(&s->listeners[s->nlisteners - 1].addr), &other);
    int err = open_one(s, &other, what);
    return err == -EADDRNOTAVAIL || err == -EAFNOSUPPORT ? 0 : err;
}

static int open_bind(struct fm_server *s, const struct fm_addr *addr, const char **what) FM_UNCHECKED
{
    bool any_port = fm_addr_port(addr) == 0;
    for (int tries = 1;; tries++) {
        int err = open_one(s, addr, what);
        if (err != 0 || !addr->is_localhost)
            return err;
        err = open_other(s, addr, what);
        if (err != -EADDRINUSE || !any_port || tries == PORT_0_TRIES)
            return err;
        close_last(s);
    }
}

int fm_server_listen(struct fm_server *s) FM_UNCHECKED
{
    const struct fm_options *o = s->options;
    for (unsigned i = 0; i < o->nbinds; i++) {
        const char *what = "";
        char url[FM_ADDR_TEXT];
        int err = open_bind(s, &o->bind[i], &what);
        if (err == 0)
            continue;
        fm_addr_url(&o->bind[i], url);
        fm_log(FM_LOG_CRITICAL, "--bind %s: %s: %s", url, what, fm_strerror(err));
        fm_server_unlisten(s); /* paths of unix sockets must not stay behind */
        return err;
    }
    return 0;
}

void fm_server_unlisten(struct fm_server *s)
{
    for (unsigned i = 0; i < s->nlisteners; i++)
        fm_listener_close(&s->listeners[i]);
}

bool fm_server_is_listening(struct fm_server *s)
{
    static bool said;
    for (unsigned i = 0; i < s->nlisteners && !atomic_load(&s->draining); i++) {
        if (fm_listener_is_open(&s->listeners[i]))
            continue;
        char url[FM_ADDR_TEXT];
        fm_addr_url(&s->listeners[i].addr, url);
        if (!said)
            fm_log(FM_LOG_CRITICAL, "the application closed the listening socket of %s, which was ours", url);
        said = true;
        return false;
    }
    return true;
}

void fm_server_announce(struct fm_server *s, const char *version)
{
    char urls[FM_MAX_LISTENERS * (FM_ADDR_TEXT + 2)] = "";
    for (size_t i = 0, at = 0; i < s->nlisteners; i++) {
        char url[FM_ADDR_TEXT];
        fm_addr_url(&s->listeners[i].addr, url);
        at += (size_t)snprintf(urls + at, sizeof urls - at, "%s%s", i ? ", " : "", url);
    }
    fm_info("Listening at: %s (%s, %u threads, Python %s, fermata %s)", urls, s->options->app, s->options->threads,
            fm_interp_version(), version);
}

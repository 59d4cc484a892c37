/* The listening sockets of the server: what --bind asks for. */
#include "fermata/worker/listen.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fermata/py/interp.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/util/version.h"

#define PORT_0_TRIES 8 /* a port that is free for one address may be taken for the other */

/* What environ says of a listener (PEP 3333: neither may be empty; RFC 3875, 4.1.14: an IPv6 address has brackets). */
static void name(struct fm_bound *b)
{
    char host[FM_ADDR_TEXT];
    const struct fm_addr *a = &b->listener.addr;
    unsigned port = fm_addr_host(&a->u, host);
    if (a->u.sa.sa_family == AF_UNIX) {
        snprintf(host, sizeof host, "localhost");
        port = 80;
    }
    snprintf(b->name, sizeof b->name, strchr(host, ':') ? "[%.64s]" : "%.64s", host);
    snprintf(b->port, sizeof b->port, "%u", port & 0xffff);
}

bool fm_listen_only_ipv6(const struct fm_options *o, const struct fm_addr *addr)
{
    if (addr->u.sa.sa_family != AF_INET6)
        return false;
    in_port_t port = addr->u.in6.sin6_port;
    bool found = o->has_admin && o->admin.u.sa.sa_family == AF_INET && o->admin.u.in.sin_port == port;
    for (unsigned i = 0; i < o->nbinds; i++)
        found = found || (o->bind[i].u.sa.sa_family == AF_INET && o->bind[i].u.in.sin_port == port);
    return found && port != 0;
}

static struct fm_listener_options how_to_listen(const struct fm_options *o)
{
    return (struct fm_listener_options){
        .backlog = (int)o->backlog,
        .keepalive = (unsigned)((o->tcp_keepalive + FM_SEC - 1) / FM_SEC),
        .user_timeout = (unsigned)(o->tcp_user_timeout / FM_MS),
        .mode = o->socket_mode,
    };
}

static int open_one(struct fm_conns *conns, const struct fm_options *o, const struct fm_addr *addr, const char **what)
{
    struct fm_listener_options how = how_to_listen(o);
    how.only_ipv6 = fm_listen_only_ipv6(o, addr);
    struct fm_bound *bound = &conns->bound[conns->nbound];
    *what = "socket";
    int err = addr->is_fd ? fm_listener_take(&bound->listener, addr->fd, &how)
                          : fm_listener_open(&bound->listener, addr, &how, what);
    if (err != 0)
        return err;
    name(bound);
    conns->nbound++;
    return 0;
}

static void close_last(struct fm_conns *conns) FM_ON_LOOP
{
    fm_listener_close(&conns->bound[--conns->nbound].listener);
}

/* The other address of localhost, with the same port.  Where there is no IPv6 there is just one. */
static int open_other(struct fm_conns *conns, const struct fm_options *o, const struct fm_addr *addr, const char **what)
{
    struct fm_addr other;
    fm_addr_other_localhost(addr, fm_addr_port(&conns->bound[conns->nbound - 1].listener.addr), &other);
    int err = open_one(conns, o, &other, what);
    return err == -EADDRNOTAVAIL || err == -EAFNOSUPPORT ? 0 : err;
}

static int open_bind(struct fm_conns *conns, const struct fm_options *o, const struct fm_addr *addr,
                     const char **what) FM_UNCHECKED
{
    bool any_port = fm_addr_port(addr) == 0;
    for (int tries = 1;; tries++) {
        int err = open_one(conns, o, addr, what);
        if (err != 0 || !addr->is_localhost)
            return err;
        err = open_other(conns, o, addr, what);
        if (err != -EADDRINUSE || !any_port || tries == PORT_0_TRIES)
            return err;
        close_last(conns);
    }
}

int fm_listen_open(struct fm_conns *conns, const struct fm_options *o) FM_UNCHECKED
{
    for (unsigned i = 0; i < o->nbinds; i++) {
        const char *what = "";
        char url[FM_ADDR_TEXT];
        int err = open_bind(conns, o, &o->bind[i], &what);
        if (err == 0)
            continue;
        fm_addr_url(&o->bind[i], url);
        fm_log(FM_LOG_CRITICAL, "--bind %s: %s: %s", url, what, fm_strerror(err));
        fm_listen_close(conns); /* paths of unix sockets must not stay behind */
        return err;
    }
    return 0;
}

int fm_listen_adopt(struct fm_conns *conns, const struct fm_options *o, const int *fds, unsigned n)
{
    const struct fm_listener_options how = how_to_listen(o);
    for (unsigned i = 0; i < n; i++) {
        struct fm_bound *bound = &conns->bound[conns->nbound];
        int err = fm_listener_adopt(&bound->listener, fds[i], &how);
        if (err != 0) {
            fm_log(FM_LOG_CRITICAL, "descriptor %d is no listening socket: %s", fds[i], fm_strerror(err));
            return err;
        }
        name(bound);
        conns->nbound++;
    }
    return 0;
}

/* A port that the kernel chose is none that was asked for, and localhost is two addresses: of these nothing is said. */
static bool is_open_already(const struct fm_conns *conns, const struct fm_addr *addr, const char *url)
{
    bool any = addr->u.sa.sa_family != AF_UNIX && fm_addr_port(addr) == 0;
    for (unsigned i = 0; i < conns->nbound && !any; i++) {
        char open[FM_ADDR_TEXT];
        fm_addr_url(&conns->bound[i].listener.addr, open);
        any = strcmp(open, url) == 0;
    }
    return any || addr->is_fd || addr->is_localhost;
}

void fm_listen_warn_of_others(const struct fm_conns *conns, const struct fm_options *o)
{
    for (unsigned i = 0; i < o->nbinds; i++) {
        char url[FM_ADDR_TEXT];
        fm_addr_url(&o->bind[i], url);
        if (!is_open_already(conns, &o->bind[i], url))
            fm_warn("--bind %s is not open: the sockets stay as they are, and another one takes a restart", url);
    }
}

void fm_listen_close(struct fm_conns *conns)
{
    for (unsigned i = 0; i < conns->nbound; i++)
        fm_listener_close(&conns->bound[i].listener);
}

bool fm_listen_is_open(struct fm_conns *conns)
{
    static bool said;
    for (unsigned i = 0; i < conns->nbound && !atomic_load(&conns->service->draining); i++) {
        const struct fm_listener *l = &conns->bound[i].listener;
        if (fm_listener_is_open(l))
            continue;
        char url[FM_ADDR_TEXT];
        fm_addr_url(&l->addr, url);
        if (!said)
            fm_log(FM_LOG_CRITICAL, "the application closed the listening socket of %s, which was ours", url);
        said = true;
        return false;
    }
    return true;
}

bool fm_listen_lost(struct fm_conns *conns, int fd)
{
    for (unsigned i = 0; i < conns->nbound; i++) {
        if (conns->bound[i].listener.fd != fd)
            continue;
        fm_listener_lost(&conns->bound[i].listener);
        fm_listen_is_open(conns); /* says what has happened */
        return true;
    }
    return false;
}

void fm_listen_announce(const struct fm_conns *conns, const struct fm_options *o)
{
    char urls[FM_MAX_LISTENERS * (FM_ADDR_TEXT + 2)] = "";
    for (size_t i = 0, at = 0; i < conns->nbound; i++) {
        char url[FM_ADDR_TEXT];
        fm_addr_url(&conns->bound[i].listener.addr, url);
        at += (size_t)snprintf(urls + at, sizeof urls - at, "%s%s", i ? ", " : "", url);
    }
    char workers[32] = "";
    if (o->workers > 0)
        snprintf(workers, sizeof workers, "%u workers of ", o->workers);
    fm_info("Listening at: %s (%s, %s%u threads, Python %s, fermata %s)", urls, o->app, workers, o->threads,
            fm_interp_version(), FM_VERSION);
}

/* The set of connections; see server/conns.h. */
#include "fermata/server/conns.h"

#include <unistd.h>

#include "fermata/server/http1.h"
#include "fermata/server/timeouts.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"

static struct fm_http1 *of_node(struct fm_list *node) { return FM_LIST_ENTRY(node, struct fm_http1, node); }

void fm_conns_init(struct fm_conns *conns, struct fm_service *service, unsigned most,
                   void (*on_none)(struct fm_conns *conns))
{
    conns->service = service;
    conns->most = most;
    conns->on_none = on_none;
    fm_list_init(&conns->list);
}

/* A request that came now would wait for a thread, though another worker may have one. */
static bool is_busy(const struct fm_listener *l)
{
    const struct fm_conns *conns = l->owner;
    unsigned busy, idle;
    fm_sched_threads(conns->service->sched, &busy, &idle);
    return idle == 0;
}

int fm_conns_start(struct fm_conns *conns)
{
    int err = 0;
    for (unsigned i = 0; i < conns->nbound && err == 0; i++) {
        struct fm_listener *l = &conns->bound[i].listener;
        l->is_busy = is_busy;
        l->yield_kind = FM_T_YIELD;
        err = fm_listener_start(l, conns->service->loop, FM_T_ACCEPT, fm_conns_accept, conns);
    }
    return err;
}

static void want(struct fm_conns *conns, bool wanted) FM_ON_LOOP
{
    for (unsigned i = 0; i < conns->nbound; i++)
        fm_listener_want(&conns->bound[i].listener, wanted);
}

/* Accepts what waits to be, as far as there is room for it.  There may be more than descriptors for it. */
static void accept_rest(struct fm_conns *conns) FM_ON_LOOP
{
    for (unsigned i = 0; i < conns->nbound; i++)
        fm_listener_finish(&conns->bound[i].listener, conns->count < conns->most ? conns->most - conns->count : 0);
}

static void on_closed(struct fm_http1 *c)
{
    struct fm_conns *conns = c->owner;
    fm_assert_on_loop();
    if (conns->next == &c->node)
        conns->next = c->node.next;
    fm_list_remove(&c->node);
    fm_count_add(FM_C_CONNS, (uint64_t)-1);
    conns->count--;
    if (atomic_load(&conns->service->draining)) {
        accept_rest(conns);
        if (conns->count == 0)
            conns->on_none(conns);
    } else if (conns->count + 1 == conns->most && !conns->paused) {
        want(conns, true);
    }
}

void fm_conns_accept(struct fm_listener *l, int fd, const union fm_sockaddr *from)
{
    struct fm_conns *conns = l->owner;
    const struct fm_bound *bound = FM_LIST_ENTRY(l, struct fm_bound, listener);
    static struct fm_ratelimit strangers;
    struct fm_http1 *c;
    char host[FM_ADDR_TEXT];
    fm_assert_on_loop();
    unsigned port = fm_addr_host(from, host) & 0xffff;
    const struct fm_options *o = conns->service->options;
    if (o->proxy_protocol && !fm_peers_has_text(&o->proxy_allow_from, host)) {
        fm_log_ratelimited(&strangers, FM_LOG_WARNING, "%s is none of --proxy-allow-from; its connection is closed",
                           host);
        close(fd);
        return;
    }
    struct fm_peer peer = {host, port, bound->name, bound->port, NULL};
    int err = fm_http1_new(&c, conns->service, fd, &peer, conns, on_closed);
    if (err != 0) {
        fm_error_ratelimited("connection: %s; it is closed", fm_strerror(err));
        close(fd);
        return;
    }
    fm_list_push(&conns->list, &c->node);
    fm_count(FM_C_CONNS_TOTAL);
    fm_count(FM_C_CONNS);
    if (++conns->count >= conns->most)
        want(conns, false);
    if (conns->count == 1 && conns->service->on_client)
        conns->service->on_client(conns->service);
}

/* Calls fn with each; it may close that one, in whose place others may then be accepted, at the end of the list. */
static void walk(struct fm_conns *conns, void (*fn)(struct fm_http1 *c)) FM_ON_LOOP
{
    for (struct fm_list *node = conns->list.next, *next; node != &conns->list; node = next) {
        next = node->next;
        fn(of_node(node));
    }
}

static void drain_one(struct fm_http1 *c) FM_UNCHECKED { fm_http1_drain(c); }
static void expire_one(struct fm_http1 *c) FM_UNCHECKED { fm_http1_expire(c); }

void fm_conns_pause(struct fm_conns *conns, bool paused)
{
    conns->paused = paused;
    if (!atomic_load(&conns->service->draining))
        want(conns, !paused && conns->count < conns->most);
}

void fm_conns_drain(struct fm_conns *conns)
{
    accept_rest(conns);
    walk(conns, drain_one);
    if (conns->count == 0)
        conns->on_none(conns);
}

unsigned fm_conns_streams(struct fm_conns *conns, unsigned most)
{
    unsigned n = 0;
    for (struct fm_list *node = conns->list.next, *next; node != &conns->list; node = next) {
        next = node->next;
        if (!fm_http1_is_streaming(of_node(node)))
            continue;
        if (n++ < most)
            fm_http1_expire(of_node(node));
    }
    return n;
}

void fm_conns_expire(struct fm_conns *conns) { walk(conns, expire_one); }

bool fm_conns_visit(struct fm_conns *conns, bool first, unsigned most, void (*visit)(struct fm_http1 *c, void *arg),
                    void *arg)
{
    if (first)
        conns->next = conns->list.next;
    for (; conns->next && conns->next != &conns->list && most > 0; most--) {
        struct fm_list *node = conns->next;
        conns->next = node->next;
        visit(of_node(node), arg);
    }
    bool last = !conns->next || conns->next == &conns->list;
    if (last)
        conns->next = NULL;
    return last;
}

void fm_conns_close(struct fm_conns *conns)
{
    while (!fm_list_empty(&conns->list))
        fm_http1_close(of_node(conns->list.next));
}

bool fm_conns_lost(struct fm_conns *conns, int fd)
{
    for (struct fm_list *node = conns->list.next; node != &conns->list; node = node->next) {
        if (fm_stream_fd(&of_node(node)->stream) != fd)
            continue;
        fm_error("the application closed descriptor %d, a connection of ours; its client is lost", fd);
        fm_stream_lost(&of_node(node)->stream);
        return true;
    }
    return false;
}

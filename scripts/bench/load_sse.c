/* Clients of a stream of events, each of which says when it was made: `data: NANOSECONDS` of the monotonic clock.
 *
 * An event is made once, for all clients, so the different stamps are the events that there were, and each client
 * has to get each.  Counted are those made between the moment when all clients had the head of their response, and
 * --duration later.
 */
#include "load.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICKS_MAX = 100000 };

/* A line of the stream that has not ended, and the last stamp: to notice what comes twice or late. */
struct listener {
    unsigned n;
    char line[64];
    uint64_t last;
};

static struct {
    struct swarm *swarm;
    unsigned ready, lost;
    uint64_t from, to; /* the time that counts */
    uint64_t ticks[TICKS_MAX];
    unsigned nticks;
    uint64_t events, disorder;
    struct histogram delay;
} run;

static void note_tick(uint64_t stamp)
{
    for (unsigned i = run.nticks; i > 0; i--)
        if (run.ticks[i - 1] == stamp)
            return;
    if (run.nticks == TICKS_MAX)
        die("too many different events: are they made for each client?");
    run.ticks[run.nticks++] = stamp;
}

static void on_event(struct listener *l, uint64_t stamp)
{
    if (stamp <= l->last)
        run.disorder++;
    l->last = stamp;
    if (!run.from || stamp < run.from || stamp >= run.to)
        return;
    note_tick(stamp);
    run.events++;
    histogram_add(&run.delay, run.swarm->now - stamp);
}

static void on_line(struct listener *l)
{
    l->line[l->n] = '\0';
    l->n = 0;
    const char *digits = l->line + strcspn(l->line, "0123456789");
    if (strncmp(l->line, "data:", 5) == 0 && *digits)
        on_event(l, strtoull(digits, NULL, 10));
}

static void on_body(void *arg, const char *data, size_t n)
{
    const struct client *c = arg;
    struct listener *l = c->mode;
    for (size_t i = 0; i < n; i++)
        if (data[i] == '\n')
            on_line(l);
        else if (l->n < sizeof l->line - 1)
            l->line[l->n++] = data[i];
}

static void on_open(struct swarm *s, struct client *c)
{
    c->mode = xcalloc(1, sizeof(struct listener));
    swarm_request(s, c);
}

/* A stream has no end. */
static void on_reply(struct swarm *s, struct client *c)
{
    (void)s, (void)c;
    run.lost++;
}

static void on_loss(struct swarm *s, struct client *c, enum loss why)
{
    (void)s, (void)why;
    if (c->reply.state != REPLY_COMPLETE)
        run.lost++;
}

static unsigned count_ready(const struct swarm *s)
{
    unsigned n = 0;
    for (unsigned i = 0; i < s->n; i++)
        n += s->clients[i].state == CLIENT_WAITING && reply_has_head(&s->clients[i].reply);
    return n;
}

static void connect_all(struct swarm *s, double timeout)
{
    uint64_t limit = now_ns() + (uint64_t)(timeout * 1e9);
    while ((run.ready = count_ready(s)) + run.lost < s->n && now_ns() < limit) {
        for (uint64_t next = now_ns() + 100000000u; now_ns() < next;)
            swarm_turn(s, 10);
    }
}

/* What was made before the end may arrive a little later, and what is missing may come for five seconds. */
static void listen_for(struct swarm *s, double duration)
{
    run.from = now_ns();
    run.to = run.from + (uint64_t)(duration * 1e9);
    for (uint64_t now = run.from; now < run.to + 5000000000u; now = now_ns()) {
        if (now > run.to + 500000000u && run.events >= (uint64_t)run.nticks * run.ready)
            break;
        swarm_turn(s, 10);
    }
}

int load_sse(const struct load_options *o, const struct target *t)
{
    struct swarm s = {.on_open = on_open, .on_reply = on_reply, .on_loss = on_loss, .on_body = on_body};
    run.swarm = &s;
    swarm_init(&s, t, o->connections);
    connect_all(&s, o->timeout);
    unsigned clients = run.ready;
    listen_for(&s, o->duration);

    uint64_t expected = (uint64_t)run.nticks * o->connections;
    uint64_t errors = o->connections - count_ready(&s) + run.disorder;
    printf("{\"clients\": %u, \"ticks\": %u, \"events\": %lu, \"expected\": %lu, ", clients, run.nticks, run.events,
           expected);
    histogram_print(&run.delay, "delay_us");
    printf(", \"errors\": %lu}\n", errors);
    for (unsigned i = 0; i < s.n; i++)
        free(s.clients[i].mode);
    swarm_fini(&s);
    return clients == o->connections && run.events && run.events == expected && !errors ? 0 : 1;
}

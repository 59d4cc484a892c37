/* A closed loop: every connection sends its next request as soon as it has the response to the last one.
 *
 * It begins when all connections have had one response and are idle: a server that accepts one connection at a time
 * between all requests that are ready would not come to the last ones otherwise.
 */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* There is one swarm, whose callbacks count here. */
static struct {
    bool looping, measuring;
    unsigned idle; /* before the loop: connections that have had their one response */
    uint64_t requests, started;
    uint64_t connect, broken, malformed, status, stuck; /* errors */
    struct histogram latency;
} run;

static void on_open(struct swarm *s, struct client *c) { swarm_request(s, c); }

static void on_reply(struct swarm *s, struct client *c)
{
    if (!run.looping) {
        run.idle++;
        return;
    }
    if (run.measuring) {
        if (c->reply.status / 100 == 2) {
            run.requests++;
            c->replies++;
            histogram_add(&run.latency, s->now - c->sent);
        } else {
            run.status++;
        }
    }
    if (c->state == CLIENT_IDLE)
        swarm_request(s, c);
    else
        swarm_redial(s, c);
}

static void on_loss(struct swarm *s, struct client *c, enum loss why)
{
    if (why == LOST_CONNECT) { /* not again: a server that is gone refuses at once */
        run.connect++;
        return;
    }
    if (!run.looping && c->reply.state == REPLY_COMPLETE) /* the server does not keep idle ones for so long */
        run.idle--;
    if (run.measuring)
        *(why == LOST_BROKEN ? &run.broken : &run.malformed) += 1;
    swarm_redial(s, c);
}

static void turn_until(struct swarm *s, uint64_t end)
{
    while (now_ns() < end && run.connect < s->n)
        swarm_turn(s, 10);
}

static void connect_all(struct swarm *s, double timeout)
{
    uint64_t limit = now_ns() + (uint64_t)(timeout * 1e9);
    while (run.idle + run.connect < s->n && now_ns() < limit)
        swarm_turn(s, 10);
}

static void start_loop(struct swarm *s)
{
    run.looping = true;
    s->now = now_ns();
    for (unsigned i = 0; i < s->n; i++) {
        struct client *c = &s->clients[i];
        if (c->state == CLIENT_IDLE)
            swarm_request(s, c);
        else if (c->state == CLIENT_DEAD && c->reply.state == REPLY_COMPLETE) /* HTTP without keep-alive */
            swarm_redial(s, c);
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_per_connection(const struct swarm *s)
{
    uint32_t *counts = xcalloc(s->n, sizeof *counts);
    for (unsigned i = 0; i < s->n; i++)
        counts[i] = s->clients[i].replies;
    qsort(counts, s->n, sizeof *counts, compare);
    printf("\"per_connection\": {\"min\": %u, \"p50\": %u, \"max\": %u}", counts[0], counts[s->n / 2],
           counts[s->n - 1]);
    free(counts);
}

/* Connections that could not be made in time, and requests that were not answered in all the time measured. */
static void count_stuck(const struct swarm *s)
{
    for (unsigned i = 0; i < s->n; i++) {
        const struct client *c = &s->clients[i];
        if (c->state == CLIENT_CONNECTING || c->state == CLIENT_UNBORN)
            run.connect++;
        else if (c->state == CLIENT_WAITING && c->sent < run.started)
            run.stuck++;
    }
}

static void print(const struct swarm *s, double seconds, double cpu)
{
    uint64_t errors = run.connect + run.broken + run.malformed + run.status + run.stuck;
    printf("{\"requests\": %lu, \"errors\": %lu, \"seconds\": %.3f, \"rps\": %.1f, ", run.requests, errors, seconds,
           (double)run.requests / seconds);
    histogram_print(&run.latency, "latency_us");
    printf(", ");
    print_per_connection(s);
    printf(", \"error_kinds\": {\"connect\": %lu, \"broken\": %lu, \"malformed\": %lu, \"status\": %lu, "
           "\"stuck\": %lu}, \"client_cpu\": %.2f}\n",
           run.connect, run.broken, run.malformed, run.status, run.stuck, cpu / seconds);
}

int load_closed(const struct load_options *o, const struct target *t)
{
    struct swarm s = {.on_open = on_open, .on_reply = on_reply, .on_loss = on_loss};
    swarm_init(&s, t, o->connections);
    connect_all(&s, o->timeout);
    start_loop(&s);
    turn_until(&s, now_ns() + (uint64_t)(o->warmup * 1e9));

    run.measuring = true;
    run.started = now_ns();
    double cpu = own_cpu();
    turn_until(&s, run.started + (uint64_t)(o->duration * 1e9));
    double seconds = (double)(now_ns() - run.started) / 1e9;
    cpu = own_cpu() - cpu;

    count_stuck(&s);
    print(&s, seconds, cpu);
    swarm_fini(&s);
    return run.requests > 0 ? 0 : 1;
}

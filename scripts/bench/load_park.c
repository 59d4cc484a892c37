/* Requests that wait: how long until all are parked, what they cost, what others notice, how long until all resume.
 *
 * A wave opens every connection and sends one request on each; the application counts them and is asked until it has
 * them all.  Then one more request releases them.  When all are answered the wave closes its connections, so what a
 * second wave finds is a server that has nothing to do, but has seen the first.
 */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct {
    unsigned answered, lost;
} run;

struct wave {
    double to_park, to_resume;
    unsigned parked, resumed;
    struct memory before, at_peak, after;
    unsigned long errors;
    struct histogram hello;
};

static void on_open(struct swarm *s, struct client *c) { swarm_request(s, c); }

static void on_reply(struct swarm *s, struct client *c)
{
    (void)s;
    if (c->reply.status == 200)
        run.answered++;
    else
        run.lost++;
}

static void on_loss(struct swarm *s, struct client *c, enum loss why)
{
    (void)s, (void)why;
    if (c->reply.state != REPLY_COMPLETE) /* else the server ends an idle connection, as it may */
        run.lost++;
}

static double since(uint64_t start) { return (double)(now_ns() - start) / 1e9; }

static unsigned count_parked(const struct target *t, const char *request)
{
    char body[64];
    return ask_once(t, request, body, 5) == 0 ? (unsigned)strtoul(body, NULL, 10) : 0;
}

static void park_all(struct swarm *s, const struct load_options *o, struct wave *w)
{
    char *request = make_request(&s->target->address, o->count_path, "Connection: close\r\n");
    uint64_t start = now_ns();
    while (s->opened + run.lost < s->n && since(start) < o->timeout)
        swarm_turn(s, 10);
    while (since(start) < o->timeout && run.lost + run.answered < s->n) {
        w->parked = count_parked(s->target, request);
        w->to_park = since(start);
        if (w->parked >= s->n)
            break;
        swarm_turn(s, 10);
    }
    free(request);
}

/* One client more, one request after the other, for at most five seconds. */
static void say_hello(const struct target *t, const struct load_options *o, struct wave *w)
{
    struct asker a;
    char *request = make_request(&t->address, o->beside_path, o->headers);
    if (ask_open(&a, t, 5) != 0)
        w->errors++;
    uint64_t begin = now_ns();
    for (unsigned i = 0; a.fd >= 0 && i < o->beside && since(begin) < 5; i++) {
        uint64_t sent = now_ns();
        if (ask(&a, request) == 0)
            histogram_add(&w->hello, now_ns() - sent);
        else
            w->errors++;
    }
    ask_close(&a);
    free(request);
}

/* The response to the release may come after all that it releases, so it is read last. */
static void resume_all(struct swarm *s, const struct load_options *o, struct wave *w)
{
    struct asker a;
    char *request = make_request(&s->target->address, o->release_path, "Connection: close\r\n");
    unsigned early = run.answered;
    uint64_t start = now_ns();
    bool asked = ask_open(&a, s->target, 5) == 0 && ask_send(&a, request) == 0;
    while (asked && run.answered + run.lost < s->n && since(start) < o->timeout)
        swarm_turn(s, 10);
    w->to_resume = since(start);
    w->resumed = run.answered - early;
    w->errors += s->n - w->resumed + (!asked || ask_receive(&a) != 0);
    ask_close(&a);
    free(request);
}

/* A server notices at once that its clients are gone, but has some work with it. */
static void settle(void) { nanosleep(&(struct timespec){2, 0}, NULL); }

static void ride(struct wave *w, const struct load_options *o, const struct target *t)
{
    struct swarm s = {.on_open = on_open, .on_reply = on_reply, .on_loss = on_loss};
    memset(&run, 0, sizeof run);
    if (o->server_pid)
        w->before = memory_of(o->server_pid);
    swarm_init(&s, t, o->connections);
    park_all(&s, o, w);
    if (o->server_pid)
        w->at_peak = memory_of(o->server_pid);
    say_hello(t, o, w);
    resume_all(&s, o, w);
    swarm_fini(&s);
    settle();
    if (o->server_pid)
        w->after = memory_of(o->server_pid);
}

static void print(const struct wave *w, bool with_memory)
{
    printf("{\"seconds_to_park\": %.3f, \"parked\": %u, ", w->to_park, w->parked);
    if (with_memory)
        printf("\"rss_before_kb\": %ld, \"rss_parked_kb\": %ld, \"rss_after_kb\": %ld, "
               "\"pss_before_kb\": %ld, \"pss_parked_kb\": %ld, \"pss_after_kb\": %ld, ",
               w->before.rss_kb, w->at_peak.rss_kb, w->after.rss_kb, w->before.pss_kb, w->at_peak.pss_kb,
               w->after.pss_kb);
    printf("\"hellos\": %lu, ", w->hello.total);
    histogram_print(&w->hello, "hello_latency_us");
    printf(", \"seconds_to_resume\": %.3f, \"resumed\": %u, \"errors\": %lu}", w->to_resume, w->resumed, w->errors);
}

/* So that what a server loads for its first requests is not counted as the price of parking. */
static void warm_up(const struct load_options *o, const struct target *t)
{
    char body[64], *request = make_request(&t->address, o->beside_path, "Connection: close\r\n");
    for (unsigned i = 0; i < 100; i++)
        if (ask_once(t, request, body, 5) != 0)
            die("%s is not answered", o->beside_path);
    free(request);
}

int load_park(const struct load_options *o, const struct target *t)
{
    bool good = true;
    warm_up(o, t);
    printf("{\"connections\": %u, \"waves\": [", o->connections);
    for (unsigned i = 0; i < o->waves; i++) {
        struct wave *w = xcalloc(1, sizeof *w);
        ride(w, o, t);
        good = good && w->parked == o->connections && w->errors == 0;
        printf("%s", i ? ", " : "");
        print(w, o->server_pid != 0);
        free(w);
    }
    printf("]}\n");
    return good ? 0 : 1;
}

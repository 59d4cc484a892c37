/* Values gathered, and sent by a thread; see util/statsd.h. */
#include "fermata/util/statsd.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/sender.h"

#define GATHER (100 * FM_MS)
#define DURATIONS 8192      /* of one batch; those beyond it are not sent */
#define STATUSES 1000       /* that are told apart */
#define DATAGRAM 1432       /* what an Ethernet carries with room for a tunnel, as clients of statsd have it */
#define LOCAL_DATAGRAM 8192 /* and DogStatsD takes from a unix socket */
#define LINE_SIZE 1280

struct batch {
    unsigned requests, ndurations, workers;
    bool any, has_workers;
    unsigned logs[FM_STATSD_LOGS];
    unsigned statuses[STATUSES];
    uint32_t durations[DURATIONS]; /* microseconds */
};

struct fm_statsd {
    const struct fm_statsd_config *config;
    struct fm_dial dial; /* the thread's, as the next ones */
    char datagram[LOCAL_DATAGRAM];
    size_t len;
    unsigned values; /* in it */
    uint64_t lost;
    struct fm_sender sender;         /* its lock guards what follows */
    struct batch *filling, *sending; /* the latter is the thread's while it sends */
    bool hurry;
};

/* ---- options ---- */

const char *fm_statsd_parse_to(struct fm_dial_to *to, const char *text)
{
    static const char takes[] = "takes HOST:PORT, HOST (its port 8125) or unix://PATH";
    char whole[300];
    if (strncmp(text, "unix:", 5) == 0) {
        const char *path = strncmp(text, "unix://", 7) == 0 ? text + 7 : text + 5;
        return fm_dial_parse_path(to, path, FM_DIAL_DATAGRAM) ? NULL : takes;
    }
    if (fm_dial_parse_host(to, text, FM_DIAL_UDP))
        return NULL;
    int n = snprintf(whole, sizeof whole, "%s:8125", text);
    return n < (int)sizeof whole && fm_dial_parse_host(to, whole, FM_DIAL_UDP) ? NULL : takes;
}

const char *fm_statsd_parse_text(const char **to, const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~' || text[i] == '|' || text[i] == '#')
            len = 0;
    *to = text;
    return len > 0 && len <= 500 ? NULL : "takes 1 to 500 visible characters of ASCII, neither | nor #";
}

/* ---- counting ---- */

struct fm_statsd *fm_statsd_new(const struct fm_statsd_config *config)
{
    struct fm_statsd *s = fm_calloc(1, sizeof *s);
    s->config = config;
    s->filling = fm_calloc(1, sizeof *s->filling);
    s->sending = fm_calloc(1, sizeof *s->sending);
    fm_dial_init(&s->dial, &config->to);
    fm_sender_init(&s->sender);
    return s;
}

/* What is being filled, locked; NULL in a child that the application has forked. */
static struct batch *open_batch(struct fm_statsd *s) { return fm_sender_enter(&s->sender) ? s->filling : NULL; }

static void close_batch(struct fm_statsd *s)
{
    s->filling->any = true;
    fm_sender_leave(&s->sender);
}

void fm_statsd_request(struct fm_statsd *s, unsigned status, uint64_t took)
{
    struct batch *b = open_batch(s);
    uint64_t us = took / 1000;
    if (!b)
        return;
    b->requests++;
    b->statuses[status < STATUSES ? status : 0]++;
    if (took > 0 && b->ndurations < DURATIONS)
        b->durations[b->ndurations++] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
    else if (took > 0)
        fm_count(FM_C_LOST_STATSD);
    close_batch(s);
}

void fm_statsd_log(struct fm_statsd *s, enum fm_statsd_log what)
{
    struct batch *b = open_batch(s);
    if (!b)
        return;
    b->logs[what]++;
    close_batch(s);
}

void fm_statsd_workers(struct fm_statsd *s, unsigned n)
{
    struct batch *b = open_batch(s);
    if (!b)
        return;
    b->workers = n;
    b->has_workers = true;
    close_batch(s);
}

/* ---- sending ---- */

/* Values are of their moment: what cannot be sent is gone. */
static void send_datagram(struct fm_statsd *s)
{
    if (s->len == 0)
        return;
    int err = fm_dial_send(&s->dial, s->datagram, s->len - 1); /* without the last line feed */
    if (err != 0) {
        fm_count_add(FM_C_LOST_STATSD, s->values);
        s->lost += s->values;
    }
    fm_sender_tell(&s->sender, s->config->trouble, err, s->lost);
    s->lost = err == 0 ? 0 : s->lost;
    s->len = s->values = 0;
}

static void __attribute__((format(printf, 2, 3))) put(struct fm_statsd *s, const char *format, ...)
{
    char line[LINE_SIZE];
    const struct fm_statsd_config *c = s->config;
    size_t most = c->to.kind == FM_DIAL_UDP ? DATAGRAM : LOCAL_DATAGRAM;
    size_t len = c->prefix ? strlen(c->prefix) : 0;
    while (len > 0 && c->prefix[len - 1] == '.')
        len--;
    int n = snprintf(line, sizeof line, "%.*s%s", (int)len, len ? c->prefix : "", len ? "." : "");
    va_list ap;
    va_start(ap, format);
    n += vsnprintf(line + n, sizeof line - (size_t)n, format, ap);
    va_end(ap);
    n += snprintf(line + n, sizeof line - (size_t)n, "%s%s\n", c->tags ? "|#" : "", c->tags ? c->tags : "");
    if (n >= (int)sizeof line)
        return; /* prefix and tags are shorter than that */
    if (s->len + (size_t)n - 1 > most)
        send_datagram(s);
    memcpy(s->datagram + s->len, line, (size_t)n);
    s->len += (size_t)n;
    s->values++;
}

static void send_batch(struct fm_statsd *s, const struct batch *b)
{
    static const char *const logs[FM_STATSD_LOGS] = {"warning", "error", "exception", "critical"};
    for (unsigned i = 0; i < b->ndurations; i++)
        put(s, "gunicorn.request.duration:%u.%03u|ms", b->durations[i] / 1000, b->durations[i] % 1000);
    if (b->requests > 0)
        put(s, "gunicorn.requests:%u|c|@1.0", b->requests);
    for (unsigned i = 0; i < STATUSES; i++)
        if (b->statuses[i] > 0)
            put(s, "gunicorn.request.status.%u:%u|c|@1.0", i, b->statuses[i]);
    for (unsigned i = 0; i < FM_STATSD_LOGS; i++)
        if (b->logs[i] > 0)
            put(s, "gunicorn.log.%s:%u|c|@1.0", logs[i], b->logs[i]);
    if (b->has_workers)
        put(s, "gunicorn.workers:%u|g", b->workers);
    send_datagram(s);
}

/* Waits for something, and then for what else comes.  The lock is held. */
static void wait_for_work(struct fm_statsd *s)
{
    while (!s->filling->any)
        fm_sender_rest(&s->sender);
    uint64_t until = fm_now() + GATHER;
    struct timespec t = {(time_t)(until / FM_SEC), (long)(until % FM_SEC)};
    while (!s->hurry && pthread_cond_timedwait(&s->sender.work, &s->sender.lock, &t) != ETIMEDOUT)
        ;
}

static void *run(void *arg)
{
    struct fm_statsd *s = arg;
    pthread_setname_np(pthread_self(), "fermata-statsd");
    for (;;) {
        pthread_mutex_lock(&s->sender.lock);
        wait_for_work(s);
        struct batch *b = s->filling;
        s->filling = s->sending;
        s->sending = b;
        pthread_mutex_unlock(&s->sender.lock);
        send_batch(s, b);
        memset(b, 0, sizeof *b);
    }
    return NULL;
}

int fm_statsd_start(struct fm_statsd *s) { return fm_sender_start(&s->sender, run, s); }

/* What is being gathered is sent at once. */
static void hurry(struct fm_statsd *s, bool on)
{
    if (!s->sender.started || !fm_sender_enter(&s->sender))
        return;
    s->hurry = on;
    pthread_cond_signal(&s->sender.work);
    pthread_mutex_unlock(&s->sender.lock);
}

static bool is_empty(const void *owner) { return !((const struct fm_statsd *)owner)->filling->any; }

bool fm_statsd_flush(struct fm_statsd *s, uint64_t until)
{
    hurry(s, true);
    bool done = fm_sender_flush(&s->sender, until, is_empty, s);
    hurry(s, false);
    return done;
}

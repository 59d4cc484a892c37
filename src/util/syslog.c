/* RFC 5424 through a bounded ring to a thread that sends it; see util/syslog.h. */
#include "fermata/util/syslog.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/sender.h"
#include "fermata/util/text.h"

#define LONGEST (32 * 1024) /* of a message; what is longer is cut, as few daemons take more, and no datagram does */
#define HEAD_SIZE 256
#define RETRY FM_SEC /* until the next attempt to reach the daemon */

struct fm_syslog {
    const struct fm_syslog_config *config;
    char host[65];
    struct fm_dial dial;        /* the thread's, as the next one */
    char message[LONGEST + 64]; /* being sent */
    struct fm_sender sender;    /* its lock guards what follows */
    char *ring;                 /* messages, each behind its length (uint32_t) */
    size_t cap, head, len;
    uint64_t dropped; /* messages, which were not told yet */
};

/* ---- options ---- */

/* localhost and 514 are what gunicorn has where one is missing. */
static bool parse_host(struct fm_dial_to *to, const char *text, enum fm_dial_kind kind)
{
    char whole[300];
    if (fm_dial_parse_host(to, text, kind))
        return true;
    int n =
        snprintf(whole, sizeof whole, "%s%s", *text && *text != ':' ? text : "localhost", *text == ':' ? text : ":514");
    return n < (int)sizeof whole && fm_dial_parse_host(to, whole, kind);
}

const char *fm_syslog_parse_to(struct fm_dial_to *to, const char *text)
{
    static const char takes[] =
        "takes udp://HOST:PORT, tcp://HOST:PORT, unix://PATH, unix://PATH#dgram or unix://PATH#stream";
    char path[256];
    bool udp = strncmp(text, "udp://", 6) == 0;
    if (udp || strncmp(text, "tcp://", 6) == 0)
        return parse_host(to, text + 6, udp ? FM_DIAL_UDP : FM_DIAL_TCP) ? NULL : takes;
    if (strncmp(text, "unix://", 7) != 0 || strlen(text) >= sizeof path)
        return takes;
    memcpy(path, text + 7, strlen(text + 7) + 1);
    char *hash = strchr(path, '#');
    bool stream = hash && strcmp(hash, "#stream") == 0;
    if (hash && !stream && strcmp(hash, "#dgram") != 0)
        return takes;
    if (hash)
        *hash = '\0';
    enum fm_dial_kind kind = !hash ? FM_DIAL_EITHER : stream ? FM_DIAL_STREAM : FM_DIAL_DATAGRAM;
    return fm_dial_parse_path(to, path, kind) ? NULL : takes;
}

const char *fm_syslog_parse_facility(unsigned *facility, const char *text)
{
    static const struct {
        const char *name;
        unsigned number;
    } names[] = {{"kern", 0},    {"user", 1},    {"mail", 2},    {"daemon", 3},  {"auth", 4},    {"security", 4},
                 {"syslog", 5},  {"lpr", 6},     {"news", 7},    {"uucp", 8},    {"cron", 9},    {"authpriv", 10},
                 {"ftp", 11},    {"local0", 16}, {"local1", 17}, {"local2", 18}, {"local3", 19}, {"local4", 20},
                 {"local5", 21}, {"local6", 22}, {"local7", 23}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(text, names[i].name) == 0) {
            *facility = names[i].number;
            return NULL;
        }
    size_t len = strlen(text);
    unsigned n = len > 0 && len < 3 && fm_is_digit(text[0]) ? (unsigned)strtoul(text, NULL, 10) : 24;
    if (n > 23 || !fm_is_digit(text[len - 1]))
        return "takes user, daemon, local0 to local7 or another name of a facility, or its number, 0 to 23";
    *facility = n;
    return NULL;
}

const char *fm_syslog_parse_name(const char **name, const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            len = 0;
    *name = text;
    return len > 0 && len <= 48 ? NULL : "takes 1 to 48 visible characters of ASCII";
}

/* ---- putting ---- */

struct fm_syslog *fm_syslog_new(const struct fm_syslog_config *config, size_t ring)
{
    struct fm_syslog *s = fm_calloc(1, sizeof *s);
    s->config = config;
    s->cap = ring;
    s->ring = fm_malloc(ring);
    if (gethostname(s->host, sizeof s->host - 1) != 0 || s->host[0] == '\0')
        memcpy(s->host, "-", 2);
    fm_dial_init(&s->dial, &config->to);
    fm_sender_init(&s->sender);
    return s;
}

static void copy_in(struct fm_syslog *s, const void *p, size_t n)
{
    size_t at = (s->head + s->len) % s->cap, first = n < s->cap - at ? n : s->cap - at;
    memcpy(s->ring + at, p, first);
    memcpy(s->ring, (const char *)p + first, n - first);
    s->len += n;
}

/* RFC 5424, 6.2: priority, version, time, host, name, process, kind, and no structured data. */
static size_t make_head(const struct fm_syslog *s, char head[HEAD_SIZE], unsigned severity, const char *msgid)
{
    struct timespec now;
    struct tm tm;
    char when[40];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    int n = snprintf(head, HEAD_SIZE, "<%u>1 %s.%06ldZ %s %s %ld %s - ", s->config->facility * 8 + severity, when,
                     now.tv_nsec / 1000, s->host, s->config->name ? s->config->name : "fermata", (long)getpid(), msgid);
    return n < HEAD_SIZE ? (size_t)n : HEAD_SIZE - 1;
}

void fm_syslog_put(struct fm_syslog *s, unsigned severity, const char *msgid, const char *text, size_t n)
{
    char head[HEAD_SIZE];
    while (n > 0 && text[n - 1] == '\n')
        n--;
    if (n == 0)
        return;
    size_t k = make_head(s, head, severity, msgid);
    n = n < LONGEST - k ? n : LONGEST - k;
    uint32_t all = (uint32_t)(k + n);
    if (!fm_sender_enter(&s->sender))
        return;
    if (sizeof all + all <= s->cap - s->len) {
        copy_in(s, &all, sizeof all);
        copy_in(s, head, k);
        copy_in(s, text, n);
    } else {
        s->dropped++;
        fm_count(FM_C_LOST_SYSLOG);
    }
    fm_sender_leave(&s->sender);
}

/* ---- the thread ---- */

static void copy_out(struct fm_syslog *s, void *to, size_t n)
{
    size_t first = n < s->cap - s->head ? n : s->cap - s->head;
    memcpy(to, s->ring + s->head, first);
    memcpy((char *)to + first, s->ring, n - first);
    s->head = (s->head + n) % s->cap;
    s->len -= n;
}

/* The next message, its length.  The lock is held. */
static size_t next(struct fm_syslog *s)
{
    uint32_t n;
    while (s->len == 0)
        fm_sender_rest(&s->sender);
    copy_out(s, &n, sizeof n);
    copy_out(s, s->message, n);
    return n;
}

/* In a stream a line feed ends the message (RFC 6587, 3.4.2), so those within are shown as rsyslog shows them. */
static size_t frame(struct fm_syslog *s, size_t n)
{
    static char framed[4 * LONGEST + 1]; /* there is one thread of this kind */
    size_t k = 0;
    if (s->config->to.kind == FM_DIAL_UDP || s->config->to.kind == FM_DIAL_DATAGRAM)
        return n;
    for (size_t i = 0; i < n; i++) {
        if (s->message[i] == '\n') {
            memcpy(framed + k, "#012", 4);
            k += 4;
        } else {
            framed[k++] = s->message[i];
        }
    }
    k = k < LONGEST ? k : LONGEST;
    memcpy(s->message, framed, k);
    return k;
}

static void tell(struct fm_syslog *s, int err)
{
    pthread_mutex_lock(&s->sender.lock);
    uint64_t dropped = err == 0 ? s->dropped : 0;
    if (err == 0)
        s->dropped = 0;
    pthread_mutex_unlock(&s->sender.lock);
    fm_sender_tell(&s->sender, s->config->trouble, err, dropped);
}

static void *run(void *arg)
{
    struct fm_syslog *s = arg;
    pthread_setname_np(pthread_self(), "fermata-syslog");
    for (;;) {
        pthread_mutex_lock(&s->sender.lock);
        size_t n = next(s);
        pthread_mutex_unlock(&s->sender.lock);
        n = frame(s, n);
        for (int err; (err = fm_dial_send(&s->dial, s->message, n)) != 0;) {
            if (err == -EMSGSIZE) { /* a daemon, or a network, that takes less */
                fm_count(FM_C_LOST_SYSLOG);
                break;
            }
            tell(s, err);
            nanosleep(&(struct timespec){.tv_sec = RETRY / FM_SEC}, NULL);
        }
        tell(s, 0);
    }
    return NULL;
}

int fm_syslog_start(struct fm_syslog *s) { return fm_sender_start(&s->sender, run, s); }

static bool is_empty(const void *owner) { return ((const struct fm_syslog *)owner)->len == 0; }

bool fm_syslog_flush(struct fm_syslog *s, uint64_t until) { return fm_sender_flush(&s->sender, until, is_empty, s); }

/* The load generator: one thread, epoll, as many keep-alive connections as asked for.
 *
 * load_reply.c   what came back: HTTP/1.1 responses, bit by bit
 * load_swarm.c   many connections, each with at most one request in flight
 * load_stats.c   latencies, the memory of a server
 * load_ask.c     one request at a time, blocking: for control, and for the latency of a single client
 * load_closed.c, load_park.c, load_sse.c   the three kinds of load
 */
#ifndef FERMATA_BENCH_LOAD_H
#define FERMATA_BENCH_LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "load_common.h"

/* ---- load_reply.c ---- */

enum reply_state {
    REPLY_STATUS,
    REPLY_FIELD,
    REPLY_BODY,
    REPLY_REST,
    REPLY_SIZE,
    REPLY_CHUNK,
    REPLY_CHUNK_END,
    REPLY_TRAILER,
    REPLY_COMPLETE,
};

typedef void reply_body_fn(void *arg, const char *data, size_t n);

/* A response while it arrives.  All zeros is the begin of one. */
struct reply {
    enum reply_state state;
    unsigned status;
    bool close, has_length, chunked;
    bool begun; /* a byte has arrived */
    unsigned char nline;
    uint64_t left; /* of the body, or of the chunk */
    char line[96]; /* begin of a line that has not ended; nothing longer matters */
};

/* Takes bytes up to the end of the response, and gives those of its body to `body`, if that is not NULL.  Returns how
 * many were taken, or -1 if they are not HTTP. */
ssize_t reply_feed(struct reply *r, const char *data, size_t n, reply_body_fn *body, void *arg);

/* The connection has ended.  Returns whether that was the end of the response. */
bool reply_ended(const struct reply *r);

static inline bool reply_has_head(const struct reply *r) { return r->state >= REPLY_BODY; }

/* ---- load_swarm.c ---- */

struct target {
    struct sockaddr_in address;
    unsigned sources; /* connections come from 127.0.0.1 to 127.0.0.SOURCES in turn */
    char *request;
    size_t nrequest;
};

enum client_state { CLIENT_UNBORN, CLIENT_CONNECTING, CLIENT_IDLE, CLIENT_WAITING, CLIENT_DEAD };

struct client {
    enum client_state state;
    int fd;
    uint64_t sent; /* when, if WAITING */
    struct reply reply;
    uint32_t replies; /* the modes count here what they want */
    void *mode;       /* for the modes */
    STAILQ_ENTRY(client) again;
};

enum loss { LOST_CONNECT, LOST_BROKEN, LOST_MALFORMED };

struct swarm {
    const struct target *target;
    unsigned n;
    /* Each is called with the client in the state that it is left in: on_open IDLE; on_reply IDLE, or DEAD if the
     * server ended the connection after the response; on_loss DEAD. */
    void (*on_open)(struct swarm *s, struct client *c);
    void (*on_reply)(struct swarm *s, struct client *c);
    void (*on_loss)(struct swarm *s, struct client *c, enum loss why);
    reply_body_fn *on_body; /* with the client as its first argument; may be NULL */
    /* Set by the swarm. */
    struct client *clients;
    unsigned connecting, dialled, opened; /* opened: how many have ever been */
    unsigned room;                        /* how many may be dialled before the server's queue is looked at */
    uint64_t looked;                      /* when that was, which is not cheap */
    uint64_t now;                         /* when the bytes were read that a callback is about */
    int ep;
    STAILQ_HEAD(, client) again;
};

void swarm_init(struct swarm *s, const struct target *t, unsigned n);
/* Closes all connections. */
void swarm_fini(struct swarm *s);
/* Dials who is to be dialled, waits for events up to `ms`, and handles them. */
void swarm_turn(struct swarm *s, int ms);
/* Sends the request for an IDLE client. */
void swarm_request(struct swarm *s, struct client *c);
/* Has a DEAD client connect again. */
void swarm_redial(struct swarm *s, struct client *c);

/* A request with five ordinary headers, then `headers` if not NULL.  Free with free(). */
char *make_request(const struct sockaddr_in *to, const char *path, const char *headers);
/* A socket that is connected from the nth source and gives up after so many seconds; with 0 one that does not block and
 * may still be connecting.  -1 and errno if that does not work. */
int dial(const struct target *t, unsigned nth, double seconds);

/* ---- load_stats.c ---- */

/* Values in buckets less than one percent wide. */
struct histogram {
    uint64_t total, max;
    uint32_t bucket[58 * 128];
};

void histogram_add(struct histogram *h, uint64_t value);
uint64_t histogram_quantile(const struct histogram *h, double q);
/* Nanoseconds, printed as microseconds: "name": {"p50": ...}. */
void histogram_print(const struct histogram *h, const char *name);

struct memory {
    long rss_kb, pss_kb; /* -1: not known */
};

/* Of a process and all its descendants. */
struct memory memory_of(unsigned pid);

/* Seconds of processor time that this process has used. */
double own_cpu(void);

/* ---- load_ask.c ---- */

/* A connection with one request at a time. */
struct asker {
    int fd;
    const struct target *target;
    char body[64]; /* of the last response, cut off */
};

/* Each returns 0, or -1 if that did not work, or nothing has happened for `seconds`. */
int ask_open(struct asker *a, const struct target *t, double seconds);
int ask_send(struct asker *a, const char *request);
int ask_receive(struct asker *a); /* a response with 200 */
void ask_close(struct asker *a);
/* Sends and receives; closes if that fails. */
int ask(struct asker *a, const char *request);
/* Over a connection of its own. */
int ask_once(const struct target *t, const char *request, char body[64], double seconds);

/* ---- modes ---- */

struct load_options {
    const char *host, *path, *release_path, *beside_path, *count_path;
    unsigned port, connections, sources, waves, server_pid, beside;
    double duration, warmup, timeout;
    char *headers;
};

/* Each prints one JSON object and returns the exit code. */
int load_closed(const struct load_options *o, const struct target *t);
int load_park(const struct load_options *o, const struct target *t);
int load_sse(const struct load_options *o, const struct target *t);

#endif

/* Counters, gauges and histograms: each declared once in the tables below, from which the metrics page is made.
 *
 * A pool thread has a block of its own and is its only writer; threads that are not ours (a future's done-callback runs
 * in whatever thread completes it) add to one shared block atomically.  A reader sums all blocks.  All relaxed: the
 * figures are statistics, no conclusion is drawn from their order.  A gauge is the sum of +1 and -1 that may lie in
 * different blocks; unsigned wrap-around makes the sum right. */
#ifndef FERMATA_UTIL_COUNTER_H
#define FERMATA_UTIL_COUNTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/util/ages.h"
#include "fermata/util/annotate.h"

/* X(ID, "family", "labels", "type", "help"); rows of one family stand together. */
#define FM_COUNTERS(X)                                                                                                 \
    X(REQ_1XX, "fermata_requests_total", "class=\"1xx\"", "counter", "Requests answered, by status class.")            \
    X(REQ_2XX, "fermata_requests_total", "class=\"2xx\"", "counter", "")                                               \
    X(REQ_3XX, "fermata_requests_total", "class=\"3xx\"", "counter", "")                                               \
    X(REQ_4XX, "fermata_requests_total", "class=\"4xx\"", "counter", "")                                               \
    X(REQ_5XX, "fermata_requests_total", "class=\"5xx\"", "counter", "")                                               \
    X(REQ_NONE, "fermata_requests_total", "class=\"none\"", "counter", "")                                             \
    X(IN_QUEUED, "fermata_requests_in_flight", "state=\"queued\"", "gauge", "Requests in the server, by state.")       \
    X(IN_RUNNING, "fermata_requests_in_flight", "state=\"running\"", "gauge", "")                                      \
    X(IN_PARKED_FUTURE, "fermata_requests_in_flight", "state=\"parked_future\"", "gauge", "")                          \
    X(IN_PARKED_CLIENT, "fermata_requests_in_flight", "state=\"parked_client\"", "gauge", "")                          \
    X(IN_SENDING, "fermata_requests_in_flight", "state=\"sending\"", "gauge", "")                                      \
    X(CONNS_TOTAL, "fermata_connections_total", "", "counter", "Connections accepted.")                                \
    X(CONNS, "fermata_connections", "", "gauge", "Connections open.")                                                  \
    X(CONNS_LIMIT, "fermata_connections_limit", "", "gauge", "Connections that may be open at once.")                  \
    X(QUEUE_LIMIT, "fermata_queue_limit", "", "gauge", "Requests that may wait for a thread; 0: any number.")          \
    X(BYTES_IN, "fermata_received_bytes_total", "", "counter", "Bytes received from clients.")                         \
    X(BYTES_OUT, "fermata_sent_bytes_total", "", "counter", "Bytes sent to clients.")                                  \
    X(GONE_QUEUED, "fermata_disconnects_total", "state=\"queued\"", "counter",                                         \
      "Requests whose client went away, by the state it found them in.")                                               \
    X(GONE_RUNNING, "fermata_disconnects_total", "state=\"running\"", "counter", "")                                   \
    X(GONE_PARKED_FUTURE, "fermata_disconnects_total", "state=\"parked_future\"", "counter", "")                       \
    X(GONE_PARKED_CLIENT, "fermata_disconnects_total", "state=\"parked_client\"", "counter", "")                       \
    X(GONE_SENDING, "fermata_disconnects_total", "state=\"sending\"", "counter", "")                                   \
    X(LATE_QUEUED, "fermata_request_timeouts_total", "state=\"queued\"", "counter",                                    \
      "Requests ended by --request-timeout, by the state it found them in.")                                           \
    X(LATE_RUNNING, "fermata_request_timeouts_total", "state=\"running\"", "counter", "")                              \
    X(LATE_PARKED_FUTURE, "fermata_request_timeouts_total", "state=\"parked_future\"", "counter", "")                  \
    X(LATE_PARKED_CLIENT, "fermata_request_timeouts_total", "state=\"parked_client\"", "counter", "")                  \
    X(LATE_SENDING, "fermata_request_timeouts_total", "state=\"sending\"", "counter", "")                              \
    X(SEND_TIMEOUTS, "fermata_send_timeouts_total", "", "counter", "Connections ended by --send-timeout.")             \
    X(APP_ERRORS, "fermata_application_errors_total", "", "counter", "Exceptions that reached the server.")            \
    X(PARKS, "fermata_parks_total", "", "counter", "Times a request was parked on a future.")                          \
    X(LOST_ERROR, "fermata_log_dropped_lines_total", "log=\"error\"", "counter",                                       \
      "Log lines dropped because the log could not be written in time.")                                               \
    X(LOST_ACCESS, "fermata_log_dropped_lines_total", "log=\"access\"", "counter", "")                                 \
    X(LOST_SYSLOG, "fermata_log_dropped_lines_total", "log=\"syslog\"", "counter", "")                                 \
    X(LOST_STATSD, "fermata_statsd_dropped_total", "", "counter", "Values that were not sent to --statsd-host.")       \
    X(TURNS, "fermata_loop_turns_total", "", "counter", "Turns of the event loop.")                                    \
    X(STALLS, "fermata_stalls_total", "", "counter",                                                                   \
      "Times steps that waited or computed held up the event loop and others went on.")                                \
    X(GIL, "fermata_gil_enabled", "", "gauge",                                                                         \
      "Processes that serve with the GIL: 0 without, in a free-threaded Python.")

#define FM_US 1000ull /* nanoseconds, as all durations here */

/* X(ID, "family", bounds, "help"): durations, in seconds on the page.  The bounds rise, and are FM_BUCKETS - 1 at most:
 * those of requests are OpenTelemetry's, and reach where parked requests live. */
#define FM_HISTOGRAMS(X)                                                                                               \
    X(QUEUE_WAIT, "fermata_queue_wait_seconds", FM_BOUNDS_STEP, "Time a request or continuation waited for a thread.") \
    X(STEP, "fermata_step_duration_seconds", FM_BOUNDS_STEP, "Time a thread spent in one step of an application.")     \
    X(REQUEST, "fermata_request_duration_seconds", FM_BOUNDS_REQUEST,                                                  \
      "Time from a complete request to the last byte of its response.")                                                \
    X(PARKED, "fermata_parked_seconds", FM_BOUNDS_PARKED, "Time a request was parked on one future.")                  \
    X(GIL_WAIT, "fermata_gil_wait_seconds", FM_BOUNDS_GIL, "Time a thread waited for the GIL before a step.")

#define FM_BOUNDS_STEP(ms)                                                                                             \
    ms / 10, ms / 2, ms, ms * 5 / 2, ms * 5, ms * 10, ms * 25, ms * 50, ms * 100, ms * 250, ms * 500, ms * 1000,       \
        ms * 2500, ms * 5000, ms * 10000, ms * 60000
#define FM_BOUNDS_REQUEST(ms)                                                                                          \
    ms, ms * 5, ms * 10, ms * 25, ms * 50, ms * 75, ms * 100, ms * 250, ms * 500, ms * 750, ms * 1000, ms * 2500,      \
        ms * 5000, ms * 7500, ms * 10000, ms * 30000, ms * 120000, ms * 300000
#define FM_BOUNDS_PARKED(ms) FM_BOUNDS_REQUEST(ms), ms * 600000
#define FM_BOUNDS_GIL(ms) ms / 100, ms / 10, ms, ms * 5, ms * 10, ms * 50, ms * 100, ms * 500, ms * 1000, ms * 5000

enum fm_counter {
#define X(id, ...) FM_C_##id,
    FM_COUNTERS(X)
#undef X
        FM_C_COUNT,
};

enum fm_histogram {
#define X(id, ...) FM_HG_##id,
    FM_HISTOGRAMS(X)
#undef X
        FM_HG_COUNT,
};

#define FM_BUCKETS 20 /* 19 bounds at most and one more, +Inf */

struct fm_bounds {
    unsigned n;
    uint64_t at[FM_BUCKETS - 1]; /* nanoseconds, rising */
};
extern const struct fm_bounds fm_bounds[FM_HG_COUNT];

#define FM_REFUSAL_CELLS 64 /* refusals by reason: the names are http's, see http/refusal.h */

struct fm_counters {
    _Atomic uint64_t cell[FM_C_COUNT];
    _Atomic uint64_t refused[FM_REFUSAL_CELLS];
    struct {
        _Atomic uint64_t bucket[FM_BUCKETS];
        _Atomic uint64_t sum; /* nanoseconds */
    } hist[FM_HG_COUNT];
    _Atomic uint64_t busy; /* nanoseconds in steps that are over */
    struct fm_ages ages;
};

/* Gives the calling thread a block of its own, which lives as long as the process. */
void fm_counters_attach(void);

/* Takes the blocks of this process from memory of the caller's, zeroed, which another process may read: the first is
 * the shared one.  Before any thread counts. */
void fm_counters_place(void *memory, size_t size);

extern struct fm_counters *fm_counters_shared;
extern __thread struct fm_counters *fm_counters_own; /* NULL in a thread that has no block */

/* One writer: load and store, no locked instruction.  Otherwise a real atomic add. */
static inline void fm_counter_bump(_Atomic uint64_t *cell, bool own, uint64_t n)
{
    if (own)
        atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + n, memory_order_relaxed);
    else
        atomic_fetch_add_explicit(cell, n, memory_order_relaxed);
}

/* Adds n (modulo 2^64, so a gauge goes down by adding -1).  Any thread. */
static inline void fm_count_add(enum fm_counter id, uint64_t n)
{
    struct fm_counters *own = fm_counters_own;
    fm_counter_bump(own ? &own->cell[id] : &fm_counters_shared->cell[id], own != NULL, n);
}
void fm_count_refused(unsigned refusal);
void fm_observe(enum fm_histogram id, uint64_t ns);

static inline void fm_count(enum fm_counter id) { fm_count_add(id, 1); }
static inline void fm_gauge_move(enum fm_counter from, enum fm_counter to)
{
    fm_count_add(from, (uint64_t)-1);
    fm_count_add(to, 1);
}

/* Sums all blocks into *sum (plain values).  Any thread. */
struct fm_counters_sum {
    uint64_t cell[FM_C_COUNT];
    uint64_t refused[FM_REFUSAL_CELLS];
    struct {
        uint64_t bucket[FM_BUCKETS];
        uint64_t sum;
    } hist[FM_HG_COUNT];
    uint64_t busy;
};
void fm_counters_read(struct fm_counters_sum *sum);

/* What fm_ages_tell looks at.  Any thread. */
void fm_counters_read_ages(struct fm_ages_sum *ages);
void fm_counters_add_ages(struct fm_ages_sum *ages, struct fm_counters *from, unsigned n);

/* A step of the calling thread begins; it is over, after so many nanoseconds: fm_counters_sum.busy. */
static inline void fm_count_step_begins(uint64_t now)
{
    if (fm_counters_own)
        atomic_store_explicit(&fm_counters_own->ages.step_since, now, memory_order_relaxed);
}
/* In this order, and by release: a reader that looks at `busy` first counts no step twice. */
static inline void fm_count_step_ends(uint64_t ns)
{
    struct fm_counters *own = fm_counters_own, *c = own ? own : fm_counters_shared;
    if (!own) {
        atomic_fetch_add_explicit(&c->busy, ns, memory_order_relaxed);
        return;
    }
    atomic_store_explicit(&c->ages.step_since, 0, memory_order_relaxed);
    atomic_store_explicit(&c->busy, atomic_load_explicit(&c->busy, memory_order_relaxed) + ns, memory_order_release);
}

/* A request enters (by: 1) or leaves (-1) a state that it is in since `since` (fm_now). */
static inline void fm_count_age(enum fm_age state, uint64_t since, uint32_t by)
{
    struct fm_counters *own = fm_counters_own;
    fm_ages_add(&(own ? own : fm_counters_shared)->ages, state, since, by, own != NULL);
}

/* The request that has waited for a thread for longest: since when; 0: there is none.  Under the scheduler's lock. */
static inline void fm_count_queued_since(uint64_t since)
{
    atomic_store_explicit(&fm_counters_shared->ages.queued_since, since, memory_order_relaxed);
}

/* A number that another program has as well if its blocks mean the same. */
uint64_t fm_counters_layout(void);

/* How many requests are parked in this process.  Any thread. */
uint64_t fm_counters_parked(void);

/* Adds n blocks of a process, which may be another one, to *sum. */
void fm_counters_add(struct fm_counters_sum *sum, struct fm_counters *from, unsigned n);

/* Adds what a process that has ended has counted; its gauges are gone with it. */
void fm_counters_add_ended(struct fm_counters_sum *sum, struct fm_counters *from, unsigned n);

#endif

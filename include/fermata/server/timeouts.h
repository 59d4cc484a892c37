/* The timeouts of the loop, each in one row: its name, how long it is, and whom the loop calls.  net/timer.h keeps
 * those of one kind in one list.  The worker's wiring makes the calls; a lower layer knows the names only. */
#ifndef FERMATA_SERVER_TIMEOUTS_H
#define FERMATA_SERVER_TIMEOUTS_H

#include "fermata/net/timer.h"
#include "fermata/util/clock.h"

/* X(NAME, nanoseconds, with the options as `o`; 0 is off, handler) */
#define FM_CONN_TIMEOUTS(X)                                                                                            \
    X(KEEP_ALIVE, o->keep_alive, fm_http1_timeout_idle)                                                                \
    X(HEADER, o->header_timeout, fm_http1_timeout_header)                                                              \
    X(BODY, o->body_timeout, fm_http1_timeout_body)                                                                    \
    X(SEND, o->send_timeout, fm_http1_timeout_send)                                                                    \
    X(REQUEST, o->request_timeout, fm_exchange_timeout_request)                                                        \
    X(QUEUE, o->queue_timeout, fm_exchange_timeout_queue)                                                              \
    X(LINGER, 5 * FM_SEC, fm_http1_timeout_linger)                                                                     \
    /* in a drain: for half a head, the first request, a client that was answered */                                   \
    X(DRAIN, o->drain_idle ? o->drain_idle : 1, fm_http1_timeout_drain)

#define FM_WORKER_TIMEOUTS(X)                                                                                          \
    X(DELAY, o->drain_delay, fm_drain_timeout_delay)                                                                   \
    X(GRACEFUL, o->graceful_timeout, fm_drain_timeout_graceful)                                                        \
    X(SPREAD, FM_SEC, fm_drain_timeout_spread) /* drain.c has it shorter */                                            \
    X(LAST, FM_END_LOOP, fm_drain_timeout_last)                                                                        \
    X(WATCHDOG, fm_notify_watchdog(), fm_worker_timeout_watchdog)                                                      \
    X(LOOK, fm_health_pause(o), fm_health_timeout)                                                                     \
    X(ACCEPT, FM_SEC / 4, fm_listener_retry)                                                                           \
    /* as long as a process that sleeps takes to accept */                                                             \
    X(YIELD, 5 * FM_MS, fm_listener_yielded)                                                                           \
    X(ADMIN, o->keep_alive ? o->keep_alive : 5 * FM_SEC, fm_admin_timeout)                                             \
    /* what an application that does not answer keeps a scrape waiting */                                              \
    X(APP_METRICS, FM_SEC, fm_admin_late)                                                                              \
    X(FUTURES, 5 * FM_MS, fm_admin_late)

#define FM_TIMEOUTS(X) FM_CONN_TIMEOUTS(X) FM_WORKER_TIMEOUTS(X)

enum fm_timeout {
#define X(name, ns, handler) FM_T_##name,
    FM_TIMEOUTS(X)
#undef X
        FM_T_COUNT,
};

_Static_assert(FM_T_COUNT <= FM_TIMER_KINDS, "each kind of timeout has a place in the loop's timers");

#endif

/* One call of the application, as the WSGI layer sees it: the request that came, the writer that the response goes to,
 * the task that is scheduled, and what only the server can do.  Embedded in the server's exchange.
 *
 * A call belongs to the holder of its task (sched/task.h).  `run` is a Python object; it is made in the first step and
 * dropped in the last, both on a pool thread with the GIL, so the loop never has a Python reference to give back. */
#ifndef FERMATA_WSGI_CALL_H
#define FERMATA_WSGI_CALL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fermata/http/request.h"
#include "fermata/http/writer.h"
#include "fermata/sched/sched.h"
#include "fermata/sched/task.h"

struct fm_call;

enum fm_outcome {
    FM_OUTCOME_DONE,    /* the response is complete */
    FM_OUTCOME_BROKEN,  /* part of it has left and the rest will not: the client must see that */
    FM_OUTCOME_ABORTED, /* the request was ended from outside, or the server has answered itself */
};

struct fm_call_ops {
    /* Running thread, no reference to the pool thread left: parks the task until the connection keeps little output.
     * True: it is no longer the caller's.  False: there is room already (or the client is gone), it goes on. */
    bool (*park_on_output)(struct fm_call *call);
    /* Running thread: waits until the connection keeps little output; FM_ECLOSED if the request is to end.  Blocks. */
    int (*wait_output)(struct fm_call *call);
    /* Running thread, after fm_writer_claim: the server's own answer. */
    void (*answer)(struct fm_call *call, int status);
    /* Running thread, no reference to the pool thread left: the last step is over; the call is the loop's again. */
    void (*finish)(struct fm_call *call, enum fm_outcome outcome);
};

struct fm_peer {             /* who is talking to whom, as text; of the connection, read-only */
    const char *remote_addr; /* "" for a unix socket */
    unsigned remote_port;
    const char *server_name; /* of a listener, with its port: the same pointer is the same text, always */
    const char *server_port;
    const char *via; /* the address of the proxy that has told remote_addr by the PROXY protocol, or NULL */
};

struct fm_call {
    struct fm_task task;
    struct fm_writer writer;
    struct fm_request *request; /* read-only, but for the body, which the first step moves out */
    const struct fm_call_ops *ops;
    struct fm_sched *sched;
    struct fm_peer peer;
    void *run;                    /* struct fm_run (a PyObject) between the first step and the last */
    _Atomic unsigned long thread; /* Python's ident of the thread that runs a step, 0 if none: for reports */
};

/* Output kept by a connection above this parks the request; below the other it goes on. */
#define FM_OUTPUT_HIGH (64 * 1024)
#define FM_OUTPUT_LOW (16 * 1024)

#endif

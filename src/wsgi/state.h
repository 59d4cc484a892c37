/* What the WSGI layer keeps beyond one request: a struct for the interpreter and one for each pool thread.  Everything
 * else belongs to a request (struct fm_run) or to an object of Python's.  No other object of Python's is static in
 * src/wsgi or src/py (`make layers` looks for them), so that nothing is shared between threads without being named
 * here, with what protects it. */
#ifndef FERMATA_WSGI_STATE_H
#define FERMATA_WSGI_STATE_H

#include "fermata/py/python.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fermata/http/headers.h"
#include "fermata/util/annotate.h"
#include "fermata/wsgi/gateway.h"

/* ---- strings that are used again and again, made once ---- */

#define FM_NAMES(X)                                                                                                    \
    X(CONTENT_LENGTH, "CONTENT_LENGTH")                                                                                \
    X(HTTP_HOST, "HTTP_HOST")                                                                                          \
    X(PATH_INFO, "PATH_INFO")                                                                                          \
    X(QUERY_STRING, "QUERY_STRING")                                                                                    \
    X(REMOTE_ADDR, "REMOTE_ADDR")                                                                                      \
    X(REMOTE_PORT, "REMOTE_PORT")                                                                                      \
    X(REQUEST_ID, "fermata.request_id")                                                                                \
    X(REQUEST_METHOD, "REQUEST_METHOD")                                                                                \
    X(REQUEST_URI, "REQUEST_URI")                                                                                      \
    X(SERVER_NAME, "SERVER_NAME")                                                                                      \
    X(SERVER_PORT, "SERVER_PORT")                                                                                      \
    X(SERVER_PROTOCOL, "SERVER_PROTOCOL")                                                                              \
    X(WSGI_INPUT, "wsgi.input")                                                                                        \
    X(HTTP_1_0, "HTTP/1.0")                                                                                            \
    X(HTTP_1_1, "HTTP/1.1")                                                                                            \
    X(add_done_callback, "add_done_callback")                                                                          \
    X(close, "close")                                                                                                  \
    X(done, "done")                                                                                                    \
    X(exception, "exception")                                                                                          \
    X(gi_frame, "gi_frame")                                                                                            \
    X(gi_suspended, "gi_suspended")                                                                                    \
    X(gi_yieldfrom, "gi_yieldfrom")                                                                                    \
    X(wsgi_plus_inner, "__wsgi_plus_inner__")                                                                          \
    X(fileno, "fileno")                                                                                                \
    X(raw, "raw")                                                                                                      \
    X(read, "read")                                                                                                    \
    X(readable, "readable")                                                                                            \
    X(readinto, "readinto")                                                                                            \
    X(tell, "tell")                                                                                                    \
    X(throw_, "throw")

enum fm_name_id {
#define X(id, text) FM_N_##id,
    FM_NAMES(X)
#undef X
        FM_N_COUNT,
};

/* ---- of the interpreter ---- */

/* Of all our types: made for the interpreter, and not to be changed by the application. */
#define FM_TYPE_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE)

/* X(name): our types; fm_NAME_spec is in the file that has the methods. */
#define FM_TYPES(X)                                                                                                    \
    X(run)                                                                                                             \
    X(input)                                                                                                           \
    X(errors)                                                                                                          \
    X(file_wrapper)                                                                                                    \
    X(wakeup)

#define X(name) extern PyType_Spec fm_##name##_spec;
FM_TYPES(X)
#undef X

struct fm_run;
struct fm_wsgi_thread;
struct fm_place_table;

struct fm_wsgi_state {
    /* Set on the main thread by fm_wsgi_init and fm_wsgi_load, before the first request is dispatched (the run queue's
     * lock shows it to the threads), and not changed until fm_wsgi_fini, after the last: read without a lock. */
    PyObject *name[FM_N_COUNT];
    PyObject *header_key[FM_H_OTHER]; /* by enum fm_header_id */
#define X(name) PyTypeObject *name##_type;
    FM_TYPES(X)
#undef X
    PyTypeObject *future_type;                          /* concurrent.futures.Future */
    PyTypeObject *raw_type, *reader_type, *random_type; /* of io: FileIO, BufferedReader, BufferedRandom */
    PyObject *application;
    struct fm_wsgi_config config;
    struct fm_place_table *places; /* or NULL; what is in it is atomic, and added under the lock */

    atomic_uint waking; /* wake-ups of futures that run right now, in any thread */

    struct fm_mutex lock;           /* a leaf: no Python code runs under it; guards what follows */
    struct fm_wsgi_thread *threads; /* all there are */
    struct fm_run *throwing;        /* the runs that are throwing right now, one a thread at most: see failure.c */
    uint64_t throws;                /* how many have begun to */
};

/* There is one interpreter a process (py/interp.h), so there is one of these. */
extern struct fm_wsgi_state fm_wsgi;

/* ---- of a pool thread ----
 *
 * Touched by that thread alone, in a step.  Its objects are made when the thread first needs them, so that they are its
 * own also where each thread counts the references to its own objects (CPython without the GIL). */

/* What environ's template follows: X(a name of FM_NAMES). */
#define FM_STEADY(X)                                                                                                   \
    X(REMOTE_ADDR)                                                                                                     \
    X(SERVER_NAME)                                                                                                     \
    X(SERVER_PORT)                                                                                                     \
    X(REQUEST_METHOD)                                                                                                  \
    X(HTTP_HOST)                                                                                                       \
    X(REQUEST_URI)                                                                                                     \
    X(PATH_INFO)                                                                                                       \
    X(QUERY_STRING)

enum fm_steady {
#define X(name) FM_S_##name,
    FM_STEADY(X)
#undef X
        FM_S_COUNT,
};

#define FM_PORTS 512
#define FM_KNOWN_NAMES 64

struct fm_environ_cache { /* environ.c */
    PyObject *template;   /* NULL until the thread's first request */
    const char *server;   /* the server_name that the template has, with its port */
    PyObject *id;         /* the last one that was made; borrowed from the template, NULL if that has another one */
    PyObject *no_input;   /* wsgi.input of a request without a body; borrowed from the template */
    PyObject *steady[FM_S_COUNT]; /* what most requests share with the one before; borrowed from the template */
    /* The last value of each header that clients repeat in every request (and that is no secret): the same string again
     * costs a comparison, and ten thousand parked requests share it. */
    PyObject *last_value[FM_H_OTHER];
    struct { /* REMOTE_PORT as text, for the connections that were active last */
        PyObject *text;
        unsigned port;
    } ports[FM_PORTS];
};

/* Names that were found to be tokens, and what they mean: applications use the same few objects again and again, so
 * that most names are told by their address.  Takes 100 instructions of each header off. */
struct fm_known_name { /* start_response.c */
    PyObject *name;
    int what; /* of fm_response_name */
};

struct fm_wsgi_thread {
    struct fm_environ_cache environ;
    struct fm_known_name known[FM_KNOWN_NAMES];
    struct fm_wsgi_thread *next; /* in fm_wsgi.threads */
};

#endif

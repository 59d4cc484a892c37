/* The whole server over a socketpair: connection, parser, scheduler, WSGI layer and an application in Python, in one
 * thread, which is the leader.  A client sends the stream in pieces; exactly the requests that the parser finds in it
 * reach the application, in order and with their bodies, up to the first that ends the connection; each is answered, in
 * order; what is refused is answered once; then the connection is ended.
 *
 * Input: a byte whose low half is a number of lengths; the lengths, of the pieces that are sent, in turn; the stream.
 * Or a case of tests/http.  The last letter of a path chooses how the application answers.
 *
 * Covers: src/server/http1.c src/server/request.c src/net/stream.c src/net/plain.c src/wsgi/step.c src/wsgi/future.c
 * src/http/writer.c
 */
#include <errno.h>
#include <sys/socket.h>

#include "python.h"

#include "fermata/server/conns.h"
#include "fermata/server/http1.h"
#include "fermata/server/timeouts.h"
#include "fermata/util/counter.h"

#define TURNS_MAX 100000
#define QUIET_TURNS 8 /* without output: nothing more comes of what was sent */

static struct fm_options options;
static struct {
    struct fm_loop loop;
    struct fm_sched sched;
    struct fm_service service;
    struct fm_conns conns;
} server;
static PyObject *seen; /* what reached the application: (method, target, body) */

static const char app_text[] = "from concurrent.futures import Future\n"
                               "seen = []\n"
                               "def done(value):\n"
                               "    future = Future()\n"
                               "    future.set_result(value)\n"
                               "    return future\n"
                               "def app(environ, start_response):\n"
                               "    body = environ['wsgi.input'].read()\n"
                               "    seen.append((environ['REQUEST_METHOD'], environ['REQUEST_URI'], body))\n"
                               "    kind = environ['PATH_INFO'][-1:]\n"
                               "    text = b'%d %d\\n' % (len(seen), len(body))\n"
                               "    if kind == 'f':\n"
                               "        yield done(None)\n"
                               "    if kind == 'n':\n"
                               "        start_response('204 No Content', [])\n"
                               "        return\n"
                               "    if environ['SERVER_PROTOCOL'] == 'HTTP/1.0' and 'HTTP_CONNECTION' in environ:\n"
                               "        kind = ''  # without a length, the connection would be ended\n"
                               "    fields = [] if kind == 'c' else [('Content-Length', str(len(text)))]\n"
                               "    write = start_response('200 OK', fields)\n"
                               "    if kind == 'w':\n"
                               "        write(text[:1])\n"
                               "        yield text[1:]\n"
                               "    elif kind == 'c':\n"
                               "        yield text[:2]\n"
                               "        yield done(None)\n"
                               "        yield text[2:]\n"
                               "    else:\n"
                               "        yield text\n";

/* ---- the client ---- */

static struct client {
    const char *s;
    size_t len, sent;
    const uint8_t *lengths;
    size_t nlengths, npieces;
    int fd, server_fd; /* -1 once it is the connection's */
    bool half_closed, at_end;
    unsigned quiet, turns;
    struct fm_buf out;
} client;

static void send_piece(void)
{
    size_t n = client.len - client.sent;
    if (client.nlengths > 0) {
        size_t want = client.lengths[client.npieces++ % client.nlengths] + 1u;
        n = want < n ? want : n;
    }
    ssize_t done = send(client.fd, client.s + client.sent, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done < 0 && errno != EAGAIN)
        client.sent = client.len; /* the server has ended the connection: it need not read on */
    else if (done > 0)
        client.sent += (size_t)done;
}

static void receive(void)
{
    ssize_t n;
    client.quiet++;
    while ((n = recv(client.fd, fm_buf_reserve(&client.out, 4096), 4096, MSG_DONTWAIT)) > 0) {
        client.out.len += (size_t)n;
        client.quiet = 0;
    }
    client.at_end = n == 0 || (n < 0 && errno != EAGAIN);
}

static void client_turn(void)
{
    if (client.fd < 0)
        return;
    if (client.sent < client.len) {
        send_piece();
        client.quiet = 0;
    } else if (client.quiet > QUIET_TURNS && !client.half_closed) {
        shutdown(client.fd, SHUT_WR);
        client.half_closed = true;
    }
    receive();
    if (client.at_end) {
        close(client.fd);
        client.fd = -1;
    }
}

/* ---- the server ---- */

static PyThreadState *python; /* of the only thread, while it does not have the GIL */

static void poll_both(void *ctx, bool block) FM_UNCHECKED
{
    static const union fm_sockaddr peer = {.sa.sa_family = AF_UNIX};
    (void)ctx, (void)block;
    if (client.server_fd >= 0) {
        fm_conns_accept(&server.conns.bound[0].listener, client.server_fd, &peer);
        client.server_fd = -1;
    }
    client_turn();
    fm_loop_turn(&server.loop, false);
    if (client.fd < 0 && server.conns.count == 0)
        fm_sched_stop(&server.sched);
    if (++client.turns > TURNS_MAX)
        fuzz_fail("the connection does not end: %zu of %zu bytes were sent, %zu came back", client.sent, client.len,
                  client.out.len);
}

static void wake(void *ctx) { (void)ctx; }
static void take_gil(void *ctx, struct fm_thread *thread) FM_UNCHECKED
{
    (void)ctx, (void)thread;
    fm_gil_take(python);
}
static void drop_gil(void *ctx, struct fm_thread *thread) FM_UNCHECKED
{
    (void)ctx, (void)thread;
    fm_gil_drop(python);
}
static void step(void *ctx, struct fm_thread *thread, struct fm_task *task) FM_UNCHECKED
{
    (void)ctx;
    fm_wsgi_step(FM_LIST_ENTRY(task, struct fm_call, task), thread);
}
static bool flush(void *ctx, struct fm_task *task, uint64_t since)
{
    (void)ctx;
    return fm_writer_flush(&FM_LIST_ENTRY(task, struct fm_call, task)->writer, since);
}
static const struct fm_sched_ops sched_ops = {poll_both, wake, take_gil, drop_gil, step, flush, NULL};

static void load_app(void)
{
    PyObject *module = PyImport_AddModule("__main__"), *names = module ? PyModule_GetDict(module) : NULL;
    PyObject *none = names ? PyRun_String(app_text, Py_file_input, names, names) : NULL;
    if (!none)
        fuzz_python_failed("the application");
    Py_DECREF(none);
    seen = PyDict_GetItemString(names, "seen");
    fm_wsgi.application = Py_NewRef(PyDict_GetItemString(names, "app"));
}

static void nothing(struct fm_conns *conns) { (void)conns; }

/* As worker/wiring.c has it, without listeners, signals and the monitor. */
static void set_up(void)
{
    char *argv[] = {(char *)(uintptr_t) "fuzz", (char *)(uintptr_t) "app", NULL};
    if (fm_options_parse(&options, 2, argv, "3") != FM_OPTIONS_RUN)
        fuzz_fail("the defaults are wrong");
    options.limits = fuzz_limits;
    if (fm_loop_init(&server.loop) != 0 || fm_sched_init(&server.sched, 1, &sched_ops, &server) != 0)
        fuzz_fail("no loop or scheduler");
    server.service.loop = &server.loop;
    server.service.sched = &server.sched;
    server.service.options = &options;
    fm_conns_init(&server.conns, &server.service, options.worker_connections, nothing);
#define X(name, ns, handler) fm_timers_define(&server.loop.timers, FM_T_##name, 3600 * FM_SEC, handler);
    FM_CONN_TIMEOUTS(X)
#undef X
    struct fm_bound *bound = &server.conns.bound[server.conns.nbound++];
    bound->listener.owner = &server.conns;
    strcpy(bound->name, "localhost");
    strcpy(bound->port, "80");
    fm_log_set_level(FM_LOG_CRITICAL); /* refusals are what is looked for here */
}

static void serve(void) FM_UNCHECKED
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        fuzz_fail("no sockets");
    client.fd = fds[0];
    client.server_fd = fds[1];
    server.sched.stop = false;
    server.sched.leader = NULL;
    fm_sched_run(&server.sched, 0);
    if (server.conns.count != 0 || client.fd >= 0)
        fuzz_fail("the scheduler has stopped before the connection was over");
}

/* ---- what must have come of it ---- */

static void check_seen(const struct replay *want, size_t n)
{
    if (PyList_GET_SIZE(seen) != (Py_ssize_t)n)
        fuzz_fail("%zd requests reached the application, but there are %zu", PyList_GET_SIZE(seen), n);
    for (size_t i = 0; i < n; i++) {
        const struct fm_request *r = want->requests[i];
        const char *method, *body;
        PyObject *target;
        Py_ssize_t method_len, len;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(seen, (Py_ssize_t)i), "s#Uy#", &method, &method_len, &target, &body,
                              &len))
            fuzz_python_failed("what was seen");
        char *bytes = replay_body(r);
        if ((size_t)len != r->body.size || memcmp(body, bytes, (size_t)len) != 0)
            fuzz_fail("request %zu has another body", i);
        free(bytes);
        if ((size_t)method_len != r->method.len || memcmp(method, fm_request_text(r, r->method), r->method.len) != 0 ||
            (size_t)PyUnicode_GET_LENGTH(target) != r->target.len ||
            memcmp(PyUnicode_1BYTE_DATA(target), fm_request_text(r, r->target), r->target.len) != 0)
            fuzz_fail("request %zu is another one: %.*s", i, (int)method_len, method);
    }
}

/* The value of a field in the head from at on, or NULL. */
static const char *find(const char *at, const char *end, const char *name)
{
    const char *field = memmem(at, (size_t)(end - at), name, strlen(name));
    return field ? field + strlen(name) : NULL;
}

/* Takes one response from the front: its status, and its body in *body. */
static int take_response(const char **at, const char *end, bool is_head, struct fm_buf *body)
{
    const char *head_end = memmem(*at, (size_t)(end - *at), "\r\n\r\n", 4);
    if (!head_end || end - *at < 13 || memcmp(*at, "HTTP/1.1 ", 9) != 0)
        fuzz_fail("there is no response, but: %.*s", (int)(end - *at), *at);
    const char *length = find(*at, head_end, "\r\nContent-Length: "), *s = head_end + 4;
    bool chunked = find(*at, head_end, "\r\nTransfer-Encoding: chunked") != NULL;
    int status = atoi(*at + 9);
    fm_buf_clear(body);
    if (status == 100 || status == 204 || is_head) {
        /* no body */
    } else if (chunked) {
        for (size_t n = 1; n > 0; s += n + 2) {
            n = strtoul(s, (char **)(uintptr_t)&s, 16);
            s += 2;
            if (n > (size_t)(end - s))
                fuzz_fail("a chunk is cut off");
            fm_buf_append(body, s, n);
        }
    } else if (length) {
        size_t n = strtoul(length, NULL, 10);
        if (n > (size_t)(end - s))
            fuzz_fail("a body is cut off");
        fm_buf_append(body, s, n);
        s += n;
    } else { /* until the end: HTTP/1.0 */
        fm_buf_append(body, s, (size_t)(end - s));
        s = end;
    }
    if (s > end)
        fuzz_fail("a response is cut off");
    *at = s;
    return status;
}

static void check_answers(const struct replay *want, size_t n, bool refused)
{
    fm_buf_append(&client.out, "", 1); /* a NUL behind it, for strtoul */
    const char *at = fm_buf_head(&client.out), *end = at + fm_buf_size(&client.out) - 1;
    const struct fm_request *broken = fm_parser_request(want->parser); /* its head was accepted, its body was not */
    struct fm_buf body = FM_BUF_INIT;
    char text[64];
    for (size_t i = 0; i < n + refused; i++) {
        const struct fm_request *r = i < n ? want->requests[i] : NULL;
        bool is_head = r ? r->is_head : broken && broken->is_head;
        int status;
        do
            status = take_response(&at, end, is_head, &body);
        while (status == 100);
        snprintf(text, sizeof text, "%zu %llu\n", i + 1, r ? (unsigned long long)r->body.size : 0);
        if (r ? status != 200 && status != 204 : status != want->error->status)
            fuzz_fail("response %zu has status %d", i, status);
        if (r && status == 200 && !r->is_head && (body.len != strlen(text) || memcmp(body.data, text, body.len) != 0))
            fuzz_fail("response %zu is another one: %.*s", i, (int)body.len, body.data);
    }
    while (end - at > 12 && memcmp(at, "HTTP/1.1 100", 12) == 0)
        take_response(&at, end, false, &body);
    if (at != end)
        fuzz_fail("%td bytes behind the last response: %.*s", end - at, (int)(end - at), at);
    fm_buf_fini(&body);
}

static void run(const char *s, size_t len, const uint8_t *lengths, size_t nlengths)
{
    static struct replay want;
    size_t n = 0;
    replay(&want, &fuzz_limits, s, len, NULL);
    while (n < want.nrequests && (n == 0 || want.requests[n - 1]->keep_alive))
        n++;
    bool refused = want.error && n == want.nrequests && (n == 0 || want.requests[n - 1]->keep_alive);
    memset(&client, 0, sizeof client);
    client.s = s;
    client.len = len;
    client.lengths = lengths;
    client.nlengths = nlengths;
    serve();
    fm_gil_take(python);
    check_seen(&want, n);
    PyList_SetSlice(seen, 0, PY_SSIZE_T_MAX, NULL);
    fm_gil_drop(python);
    check_answers(&want, n, refused);
    fm_buf_fini(&client.out);
    replay_fini(&want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_stream in = fuzz_case(data, size);
    size_t nlengths = size && !in.s ? data[0] & 15 : 0;
    if (size < 1 + nlengths || size > 16384)
        return -1;
    if (!server.service.options) {
        load_app();
        set_up();
        server.sched.threads[0].user = fm_wsgi_thread_new();
        python = PyEval_SaveThread();
    }
    if (in.s)
        run(in.s, in.len, NULL, 0);
    else
        run((const char *)data + 1 + nlengths, size - 1 - nlengths, data + 1, nlengths);
    return 0;
}

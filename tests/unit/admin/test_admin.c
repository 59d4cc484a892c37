/* The admin server, asked over sockets while its loop runs in a thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "../net/loopback.h"
#include "fermata/admin/admin.h"
#include "fermata/net/listener.h"
#include "fermata/util/buf.h"
#include "fermata/util/log.h"

enum { IDLE, RETRY, LIMIT = 256 };

static struct loop_thread lt;
static struct fm_admin *admin;
static struct fm_addr where;
static char dir[64];

static atomic_bool is_ready;
static atomic_uint busy_threads;

static bool ready(void *ctx)
{
    CHECK(ctx == &lt);
    return atomic_load(&is_ready);
}

static void count_threads(void *ctx, unsigned *busy, unsigned *idle)
{
    CHECK(ctx == &lt);
    *busy = atomic_load(&busy_threads);
    *idle = 10 - *busy;
}

static struct fm_admin_source source = {.ready = ready, .threads = count_threads, .ctx = &lt};

static struct fm_addr parsed(const char *text)
{
    struct fm_addr addr;
    const char *why;
    CHECK(fm_addr_parse(text, &addr, &why) == 0);
    return addr;
}

/* Seen before it sleeps, so one wake-up ends it wherever it is. */
static bool is_stopped(void *ctx)
{
    (void)ctx;
    return atomic_load(&lt.stop);
}

static int serve(const char *text, uint64_t patience)
{
    struct fm_addr addr = parsed(text);
    char url[FM_ADDR_TEXT];
    atomic_store(&is_ready, true);
    atomic_store(&busy_threads, 0);
    if (fm_loop_init(&lt.loop) != 0 || !(admin = fm_admin_new(&addr, false, &source)))
        return -1;
    fm_timers_define(&lt.loop.timers, IDLE, patience, fm_admin_timeout);
    fm_timers_define(&lt.loop.timers, RETRY, FM_SEC, fm_listener_retry);
    fm_admin_url(admin, url);
    where = parsed(strncmp(url, "http://", 7) == 0 ? url + 7 : url);
    fm_role_take_loop();
    int err = fm_admin_start(admin, &lt.loop, IDLE, RETRY);
    fm_role_drop_loop();
    lt.loop.ready = is_stopped;
    loop_thread_start(&lt);
    return err;
}

static int start(void **state)
{
    (void)state;
    return serve("127.0.0.1:0", 60 * FM_SEC);
}

static int start_impatient(void **state)
{
    (void)state;
    return serve("127.0.0.1:0", 300 * FM_MS);
}

/* A socket whose buffers do not grow. */
static int serve_unix(uint64_t patience)
{
    char text[96];
    strcpy(dir, "/tmp/fermata-test-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(text, sizeof text, "unix:%s/socket", dir);
    return serve(text, patience);
}

static int start_unix(void **state)
{
    (void)state;
    return serve_unix(60 * FM_SEC);
}

static int start_unix_impatient(void **state)
{
    (void)state;
    return serve_unix(300 * FM_MS);
}

static void stop_serving(void)
{
    if (!admin)
        return;
    atomic_store(&lt.stop, true);
    fm_loop_wake(&lt.loop);
    join(lt.thread);
    fm_role_take_loop();
    fm_admin_free(admin);
    fm_loop_fini(&lt.loop);
    fm_role_drop_loop();
    admin = NULL;
}

static int finish(void **state)
{
    (void)state;
    stop_serving();
    if (*dir)
        rmdir(dir);
    *dir = '\0';
    return 0;
}

/* ---- a client ---- */

struct client {
    int fd;
    size_t len;
    char buf[64 * 1024];
};

struct answer {
    int status;
    size_t length; /* Content-Length */
    char head[1024], body[48 * 1024];
};

static struct client c;
static struct answer a;

static void dial(struct client *k)
{
    k->fd = socket(where.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    k->len = 0;
    assert_true(k->fd >= 0);
    set_patience(k->fd);
    assert_int_equal(connect(k->fd, &where.u.sa, where.len), 0);
}

static void hang_up(struct client *k) { close(k->fd); }

static void say(struct client *k, const char *text)
{
    assert_int_equal(send(k->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* More of what comes; false at the end. */
static bool hear(struct client *k)
{
    size_t room = k->len < sizeof k->buf ? sizeof k->buf - k->len : 0;
    assert_true(room > 0);
    ssize_t n = read(k->fd, k->buf + k->len, room);
    assert_true(n >= 0);
    k->len += (size_t)n;
    return n > 0;
}

static void drop(struct client *k, size_t n)
{
    memmove(k->buf, k->buf + n, k->len - n);
    k->len -= n;
}

static bool has_line(const char *line)
{
    const char *found = strstr(a.head, line);
    return found && found[-1] == '\n' && strncmp(found + strlen(line), "\r\n", 2) == 0;
}

/* The next answer, into `a`. */
static void read_answer(struct client *k, bool is_head)
{
    char *end;
    while (!(end = memmem(k->buf, k->len, "\r\n\r\n", 4)))
        assert_true(hear(k));
    size_t n = (size_t)(end - k->buf) + 4;
    assert_true(n < sizeof a.head);
    memcpy(a.head, k->buf, n);
    a.head[n] = '\0';
    drop(k, n);
    assert_int_equal(strncmp(a.head, "HTTP/1.1 ", 9), 0);
    a.status = atoi(a.head + 9);
    const char *length = strstr(a.head, "\r\nContent-Length: ");
    assert_non_null(length);
    assert_non_null(strstr(a.head, "\r\nDate: "));
    a.length = strtoul(length + 18, NULL, 10);
    size_t body = is_head ? 0 : a.length;
    assert_true(body < sizeof a.body);
    while (k->len < body)
        assert_true(hear(k));
    memcpy(a.body, k->buf, body);
    a.body[body] = '\0';
    drop(k, body);
}

static bool nothing_more(struct client *k) { return k->len == 0 && wait_readable(k->fd, 0) == 0; }
static bool at_end(struct client *k) { return k->len == 0 && !hear(k); }

static void ask(const char *request)
{
    say(&c, request);
    read_answer(&c, strncmp(request, "HEAD ", 5) == 0);
}

#define HOST " HTTP/1.1\r\nHost: h\r\n"
#define GET(path) "GET " path HOST "\r\n"
#define HEAD(path) "HEAD " path HOST "\r\n"

/* Between two turns of the loop. */
static void between_turns(void (*act)(struct fm_admin *))
{
    atomic_store(&lt.stop, true);
    fm_loop_wake(&lt.loop);
    join(lt.thread);
    fm_role_take_loop();
    act(admin);
    fm_role_drop_loop();
    loop_thread_start(&lt);
}

static bool was_busy;

static void look(struct fm_admin *of) FM_UNCHECKED { was_busy = fm_admin_is_busy(of); }
static void pause_admin(struct fm_admin *which) FM_UNCHECKED { fm_admin_pause(which); }
static void resume_admin(struct fm_admin *which) FM_UNCHECKED { fm_admin_resume(which); }

/* ---- what there is ---- */

static void test_paths(void **state)
{
    (void)state;
    dial(&c);
    ask(GET("/healthz"));
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "ok\n");
    assert_true(has_line("Content-Type: text/plain; version=0.0.4; charset=utf-8"));
    assert_true(has_line("Connection: keep-alive"));

    ask(GET("/readyz"));
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "ok\n");
    atomic_store(&is_ready, false);
    ask(GET("/readyz"));
    assert_int_equal(a.status, 503);
    assert_string_equal(a.body, "not ready\n");
    ask(GET("/healthz")); /* it lives all the same */
    assert_int_equal(a.status, 200);

    atomic_store(&busy_threads, 7);
    ask(GET("/metrics"));
    assert_int_equal(a.status, 200);
    assert_true(has_line("Content-Type: text/plain; version=0.0.4; charset=utf-8"));
    assert_int_equal(strncmp(a.body, "# HELP fermata_", 15), 0);
    assert_non_null(strstr(a.body, "\nfermata_threads{state=\"busy\"} 7\n"));
    assert_non_null(strstr(a.body, "\nfermata_threads{state=\"idle\"} 3\n"));
    assert_non_null(strstr(a.body, "\nfermata_ready 0\n"));
    atomic_store(&is_ready, true);
    ask(GET("/metrics"));
    assert_non_null(strstr(a.body, "\nfermata_ready 1\n"));
    assert_non_null(strstr(a.body, "\nfermata_received_bytes_total 0\n")); /* it does not count itself */
    assert_non_null(strstr(a.body, "\nfermata_connections_total 0\n"));
    ask(GET("/healthz?who=probe"));
    assert_int_equal(a.status, 200);
    assert_true(nothing_more(&c));
    hang_up(&c);
}

static void test_not_found(void **state)
{
    (void)state;
    static const char *const requests[] = {GET("/"), GET("/healthz/"), GET("/health"), GET("/metricsx"), HEAD("/x")};
    dial(&c);
    for (unsigned i = 0; i < sizeof requests / sizeof *requests; i++) {
        ask(requests[i]);
        assert_int_equal(a.status, 404);
        assert_true(a.length > 0);
        assert_false(strstr(a.head, "Allow:"));
    }
    ask(GET("/healthz"));
    assert_int_equal(a.status, 200);
    hang_up(&c);
}

static void test_method_not_allowed(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "POST /healthz" HOST "Content-Length: 0\r\n\r\n",
        "DELETE /metrics" HOST "\r\n",
        "OPTIONS /readyz" HOST "\r\n",
        "get /healthz" HOST "\r\n",
    };
    dial(&c);
    for (unsigned i = 0; i < sizeof requests / sizeof *requests; i++) {
        ask(requests[i]);
        assert_int_equal(a.status, 405);
        assert_true(has_line("Allow: GET, HEAD"));
    }
    ask(GET("/healthz"));
    assert_int_equal(a.status, 200);
    assert_false(strstr(a.head, "Allow:"));
    hang_up(&c);
}

static void test_head(void **state)
{
    (void)state;
    static const char *const get[] = {GET("/healthz"), GET("/readyz"), GET("/nothing")};
    static const char *const head[] = {HEAD("/healthz"), HEAD("/readyz"), HEAD("/nothing")};
    atomic_store(&is_ready, false);
    dial(&c);
    for (int i = 0; i < 3; i++) {
        ask(get[i]);
        int status = a.status;
        size_t length = a.length;
        ask(head[i]);
        assert_int_equal(a.status, status);
        assert_int_equal(a.length, length);
        ask(GET("/healthz")); /* no body was in between */
        assert_int_equal(a.status, 200);
    }
    ask(HEAD("/metrics"));
    assert_int_equal(a.status, 200);
    assert_true(a.length > 1000);
    assert_true(nothing_more(&c));
    hang_up(&c);
}

/* ---- connections ---- */

static void test_keep_alive(void **state)
{
    (void)state;
    dial(&c);
    for (int i = 0; i < 100; i++) {
        ask(i % 10 ? GET("/healthz") : GET("/metrics"));
        assert_int_equal(a.status, 200);
    }
    ask("GET /healthz" HOST "Connection: close\r\n\r\n");
    assert_int_equal(a.status, 200);
    assert_true(has_line("Connection: close"));
    assert_true(at_end(&c));
    hang_up(&c);

    dial(&c);
    ask("GET /healthz HTTP/1.0\r\n\r\n");
    assert_int_equal(a.status, 200);
    assert_true(has_line("Connection: close"));
    assert_true(at_end(&c));
    hang_up(&c);

    dial(&c);
    ask("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_true(has_line("Connection: keep-alive"));
    ask(GET("/readyz"));
    assert_int_equal(a.status, 200);
    hang_up(&c);
}

static void test_pipelined(void **state)
{
    (void)state;
    dial(&c);
    for (int i = 0; i < 20; i++)
        say(&c, GET("/healthz") GET("/nothing") HEAD("/readyz") "POST /readyz" HOST "\r\n");
    for (int i = 0; i < 20; i++) {
        static const int expected[] = {200, 404, 200, 405};
        for (int k = 0; k < 4; k++) {
            read_answer(&c, k == 2);
            assert_int_equal(a.status, expected[k]);
        }
    }
    say(&c, "GET /healthz" HOST "Connection: close\r\n\r\n" GET("/nothing"));
    read_answer(&c, false);
    assert_int_equal(a.status, 200);
    assert_true(at_end(&c)); /* what came after the last one is not answered */
    hang_up(&c);
}

static void test_byte_by_byte(void **state)
{
    (void)state;
    static const char text[] = GET("/healthz");
    dial(&c);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        assert_int_equal(send(c.fd, text + i, 1, MSG_NOSIGNAL), 1);
        usleep(500);
        if (i < sizeof text - 2)
            assert_true(nothing_more(&c));
    }
    read_answer(&c, false);
    assert_int_equal(a.status, 200);
    hang_up(&c);
}

/* A client that sends its request and the end at once still gets its answer. */
static void test_half_closed(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        dial(&c);
        say(&c, GET("/healthz"));
        shutdown(c.fd, SHUT_WR);
        read_answer(&c, false);
        assert_int_equal(a.status, 200);
        assert_true(at_end(&c));
        hang_up(&c);
    }
}

static void test_clients_that_go_away(void **state)
{
    (void)state;
    static const char *const said[] = {"", "GET /heal", GET("/metrics"), GET("/metrics") GET("/metrics") "GET"};
    for (int i = 0; i < 100; i++) {
        dial(&c);
        say(&c, said[i % 4]);
        if (i % 8 < 4)
            reset(c.fd);
        else
            hang_up(&c);
    }
    dial(&c);
    ask(GET("/healthz"));
    assert_int_equal(a.status, 200);
    hang_up(&c);
}

static void test_bad_requests(void **state)
{
    (void)state;
    static char long_line[4096], many[4096];
    memset(long_line, 'x', sizeof long_line - 1);
    memcpy(long_line, "GET /", 5);
    strcpy(many, "GET /healthz" HOST);
    for (int i = 0; i < 100; i++)
        strcat(many, "A: b\r\n");
    const struct {
        const char *text;
        int status;
    } bad[] = {
        {"nonsense\r\n\r\n", 400},
        {"GET /healthz HTTP/1.1\r\n\r\n", 400}, /* no Host */
        {"GET /healthz HTTP/3.0\r\nHost: h\r\n\r\n", 505},
        {"GET /healthz HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n", 400},
        {"POST /healthz" HOST "Content-Length: 5\r\n\r\nhello", 413},
        {long_line, 414},
        {many, 431},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        dial(&c);
        ask(GET("/healthz"));
        say(&c, bad[i].text);
        read_answer(&c, false);
        assert_int_equal(a.status, bad[i].status);
        assert_true(has_line("Connection: close"));
        say(&c, GET("/healthz")); /* ignored */
        assert_true(at_end(&c));
        hang_up(&c);
    }
    dial(&c);
    ask(GET("/healthz"));
    assert_int_equal(a.status, 200);
    hang_up(&c);
}

/* A client asks and asks, and does not read: it is answered, and more is read of it, no faster than it reads. */
static void test_never_reads(void **state)
{
    (void)state;
    enum { ASKED = 4000, OTHERS = 2000 };
    struct client greedy;
    static char text[ASKED * sizeof GET("/metrics")];
    char *end = text;
    int unread = 0;
    for (int i = 0; i < ASKED; i++)
        end = stpcpy(end, GET("/metrics"));
    dial(&greedy);
    say(&greedy, text);
    dial(&c);
    for (int i = 0; i < OTHERS; i++) { /* as many turns, in which it could be answered */
        ask(GET("/healthz"));
        assert_int_equal(a.status, 200);
    }
    assert_int_equal(ioctl(greedy.fd, SIOCOUTQ, &unread), 0);
    assert_true(unread > 0);
    for (int i = 0; i < ASKED; i++) {
        read_answer(&greedy, false);
        assert_int_equal(a.status, 200);
    }
    assert_true(nothing_more(&greedy));
    hang_up(&greedy);
    hang_up(&c);
}

/* As above, until the idle timeout. */
static void test_never_reads_at_all(void **state)
{
    (void)state;
    enum { ASKED = 500 };
    struct client greedy;
    static char text[ASKED * sizeof GET("/metrics")], buf[64 * 1024];
    char *end = text;
    ssize_t n;
    for (int i = 0; i < ASKED; i++)
        end = stpcpy(end, GET("/metrics"));
    dial(&greedy);
    say(&greedy, text);
    WAIT_FOR(send(greedy.fd, "\r\n", 2, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EPIPE);
    while ((n = read(greedy.fd, buf, sizeof buf)) > 0)
        continue;
    assert_true(n == 0 || errno == ECONNRESET);
    hang_up(&greedy);
}

static void test_idle_timeout(void **state)
{
    (void)state;
    struct client silent;
    uint64_t begin = fm_now();
    dial(&silent);
    dial(&c);
    say(&silent, "GET /heal"); /* and no more */
    assert_true(at_end(&silent));
    assert_true(fm_now() - begin >= 290 * FM_MS);
    hang_up(&silent);
    assert_true(at_end(&c)); /* never said anything */
    hang_up(&c);

    begin = fm_now();
    dial(&c);
    for (int i = 0; i < 5; i++) { /* each request starts it anew */
        ask(GET("/healthz"));
        assert_int_equal(a.status, 200);
        if (i < 4)
            usleep(100000);
    }
    uint64_t last = fm_now();
    assert_true(at_end(&c));
    assert_true(fm_now() - begin >= 600 * FM_MS && fm_now() - last >= 200 * FM_MS);
    hang_up(&c);
}

/* RFC 9110, 9.3.2: also where the request is refused. */
static void test_refused_head(void **state)
{
    (void)state;
    dial(&c);
    say(&c, "HEAD /healthz HTTP/1.1\r\n\r\n");
    read_answer(&c, true);
    assert_int_equal(a.status, 400);
    assert_true(at_end(&c));
    hang_up(&c);
}

/* So many at once; for one more the one that has been idle for longest goes. */
static void test_connection_limit(void **state)
{
    (void)state;
    static struct client many[LIMIT];
    struct rlimit lim;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
    if (lim.rlim_cur < 4 * LIMIT) {
        lim.rlim_cur = lim.rlim_max < 4 * LIMIT ? lim.rlim_max : 4 * LIMIT;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
    }
    for (int i = 0; i < LIMIT; i++) {
        dial(&many[i]);
        say(&many[i], GET("/healthz"));
        read_answer(&many[i], false);
        assert_int_equal(a.status, 200);
    }
    struct client more[2];
    for (int i = 0; i < 2; i++) { /* served at once, in the place of the one that has been idle for longest */
        say(&many[0], GET("/healthz"));
        read_answer(&many[0], false); /* this one is not */
        dial(&more[i]);
        say(&more[i], GET("/healthz"));
        read_answer(&more[i], false);
        assert_int_equal(a.status, 200);
        assert_true(at_end(&many[i + 1]));
    }
    for (int i = 3; i < LIMIT; i += 50) { /* the others are still there */
        say(&many[i], GET("/healthz"));
        read_answer(&many[i], false);
        assert_int_equal(a.status, 200);
    }
    for (int i = 0; i < LIMIT; i++)
        hang_up(&many[i]);
    for (int i = 0; i < 2; i++)
        hang_up(&more[i]);
}

/* A client that asks for thousands of pages at once gets one in a turn: another one's question is answered in between.
 */
static void test_one_answer_a_turn(void **state)
{
    (void)state;
    enum { MANY = 1000 };
    struct client greedy, other;
    static char text[MANY * sizeof GET("/metrics")];
    char *end = text;
    dial(&greedy);
    dial(&other);
    for (int i = 0; i < MANY; i++)
        end = stpcpy(end, GET("/metrics"));
    unsigned turns = atomic_load(&lt.turns);
    say(&greedy, text);
    say(&other, GET("/healthz"));
    read_answer(&other, false);
    assert_int_equal(a.status, 200);
    WAIT_FOR((read_answer(&greedy, false), a.status == 200));
    for (int i = 1; i < MANY; i++) {
        read_answer(&greedy, false);
        assert_int_equal(a.status, 200);
    }
    assert_true(atomic_load(&lt.turns) - turns >=
                MANY / 3); /* a turn visits the inbox twice, and may read in between */
    hang_up(&greedy);
    hang_up(&other);
}

/* ---- beginning and end ---- */

static void test_url(void **state)
{
    (void)state;
    char url[FM_ADDR_TEXT], expected[64], host[FM_ADDR_TEXT];
    fm_admin_url(admin, url);
    assert_int_not_equal(fm_addr_host(&where.u, host), 0); /* the real port */
    snprintf(expected, sizeof expected, "http://127.0.0.1:%u", fm_addr_host(&where.u, host));
    assert_string_equal(url, expected);
}

static void test_busy_address(void **state)
{
    (void)state;
    char log[64] = "/tmp/fermata-test-XXXXXX", text[512] = "", host[FM_ADDR_TEXT], expected[64];
    int fd = mkstemp(log);
    assert_true(fd >= 0);
    assert_int_equal(fm_log_open(log), 0);
    struct fm_admin *second = fm_admin_new(&where, false, &source);
    assert_int_equal(fm_log_open("-"), 0);
    assert_null(second);
    assert_true(read(fd, text, sizeof text - 1) > 0);
    snprintf(expected, sizeof expected, "127.0.0.1:%u", fm_addr_host(&where.u, host));
    assert_non_null(strstr(text, "--admin-bind"));
    assert_non_null(strstr(text, expected));
    assert_non_null(strstr(text, "in use"));
    close(fd);
    unlink(log);
}

static void test_end(void **state)
{
    (void)state;
    static struct client open[5];
    for (int i = 0; i < 5; i++) {
        dial(&open[i]);
        say(&open[i], GET("/healthz"));
        read_answer(&open[i], false);
    }
    say(&open[4], "GET /met");
    stop_serving();
    for (int i = 0; i < 5; i++) {
        char byte;
        ssize_t n = read(open[i].fd, &byte, 1);
        assert_true(n == 0 || (n < 0 && errno == ECONNRESET)); /* unread bytes make it a reset */
        hang_up(&open[i]);
    }
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, &where.u.sa, where.len), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(fd);
    fm_role_take_loop();
    fm_admin_free(NULL);
    fm_role_drop_loop();
}

/* ---- another program is to go on ---- */

static void test_pause(void **state)
{
    static struct client begun, said_nothing, unread, waits;
    (void)state;
    dial(&c);
    ask(GET("/healthz"));
    dial(&said_nothing);
    dial(&begun);
    say(&begun, "GET /healthz HTTP/1.1\r\n");
    dial(&unread);
    say(&unread, GET("/healthz"));
    read_answer(&unread, false); /* all four are accepted, in this order */
    between_turns(pause_admin);
    assert_true(at_end(&c));
    assert_true(at_end(&unread));
    between_turns(look);
    assert_true(was_busy);
    dial(&waits);
    say(&waits, GET("/healthz"));
    say(&begun, "Host: h\r\n\r\n");
    read_answer(&begun, false);
    assert_int_equal(a.status, 200);
    assert_true(has_line("Connection: close"));
    assert_true(at_end(&begun));
    between_turns(look);
    assert_true(was_busy);
    say(&said_nothing, GET("/readyz"));
    read_answer(&said_nothing, false);
    assert_true(at_end(&said_nothing));
    between_turns(look);
    assert_false(was_busy);
    assert_true(nothing_more(&waits));
    between_turns(resume_admin);
    read_answer(&waits, false);
    assert_true(has_line("Connection: keep-alive"));
    struct client *const all[] = {&c, &said_nothing, &begun, &unread, &waits};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        hang_up(all[i]);
}

/* ---- clients that another process has accepted ---- */

static struct fm_admin *portless;
static const char *head;
static int handed_over;

static void make_portless(struct fm_admin *which) FM_UNCHECKED
{
    (void)which;
    portless = fm_admin_portless(&lt.loop, IDLE, &source);
}

static void take(struct fm_admin *which) FM_UNCHECKED
{
    (void)which;
    fm_admin_take(portless, handed_over, head, strlen(head));
}

static void end_portless(struct fm_admin *which) FM_UNCHECKED
{
    (void)which;
    fm_admin_free(portless);
}

/* A client of which another process has read this. */
static void hand(struct client *k, const char *text)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    k->fd = ends[0];
    k->len = 0;
    set_patience(k->fd);
    handed_over = ends[1];
    head = text;
    between_turns(take);
}

static void test_handed(void **state)
{
    (void)state;
    static const char *const said[] = {GET("/healthz"), GET("/healthz") GET("/readyz"), "GET /heal"};
    between_turns(make_portless);
    for (unsigned i = 0; i < 3; i++) {
        hand(&c, said[i]);
        if (i == 2)
            say(&c, "thz" HOST "\r\n" GET("/readyz"));
        read_answer(&c, false);
        assert_int_equal(a.status, 200);
        assert_string_equal(a.body, "ok\n");
        assert_true(has_line("Connection: close"));
        assert_true(at_end(&c)); /* just the first one is answered */
        hang_up(&c);
    }
    hand(&c, HEAD("/metrics"));
    read_answer(&c, true);
    assert_int_equal(a.status, 200);
    assert_true(at_end(&c));
    hang_up(&c);
    hand(&c, "nonsense\r\n\r\n");
    read_answer(&c, false);
    assert_int_equal(a.status, 400);
    assert_true(at_end(&c));
    hang_up(&c);
    between_turns(end_portless);
}

/* So many at once; for one more the oldest goes. */
static void test_handed_limit(void **state)
{
    enum { MOST = 64 };
    static struct client many[MOST + 1];
    (void)state;
    between_turns(make_portless);
    for (int i = 0; i <= MOST; i++)
        hand(&many[i], "GET /heal");
    assert_true(at_end(&many[0]));
    for (int i = 1; i <= MOST; i++) {
        say(&many[i], "thz" HOST "\r\n");
        read_answer(&many[i], false);
        assert_int_equal(a.status, 200);
        hang_up(&many[i]);
    }
    hang_up(&many[0]);
    hand(&c, "GET /heal"); /* and it is closed with the port */
    between_turns(end_portless);
    assert_true(at_end(&c));
    hang_up(&c);
}

/* ---- clients for another process ---- */

static atomic_int kept = -1; /* what it has been given */
static char kept_head[200];

static int hand_over(void *ctx, unsigned slot, int fd, const char *text, size_t len, struct fm_buf *to)
{
    CHECK(ctx == &lt);
    if (slot != 1) {
        fm_buf_printf(to, "none %u\n", slot);
        return slot == 2 ? 503 : 404;
    }
    snprintf(kept_head, sizeof kept_head, "%.*s", (int)len, text);
    kept = dup(fd);
    return 0;
}

static void put_slots(void *ctx, struct fm_buf *to)
{
    CHECK(ctx == &lt);
    fm_buf_puts(to, "1");
}

static int start_with_workers(void **state)
{
    source.hand_over = hand_over;
    source.slots = put_slots;
    return start(state);
}

static int finish_with_workers(void **state)
{
    int err = finish(state);
    source.hand_over = NULL;
    source.slots = NULL;
    return err;
}

static void test_handed_over(void **state)
{
    static const char request[] = GET("/metrics?x&worker=1"),
                      answer[] = "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\n\r\n";
    (void)state;
    dial(&c);
    ask(GET("/metrics/app"));
    assert_int_equal(a.status, 400);
    assert_string_equal(a.body, "each worker has its own: ?worker=N says which (1)\n");
    ask(GET("/metrics/app?worker=3"));
    assert_int_equal(a.status, 404);
    assert_string_equal(a.body, "none 3\n");
    ask(GET("/metrics?worker=2"));
    assert_int_equal(a.status, 503);
    assert_true(has_line("Connection: keep-alive"));
    ask(GET("/metrics?worker=x"));
    assert_int_equal(a.status, 400);
    ask("POST /metrics?worker=1" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_int_equal(a.status, 400);
    ask(GET("/metrics"));
    assert_int_equal(a.status, 200);
    ask(GET("/healthz?worker=1")); /* it is the one's who is asked */
    assert_int_equal(a.status, 200);
    assert_int_equal(kept, -1);

    say(&c, request);
    WAIT_FOR((between_turns(look), kept >= 0));
    assert_string_equal(kept_head, request);
    assert_true(nothing_more(&c));
    assert_int_equal(write(kept, answer, sizeof answer - 1), sizeof answer - 1);
    read_answer(&c, false);
    assert_int_equal(a.status, 200);
    close(kept);
    kept = -1;
    assert_true(at_end(&c)); /* it was open nowhere else */
    hang_up(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_paths, start, finish),
        cmocka_unit_test_setup_teardown(test_not_found, start, finish),
        cmocka_unit_test_setup_teardown(test_pause, start, finish),
        cmocka_unit_test_setup_teardown(test_method_not_allowed, start, finish),
        cmocka_unit_test_setup_teardown(test_head, start, finish),
        cmocka_unit_test_setup_teardown(test_keep_alive, start, finish),
        cmocka_unit_test_setup_teardown(test_pipelined, start, finish),
        cmocka_unit_test_setup_teardown(test_one_answer_a_turn, start, finish),
        cmocka_unit_test_setup_teardown(test_refused_head, start, finish),
        cmocka_unit_test_setup_teardown(test_byte_by_byte, start, finish),
        cmocka_unit_test_setup_teardown(test_half_closed, start, finish),
        cmocka_unit_test_setup_teardown(test_clients_that_go_away, start, finish),
        cmocka_unit_test_setup_teardown(test_bad_requests, start, finish),
        cmocka_unit_test_setup_teardown(test_never_reads, start_unix, finish),
        cmocka_unit_test_setup_teardown(test_never_reads_at_all, start_unix_impatient, finish),
        cmocka_unit_test_setup_teardown(test_idle_timeout, start_impatient, finish),
        cmocka_unit_test_setup_teardown(test_connection_limit, start, finish),
        cmocka_unit_test_setup_teardown(test_handed, start, finish),
        cmocka_unit_test_setup_teardown(test_handed_limit, start, finish),
        cmocka_unit_test_setup_teardown(test_handed_over, start_with_workers, finish_with_workers),
        cmocka_unit_test_setup_teardown(test_url, start, finish),
        cmocka_unit_test_setup_teardown(test_busy_address, start, finish),
        cmocka_unit_test_setup_teardown(test_end, start, finish),
    };
    signal(SIGPIPE, SIG_IGN); /* as the server does */
    no_longer_than(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

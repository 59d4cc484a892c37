/* Listening sockets: what they bind, what they replace, and accepting that pauses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/tcp.h>
#include <sys/stat.h>

#include "fermata/net/listener.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/log.h"
#include "loopback.h"

enum { RETRY, YIELD };

static const struct fm_listener_options how = {.backlog = 16, .keepalive = 7, .user_timeout = 9000};

static struct fm_loop l;
static char dir[64], path[96];

static struct fm_addr parsed(const char *text)
{
    struct fm_addr addr;
    const char *why;
    assert_int_equal(fm_addr_parse(text, &addr, &why), 0);
    return addr;
}

static struct fm_addr at_path(void)
{
    char text[128];
    snprintf(text, sizeof text, "unix:%s", path);
    return parsed(text);
}

static bool exists(void)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* What connecting says: a socket or a negated errno. */
static int try_connect(const struct fm_addr *addr)
{
    int fd = socket(addr->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    set_patience(fd);
    if (connect(fd, &addr->u.sa, addr->len) == 0)
        return fd;
    int err = -errno;
    close(fd);
    return err;
}

static int start(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/fermata-test-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/socket", dir);
    fm_role_take_loop();
    if (fm_loop_init(&l) != 0)
        return -1;
    fm_timers_define(&l.timers, RETRY, 20 * FM_MS, fm_listener_retry);
    fm_timers_define(&l.timers, YIELD, 5 * FM_MS, fm_listener_yielded);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    fm_loop_fini(&l);
    fm_role_drop_loop();
    unlink(path);
    rmdir(dir);
    return 0;
}

static void open_at(struct fm_listener *li, const struct fm_addr *addr)
{
    const char *what = NULL;
    int err = fm_listener_open(li, addr, &how, &what);
    if (err != 0)
        fail_msg("%s: %s", what, fm_strerror(err));
}

/* ---- opening ---- */

static void test_port_0(void **state)
{
    (void)state;
    static const char *const hosts[] = {"127.0.0.1:0", "[::1]:0"};
    for (int i = 0; i < 2; i++) {
        struct fm_listener a, b;
        struct fm_addr addr = parsed(hosts[i]);
        char host[FM_ADDR_TEXT];
        const char *what;
        if (fm_listener_open(&a, &addr, &how, &what) == -EADDRNOTAVAIL && i == 1)
            continue; /* no IPv6 here */
        open_at(&b, &addr);
        unsigned port = fm_addr_host(&a.addr.u, host);
        assert_string_equal(host, i ? "::1" : "127.0.0.1");
        assert_int_not_equal(port, 0);
        assert_int_not_equal(fm_addr_host(&b.addr.u, host), port);
        int fd = try_connect(&a.addr);
        assert_true(fd >= 0);
        close(fd);
        fm_listener_close(&a);
        assert_int_equal(try_connect(&a.addr), -ECONNREFUSED);
        fm_listener_close(&b);
    }
}

static void test_descriptor(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = parsed("127.0.0.1:0");
    open_at(&li, &addr);
    assert_true(fcntl(li.fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(li.fd, F_GETFD) & FD_CLOEXEC);
    fm_listener_close(&li);
    assert_int_equal(li.fd, -1);
    fm_listener_close(&li);
    assert_int_equal(li.fd, -1);
}

static void test_busy_port(void **state)
{
    (void)state;
    struct fm_listener first, second;
    struct fm_addr addr = parsed("127.0.0.1:0");
    const char *what = NULL;
    open_at(&first, &addr);
    assert_int_equal(fm_listener_open(&second, &first.addr, &how, &what), -EADDRINUSE);
    assert_true(strcmp(what, "bind") == 0 || strcmp(what, "listen") == 0);
    assert_int_equal(second.fd, -1);
    fm_listener_close(&second); /* nothing to close */
    int fd = try_connect(&first.addr);
    assert_true(fd >= 0);
    close(fd);

    struct fm_addr real = first.addr;
    fm_listener_close(&first);
    open_at(&second, &real); /* it is free again */
    fm_listener_close(&second);
}

/* A server that starts anew meets connections of the old one in TIME_WAIT. */
static void test_port_in_time_wait(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = parsed("127.0.0.1:0");
    open_at(&li, &addr);
    struct fm_addr real = li.addr;
    int client = try_connect(&real);
    assert_true(client >= 0);
    int conn = accept(li.fd, NULL, NULL);
    assert_true(conn >= 0);
    close(conn); /* first, so the waiting is its */
    char c;
    assert_int_equal(read(client, &c, 1), 0);
    close(client);
    fm_listener_close(&li);
    open_at(&li, &real);
    fm_listener_close(&li);
}

static void test_address_of_another_machine(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = parsed("192.0.2.1:0"); /* RFC 5737 */
    const char *what = NULL;
    assert_int_equal(fm_listener_open(&li, &addr, &how, &what), -EADDRNOTAVAIL);
    assert_string_equal(what, "bind");
}

/* ---- unix ---- */

static void test_path_is_removed(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = at_path();
    struct stat st;
    open_at(&li, &addr);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_string_equal(li.addr.u.un.sun_path, path);
    int fd = try_connect(&addr);
    assert_true(fd >= 0);
    close(fd);
    fm_listener_close(&li);
    assert_false(exists());

    int other = open(path, O_CREAT | O_WRONLY, 0600); /* another program's by now */
    close(other);
    fm_listener_close(&li);
    assert_true(exists());
}

static void test_stale_socket_is_replaced(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = at_path();
    int old = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(old, &addr.u.sa, addr.len), 0);
    assert_int_equal(listen(old, 1), 0);
    close(old); /* killed: the path is still there */
    assert_int_equal(try_connect(&addr), -ECONNREFUSED);
    open_at(&li, &addr);
    int fd = try_connect(&addr);
    assert_true(fd >= 0);
    close(fd);
    fm_listener_close(&li);
}

static void test_live_socket_is_not_replaced(void **state)
{
    (void)state;
    struct fm_listener first, second;
    struct fm_addr addr = at_path();
    const char *what = NULL;
    open_at(&first, &addr);
    assert_int_equal(fm_listener_open(&second, &addr, &how, &what), -EADDRINUSE);
    assert_string_equal(what, "bind");
    fm_listener_close(&second);
    assert_true(exists()); /* it was never the second one's */
    int fd = try_connect(&addr);
    assert_true(fd >= 0);
    close(fd);
    fm_listener_close(&first);
}

/* Whatever the umask is, which is the same afterwards. */
static void test_mode_of_a_path(void **state)
{
    (void)state;
    static const unsigned modes[] = {0777, 0660, 0600, 0}, wanted[] = {0777, 0660, 0600, 0755};
    struct fm_addr addr = at_path();
    mode_t before = umask(022);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct fm_listener li;
        struct fm_listener_options with = how;
        struct stat st;
        const char *what;
        with.mode = modes[i];
        assert_int_equal(fm_listener_open(&li, &addr, &with, &what), 0);
        assert_int_equal(lstat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, wanted[i]);
        assert_int_equal(umask(022), 022);
        fm_listener_close(&li);
    }
    umask(before);
}

/* A socket that another server has put there meanwhile stays. */
static void test_path_of_a_successor(void **state)
{
    (void)state;
    struct fm_listener first, second;
    struct fm_addr addr = at_path();
    open_at(&first, &addr);
    unlink(path);
    open_at(&second, &addr);
    fm_listener_unlink(&first);
    fm_listener_close(&first);
    assert_true(exists());
    fm_listener_unlink(&second);
    assert_false(exists());
    open_at(&first, &addr);
    fm_listener_close(&second); /* it has removed its own before */
    assert_true(exists());
    fm_listener_close(&first);
    assert_false(exists());
}

/* What an arbiter and its workers do: it leaves the socket to them, and its path to the end; a successor that takes the
 * path meanwhile keeps it, whichever inode the file system gives to that. */
static void test_left_to_others(void **state)
{
    (void)state;
    struct fm_listener first, worker, second;
    struct fm_addr addr = at_path();
    open_at(&first, &addr);
    assert_int_equal(fm_listener_adopt(&worker, dup(first.fd), &how), 0);
    assert_true(worker.shared);
    assert_string_equal(worker.addr.u.un.sun_path, path);
    fm_listener_leave(&first);
    assert_int_equal(first.fd, -1);
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(client, &addr.u.sa, addr.len), 0); /* the worker has it still */
    close(client);
    fm_listener_close(&worker);
    assert_true(exists()); /* which is not the worker's */
    unlink(path);
    open_at(&second, &addr);
    fm_listener_close(&first);
    assert_true(exists());
    fm_listener_close(&second);
    assert_false(exists());
    open_at(&first, &addr);
    fm_listener_leave(&first);
    fm_listener_close(&first);
    assert_false(exists());
}

static void test_no_socket_to_adopt(void **state)
{
    (void)state;
    struct fm_listener li;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fm_listener_adopt(&li, ends[0], &how), -ENOTSOCK);
    assert_int_equal(fm_listener_adopt(&li, 1 << 20, &how), -EBADF);
    close(ends[0]);
    close(ends[1]);
}

/* Of who started this process: it listens, does not block, and its queue is as it was. */
static void test_left_open(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = at_path();
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0), pair[2];
    assert_int_equal(bind(fd, &addr.u.sa, addr.len), 0);
    assert_int_equal(fm_listener_take(&li, fd, &how), 0); /* it only was bound */
    assert_true(fm_listener_is_open(&li) && li.lent && !li.shared);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    int client = try_connect(&addr);
    assert_true(client >= 0);
    close(client);
    fm_listener_close(&li);
    assert_true(exists()); /* it is not ours */
    assert_int_equal(fm_listener_take(&li, udp, &how), -EPROTOTYPE);
    assert_int_equal(fm_listener_take(&li, 1 << 20, &how), -EBADF);
    assert_int_equal(fm_listener_take(&li, l.wake_fd, &how), -EBADF); /* one of our own */
    assert_int_equal(pipe(pair), 0);
    assert_int_equal(fm_listener_take(&li, pair[0], &how), -ENOTSOCK);
    close(pair[0]);
    close(pair[1]);
    close(udp);
    unlink(path);
}

/* A live one that is busy: asking whether it lives must not block. */
static void test_full_backlog(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = at_path();
    const char *what = NULL;
    int busy = socket(AF_UNIX, SOCK_STREAM, 0), waiting[8], n = 0;
    assert_int_equal(bind(busy, &addr.u.sa, addr.len), 0);
    assert_int_equal(listen(busy, 1), 0);
    for (int full = 0; !full && n < 8; n++) {
        waiting[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        full = connect(waiting[n], &addr.u.sa, addr.len) != 0;
        assert_true(!full || errno == EAGAIN);
    }
    assert_true(n < 8);
    uint64_t before = fm_now();
    assert_int_equal(fm_listener_open(&li, &addr, &how, &what), -EADDRINUSE);
    assert_true(fm_now() - before < 10 * FM_SEC);
    assert_string_equal(what, "bind");
    assert_true(exists());
    while (n > 0)
        close(waiting[--n]);
    close(busy);
}

static void test_other_files_are_not_replaced(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = at_path();
    const char *what = NULL;
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(file >= 0);
    close(file);
    assert_int_equal(fm_listener_open(&li, &addr, &how, &what), -EADDRINUSE);
    assert_string_equal(what, "bind");
    assert_true(exists());
    unlink(path);
    assert_int_equal(symlink("nowhere", path), 0);
    assert_int_equal(fm_listener_open(&li, &addr, &how, &what), -EADDRINUSE);
    assert_true(exists());
}

static void test_no_such_directory(void **state)
{
    (void)state;
    struct fm_listener li;
    const char *what = NULL;
    snprintf(path, sizeof path, "%s/no/socket", dir);
    struct fm_addr addr = at_path();
    assert_int_equal(fm_listener_open(&li, &addr, &how, &what), -ENOENT);
    assert_string_equal(what, "bind");
}

/* ---- accepting ---- */

static struct {
    unsigned n;
    int fd[256];
    union fm_sockaddr peer;
    bool pause, end;
} accepted;

static void on_accept(struct fm_listener *li, int fd, const union fm_sockaddr *peer)
{
    fm_assert_on_loop();
    CHECK(li->owner == &accepted && accepted.n < 256);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    accepted.fd[accepted.n++] = fd;
    accepted.peer = *peer;
    if (accepted.pause)
        fm_listener_want(li, false);
    if (accepted.end)
        fm_listener_close(li);
}

static void listen_at(struct fm_listener *li, const struct fm_addr *addr)
{
    memset(&accepted, 0, sizeof accepted);
    open_at(li, addr);
    assert_int_equal(fm_listener_start(li, &l, RETRY, on_accept, &accepted), 0);
}

static void close_accepted(void)
{
    while (accepted.n > 0)
        close(accepted.fd[--accepted.n]);
}

static int connected(const struct fm_listener *li)
{
    int fd = try_connect(&li->addr);
    assert_true(fd >= 0);
    return fd;
}

static void test_accepts(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = parsed("127.0.0.1:0");
    listen_at(&li, &addr);
    for (unsigned i = 1; i <= 3; i++) {
        struct sockaddr_in own;
        socklen_t len = sizeof own;
        int on, fd = connected(&li);
        TURN_UNTIL(&l, accepted.n == i);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &len), 0);
        assert_int_equal(accepted.peer.in.sin_port, own.sin_port);
        assert_int_equal(accepted.peer.in.sin_addr.s_addr, own.sin_addr.s_addr);
        len = sizeof on;
        assert_int_equal(getsockopt(accepted.fd[i - 1], IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
        assert_true(on);
        assert_int_equal(write(accepted.fd[i - 1], "x", 1), 1);
        char c;
        assert_int_equal(read(fd, &c, 1), 1);
        close(fd);
    }
    close_accepted();
    fm_listener_close(&li);
}

static void test_accepts_unix(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = at_path();
    listen_at(&li, &addr);
    int fd = connected(&li);
    TURN_UNTIL(&l, accepted.n == 1);
    assert_int_equal(accepted.peer.sa.sa_family, AF_UNIX);
    close(fd);
    close_accepted();
    fm_listener_close(&li);
    assert_false(exists());
}

/* What waits is accepted before the end, also where accepting was paused, as there is room for it. */
static void test_finish(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = at_path();
    int fds[5];
    listen_at(&li, &addr);
    fm_listener_want(&li, false);
    for (int i = 0; i < 5; i++)
        fds[i] = connected(&li);
    assert_false(fm_listener_finish(&li, 2));
    assert_int_equal(accepted.n, 2);
    assert_false(exists());
    fm_loop_turn(&l, false);
    assert_int_equal(accepted.n, 2); /* there is no room */
    assert_false(fm_listener_finish(&li, 0));
    assert_true(fm_listener_finish(&li, 9));
    assert_int_equal(accepted.n, 5);
    assert_int_equal(li.fd, -1);
    assert_true(fm_listener_finish(&li, 9));
    for (int i = 0; i < 5; i++)
        close(fds[i]);
    close_accepted();
}

static void test_pause_and_resume(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = parsed("127.0.0.1:0");
    int fd[4];
    listen_at(&li, &addr);
    fm_listener_want(&li, true); /* as it is */
    fm_listener_want(&li, false);
    fm_listener_want(&li, false);
    fd[0] = connected(&li); /* the kernel takes it */
    turn_a_while(&l);
    assert_int_equal(accepted.n, 0);
    fm_listener_want(&li, true);
    TURN_UNTIL(&l, accepted.n == 1);

    accepted.pause = true; /* the owner has enough with the next one */
    for (int i = 1; i < 4; i++)
        fd[i] = connected(&li);
    TURN_UNTIL(&l, accepted.n == 2);
    turn_a_while(&l);
    assert_int_equal(accepted.n, 2);
    fm_listener_want(&li, true);
    TURN_UNTIL(&l, accepted.n == 3);
    turn_a_while(&l);
    assert_int_equal(accepted.n, 3);
    accepted.pause = false;
    fm_listener_want(&li, true);
    TURN_UNTIL(&l, accepted.n == 4);
    for (int i = 0; i < 4; i++)
        close(fd[i]);
    close_accepted();
    fm_listener_close(&li);
}

static void test_want_before_start_and_after_close(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = parsed("127.0.0.1:0");
    open_at(&li, &addr);
    fm_listener_want(&li, false);
    fm_listener_want(&li, true);
    memset(&accepted, 0, sizeof accepted);
    assert_int_equal(fm_listener_start(&li, &l, RETRY, on_accept, &accepted), 0);
    int fd = connected(&li);
    TURN_UNTIL(&l, accepted.n == 1);
    close(fd);
    close_accepted();
    fm_listener_close(&li);
    fm_listener_want(&li, false);
    fm_listener_want(&li, true);
    turn_a_while(&l);
}

static bool busy;

static bool is_busy(const struct fm_listener *li)
{
    CHECK(li->owner == &accepted);
    return busy;
}

/* Two of the same socket, as in two processes: the one that is busy takes what the other does not want. */
static void test_busy_one_lets_others_go_first(void **state)
{
    (void)state;
    struct fm_listener li, other;
    struct fm_addr addr = parsed("127.0.0.1:0");
    int fd[8];
    memset(&accepted, 0, sizeof accepted);
    open_at(&li, &addr);
    assert_int_equal(fm_listener_adopt(&other, dup(li.fd), &how), 0);
    li.shared = true;
    li.is_busy = other.is_busy = is_busy;
    li.yield_kind = other.yield_kind = YIELD;
    assert_int_equal(fm_listener_start(&li, &l, RETRY, on_accept, &accepted), 0);
    busy = true;
    for (int i = 0; i < 4; i++)
        fd[i] = connected(&li);
    fm_loop_turn(&l, true);
    assert_int_equal(accepted.n, 0); /* it has let them */
    TURN_UNTIL(&l, accepted.n == 4);
    close_accepted();
    other.owner = &accepted;
    int taken = accept(other.fd, NULL, NULL); /* none has come since */
    assert_true(taken < 0 && errno == EAGAIN);
    fd[4] = connected(&li);
    TURN_UNTIL(&l, li.retry.node.next != &li.retry.node);
    taken = accept(other.fd, NULL, NULL);
    assert_true(taken >= 0);
    turn_a_while(&l);
    assert_int_equal(accepted.n, 0); /* the other one has it */
    fd[5] = connected(&li);          /* and it goes on */
    TURN_UNTIL(&l, accepted.n == 1);
    busy = false;
    fd[6] = connected(&li);
    fd[7] = connected(&li);
    TURN_UNTIL(&l, accepted.n == 3);
    for (int i = 0; i < 8; i++)
        close(fd[i]);
    close(taken);
    close_accepted();
    fm_listener_close(&other);
    fm_listener_close(&li);
}

static void test_closed_by_its_owner(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = parsed("127.0.0.1:0");
    listen_at(&li, &addr);
    accepted.end = true;
    int fd[3] = {connected(&li), connected(&li), connected(&li)};
    TURN_UNTIL(&l, accepted.n == 1);
    turn_a_while(&l);
    assert_int_equal(accepted.n, 1);
    for (int i = 0; i < 3; i++)
        close(fd[i]);
    close_accepted();
}

/* ---- numbers of descriptors that are not the listener's ---- */

/* A free number of a standard stream does not become a connection's; the stream is /dev/null then. */
static void test_standard_stream_closed(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = parsed("127.0.0.1:0");
    listen_at(&li, &addr);
    int saved = fcntl(0, F_DUPFD_CLOEXEC, 3), client = connected(&li);
    close(0);
    TURN_UNTIL(&l, accepted.n == 1);
    assert_true(accepted.fd[0] > 2);
    assert_true(fcntl(0, F_GETFD) >= 0);
    assert_int_equal(write(accepted.fd[0], "x", 1), 1);
    char c;
    assert_int_equal(read(client, &c, 1), 1);
    assert_int_equal(read(0, &c, 1), 0);
    dup2(saved, 0);
    close(saved);
    close(client);
    close_accepted();
    fm_listener_close(&li);
}

static int lost_number;

static bool on_lost(void *ctx, int fd)
{
    CHECK(ctx == &lost_number && accepted.n == 0); /* before the new owner has it */
    lost_number = fd;
    return true;
}

static void test_number_of_another(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = parsed("127.0.0.1:0");
    listen_at(&li, &addr);
    l.lost = on_lost;
    l.lost_ctx = &lost_number;
    lost_number = -1;
    int client = connected(&li), next = dup(client);
    close(next);
    fm_fds_own(next);
    TURN_UNTIL(&l, accepted.n == 1);
    assert_int_equal(lost_number, next);
    assert_int_equal(accepted.fd[0], next);
    accepted.n = 0;
    fm_fds_close(next);
    close(client);
    fm_listener_close(&li);
}

static void test_closed_by_another(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = parsed("127.0.0.1:0");
    listen_at(&li, &addr);
    assert_true(fm_listener_is_open(&li));
    int fd = li.fd, null = open("/dev/null", O_RDWR);
    dup2(null, fd);
    assert_false(fm_listener_is_open(&li));
    fm_listener_lost(&li);
    assert_false(fm_listener_is_open(&li));
    fm_listener_want(&li, false);
    fm_listener_want(&li, true);
    turn_a_while(&l);
    fm_listener_close(&li);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    close(fd);
    close(null);
}

/* ---- no descriptors left ---- */

/* Leaves no descriptor free; returns the limit there was. */
static rlim_t use_up_descriptors(void)
{
    struct rlimit lim;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
    rlim_t before = lim.rlim_cur;
    int next = dup(0);
    assert_true(next >= 0);
    close(next);
    lim.rlim_cur = (rlim_t)next; /* the lowest free one is one too many */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
    return before;
}

static void free_descriptors(rlim_t before)
{
    struct rlimit lim;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
    lim.rlim_cur = before;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
}

static int log_lines(const char *file)
{
    FILE *f = fopen(file, "r");
    int lines = 0, c;
    CHECK(f);
    while ((c = fgetc(f)) != EOF)
        lines += c == '\n';
    fclose(f);
    return lines;
}

/* It says so once, though it works now and then, tries again in a while and not all the time, and goes on when there
 * are some. */
static void test_out_of_descriptors(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = parsed("127.0.0.1:0");
    char log[96];
    snprintf(log, sizeof log, "%s/log", dir);
    assert_int_equal(fm_log_open(log), 0);
    listen_at(&li, &addr);
    for (int round = 1; round <= 2; round++) {
        int fd = connected(&li);
        rlim_t before = use_up_descriptors();
        TURN_UNTIL(&l, li.complained);
        uint64_t until = fm_now() + 100 * FM_MS;
        bool sleeps = false;
        while (fm_now() < until) {
            fm_loop_turn(&l, false);
            sleeps |= event_pending(li.event, EV_READ, NULL) == 0;
        }
        free_descriptors(before);
        assert_true(sleeps);
        assert_int_equal(accepted.n, 0);
        TURN_UNTIL(&l, accepted.n == 1); /* without anything new */
        assert_int_equal(log_lines(log), 1);
        close(fd);
        close_accepted();
    }

    /* Paused meanwhile: the retry does not overrule its owner. */
    int fd = connected(&li);
    rlim_t before = use_up_descriptors();
    TURN_UNTIL(&l, li.complained);
    fm_listener_want(&li, false);
    free_descriptors(before);
    uint64_t until = fm_now() + 60 * FM_MS;
    while (fm_now() < until)
        fm_loop_turn(&l, false);
    assert_int_equal(accepted.n, 0);
    fm_listener_want(&li, true);
    TURN_UNTIL(&l, accepted.n == 1);
    close(fd);
    close_accepted();
    fm_listener_close(&li);
    assert_int_equal(fm_log_open("-"), 0);
    unlink(log);
}

/* Errors that accept(2) reports of the connection it would have accepted (man 2 accept, "Error handling"). */
static int fail_with, fails;

int __real_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    if (fails > 0) {
        fails--;
        errno = fail_with;
        return -1;
    }
    return __real_accept4(fd, addr, len, flags);
}

static void test_errors_of_the_network(void **state)
{
    (void)state;
    static const int errors[] = {ENETDOWN,   EPROTO,      ENOPROTOOPT,  EHOSTDOWN, ENONET, EHOSTUNREACH,
                                 EOPNOTSUPP, ENETUNREACH, ECONNABORTED, EINTR,     EPERM};
    struct fm_listener li;
    struct fm_addr addr = parsed("127.0.0.1:0");
    listen_at(&li, &addr);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        int fd = connected(&li);
        fail_with = errors[i];
        fails = 5;
        TURN_UNTIL(&l, accepted.n == 1); /* the next one, at once */
        assert_int_equal(fails, 0);
        assert_false(li.complained);
        close(fd);
        close_accepted();
    }
    fm_listener_close(&li);
}

/* A listener that has kept descriptors back goes on accepting with them, and keeps them back again. */
static void test_spare_descriptors(void **state)
{
    (void)state;
    struct fm_listener li;
    struct fm_addr addr = parsed("127.0.0.1:0");
    const struct fm_listener_options with_spares = {.backlog = 16, .spares = 2};
    const char *what;
    int clients[3];
    assert_int_equal(fm_listener_open(&li, &addr, &with_spares, &what), 0);
    assert_int_equal(fm_listener_start(&li, &l, RETRY, on_accept, &accepted), 0);
    assert_int_equal(li.nspares, 2);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3; i++)
            clients[i] = connected(&li);
        rlim_t before = use_up_descriptors();
        TURN_UNTIL(&l, accepted.n == 2 && li.complained);
        assert_int_equal(li.nspares, 0);
        free_descriptors(before);
        TURN_UNTIL(&l, accepted.n == 3);
        close_accepted();
        fm_listener_refill(&li);
        assert_int_equal(li.nspares, 2);
        for (int i = 0; i < 3; i++)
            close(clients[i]);
    }
    fm_listener_close(&li);
    assert_int_equal(li.nspares, 0);
}

/* What accepted sockets have inherited. */
static void test_socket_options(void **state)
{
    (void)state;
    static const int options[][2] = {{TCP_NODELAY, 1}, {TCP_KEEPIDLE, 7},        {TCP_KEEPINTVL, 5},
                                     {TCP_KEEPCNT, 3}, {TCP_USER_TIMEOUT, 9000}, {TCP_NOTSENT_LOWAT, FM_NOT_SENT}};
    struct fm_listener li;
    struct fm_addr addr = parsed("127.0.0.1:0");
    listen_at(&li, &addr);
    int fd = connected(&li), value = 0;
    socklen_t len = sizeof value;
    TURN_UNTIL(&l, accepted.n == 1);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        assert_int_equal(getsockopt(accepted.fd[0], IPPROTO_TCP, options[i][0], &value, &len), 0);
        assert_int_equal(i == 0 ? value != 0 : value, options[i][1]);
    }
    assert_int_equal(getsockopt(accepted.fd[0], SOL_SOCKET, SO_KEEPALIVE, &value, &len), 0);
    assert_true(value);
    close(fd);
    close_accepted();
    fm_listener_close(&li);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_port_0, start, finish),
        cmocka_unit_test_setup_teardown(test_descriptor, start, finish),
        cmocka_unit_test_setup_teardown(test_busy_port, start, finish),
        cmocka_unit_test_setup_teardown(test_port_in_time_wait, start, finish),
        cmocka_unit_test_setup_teardown(test_address_of_another_machine, start, finish),
        cmocka_unit_test_setup_teardown(test_path_is_removed, start, finish),
        cmocka_unit_test_setup_teardown(test_stale_socket_is_replaced, start, finish),
        cmocka_unit_test_setup_teardown(test_live_socket_is_not_replaced, start, finish),
        cmocka_unit_test_setup_teardown(test_mode_of_a_path, start, finish),
        cmocka_unit_test_setup_teardown(test_path_of_a_successor, start, finish),
        cmocka_unit_test_setup_teardown(test_left_to_others, start, finish),
        cmocka_unit_test_setup_teardown(test_no_socket_to_adopt, start, finish),
        cmocka_unit_test_setup_teardown(test_left_open, start, finish),
        cmocka_unit_test_setup_teardown(test_full_backlog, start, finish),
        cmocka_unit_test_setup_teardown(test_other_files_are_not_replaced, start, finish),
        cmocka_unit_test_setup_teardown(test_no_such_directory, start, finish),
        cmocka_unit_test_setup_teardown(test_accepts, start, finish),
        cmocka_unit_test_setup_teardown(test_accepts_unix, start, finish),
        cmocka_unit_test_setup_teardown(test_finish, start, finish),
        cmocka_unit_test_setup_teardown(test_pause_and_resume, start, finish),
        cmocka_unit_test_setup_teardown(test_want_before_start_and_after_close, start, finish),
        cmocka_unit_test_setup_teardown(test_busy_one_lets_others_go_first, start, finish),
        cmocka_unit_test_setup_teardown(test_closed_by_its_owner, start, finish),
        cmocka_unit_test_setup_teardown(test_standard_stream_closed, start, finish),
        cmocka_unit_test_setup_teardown(test_number_of_another, start, finish),
        cmocka_unit_test_setup_teardown(test_closed_by_another, start, finish),
        cmocka_unit_test_setup_teardown(test_out_of_descriptors, start, finish),
        cmocka_unit_test_setup_teardown(test_errors_of_the_network, start, finish),
        cmocka_unit_test_setup_teardown(test_spare_descriptors, start, finish),
        cmocka_unit_test_setup_teardown(test_socket_options, start, finish),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

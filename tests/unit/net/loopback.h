/* Sockets and loops for tests: a loop in a thread of its own, or turned by the test; pairs of connected sockets. */
#ifndef FERMATA_TESTS_LOOPBACK_H
#define FERMATA_TESTS_LOOPBACK_H

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "../util/threads.h"
#include "fermata/net/loop.h"

/* ---- a loop that runs ---- */

struct loop_thread {
    struct fm_loop loop;
    atomic_bool stop, ended;
    atomic_uint turns;
    pthread_t thread;
};

static inline void *loop_thread_run(void *arg)
{
    struct loop_thread *lt = arg;
    fm_role_take_loop();
    while (!atomic_load(&lt->stop)) {
        fm_loop_turn(&lt->loop, true);
        atomic_fetch_add(&lt->turns, 1);
    }
    fm_role_drop_loop();
    atomic_store(&lt->ended, true);
    return NULL;
}

static inline void loop_thread_start(struct loop_thread *lt)
{
    atomic_store(&lt->stop, false);
    atomic_store(&lt->ended, false);
    atomic_store(&lt->turns, 0);
    lt->thread = spawn(loop_thread_run, lt);
}

static inline void loop_thread_stop(struct loop_thread *lt)
{
    atomic_store(&lt->stop, true);
    /* A wake-up may come just before the loop goes to sleep, as `stop` is not what it looks at: repeat. */
    for (; !atomic_load(&lt->ended); usleep(100))
        fm_loop_wake(&lt->loop);
    join(lt->thread);
}

static inline bool loop_sleeps(struct loop_thread *lt) { return atomic_load(&lt->loop.asleep); }

/* ---- a loop that the test turns ---- */

/* Turns the loop until x is true; a test that hangs fails. */
#define TURN_UNTIL(loop, x)                                                                                            \
    do {                                                                                                               \
        uint64_t end_ = fm_now() + 30 * FM_SEC;                                                                        \
        while (!(x)) {                                                                                                 \
            CHECK(fm_now() < end_ && #x);                                                                              \
            fm_loop_turn(loop, false);                                                                                 \
        }                                                                                                              \
    } while (0)

/* A few turns, for what must not happen. */
static inline void turn_a_while(struct fm_loop *loop)
{
    for (int i = 0; i < 20; i++) {
        fm_loop_turn(loop, false);
        usleep(500);
    }
}

/* ---- sockets ---- */

static inline void set_nonblocking(int fd) { CHECK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0); }

/* A client never waits for ever. */
static inline void set_patience(int fd)
{
    struct timeval tv = {30, 0};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) == 0);
}

/* fd[0] is non-blocking and small, for a stream; fd[1] is the peer. */
static inline void unix_pair(int fd[2])
{
    int size = 16 * 1024;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
    CHECK(setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    set_nonblocking(fd[0]);
    set_patience(fd[1]);
}

static inline void tcp_pair(int fd[2])
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listener, (struct sockaddr *)&addr, len) == 0 && listen(listener, 1) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&addr, &len) == 0);
    fd[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fd[1], (struct sockaddr *)&addr, len) == 0);
    fd[0] = accept(listener, NULL, NULL);
    CHECK(fd[0] >= 0);
    close(listener);
    set_nonblocking(fd[0]);
    set_patience(fd[1]);
}

/* Closes so that the other side sees a reset. */
static inline void reset(int fd)
{
    struct linger hard = {1, 0};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
    close(fd);
}

static inline int wait_readable(int fd, int ms)
{
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, ms);
}

#endif

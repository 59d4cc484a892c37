/* A daemon that what is tested sends to: a unix socket in /tmp, and what was said of trouble with it. */
#ifndef FERMATA_TESTS_DAEMON_H
#define FERMATA_TESTS_DAEMON_H

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The thread that sends does not end, so each test has one of its own, which stays, and a path of its own. */
static char path[64];
static unsigned tests_run;
static atomic_int troubles;
static _Atomic unsigned long long told;

static void on_trouble(int err, unsigned long long lost)
{
    if (err != 0)
        atomic_fetch_add(&troubles, 1);
    atomic_fetch_add(&told, lost);
}

static int start(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/fermata-unit-daemon-%ld-%u", (long)getpid(), tests_run);
    unlink(path);
    atomic_store(&troubles, 0);
    atomic_store(&told, 0);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static int bound(int type)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    strcpy(addr.sun_path, path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

/* With room for many. */
static int serve(void)
{
    int fd = bound(SOCK_DGRAM), size = 1 << 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return fd;
}

static const char *heard(int fd)
{
    static char text[1 << 17];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    assert_true(n > 0);
    text[n] = '\0';
    return text;
}

#endif

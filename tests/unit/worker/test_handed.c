/* What goes over the control socket: bytes that wake, and clients with what has been read of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fermata/util/err.h"
#include "fermata/worker/handed.h"

static int ends[2]; /* the arbiter's, the worker's */
static struct fm_handed handed;
static char text[65536];

static int begin(void **state)
{
    (void)state;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return -1;
    handed = (struct fm_handed){.any = true, .control_fd = ends[1]};
    return 0;
}

static int end(void **state)
{
    (void)state;
    close(ends[0]);
    close(ends[1]);
    return 0;
}

static void test_in_order(void **state)
{
    int client[2], fd;
    char byte;
    (void)state;
    assert_int_equal(pipe(client), 0);
    assert_int_equal(fm_handed_hear(&handed, text, sizeof text, &fd), 0);
    assert_int_equal(send(ends[0], FM_HANDED_PING, 1, 0), 1);
    assert_int_equal(fm_handed_give_client(ends[0], client[1], "GET / HTTP/1.1\r\n\r\n", 18), 0);
    assert_int_equal(send(ends[0], FM_HANDED_PING, 1, 0), 1);
    close(client[1]); /* it is in the message */

    assert_int_equal(fm_handed_hear(&handed, text, sizeof text, &fd), 1);
    assert_int_equal(fd, -1);
    assert_int_equal(fm_handed_hear(&handed, text, sizeof text, &fd), 18);
    assert_memory_equal(text, "GET / HTTP/1.1\r\n\r\n", 18);
    assert_true(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
    assert_int_equal(write(fd, "x", 1), 1);
    assert_int_equal(read(client[0], &byte, 1), 1);
    close(fd);
    assert_int_equal(read(client[0], &byte, 1), 0); /* nobody else has it open */
    close(client[0]);
    assert_int_equal(fm_handed_hear(&handed, text, sizeof text, &fd), 1);
    assert_int_equal(fd, -1);
    assert_int_equal(fm_handed_hear(&handed, text, sizeof text, &fd), 0);
}

/* A worker that reads nothing: its arbiter is told, and does not wait. */
static void test_full(void **state)
{
    static char head[16384];
    int n = 0, err, heard = 0, fd;
    (void)state;
    memset(head, 'h', sizeof head);
    while ((err = fm_handed_give_client(ends[0], ends[0], head, sizeof head)) == 0)
        assert_true(++n < 1000);
    assert_int_equal(err, -EAGAIN);
    assert_true(n > 0);
    for (; fm_handed_hear(&handed, text, sizeof text, &fd) == (int)sizeof head; heard++)
        close(fd);
    assert_int_equal(heard, n);
}

static void test_gone(void **state)
{
    int fd;
    (void)state;
    close(ends[0]);
    assert_int_equal(fm_handed_hear(&handed, text, sizeof text, &fd), FM_ECLOSED);
    assert_int_equal(fd, -1);
    ends[0] = dup(ends[1]);
    assert_int_equal(fm_handed_give_client(ends[1], 0, "x", 1), -EPIPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_in_order, begin, end),
        cmocka_unit_test_setup_teardown(test_full, begin, end),
        cmocka_unit_test_setup_teardown(test_gone, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

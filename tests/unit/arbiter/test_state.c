/* What an arbiter knows, through the file that another program reads; children and sockets are pretended ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fermata/arbiter/state.h"
#include "fermata/worker/listen.h"

static struct arbiter {
    struct fm_roster roster;
    struct fm_children children;
    struct fm_conns conns;
    struct fm_state state;
} before, after;

static int adopted;

int fm_children_adopt(struct fm_children *c, pid_t pid, unsigned slot, int control_fd, int counters_fd, bool shows)
{
    c->all[adopted].pid = pid;
    c->all[adopted].slot = slot;
    c->all[adopted].control_fd = control_fd;
    c->all[adopted].counters_fd = counters_fd;
    c->all[adopted].shows = shows;
    adopted++;
    return pid == 666 ? -EBADF : 0;
}

int fm_listen_adopt(struct fm_conns *conns, const struct fm_options *o, const int *fds, unsigned n)
{
    (void)o;
    assert_int_equal(n, 1);
    conns->bound[conns->nbound++].listener.fd = fds[0];
    return 0;
}

static void init(struct arbiter *a)
{
    memset(a, 0, sizeof *a);
    a->state = (struct fm_state){.roster = &a->roster, .children = &a->children, .conns = &a->conns, .admin_fd = -1};
    adopted = 0;
}

static struct fm_roster_worker a_worker(pid_t pid, unsigned slot, enum fm_worker_state state)
{
    return (struct fm_roster_worker){.pid = pid,
                                     .slot = slot,
                                     .generation = 7,
                                     .state = (uint8_t)state,
                                     .why = FM_WHY_RELOAD,
                                     .was_ready = true,
                                     .quick = state == FM_WORKER_DRAINING,
                                     .since = 123456789012,
                                     .boot = 5,
                                     .kill_at = UINT64_MAX};
}

/* An arbiter with two workers, one of which drains, and two sockets. */
static void fill(void)
{
    struct fm_listener *l = &before.conns.bound[1].listener;
    init(&before);
    init(&after);
    before.roster = (struct fm_roster){.wanted = 2,
                                       .generation = 8,
                                       .proven = true,
                                       .ever_ready = true,
                                       .reload = FM_RELOAD_DONE,
                                       .random = 4000000000};
    before.roster.workers[3] = a_worker(101, 1, FM_WORKER_DRAINING);
    before.roster.workers[5] = a_worker(102, 0, FM_WORKER_READY);
    before.roster.slots[1] = (struct fm_roster_slot){.delay = 200, .start_at = 123456789099, .exits = 3};
    before.roster.slots[0].exits = 1;
    before.roster.replaced[FM_WHY_MEMORY] = 4;
    before.roster.out_of_memory = 9;
    before.children.all[2].pid = 101;
    before.children.all[2].slot = 1;
    before.children.all[2].control_fd = -1;
    before.children.all[2].shows = true;
    before.children.all[2].counters_fd = dup(0);
    before.children.ended.cell[FM_C_TURNS] = UINT64_MAX / 2;
    before.children.ended_requests[1] = 77;
    before.conns.nbound = 2;
    before.conns.bound[0].listener.fd = dup(0);
    l->fd = dup(0);
    l->lent = true;
    l->device = 12;
    l->inode = 34;
    snprintf(l->path, sizeof l->path, "/run/a b\n\xff");
    before.state.admin_fd = 9;
}

static void empty(void)
{
    close(before.children.all[2].counters_fd);
    close(before.conns.bound[0].listener.fd);
    close(before.conns.bound[1].listener.fd);
}

static void test_there_and_back(void **state)
{
    const struct fm_options *o = NULL;
    const struct fm_listener *l = &before.conns.bound[1].listener;
    (void)state;
    fill();
    before.state.admin = l; /* the same path */
    int fd = fm_state_write(&before.state);
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(fm_state_read(&after.state, fd, o), 0);
    const struct fm_roster *r = &after.roster;
    assert_int_equal(r->wanted, 2);
    assert_int_equal(r->generation, 8);
    assert_true(r->proven && r->ever_ready);
    assert_int_equal(r->reload, FM_RELOAD_DONE);
    assert_int_equal(r->random, 4000000000);
    assert_int_equal(r->slots_used, 2);
    assert_memory_equal(&r->workers[0], &before.roster.workers[3], sizeof r->workers[0]);
    assert_memory_equal(&r->workers[1], &before.roster.workers[5], sizeof r->workers[1]);
    assert_int_equal(r->workers[2].pid, 0);
    assert_memory_equal(r->slots, before.roster.slots, 2 * sizeof r->slots[0]);
    assert_memory_equal(r->replaced, before.roster.replaced, sizeof r->replaced);
    assert_int_equal(r->out_of_memory, 9);
    assert_int_equal(adopted, 1);
    assert_memory_equal(&after.children.all[0], &before.children.all[2], sizeof after.children.all[0]);
    assert_true(after.children.same_counters);
    assert_memory_equal(&after.children.ended, &before.children.ended, sizeof after.children.ended);
    assert_memory_equal(after.children.ended_requests, before.children.ended_requests,
                        sizeof after.children.ended_requests);
    assert_int_equal(after.conns.nbound, 2);
    for (unsigned i = 0; i < 2; i++) {
        const struct fm_listener *was = &before.conns.bound[i].listener, *is = &after.conns.bound[i].listener;
        assert_int_equal(is->fd, was->fd);
        assert_int_equal(is->lent, was->lent);
        assert_int_equal(is->device, was->device);
        assert_int_equal(is->inode, was->inode);
        assert_string_equal(is->path, was->path);
    }
    assert_int_equal(after.state.admin_fd, 9);
    assert_int_equal(after.state.admin_before.device, 12);
    assert_int_equal(after.state.admin_before.inode, 34);
    assert_string_equal(after.state.admin_before.path, l->path);
    empty();
}

/* Which stay open over an exec, so that the program there has them, and do not else. */
static void test_descriptors(void **state)
{
    (void)state;
    fill();
    before.state.admin_fd = -1;
    const int fds[] = {before.children.all[2].counters_fd, before.conns.bound[0].listener.fd,
                       before.conns.bound[1].listener.fd};
    for (int open = 1; open >= 0; open--) {
        fm_state_keep_open(&before.state, open);
        for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
            assert_int_equal(fcntl(fds[i], F_GETFD) & FD_CLOEXEC, open ? 0 : FD_CLOEXEC);
    }
    empty();
}

/* Reads what a program might have written. */
static int read_text(const char *text)
{
    int fd = memfd_create("state", MFD_CLOEXEC);
    init(&after);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    return fm_state_read(&after.state, fd, NULL);
}

#define ALL "fermata 2 1\nroster 2 8 1 1 3 1\n"
#define SOCKET "listener 0 0 0 0 -\n"

static void test_what_is_not_known(void **state)
{
    (void)state;
    assert_int_equal(read_text(ALL SOCKET), 0);
    assert_int_equal(read_text(ALL "a later one's line 1 2 3\nreplaced 200 1\n\n" SOCKET), 0);
    assert_int_equal(read_text(ALL "counters 1 2 3\n" SOCKET), 0); /* it counts other things: they begin anew */
    assert_false(after.children.same_counters);
    assert_int_equal(read_text(ALL "child 7 0 5 6\n" SOCKET), 0); /* of one whose workers showed nothing */
    assert_int_equal(after.children.all[0].pid, 7);
    assert_false(after.children.all[0].shows);
    assert_int_equal(read_text(ALL "child 7 0 5 6 1 9\n" SOCKET), 0);
    assert_true(after.children.all[0].shows);
}

static void test_what_cannot_be_read(void **state)
{
    static const char *const all[] = {
        "",
        "\n",
        "roster 2 8 1 1 3 1\n" SOCKET,
        "fermata 1 1\nroster 2 8 1 1 3 1\n" SOCKET,   /* another form */
        "fermata 2 1\n" SOCKET,                       /* nothing serves */
        "fermata 2 1\nroster 2 8 1 0 3 1\n" SOCKET,   /* nor has ever */
        ALL,                                          /* no socket */
        "fermata 2 1\nroster 0 8 1 1 3 1\n" SOCKET,   /* none is wanted */
        "fermata 2 1\nroster 257 8 1 1 3 1\n" SOCKET, /* more than there can be */
        "fermata 2 1\nroster 2 8 1 1 3\n" SOCKET,     /* cut */
        ALL SOCKET "worker 1 0 1 9 1 1 1 1 0 1\n",    /* in no state */
        ALL SOCKET "worker 0 0 1 1 1 1 1 1 0 1\n",    /* no process */
        ALL SOCKET "worker 5 256 1 1 1 1 1 1 0 1\n",  /* in no slot */
        ALL SOCKET "worker 5 0 1 1 1 1 1 99 0 1\n",   /* for no reason */
        ALL SOCKET "slot 256 1 1 1\n",
        ALL SOCKET "child 666 0 5 6\n", /* which is not there */
        ALL SOCKET "child 0 0 5 6\n",
        ALL SOCKET "replaced x\n",
        ALL "listener 0 0 0\n",
        ALL "listener 0 0 0 0 2f\n", /* its path is cut */
        ALL "listener 0 0 0 0 2x-\n",
        ALL "listener 99999 0 0 0 -\n", /* which is not open */
        ALL SOCKET "admin\n",
        ALL SOCKET "admin-path 9 0 0\n",
        ALL SOCKET "admin-path 9 0 0 0 2f\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (read_text(all[i]) == 0)
            fail_msg("it reads number %zu: %s", i, all[i]);
}

/* As many as a roster has places for, and one more. */
static void test_too_many(void **state)
{
    static char text[(2 * FM_WORKERS_MAX + 2) * 64];
    size_t n = (size_t)snprintf(text, sizeof text, ALL SOCKET);
    (void)state;
    for (int i = 1; i <= 2 * FM_WORKERS_MAX; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "worker %d 0 1 1 1 1 1 1 0 1\n", i);
    assert_int_equal(read_text(text), 0);
    snprintf(text + n, sizeof text - n, "worker 9999 0 1 1 1 1 1 1 0 1\n");
    assert_int_not_equal(read_text(text), 0);
    n = (size_t)snprintf(text, sizeof text, ALL);
    for (int i = 0; i <= FM_MAX_LISTENERS; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, SOCKET);
    assert_int_not_equal(read_text(text), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),    cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_what_is_not_known), cmocka_unit_test(test_what_cannot_be_read),
        cmocka_unit_test(test_too_many),
    };
    fm_role_take_loop();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

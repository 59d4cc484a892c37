/* server/conns: accepting, the limit, the drain, over a listening socket. */
#include "serving.h"

#include "fermata/server/conns.h"
#include "fermata/util/fds.h"

#define GET "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
#define CLIENTS 5

static struct fm_conns conns;
static struct client clients[CLIENTS];
static unsigned nones;

static void on_none(struct fm_conns *which)
{
    assert_ptr_equal(which, &conns);
    assert_int_equal(which->count, 0);
    nones++;
}

static int start_with(void **state, unsigned most)
{
    const struct fm_listener_options how = {.backlog = 16};
    struct fm_addr addr;
    const char *why;
    if (serving_start(state) != 0 || fm_addr_parse("127.0.0.1:0", &addr, &why) != 0)
        return -1;
    memset(&conns, 0, sizeof conns);
    nones = 0;
    fm_conns_init(&conns, &on.service, most, on_none);
    fm_timers_define(&on.loop.timers, FM_T_ACCEPT, FM_SEC, fm_listener_retry);
    struct fm_bound *bound = &conns.bound[conns.nbound++];
    if (fm_listener_open(&bound->listener, &addr, &how, &why) != 0)
        return -1;
    strcpy(bound->name, "name");
    strcpy(bound->port, "80");
    return fm_conns_start(&conns);
}

static int start(void **state) { return start_with(state, 100); }
static int start_with_two(void **state) { return start_with(state, 2); }

static int finish(void **state)
{
    fm_conns_close(&conns);
    assert_int_equal(conns.count, 0);
    assert_true(fm_list_empty(&conns.list));
    for (unsigned i = 0; i < CLIENTS; i++)
        if (clients[i].fd > 0)
            close(clients[i].fd);
    memset(clients, 0, sizeof clients);
    for (unsigned i = 0; i < conns.nbound; i++)
        fm_listener_close(&conns.bound[i].listener);
    return serving_finish(state);
}

static void dial(unsigned i)
{
    const struct fm_addr *to = &conns.bound[0].listener.addr;
    clients[i] = (struct client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    set_patience(clients[i].fd);
    assert_int_equal(connect(clients[i].fd, &to->u.sa, to->len), 0);
}

static void hang_up(unsigned i)
{
    close(clients[i].fd);
    clients[i].fd = 0;
}

static void test_accepts(void **state)
{
    (void)state;
    uint64_t before = counted(FM_C_CONNS_TOTAL), open = counted(FM_C_CONNS);
    for (unsigned i = 0; i < 3; i++)
        dial(i);
    TURN_UNTIL(&on.loop, conns.count == 3);
    assert_int_equal(counted(FM_C_CONNS_TOTAL), before + 3);
    assert_int_equal(counted(FM_C_CONNS), open + 3);
    struct fm_http1 *c = FM_LIST_ENTRY(conns.list.next, struct fm_http1, node);
    assert_string_equal(c->exchange.call.peer.remote_addr, "127.0.0.1");
    assert_true(c->exchange.call.peer.remote_port > 0);
    assert_string_equal(c->exchange.call.peer.server_name, "name");
    hang_up(1);
    TURN_UNTIL(&on.loop, conns.count == 2);
    assert_int_equal(counted(FM_C_CONNS), open + 2);
    assert_int_equal(nones, 0);
}

static unsigned firsts;

static void on_client(struct fm_service *service)
{
    assert_ptr_equal(service, &on.service);
    firsts++;
}

/* The first client after there was none is told of, and no other. */
static void test_the_first_one(void **state)
{
    (void)state;
    firsts = 0;
    on.service.on_client = on_client;
    for (unsigned i = 0; i < 3; i++)
        dial(i);
    TURN_UNTIL(&on.loop, conns.count == 3);
    assert_int_equal(firsts, 1);
    for (unsigned i = 0; i < 3; i++)
        hang_up(i);
    TURN_UNTIL(&on.loop, conns.count == 0);
    dial(3);
    TURN_UNTIL(&on.loop, conns.count == 1);
    assert_int_equal(firsts, 2);
}

static void test_limit(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        dial(i);
    TURN_UNTIL(&on.loop, conns.count == 2);
    turn_a_while(&on.loop);
    assert_int_equal(conns.count, 2);
    hang_up(0);
    TURN_UNTIL(&on.loop, (say(&clients[2], GET), settle(), responses(&clients[2]) > 0));
    assert_int_equal(conns.count, 2);
}

static void test_lost_descriptor(void **state)
{
    (void)state;
    dial(0);
    TURN_UNTIL(&on.loop, conns.count == 1);
    int fd = fm_stream_fd(&FM_LIST_ENTRY(conns.list.next, struct fm_http1, node)->stream);
    assert_false(fm_conns_lost(&conns, fd + 1000));
    assert_true(fm_conns_lost(&conns, fd));
    assert_int_equal(conns.count, 0);
    fm_fds_close(fd); /* its number is to be had again */
}

static void drain(void)
{
    atomic_store(&on.service.leaving, true);
    atomic_store(&on.service.draining, true);
    fm_conns_drain(&conns);
}

static void test_drain_of_none(void **state)
{
    (void)state;
    drain();
    assert_int_equal(nones, 1);
    assert_int_equal(conns.bound[0].listener.fd, -1);
}

static void test_drain(void **state)
{
    (void)state;
    dial(0);
    TURN_UNTIL(&on.loop, conns.count == 1);
    say(&clients[0], GET);
    settle();
    dial(1); /* it has arrived, and nothing of it is read yet */
    say(&clients[1], GET);
    drain();
    assert_int_equal(conns.count, 1); /* the idle one has ended, the new one was accepted */
    assert_int_equal(nones, 0);
    settle();
    assert_int_equal(responses(&clients[1]), 1);
    assert_non_null(strstr(clients[1].text, "Connection: close"));
    assert_true(clients[1].at_end); /* our direction: it lingers */
    hang_up(1);
    TURN_UNTIL(&on.loop, nones > 0);
    assert_int_equal(nones, 1);
}

/* What waited when the limit was reached comes in turn. */
static void test_drain_beyond_the_limit(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CLIENTS; i++) {
        dial(i);
        say(&clients[i], GET);
    }
    TURN_UNTIL(&on.loop, conns.count == 2);
    drain();
    for (unsigned i = 0; i < CLIENTS; i++) {
        TURN_UNTIL(&on.loop, (run_steps(), responses(&clients[i]) == 1));
        assert_true(conns.count <= 2);
        hang_up(i);
    }
    TURN_UNTIL(&on.loop, nones > 0);
    assert_int_equal(conns.bound[0].listener.fd, -1);
}

static void test_expire(void **state)
{
    (void)state;
    on.step = wait_for_ever;
    for (unsigned i = 0; i < 3; i++)
        dial(i);
    TURN_UNTIL(&on.loop, conns.count == 3);
    say(&clients[0], GET);
    say(&clients[1], "GET / HT");
    settle();
    drain();
    fm_conns_expire(&conns);
    assert_true(has_status(&clients[0], 503));
    assert_true(has_status(&clients[1], 503));
    hear(&clients[2]);
    assert_true(clients[2].at_end && clients[2].len == 0);
    assert_int_equal(conns.count, 2);
    settle(); /* the last step */
    hang_up(0);
    hang_up(1);
    TURN_UNTIL(&on.loop, nones > 0);
}

static void test_pause(void **state)
{
    (void)state;
    fm_conns_pause(&conns, true);
    dial(0);
    turn_a_while(&on.loop);
    assert_int_equal(conns.count, 0);
    fm_conns_pause(&conns, false);
    TURN_UNTIL(&on.loop, conns.count == 1);
}

/* The limit is reached, or not any more, while accepting is paused. */
static void test_pause_and_limit(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        dial(i);
    TURN_UNTIL(&on.loop, conns.count == 2);
    fm_conns_pause(&conns, true);
    fm_conns_pause(&conns, false);
    turn_a_while(&on.loop);
    assert_int_equal(conns.count, 2);
    fm_conns_pause(&conns, true);
    hang_up(0);
    TURN_UNTIL(&on.loop, conns.count == 1);
    turn_a_while(&on.loop);
    assert_int_equal(conns.count, 1);
    fm_conns_pause(&conns, false);
    TURN_UNTIL(&on.loop, conns.count == 2);
}

/* What a drain accepts is accepted, paused or not. */
static void test_pause_and_drain(void **state)
{
    (void)state;
    fm_conns_pause(&conns, true);
    dial(0);
    say(&clients[0], GET);
    drain();
    assert_int_equal(conns.count, 1);
    fm_conns_pause(&conns, false);
    settle();
    assert_int_equal(responses(&clients[0]), 1);
}

/* Sends the first block of a response where a stream was asked for, and waits for ever. */
static void begin_to_stream(struct fm_call *call)
{
    const char *why;
    struct fm_response r = {.length = -1};
    if (!fm_task_aborted(&call->task) && strcmp(on.target, "/stream") == 0) {
        assert_int_equal(fm_response_start(&r, "200 OK", 6, &why), 0);
        assert_int_equal(fm_writer_set_response(&call->writer, &r), 0);
        fm_writer_block(&call->writer, "data", 4, false);
        fm_writer_flush(&call->writer, UINT64_MAX);
        fm_response_fini(&r);
    }
    wait_for_ever(call);
}

static void test_streams(void **state)
{
    (void)state;
    unsigned ended = 0;
    on.step = begin_to_stream;
    for (unsigned i = 0; i < CLIENTS; i++)
        dial(i);
    TURN_UNTIL(&on.loop, conns.count == CLIENTS);
    for (unsigned i = 0; i < 3; i++) {
        say(&clients[i], "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
        settle();
        assert_true(has_status(&clients[i], 200));
    }
    say(&clients[3], GET); /* has sent nothing yet; the last has said nothing */
    settle();
    assert_int_equal(fm_conns_streams(&conns, 0), 3);
    assert_int_equal(fm_conns_streams(&conns, 2), 3);
    settle();
    for (unsigned i = 0; i < CLIENTS; i++) {
        hear(&clients[i]);
        ended += clients[i].at_end;
    }
    assert_int_equal(ended, 2);
    assert_int_equal(fm_conns_streams(&conns, 5), 1);
    settle();
    assert_int_equal(fm_conns_streams(&conns, 5), 0);
    assert_int_equal(conns.count, 2);
    hang_up(3);
    settle();
    assert_int_equal(conns.count, 1);
}

static unsigned visits[CLIENTS];

static void visit(struct fm_http1 *c, void *arg)
{
    assert_ptr_equal(arg, &conns);
    unsigned port = c->exchange.call.peer.remote_port;
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct sockaddr_in own;
        socklen_t len = sizeof own;
        if (clients[i].fd > 0 && getsockname(clients[i].fd, (struct sockaddr *)&own, &len) == 0 &&
            ntohs(own.sin_port) == port)
            visits[i]++;
    }
}

static bool walk_on(bool first, unsigned most) { return fm_conns_visit(&conns, first, most, visit, &conns); }

/* In parts; the one that would come next goes, and so does the last; a walk that is not ended begins anew. */
static void test_visit(void **state)
{
    (void)state;
    memset(visits, 0, sizeof visits);
    assert_true(walk_on(true, 10));
    for (unsigned i = 0; i < 4; i++) {
        dial(i);
        TURN_UNTIL(&on.loop, conns.count == i + 1);
    }
    assert_false(walk_on(true, 3));
    assert_true(walk_on(false, 3));
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(visits[i], 1);
    assert_true(walk_on(false, 3)); /* it has ended */
    assert_false(walk_on(true, 1));
    hang_up(1);
    TURN_UNTIL(&on.loop, conns.count == 3);
    assert_false(walk_on(false, 1));
    assert_int_equal(visits[2], 2);
    hang_up(3);
    TURN_UNTIL(&on.loop, conns.count == 2);
    assert_true(walk_on(false, 1));
    assert_true(walk_on(true, 2));
    assert_int_equal(visits[0], 3);
    assert_int_equal(visits[2], 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)
#define TEST_OF_TWO(name) cmocka_unit_test_setup_teardown(name, start_with_two, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_accepts),         TEST_OF_TWO(test_limit), TEST(test_lost_descriptor),
        TEST(test_drain_of_none),   TEST(test_drain),        TEST_OF_TWO(test_drain_beyond_the_limit),
        TEST(test_expire),          TEST(test_pause),        TEST_OF_TWO(test_pause_and_limit),
        TEST(test_pause_and_drain), TEST(test_streams),      TEST(test_the_first_one),
        TEST(test_visit),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

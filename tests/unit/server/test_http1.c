/* server/http1: a connection over a pair of sockets, with steps that the test writes. */
#include "serving.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"

static struct fm_http1 *c;
static struct client k;
static unsigned closed;

static void on_closed(struct fm_http1 *which)
{
    assert_ptr_equal(which, c);
    assert_ptr_equal(which->owner, &k);
    assert_int_equal(which->state, FM_HTTP1_CLOSED);
    closed++;
}

static const struct fm_peer peer = {"192.0.2.7", 4711, "h", "80", NULL};

static int start(void **state)
{
    int fds[2];
    if (serving_start(state) != 0)
        return -1;
    unix_pair(fds);
    k = (struct client){.fd = fds[1]};
    closed = 0;
    return fm_http1_new(&c, &on.service, fds[0], &peer, &k, on_closed);
}

static int finish(void **state)
{
    if (closed == 0)
        fm_http1_close(c);
    assert_int_equal(closed, 1);
    close(k.fd);
    return serving_finish(state);
}

static void check_answered(unsigned n)
{
    settle();
    assert_int_equal(responses(&k), n);
    assert_int_equal(on.steps, n);
    assert_int_equal(c->state, FM_HTTP1_READING);
    assert_false(k.at_end);
}

static void test_requests_one_after_another(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= 3; i++) {
        say(&k, GET("/one"));
        turn();
        assert_int_equal(c->state, FM_HTTP1_BUSY);
        assert_int_equal(fm_task_state(&c->exchange.call.task), FM_TASK_QUEUED);
        check_answered(i);
        assert_int_equal(c->timing, FM_T_KEEP_ALIVE);
    }
    assert_true(has_status(&k, 200));
    assert_string_equal(on.target, "/one");
    expires(&c->timer, fm_http1_timeout_idle);
    assert_int_equal(closed, 1);
}

static void test_pipelined(void **state)
{
    (void)state;
    say(&k, GET("/one") GET("/two") "GET /three HTTP/1.1\r\n");
    check_answered(2);
    assert_string_equal(on.target, "/two");
    assert_int_equal(c->timing, FM_T_HEADER);
    say(&k, "Host: h\r\n\r\n");
    check_answered(3);
    assert_string_equal(on.target, "/three");
}

static void test_byte_by_byte(void **state)
{
    (void)state;
    const char *text = "POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    for (const char *p = text; *p; p++) {
        char byte[2] = {*p, '\0'};
        say(&k, byte);
        turn();
        if (p[1] && p - text > 50)
            assert_int_equal(c->timing, FM_T_BODY);
    }
    check_answered(1);
}

static void test_read_ahead(void **state)
{
    (void)state;
    say(&k, GET("/one"));
    turn();
    for (int i = 0; i < 4; i++) /* while it is being served */
        say(&k, GET("/ahead"));
    turn();
    assert_true(fm_buf_size(&c->ahead) > 0);
    assert_true(atomic_load(&c->exchange.more) && atomic_load(&c->exchange.urgent));
    check_answered(5);
    assert_int_equal(fm_buf_size(&c->ahead), 0);
}

static void test_malformed(void **state)
{
    (void)state;
    say(&k, "GET  /\r\n\r\n");
    settle();
    assert_true(has_status(&k, 400));
    assert_int_equal(c->state, FM_HTTP1_LINGERING);
    assert_true(k.at_end); /* our direction is ended */
    say(&k, GET("/late"));
    settle();
    assert_int_equal(on.steps, 0);
    assert_int_equal(closed, 0);
    shutdown(k.fd, SHUT_WR);
    turn();
    assert_int_equal(closed, 1);
}

static void test_linger_is_bounded(void **state)
{
    (void)state;
    say(&k, "nonsense\r\n\r\n");
    settle();
    assert_int_equal(c->state, FM_HTTP1_LINGERING);
    expires(&c->timer, fm_http1_timeout_linger);
    assert_int_equal(closed, 1);
}

static void test_half_a_head(void **state)
{
    (void)state;
    say(&k, "GET / HT");
    settle();
    assert_int_equal(c->timing, FM_T_HEADER);
    expires(&c->timer, fm_http1_timeout_header);
    assert_true(has_status(&k, 408));
    assert_int_equal(c->state, FM_HTTP1_LINGERING);
}

static void test_nothing_said(void **state)
{
    (void)state;
    expires(&c->timer, fm_http1_timeout_header);
    assert_int_equal(closed, 1);
    hear(&k);
    assert_true(k.at_end && k.len == 0);
}

static void test_half_a_body(void **state)
{
    (void)state;
    say(&k, "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    settle();
    assert_true(has_status(&k, 100));
    say(&k, "hel");
    settle();
    forget(&k);
    expires(&c->timer, fm_http1_timeout_body);
    assert_true(has_status(&k, 408));
}

static void test_client_closes(void **state)
{
    (void)state;
    say(&k, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    settle();
    assert_true(has_status(&k, 200));
    assert_non_null(strstr(k.text, "Connection: close"));
    assert_int_equal(closed, 1); /* it has said that it sends nothing more */
}

static void test_gone_before_it_began(void **state)
{
    (void)state;
    uint64_t before = counted(FM_C_GONE_QUEUED);
    say(&k, GET("/"));
    turn();
    assert_int_equal(c->state, FM_HTTP1_BUSY);
    fm_stream_lost(&c->stream); /* as by a reset */
    assert_int_equal(closed, 1);
    run_steps();
    assert_int_equal(on.steps, 0);
    assert_int_equal(counted(FM_C_GONE_QUEUED), before + 1);
}

static void test_gone_while_parked(void **state)
{
    (void)state;
    on.step = wait_for_ever;
    say(&k, GET("/"));
    settle();
    assert_int_equal(fm_task_state(&c->exchange.call.task), FM_TASK_PARKED);
    shutdown(k.fd, SHUT_WR); /* without --allow-half-close that is as good as gone */
    turn();
    assert_int_equal(closed, 0); /* its last step is to come */
    settle();
    assert_int_equal(on.steps, 2);
    assert_int_equal(closed, 1);
}

static void test_half_close_allowed(void **state)
{
    (void)state;
    on.options.allow_half_close = true;
    say(&k, GET("/"));
    turn();
    shutdown(k.fd, SHUT_WR);
    settle();
    assert_true(has_status(&k, 200));
    assert_int_equal(closed, 1); /* no more requests can come */
}

static void test_queue_is_full(void **state)
{
    (void)state;
    struct fm_http1 *first = c, *second;
    struct client other = {0};
    int fds[2];
    on.options.limit_queue = 1;
    on.sched.running = 1; /* its only thread is busy */
    say(&k, GET("/"));
    turn();
    assert_int_equal(first->state, FM_HTTP1_BUSY);
    unix_pair(fds);
    other.fd = fds[1];
    assert_int_equal(fm_http1_new(&second, &on.service, fds[0], &peer, &k, on_closed), 0);
    say(&other, GET("/"));
    turn();
    assert_true(has_status(&other, 503));
    assert_int_equal(second->state, FM_HTTP1_LINGERING);
    on.sched.running = 0;
    c = second; /* as on_closed expects */
    close(other.fd);
    turn();
    assert_int_equal(closed, 1);
    closed = 0;
    c = first;
    check_answered(1);
}

static void test_drained_while_idle(void **state)
{
    (void)state;
    say(&k, GET("/"));
    check_answered(1);
    atomic_store(&on.service.draining, true);
    fm_http1_drain(c);
    assert_int_equal(closed, 1);
}

static void test_drained_while_busy(void **state)
{
    (void)state;
    say(&k, GET("/one"));
    turn();
    atomic_store(&on.service.leaving, true);
    atomic_store(&on.service.draining, true);
    say(&k, GET("/two")); /* it has arrived, though it is not read yet */
    fm_http1_drain(c);
    settle();
    assert_int_equal(on.steps, 2);
    assert_int_equal(responses(&k), 2);
    assert_non_null(strstr(k.text, "Connection: close"));
    assert_int_equal(c->state, FM_HTTP1_LINGERING);
}

static void test_drained_before_its_first_request(void **state)
{
    (void)state;
    atomic_store(&on.service.draining, true);
    fm_http1_drain(c);
    assert_int_equal(c->timing, FM_T_DRAIN);
    say(&k, GET("/"));
    settle();
    assert_true(has_status(&k, 200));
    assert_int_equal(closed, 1); /* served, and the next one has not arrived */
}

static void test_drain_has_little_time(void **state)
{
    (void)state;
    atomic_store(&on.service.draining, true);
    fm_http1_drain(c);
    expires(&c->timer, fm_http1_timeout_drain);
    assert_int_equal(closed, 1);
}

static void test_expires_while_parked(void **state)
{
    (void)state;
    on.step = wait_for_ever;
    say(&k, GET("/"));
    settle();
    fm_http1_expire(c);
    assert_true(has_status(&k, 503));
    settle();
    assert_int_equal(on.steps, 2);
    assert_int_equal(c->state, FM_HTTP1_LINGERING);
}

static void test_expires_with_half_a_request(void **state)
{
    (void)state;
    say(&k, "GET / HT");
    settle();
    fm_http1_expire(c);
    assert_true(has_status(&k, 503));
}

/* In the turn in which it was closed it may still be called. */
static void test_closed_does_nothing(void **state)
{
    (void)state;
    fm_http1_close(c);
    fm_http1_close(c);
    fm_http1_drain(c);
    fm_http1_expire(c);
    fm_http1_stored(c);
    assert_int_equal(closed, 1);
    assert_int_equal(c->state, FM_HTTP1_CLOSED);
    turn(); /* freed */
    hear(&k);
    assert_true(k.at_end && k.len == 0);
}

static void test_table_of_moves(void **state)
{
    (void)state;
    for (unsigned from = 0; from < FM_HTTP1_STATE_COUNT; from++) {
        assert_false(fm_http1_move_allowed(FM_HTTP1_CLOSED, from));
        assert_int_equal(fm_http1_move_allowed(from, FM_HTTP1_CLOSED), from != FM_HTTP1_CLOSED);
        assert_false(fm_http1_move_allowed(from, from));
        assert_string_not_equal(fm_http1_state_name(from), "?");
    }
    assert_false(fm_http1_move_allowed(FM_HTTP1_LINGERING, FM_HTTP1_READING));
    assert_string_equal(fm_http1_state_name(FM_HTTP1_STATE_COUNT), "?");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_requests_one_after_another),
        TEST(test_pipelined),
        TEST(test_byte_by_byte),
        TEST(test_read_ahead),
        TEST(test_malformed),
        TEST(test_linger_is_bounded),
        TEST(test_half_a_head),
        TEST(test_nothing_said),
        TEST(test_half_a_body),
        TEST(test_client_closes),
        TEST(test_gone_before_it_began),
        TEST(test_gone_while_parked),
        TEST(test_half_close_allowed),
        TEST(test_queue_is_full),
        TEST(test_drained_while_idle),
        TEST(test_drained_while_busy),
        TEST(test_drained_before_its_first_request),
        TEST(test_drain_has_little_time),
        TEST(test_expires_while_parked),
        TEST(test_expires_with_half_a_request),
        TEST(test_closed_does_nothing),
        cmocka_unit_test(test_table_of_moves),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

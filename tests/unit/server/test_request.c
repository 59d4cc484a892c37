/* server/request: one exchange over a stream, without a connection: begun, run, sent, ended from outside. */
#include "serving.h"

#include "fermata/server/access.h"
#include "fermata/util/err.h"

static struct fm_exchange x;
static struct fm_stream stream;
static struct fm_parser *parser;
static struct client k;
static unsigned overs;
static bool broken;

static void on_over(struct fm_exchange *which, bool is_broken)
{
    assert_ptr_equal(which, &x);
    assert_int_equal(fm_thread_on_loop, 1);
    overs++;
    broken = is_broken;
    fm_request_free(fm_exchange_drop(which));
}

static void on_data(struct fm_stream *s, const char *data, size_t len) { (void)s, (void)data, (void)len; }
static void on_end(struct fm_stream *s, int err) { (void)s, (void)err; }

/* As http1.c does. */
static void on_output(struct fm_stream *s)
{
    if (overs == 0 && fm_stream_is_dead(s))
        fm_exchange_end(&x, FM_END_GONE);
    if (overs == 0)
        fm_exchange_output(&x);
}

static const struct fm_stream_ops stream_ops = {NULL, on_data, on_end, on_output};
static const struct fm_peer peer = {"192.0.2.7", 4711, "h", "80", NULL};

static int start(void **state)
{
    int fds[2];
    if (serving_start(state) != 0)
        return -1;
    unix_pair(fds);
    k = (struct client){.fd = fds[1]};
    overs = 0;
    memset(&x, 0, sizeof x);
    if (fm_stream_init(&stream, &on.loop, fm_plain(fds[0]), &stream_ops) != 0)
        return -1;
    fm_exchange_init(&x, &on.service, &stream, &peer, on_over);
    parser = fm_parser_new(&on.options.limits);
    return 0;
}

static int finish(void **state)
{
    struct fm_request *left = fm_exchange_close(&x);
    assert_null(left);
    fm_exchange_fini(&x);
    fm_stream_fini(&stream);
    fm_parser_free(parser);
    close(k.fd);
    return serving_finish(state);
}

static void begin(const char *text)
{
    size_t used = 0, at = 0, len = strlen(text);
    while (fm_parser_feed(parser, text + at, len - at, &used) == FM_PARSE_HEAD)
        at += used;
    struct fm_request *r = fm_parser_take(parser);
    assert_non_null(r);
    fm_exchange_begin(&x, r);
    assert_int_equal(fm_task_state(&x.call.task), FM_TASK_QUEUED);
}

#define GET "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

static void check_over(bool is_broken)
{
    assert_int_equal(overs, 1);
    assert_int_equal(broken, is_broken);
    assert_int_equal(fm_task_state(&x.call.task), FM_TASK_IDLE);
    assert_null(x.call.request);
    assert_true(fm_list_empty(&x.deadline.node) && fm_list_empty(&x.queue_timer.node));
}

/* ---- it is served ---- */

static void test_served(void **state)
{
    (void)state;
    uint64_t before = counted(FM_C_REQ_2XX);
    begin(GET);
    settle();
    check_over(false);
    assert_true(has_status(&k, 200));
    assert_true(x.call.writer.framer.keep);
    assert_true(x.over >= x.begun);
    assert_int_equal(counted(FM_C_REQ_2XX), before + 1);
    overs = 0;
    forget(&k);
    begin(GET); /* the next one */
    settle();
    check_over(false);
    assert_true(has_status(&k, 200));
}

static void test_leaving(void **state)
{
    (void)state;
    atomic_store(&on.service.leaving, true);
    atomic_store(&x.more, true); /* the next request has arrived: it is answered too */
    begin(GET);
    settle();
    assert_true(x.call.writer.framer.keep);
    overs = 0;
    atomic_store(&x.more, false);
    begin(GET);
    settle();
    assert_false(x.call.writer.framer.keep);
    assert_non_null(strstr(hear(&k), "Connection: close"));
}

#define LARGE (200 * 1024)

static uint64_t oldest_sending(void)
{
    struct fm_ages_sum ages;
    fm_counters_read_ages(&ages);
    return fm_ages_oldest(&ages, FM_AGE_SENDING, fm_now());
}

static void large(struct fm_call *call)
{
    static char text[LARGE];
    respond(call, text, sizeof text, false);
    fm_writer_end(&call->writer);
    call->ops->finish(call, FM_OUTCOME_DONE);
}

static void test_sent_after_its_last_step(void **state)
{
    (void)state;
    on.step = large;
    begin(GET);
    run_steps();
    for (int i = 0; i < 5; i++)
        turn();
    assert_int_equal(overs, 0);
    assert_true(x.sending);
    assert_true(oldest_sending() > 0);
    TURN_UNTIL(&on.loop, (hear(&k), overs > 0));
    hear(&k);
    check_over(false);
    assert_true(k.len > LARGE);
    assert_int_equal(oldest_sending(), 0);
}

static void test_deadline_while_it_is_sent(void **state)
{
    (void)state;
    uint64_t late = counted(FM_C_LATE_SENDING);
    on.step = large;
    on.options.request_timeout = 60 * FM_SEC;
    define_timeouts();
    begin(GET);
    run_steps();
    turn();
    assert_true(x.sending);
    assert_true(oldest_sending() > 0);
    fm_exchange_end(&x, FM_END_HALF_CLOSED); /* it reads on */
    assert_int_equal(overs, 0);
    expires(&x.deadline, fm_exchange_timeout_request);
    check_over(true);
    assert_int_equal(oldest_sending(), 0);
    assert_int_equal(counted(FM_C_LATE_SENDING), late + 1);
}

static void park_on_output(struct fm_call *call)
{
    static char text[LARGE];
    if (on.steps == 1) {
        respond(call, text, sizeof text, true);
        if (call->ops->park_on_output(call))
            return;
    }
    fm_writer_end(&call->writer);
    call->ops->finish(call, FM_OUTCOME_DONE);
}

static void test_waits_for_its_client(void **state)
{
    (void)state;
    on.step = park_on_output;
    begin(GET);
    run_steps();
    turn();
    assert_int_equal(fm_task_state(&x.call.task), FM_TASK_WRITING);
    for (int i = 0; i < 1000 && overs == 0; i++) {
        hear(&k);
        settle();
    }
    check_over(false);
    assert_int_equal(on.steps, 2);
}

/* ---- it is ended from outside ---- */

static void test_gone_before_it_began(void **state)
{
    (void)state;
    uint64_t before = counted(FM_C_GONE_QUEUED);
    begin(GET);
    fm_exchange_end(&x, FM_END_GONE);
    check_over(true);
    settle();
    assert_int_equal(on.steps, 0);
    assert_int_equal(counted(FM_C_GONE_QUEUED), before + 1);
}

static void test_deadline_before_it_began(void **state)
{
    (void)state;
    begin(GET);
    fm_exchange_end(&x, FM_END_DEADLINE);
    check_over(false);
    assert_true(has_status(&k, 504));
    assert_int_equal(on.steps, 0);
}

static void test_shed(void **state)
{
    (void)state;
    on.options.queue_timeout = 60 * FM_SEC;
    define_timeouts();
    begin(GET);
    expires(&x.queue_timer, fm_exchange_timeout_queue);
    check_over(false);
    assert_true(has_status(&k, 503));
    assert_false(x.call.writer.framer.keep);
}

/* While a thread is in the step, the loop ends the request. */
static void ended_meanwhile(struct fm_call *call)
{
    fm_role_take_loop();
    fm_exchange_timeout_queue(&x.queue_timer); /* too late */
    assert_int_equal(overs, 0);
    fm_exchange_end(&x, FM_END_DEADLINE);
    assert_int_equal(overs, 0);
    assert_true(has_status(&k, 504));
    assert_true(k.at_end); /* the client need not wait for the step */
    fm_role_drop_loop();
    assert_true(fm_task_aborted(&call->task));
    assert_int_equal(fm_writer_block(&call->writer, "late", 4, false), FM_SENT_GONE);
    call->ops->finish(call, FM_OUTCOME_ABORTED);
}

static void test_deadline_while_it_runs(void **state)
{
    (void)state;
    on.step = ended_meanwhile;
    begin(GET);
    run_steps();
    turn();
    check_over(false);
    assert_int_equal(on.reports, 1);
    assert_int_equal(responses(&k), 1);
}

static void test_shutdown_while_parked(void **state)
{
    (void)state;
    on.step = wait_for_ever;
    begin(GET);
    settle();
    assert_int_equal(fm_task_state(&x.call.task), FM_TASK_PARKED);
    fm_exchange_end(&x, FM_END_SHUTDOWN);
    assert_true(has_status(&k, 503));
    assert_int_equal(overs, 0);
    settle();
    check_over(false);
    assert_int_equal(on.steps, 2);
}

static void broken_off(struct fm_call *call)
{
    const char *why;
    struct fm_response r = {.length = -1};
    fm_response_start(&r, "200 OK", 6, &why);
    fm_response_add(&r, "Content-Length", 14, "100", 3, &why);
    fm_writer_set_response(&call->writer, &r);
    fm_writer_block(&call->writer, "some", 4, false);
    fm_writer_flush(&call->writer, UINT64_MAX);
    fm_response_fini(&r);
    call->ops->finish(call, FM_OUTCOME_BROKEN);
}

static void test_broken_off(void **state)
{
    (void)state;
    on.step = broken_off;
    begin(GET);
    settle();
    check_over(false); /* what was sent may arrive: its Content-Length says that it is cut short */
    assert_false(x.call.writer.framer.keep);
}

/* A step that finds the response begun is not answered for: the connection is reset. */
static void begun(struct fm_call *call)
{
    if (on.steps == 1) {
        respond(call, "part", 4, false);
        fm_task_park(&call->task, &on.wait);
        fm_task_let_go(&call->task, &on.wait);
    } else {
        call->ops->finish(call, FM_OUTCOME_ABORTED);
    }
}

static void test_shutdown_after_its_head(void **state)
{
    (void)state;
    on.step = begun;
    begin(GET);
    settle();
    fm_exchange_end(&x, FM_END_SHUTDOWN);
    settle();
    check_over(true);
}

/* ---- the access log ---- */

static void test_access_log(void **state)
{
    (void)state;
    char path[] = "/tmp/fermata-test-XXXXXX", line[512] = "";
    const char *why;
    int err, fd = mkstemp(path);
    assert_true(fd >= 0);
    struct fm_access_config config = {.path = path,
                                      .ring = 64 * 1024,
                                      .format = fm_logformat_new(FM_LOGFORMAT_DEFAULT, &why)};
    on.service.access = fm_access_log_open(&config, &err);
    assert_non_null(on.service.access);
    begin("GET /seen HTTP/1.1\r\nHost: h\r\n\r\n");
    settle();
    overs = 0;
    begin("GET /gone HTTP/1.1\r\nHost: h\r\n\r\n");
    fm_exchange_end(&x, FM_END_GONE);
    fm_access_log_close(on.service.access, fm_now() + 10 * FM_SEC);
    on.service.access = NULL;
    assert_true(read(fd, line, sizeof line - 1) > 0);
    assert_non_null(strstr(line, "192.0.2.7 - - ["));
    assert_non_null(strstr(line, "\"GET /seen HTTP/1.1\" 200 5 \"-\" \"-\" +\n"));
    assert_non_null(strstr(line, "\"GET /gone HTTP/1.1\" 499 0 \"-\" \"-\" X\n"));
    close(fd);
    unlink(path);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_served),
        TEST(test_leaving),
        TEST(test_sent_after_its_last_step),
        TEST(test_deadline_while_it_is_sent),
        TEST(test_waits_for_its_client),
        TEST(test_gone_before_it_began),
        TEST(test_deadline_before_it_began),
        TEST(test_shed),
        TEST(test_deadline_while_it_runs),
        TEST(test_shutdown_while_parked),
        TEST(test_broken_off),
        TEST(test_shutdown_after_its_head),
        TEST(test_access_log),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

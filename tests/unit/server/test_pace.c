/* server/pace: how slowly a client may send its body and take its response. */
#include "serving.h"

#include "fermata/server/pace.h"

#define SEC FM_SEC

static void test_body(void **state)
{
    const struct fm_options o = {.limit_body_rate = 500, .body_timeout = 10 * FM_SEC};
    const struct fm_options off = {.limit_body_rate = 0, .body_timeout = 10 * FM_SEC};
    struct fm_pace p = {0};
    (void)state;
    fm_pace_body(&p, 100 * SEC, 0);
    assert_false(fm_pace_body_is_too_slow(&p, &o, 109 * SEC, 1)); /* the window is not over */
    assert_false(fm_pace_body_is_too_slow(&p, &o, 110 * SEC, 5000));
    assert_false(fm_pace_body_is_too_slow(&p, &off, 130 * SEC, 5001));
    assert_true(fm_pace_body_is_too_slow(&p, &o, 120 * SEC, 9999));  /* 4999 in ten seconds */
    assert_false(fm_pace_body_is_too_slow(&p, &o, 121 * SEC, 9999)); /* another one has begun */
    fm_pace_body(&p, 200 * SEC, 9999);                               /* we did not read meanwhile */
    assert_false(fm_pace_body_is_too_slow(&p, &o, 210 * SEC, 14999));
}

static void on_data(struct fm_stream *s, const char *data, size_t len) { (void)s, (void)data, (void)len; }
static void on_end(struct fm_stream *s, int err) { (void)s, (void)err; }
static void on_output(struct fm_stream *s) { (void)s; }
static const struct fm_stream_ops stream_ops = {NULL, on_data, on_end, on_output};

/* What the client has acknowledged counts, and a stall is over when it takes something again. */
static void test_response(void **state)
{
    static char text[8192];
    const struct fm_options o = {.send_timeout = 10 * FM_SEC};
    struct iovec piece = {text, sizeof text};
    struct fm_stream s;
    struct fm_pace p = {0};
    int fds[2];
    (void)state;
    tcp_pair(fds);
    assert_int_equal(fm_stream_init(&s, &on.loop, fm_plain(fds[0]), &stream_ops), 0);
    fm_pace_response(&p, &s, 100 * SEC);
    fm_pace_look(&p, &s, &o, 100 * SEC);
    assert_false(fm_pace_is_over(&p, &s, &o, 109 * SEC));
    assert_true(fm_pace_is_over(&p, &s, &o, 110 * SEC)); /* nothing taken, nothing to wait for */
    assert_true(p.stalled);
    assert_int_equal(fm_stream_send(&s, &piece, 1, 0), 0);
    WAIT_FOR(fm_stream_acknowledged(&s) == sizeof text);
    assert_false(fm_pace_is_over(&p, &s, &o, 111 * SEC)); /* it has taken some */
    assert_false(p.stalled);
    assert_false(fm_pace_is_over(&p, &s, &o, 121 * SEC)); /* a quarter of a second more, for the step of its window */
    assert_true(fm_pace_is_over(&p, &s, &o, 122 * SEC));
    fm_stream_fini(&s);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_body),
        cmocka_unit_test_setup_teardown(test_response, serving_start, serving_finish),
    };
    no_longer_than(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

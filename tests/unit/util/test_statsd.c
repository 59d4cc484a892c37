/* Metrics for statsd: their names and values, how they come together, and what is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "fermata/util/counter.h"
#include "fermata/util/fds.h"
#include "fermata/util/statsd.h"
#include "daemon.h"
#include "threads.h"

static struct fm_statsd *s;
static struct fm_statsd_config config[8];

static void open_it(const char *prefix, const char *tags)
{
    struct fm_statsd_config *c = &config[tests_run++];
    char text[128];
    snprintf(text, sizeof text, "unix://%s", path);
    *c = (struct fm_statsd_config){.prefix = prefix, .tags = tags, .trouble = on_trouble};
    assert_null(fm_statsd_parse_to(&c->to, text));
    s = fm_statsd_new(c);
    assert_int_equal(fm_statsd_start(s), 0);
}

static void flush(void) { assert_true(fm_statsd_flush(s, fm_now() + 30 * FM_SEC)); }

static void test_options(void **state)
{
    static const char *const bad[] = {"", ":1", "h:0", "unix:", "unix://", "a b", "http://h:1"};
    struct fm_dial_to to;
    const char *text;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!fm_statsd_parse_to(&to, bad[i]))
            fail_msg("%s is taken", bad[i]);
    assert_null(fm_statsd_parse_to(&to, "statsd.example"));
    assert_string_equal(to.port, "8125");
    assert_null(fm_statsd_parse_to(&to, "[::1]:1234"));
    assert_string_equal(to.host, "::1");
    assert_null(fm_statsd_parse_to(&to, "unix:/run/statsd"));
    assert_string_equal(to.host, "/run/statsd");
    assert_null(fm_statsd_parse_text(&text, "env:prod,region:eu"));
    assert_non_null(fm_statsd_parse_text(&text, "a|b"));
    assert_non_null(fm_statsd_parse_text(&text, "a b"));
    assert_non_null(fm_statsd_parse_text(&text, ""));
}

static void test_values(void **state)
{
    (void)state;
    int fd = serve();
    open_it("shop..", NULL);
    fm_statsd_request(s, 200, 12345678);
    fm_statsd_request(s, 200, 1000);
    fm_statsd_request(s, 404, 0); /* refused */
    fm_statsd_log(s, FM_STATSD_ERROR);
    fm_statsd_log(s, FM_STATSD_EXCEPTION);
    fm_statsd_log(s, FM_STATSD_EXCEPTION);
    fm_statsd_workers(s, 4);
    fm_statsd_workers(s, 3);
    flush();
    assert_string_equal(heard(fd), "shop.gunicorn.request.duration:12.345|ms\n"
                                   "shop.gunicorn.request.duration:0.001|ms\n"
                                   "shop.gunicorn.requests:3|c|@1.0\n"
                                   "shop.gunicorn.request.status.200:2|c|@1.0\n"
                                   "shop.gunicorn.request.status.404:1|c|@1.0\n"
                                   "shop.gunicorn.log.error:1|c|@1.0\n"
                                   "shop.gunicorn.log.exception:2|c|@1.0\n"
                                   "shop.gunicorn.workers:3|g");
    fm_statsd_log(s, FM_STATSD_CRITICAL);
    assert_string_equal(heard(fd), "shop.gunicorn.log.critical:1|c|@1.0"); /* without a flush; nothing is sent twice */
    close(fd);
}

static void test_tags(void **state)
{
    (void)state;
    int fd = serve();
    open_it(NULL, "env:prod,a:b");
    fm_statsd_log(s, FM_STATSD_WARNING);
    assert_string_equal(heard(fd), "gunicorn.log.warning:1|c|@1.0|#env:prod,a:b");
    close(fd);
}

/* More than a datagram carries: several, each of whole values; more than are kept are counted as lost. */
static void test_many(void **state)
{
    enum { MANY = 10000, KEPT = 8192 };
    struct fm_counters_sum before, after;
    (void)state;
    fm_counters_read(&before);
    int fd = serve();
    open_it("p", "t:1");
    for (unsigned i = 0; i < MANY; i++)
        fm_statsd_request(s, 200, 1000000);
    unsigned durations = 0, requests = 0, n;
    while (requests < MANY) {
        char *save, *text = strdup(heard(fd));
        assert_true(strlen(text) <= 8192);
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
            durations += strcmp(line, "p.gunicorn.request.duration:1.000|ms|#t:1") == 0;
            if (sscanf(line, "p.gunicorn.requests:%u|c|@1.0|#t:1", &n) == 1)
                requests += n;
        }
        free(text);
    }
    flush();
    fm_counters_read(&after);
    assert_int_equal(requests, MANY);
    assert_int_equal(durations + after.cell[FM_C_LOST_STATSD] - before.cell[FM_C_LOST_STATSD], MANY);
    assert_true(durations >= KEPT);
    close(fd);
}

/* Values are of their moment: without a daemon they are lost, counted, and told when there is one. */
static void test_no_daemon(void **state)
{
    struct fm_counters_sum before, after;
    (void)state;
    fm_counters_read(&before);
    open_it(NULL, NULL);
    fm_statsd_request(s, 200, 1000000);
    flush();
    fm_statsd_request(s, 200, 1000000);
    flush();
    fm_counters_read(&after);
    assert_int_equal(after.cell[FM_C_LOST_STATSD] - before.cell[FM_C_LOST_STATSD], 6);
    assert_int_equal(atomic_load(&troubles), 1);
    int fd = serve();
    fm_statsd_log(s, FM_STATSD_WARNING);
    assert_string_equal(heard(fd), "gunicorn.log.warning:1|c|@1.0");
    WAIT_FOR(atomic_load(&told) == 6);
    close(fd);
}

enum { THREADS = 4, EACH = 2000 };

static void *count(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < ROUNDS(EACH); i++) {
        fm_statsd_request(s, 200 + i % 2, 1000000);
        fm_statsd_log(s, FM_STATSD_ERROR);
    }
    return NULL;
}

static void *drain(void *arg)
{
    unsigned requests = 0, errors = 0, n;
    while (requests < THREADS * ROUNDS(EACH) || errors < THREADS * ROUNDS(EACH)) {
        static char text[1 << 16];
        ssize_t k = recv(*(int *)arg, text, sizeof text - 1, 0);
        CHECK(k > 0);
        text[k] = '\0';
        char *save;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
            if (sscanf(line, "gunicorn.requests:%u|", &n) == 1)
                requests += n;
            else if (sscanf(line, "gunicorn.log.error:%u|", &n) == 1)
                errors += n;
        }
    }
    CHECK(requests == THREADS * ROUNDS(EACH) && errors == THREADS * ROUNDS(EACH));
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    int fd = serve();
    open_it(NULL, NULL);
    pthread_t reader = spawn(drain, &fd);
    for (unsigned i = 0; i < THREADS; i++)
        threads[i] = spawn(count, NULL);
    for (unsigned i = 0; i < THREADS; i++)
        join(threads[i]);
    join(reader);
    close(fd);
}

static void count_in_child(void *arg)
{
    (void)arg;
    atomic_store(&fm_forked, true);
    fm_statsd_log(s, FM_STATSD_ERROR);
    fm_statsd_request(s, 200, 1);
    if (!fm_statsd_flush(s, 0))
        abort();
}

static void test_child(void **state)
{
    (void)state;
    int fd = serve();
    open_it(NULL, NULL);
    assert_int_equal(status_of(count_in_child, NULL), 0);
    fm_statsd_log(s, FM_STATSD_CRITICAL);
    assert_string_equal(heard(fd), "gunicorn.log.critical:1|c|@1.0");
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)
    const struct CMUnitTest tests[] = {
        TEST(test_options),   TEST(test_values),  TEST(test_tags),  TEST(test_many),
        TEST(test_no_daemon), TEST(test_threads), TEST(test_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* RFC 5424: options, the form of messages, and what becomes of them while there is no daemon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <regex.h>
#include <string.h>

#include "fermata/util/counter.h"
#include "fermata/util/fds.h"
#include "fermata/util/syslog.h"
#include "daemon.h"
#include "threads.h"

static struct fm_syslog *s;
static struct fm_syslog_config config[8];

static void open_it(const char *type, size_t ring, bool begin)
{
    struct fm_syslog_config *c = &config[tests_run++];
    char text[128];
    snprintf(text, sizeof text, "unix://%s%s", path, type);
    *c = (struct fm_syslog_config){.facility = 16, .name = "shop", .trouble = on_trouble};
    assert_null(fm_syslog_parse_to(&c->to, text));
    s = fm_syslog_new(c, ring);
    if (begin)
        assert_int_equal(fm_syslog_start(s), 0);
}

static void put(unsigned severity, const char *text) { fm_syslog_put(s, severity, "error", text, strlen(text)); }

static void assert_matches(const char *text, const char *pattern)
{
    regex_t re;
    assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int rc = regexec(&re, text, 0, NULL, 0);
    regfree(&re);
    if (rc != 0)
        fail_msg("%s is not %s", text, pattern);
}

#define HEAD(pri)                                                                                                      \
    "^<" pri                                                                                                           \
    ">1 20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\\.[0-9]{6}Z [!-~]+ shop [0-9]+ error - "

static void test_options(void **state)
{
    static const char *const bad[] = {"",        "localhost:514", "udp:/h:1",  "http://h:1", "unix:",
                                      "unix://", "unix:///a#seq", "udp://h:x", "unix:///a#"};
    static const char *const good[] = {"udp://h:1",       "udp://h",         "udp://",           "tcp://[::1]:601",
                                       "unix:///dev/log", "unix:///a#dgram", "unix:///a#stream", "udp://:5140"};
    static const char *const bad_facilities[] = {"", "local8", "24", "-1", "1x", "x1", "100"};
    struct fm_dial_to to;
    unsigned n = 99;
    const char *name;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!fm_syslog_parse_to(&to, bad[i]))
            fail_msg("%s is taken", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (fm_syslog_parse_to(&to, good[i]))
            fail_msg("%s is not taken", good[i]);
    assert_string_equal(to.host, "localhost");
    assert_string_equal(to.port, "5140");
    for (size_t i = 0; i < sizeof bad_facilities / sizeof *bad_facilities; i++)
        if (!fm_syslog_parse_facility(&n, bad_facilities[i]))
            fail_msg("%s is taken", bad_facilities[i]);
    assert_null(fm_syslog_parse_facility(&n, "LOCAL7"));
    assert_int_equal(n, 23);
    assert_null(fm_syslog_parse_facility(&n, "user"));
    assert_int_equal(n, 1);
    assert_null(fm_syslog_parse_facility(&n, "10"));
    assert_int_equal(n, 10);
    assert_null(fm_syslog_parse_name(&name, "a.b-1"));
    assert_non_null(fm_syslog_parse_name(&name, "a b"));
    assert_non_null(fm_syslog_parse_name(&name, ""));
    assert_non_null(fm_syslog_parse_name(&name, "0123456789012345678901234567890123456789012345678"));
}

static void test_messages(void **state)
{
    (void)state;
    int fd = serve();
    open_it("#dgram", 1 << 16, false);
    put(6, "before the start\n");
    put(6, "\n"); /* says nothing */
    assert_int_equal(fm_syslog_start(s), 0);
    assert_matches(heard(fd), HEAD("134") "before the start$");
    put(3, "head\n  line 2\n\n");
    assert_matches(heard(fd), HEAD("131") "head\n  line 2$");
    fm_syslog_put(s, 6, "access", "\"GET /\" 200", 11);
    assert_matches(heard(fd), " access - \"GET /\" 200$");
    assert_true(fm_syslog_flush(s, fm_now() + 30 * FM_SEC));
    close(fd);
}

static void test_stream(void **state)
{
    (void)state;
    int listening = bound(SOCK_STREAM);
    assert_int_equal(listen(listening, 5), 0);
    open_it("", 1 << 16, true);
    put(3, "head\n  line 2");
    put(3, "next");
    assert_true(fm_syslog_flush(s, fm_now() + 30 * FM_SEC));
    int fd = accept(listening, NULL, NULL);
    assert_matches(heard(fd), HEAD("131") "head#012  line 2\n<131>1 .* - next\n$");
    close(fd);
    close(listening);
}

static void test_long_ones_are_cut(void **state)
{
    (void)state;
    static char large[100000];
    int fd = serve();
    open_it("#dgram", 1 << 18, true);
    memset(large, 'x', sizeof large - 1);
    put(6, large);
    put(6, "after");
    assert_int_equal(strlen(heard(fd)), 32 * 1024);
    assert_matches(heard(fd), " - after$");
    close(fd);
}

/* Lines wait for a daemon; what does not fit is counted and told, and so is the trouble, once. */
static void test_no_daemon(void **state)
{
    enum { MANY = 3000 };
    (void)state;
    struct fm_counters_sum before, after;
    char line[128];
    fm_counters_read(&before);
    open_it("", 1 << 16, true);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(line, sizeof line, "line %u", i);
        put(6, line);
    }
    WAIT_FOR(atomic_load(&troubles) == 1);
    assert_false(fm_syslog_flush(s, fm_now() + FM_SEC / 20));
    fm_counters_read(&after);
    uint64_t dropped = after.cell[FM_C_LOST_SYSLOG] - before.cell[FM_C_LOST_SYSLOG];
    assert_true(dropped > 0 && dropped < MANY);
    int fd = serve();
    int last = -1; /* in their order: one or two more fit once the thread has taken the first */
    for (unsigned i = 0; i < MANY - dropped; i++) {
        const char *text = strstr(heard(fd), " - line ");
        assert_non_null(text);
        int n = atoi(text + strlen(" - line "));
        assert_true(n > last && (i > 0 || n == 0));
        last = n;
    }
    WAIT_FOR(atomic_load(&told) == dropped);
    assert_int_equal(atomic_load(&troubles), 1);
    close(fd);
}

static void put_in_child(void *arg)
{
    (void)arg;
    atomic_store(&fm_forked, true);
    put(6, "of a child");
    if (!fm_syslog_flush(s, 0))
        abort();
}

static void test_child(void **state)
{
    (void)state;
    int fd = serve();
    open_it("", 1 << 16, true);
    assert_int_equal(status_of(put_in_child, NULL), 0);
    put(6, "of the server");
    assert_matches(heard(fd), " - of the server$");
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)
    const struct CMUnitTest tests[] = {
        TEST(test_options),           TEST(test_messages),  TEST(test_stream),
        TEST(test_long_ones_are_cut), TEST(test_no_daemon), TEST(test_child),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The error log, written to a file and read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fermata/util/log.h"
#include "threads.h"

static char path[64], *content;

static int start(void **state)
{
    (void)state;
    strcpy(path, "/tmp/fermata-unit-log-XXXXXX");
    close(mkstemp(path));
    fm_log_set_level(FM_LOG_INFO);
    return fm_log_open(path);
}

static int finish(void **state)
{
    (void)state;
    fm_log_open("-");
    fm_log_set_level(FM_LOG_INFO);
    free(content);
    content = NULL;
    return unlink(path);
}

/* All that was written since the last time. */
static char *written(void)
{
    struct stat st;
    int fd = open(path, O_RDWR);
    assert_int_equal(fstat(fd, &st), 0);
    free(content);
    content = calloc(1, (size_t)st.st_size + 1);
    assert_int_equal(read(fd, content, (size_t)st.st_size), st.st_size);
    assert_int_equal(ftruncate(fd, 0), 0);
    close(fd);
    return content;
}

static void assert_matches(const char *text, const char *pattern)
{
    regex_t re;
    assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int rc = regexec(&re, text, 0, NULL, 0);
    regfree(&re);
    if (rc != 0)
        fail_msg("\"%s\" does not match %s", text, pattern);
}

#define HEAD "^\\[[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}\\] \\[[0-9]+\\] "

static size_t lines(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static void test_line(void **state)
{
    (void)state;
    char pid[32];
    fm_log(FM_LOG_WARNING, "%s: %d", "text", 42);
    char *text = written();
    assert_matches(text, HEAD "\\[WARNING\\] text: 42\n$");
    assert_int_equal(lines(text), 1);
    snprintf(pid, sizeof pid, " [%ld] ", (long)getpid());
    assert_non_null(strstr(text, pid));
    fm_info("%s", "");
    assert_matches(written(), HEAD "\\[INFO\\] \n$");
}

static void test_levels(void **state)
{
    (void)state;
    static const char *const names[] = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"};
    for (int threshold = FM_LOG_DEBUG; threshold <= FM_LOG_CRITICAL; threshold++) {
        fm_log_set_level((enum fm_log_level)threshold);
        for (int level = FM_LOG_DEBUG; level <= FM_LOG_CRITICAL; level++) {
            char tag[32];
            snprintf(tag, sizeof tag, "[%s] x\n", names[level]);
            fm_log((enum fm_log_level)level, "x");
            assert_int_equal(strstr(written(), tag) != NULL, level >= threshold);
            fm_log_text((enum fm_log_level)level, "y\n", 2, "x");
            assert_int_equal(strstr(written(), tag) != NULL, level >= threshold);
            assert_int_equal(fm_log_on((enum fm_log_level)level), level >= threshold);
        }
    }
}

static void test_debug_evaluates_nothing_when_off(void **state)
{
    (void)state;
    int evaluated = 0;
    fm_debug("%d", ++evaluated);
    assert_int_equal(evaluated, 0);
    assert_string_equal(written(), "");
    fm_log_set_level(FM_LOG_DEBUG);
    fm_debug("%d", ++evaluated);
    assert_int_equal(evaluated, 1);
    assert_matches(written(), HEAD "\\[DEBUG\\] 1\n$");
}

/* What a peer sends cannot forge a line, nor reach a terminal. */
static void test_control_characters(void **state)
{
    (void)state;
    for (unsigned c = 1; c < 256; c++) {
        char raw[8], expected[32], *text;
        snprintf(raw, sizeof raw, "a%cb", (int)c);
        if (c < 0x20 || c >= 0x7f) /* alone, a byte from 0x80 on is no UTF-8 */
            snprintf(expected, sizeof expected, "[ERROR] a\\x%02xb\n", c);
        else
            snprintf(expected, sizeof expected, "[ERROR] a%cb\n", (int)c);
        fm_error("%s", raw);
        text = written();
        assert_int_equal(lines(text), 1);
        assert_string_equal(strstr(text, "[ERROR]"), expected);
    }
    static const char *const texts[][2] = {
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8e\xb5", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8e\xb5"}, /* text stays */
        {"a\xc2\x85[ERROR] forged", "a\\xc2\\x85[ERROR] forged"},                                   /* U+0085 */
        {"\xc2\x9b"
         "31m",
         "\\xc2\\x9b"
         "31m"},                                                        /* C1's CSI */
        {"\xc2\xa0", "\xc2\xa0"},                                       /* the first one behind C1 */
        {"\xe2\x80\xa8\xe2\x80\xa9", "\\xe2\\x80\\xa8\\xe2\\x80\\xa9"}, /* separators of lines, paragraphs */
        {"\xe0\x82\x85", "\\xe0\\x82\\x85"},                            /* U+0085 in too many bytes */
        {"\xc3", "\\xc3"},                                              /* cut off */
        {"\xff\xfe", "\\xff\\xfe"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char expected[64];
        fm_error("%s", texts[i][0]);
        snprintf(expected, sizeof expected, "[ERROR] %s\n", texts[i][1]);
        assert_string_equal(strstr(written(), "[ERROR]"), expected);
    }
    fm_error("one\r\n[2026-01-01 00:00:00 +0000] [1] [INFO] two");
    assert_int_equal(lines(written()), 1);
}

static void test_long_line(void **state)
{
    (void)state;
    for (size_t n = 2040; n < 2056; n++) {
        char *arg = malloc(n + 1);
        memset(arg, 'z', n);
        arg[n] = '\0';
        fm_error("%s", arg);
        char *text = written(), *body = strstr(text, "zzz");
        assert_int_equal(lines(text), 1);
        size_t len = strcspn(body, "\n");
        if (n < 2048) {
            assert_int_equal(len, n);
        } else {
            assert_int_equal(len, 2047);
            assert_string_equal(body + len - 4, "z...\n");
        }
        free(arg);
    }
    char *all = malloc(10001); /* the longest there is: every byte escaped */
    memset(all, '\n', 10000);
    all[10000] = '\0';
    fm_error("%s", all);
    assert_int_equal(lines(written()), 1);
    free(all);
}

static void test_text(void **state)
{
    (void)state;
    const char *traceback = "Traceback:\n  File \"x\"\n\tValueError: \x1b\n";
    char *text;
    fm_log_text(FM_LOG_ERROR, traceback, strlen(traceback), "Error in %s", "a\nb");
    text = written();
    assert_matches(text, HEAD "\\[ERROR\\] Error in a\\\\x0ab\n");
    assert_string_equal(strchr(text, '\n') + 1, traceback);
    fm_log_text(FM_LOG_ERROR, "no newlineXX", 10, "head");
    text = written();
    assert_string_equal(strchr(text, '\n') + 1, "no newline\n");
    fm_log_text(FM_LOG_ERROR, "", 0, "head");
    text = written();
    assert_string_equal(strchr(text, '\n') + 1, "");
}

static void test_raw(void **state)
{
    (void)state;
    fm_log_raw("a\0b\x01\n", 5);
    char *text = written();
    assert_memory_equal(text, "a\0b\x01\n", 6);
    fm_log_raw("", 0);
    assert_string_equal(written(), "");
}

/* One line from a place, until some time has passed; other places have theirs. */
static void test_ratelimited(void **state)
{
    (void)state;
    static struct fm_ratelimit here, there;
    for (int i = 0; i < 1000; i++)
        fm_log_ratelimited(&here, FM_LOG_ERROR, "trouble %d", i);
    fm_log_ratelimited(&there, FM_LOG_ERROR, "elsewhere");
    fm_log_ratelimited(&there, FM_LOG_DEBUG, "not asked for");
    assert_int_equal(lines(written()), 2);
    assert_matches(content, HEAD "\\[ERROR\\] trouble 0\n");
    assert_matches(content, "elsewhere\n");

    atomic_store(&here.next, 0); /* later */
    fm_log_ratelimited(&here, FM_LOG_ERROR, "trouble %s", "again");
    fm_log_ratelimited(&here, FM_LOG_ERROR, "trouble %s", "and again");
    assert_int_equal(lines(written()), 1);
    assert_matches(content, "trouble again \\(999 similar messages suppressed\\)\n");
}

static void test_errno_stays(void **state)
{
    (void)state;
    errno = ENOTTY;
    fm_error("x");
    assert_int_equal(errno, ENOTTY);
}

static void test_open(void **state)
{
    (void)state;
    assert_int_equal(fm_log_open("/nonexistent/directory/log"), -ENOENT);
    fm_info("still here");
    assert_matches(written(), "still here\n$");
    fm_info("first");
    assert_int_equal(fm_log_open(path), 0); /* appends */
    fm_info("second");
    assert_int_equal(lines(written()), 2);
    assert_int_equal(fm_log_open("-"), 0);
}

static void log_to_standard_error(void *arg)
{
    (void)arg;
    dup2(open(path, O_WRONLY), 2);
    fm_log_open("/dev/null");
    fm_info("nowhere");
    fm_log_open("-");
    fm_info("here");
}

static void test_standard_error(void **state)
{
    (void)state;
    assert_int_equal(status_of(log_to_standard_error, NULL), 0);
    assert_matches(written(), HEAD "\\[INFO\\] here\n$");
}

/* ---- elsewhere ---- */

static char tapped[8192];

static void tap(void *ctx, enum fm_log_level level, enum fm_log_shape shape, const char *text, size_t n)
{
    size_t at = strlen(tapped);
    snprintf(tapped + at, sizeof tapped - at, "%s %d %d {%.*s}", (const char *)ctx, (int)level, (int)shape, (int)n,
             text);
}

/* Each record goes there too, without its head; in a process of its own, for a tap stays. */
static void log_with_taps(void *arg)
{
    (void)arg;
    fm_log_tap(tap, (void *)(uintptr_t) "a");
    fm_log_tap(tap, (void *)(uintptr_t) "b");
    fm_warn("one\n%d", 1);
    fm_debug("not on");
    CHECK(strcmp(tapped, "a 2 0 {one\\x0a1\n}b 2 0 {one\\x0a1\n}") == 0);
    tapped[0] = '\0';
    fm_log_text(FM_LOG_ERROR, "  two\n", 6, "head");
    CHECK(strcmp(tapped, "a 3 1 {head\n  two\n}b 3 1 {head\n  two\n}") == 0);
    tapped[0] = '\0';
    fm_log_raw("raw\n", 4);
    CHECK(strcmp(tapped, "a 1 2 {raw\n}b 1 2 {raw\n}") == 0);
}

static void test_taps(void **state)
{
    (void)state;
    assert_int_equal(status_of(log_with_taps, NULL), 0);
    assert_matches(written(), HEAD "\\[WARNING\\] one.*\n.*head\n  two\nraw\n$");
}

static void test_severities(void **state)
{
    (void)state;
    assert_int_equal(fm_log_severity(FM_LOG_DEBUG), 7);
    assert_int_equal(fm_log_severity(FM_LOG_INFO), 6);
    assert_int_equal(fm_log_severity(FM_LOG_WARNING), 4);
    assert_int_equal(fm_log_severity(FM_LOG_ERROR), 3);
    assert_int_equal(fm_log_severity(FM_LOG_CRITICAL), 2);
}

/* ---- the journal ---- */

static void log_to_journal(void *arg)
{
    struct stat st;
    char stream[64];
    dup2(open(path, O_WRONLY | O_APPEND), 2);
    fstat(2, &st);
    snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino + (arg != NULL));
    setenv("JOURNAL_STREAM", stream, 1);
    CHECK(fm_log_open("-") == 0);
    CHECK(fm_log_is_journal() == (arg == NULL));
    fm_warn("one");
    fm_log_text(FM_LOG_ERROR, "  two\n<0>three", 14, "head");
    fm_log_raw("four\n\n<0>five", 13);
    fm_log_raw("six\n", 4);
    CHECK(fm_log_open("/dev/null") == 0 && !fm_log_is_journal());
}

/* Each line has its priority, and no text can have another one. */
static void test_journal(void **state)
{
    (void)state;
    assert_int_equal(status_of(log_to_journal, NULL), 0);
    assert_string_equal(written(), "<4>one\n<3>head\n<3>  two\n<3><0>three\n<5>four\n<5>\n<5><0>five\n<5>six\n");
}

/* $JOURNAL_STREAM of a service whose standard error has been redirected. */
static void test_not_the_journal(void **state)
{
    (void)state;
    assert_int_equal(status_of(log_to_journal, path), 0);
    assert_matches(written(), HEAD "\\[WARNING\\] one\n");
}

enum { THREADS = 6, EACH = 400 };

static void *log_many(void *arg)
{
    char name = *(char *)arg, word[301];
    memset(word, name, 300);
    word[300] = '\0';
    for (int i = 0; i < EACH; i++)
        fm_info("%s %d", word, i);
    return NULL;
}

static void test_lines_never_mix(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    char names[THREADS], *next;
    int seen[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) {
        names[i] = (char)('a' + i);
        threads[i] = spawn(log_many, &names[i]);
    }
    for (int i = 0; i < THREADS; i++)
        join(threads[i]);
    for (char *line = written(); *line; line = next + 1) {
        next = strchr(line, '\n');
        assert_non_null(next);
        char *word = strstr(line, "[INFO] ");
        assert_true(word && word < next);
        word += 7;
        int who = *word - 'a';
        assert_true(who >= 0 && who < THREADS);
        for (int i = 0; i < 300; i++)
            assert_int_equal(word[i], names[who]);
        assert_int_equal(strtol(word + 300, NULL, 10), seen[who]++); /* each thread's lines in order */
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(seen[i], EACH);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_line),
        TEST(test_levels),
        TEST(test_debug_evaluates_nothing_when_off),
        TEST(test_control_characters),
        TEST(test_long_line),
        TEST(test_text),
        TEST(test_raw),
        TEST(test_ratelimited),
        TEST(test_errno_stays),
        TEST(test_open),
        TEST(test_standard_error),
        TEST(test_taps),
        TEST(test_severities),
        TEST(test_journal),
        TEST(test_not_the_journal),
        TEST(test_lines_never_mix),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

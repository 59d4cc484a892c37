/* The metrics page: read as Prometheus reads it, and compared with what was counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <math.h>
#include <string.h>

#include "../util/threads.h"
#include "fermata/admin/metrics.h"
#include "fermata/http/refusal.h"
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/places.h"
#include "fermata/util/version.h"

/* ---- a reader of the text format, 0.0.4 ---- */

enum { MAX_SAMPLES = 512, MAX_FAMILIES = 64 };

struct family {
    char name[64], type[16];
    bool helped;
};

struct sample {
    char name[64], labels[64]; /* labels as they stand between the braces */
    double value;
    const struct family *family;
};

static struct page {
    struct family family[MAX_FAMILIES];
    struct sample sample[MAX_SAMPLES];
    unsigned nfamilies, nsamples;
} page;

static struct family *family_of(const char *name)
{
    for (unsigned i = 0; i < page.nfamilies; i++)
        if (strcmp(page.family[i].name, name) == 0)
            return &page.family[i];
    return NULL;
}

/* A word of a name's letters: copied, and what follows. */
static const char *read_name(const char *p, char *name)
{
    size_t n = 0;
    assert_true(isalpha((unsigned char)*p) || *p == '_' || *p == ':');
    for (; isalnum((unsigned char)*p) || *p == '_' || *p == ':'; p++) {
        assert_true(n < 63);
        name[n++] = *p;
    }
    name[n] = '\0';
    return p;
}

static void read_comment(const char *line)
{
    char name[64];
    bool help = strncmp(line, "# HELP ", 7) == 0;
    assert_true(help || strncmp(line, "# TYPE ", 7) == 0);
    const char *rest = read_name(line + 7, name);
    assert_int_equal(*rest++, ' ');
    struct family *f = family_of(name);
    if (help) {
        assert_null(f); /* once, and the samples follow at once */
        assert_true(page.nfamilies < MAX_FAMILIES);
        f = &page.family[page.nfamilies++];
        strcpy(f->name, name);
        f->helped = true;
        assert_true(strlen(rest) > 10); /* a text */
        assert_null(strchr(rest, '\\'));
        return;
    }
    assert_non_null(f);
    assert_ptr_equal(f, &page.family[page.nfamilies - 1]);
    assert_string_equal(f->type, "");
    assert_true(strcmp(rest, "counter") == 0 || strcmp(rest, "gauge") == 0 || strcmp(rest, "histogram") == 0);
    strcpy(f->type, rest);
}

/* The family a sample belongs to: of a histogram there are three kinds. */
static const struct family *owner(const struct sample *s)
{
    static const char *const suffixes[] = {"_bucket", "_sum", "_count"};
    char name[64];
    const struct family *f = family_of(s->name);
    if (f) {
        assert_string_not_equal(f->type, "histogram");
        return f;
    }
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(s->name), tail = strlen(suffixes[i]);
        if (n <= tail || strcmp(s->name + n - tail, suffixes[i]) != 0)
            continue;
        memcpy(name, s->name, n - tail);
        name[n - tail] = '\0';
        f = family_of(name);
        if (f && strcmp(f->type, "histogram") == 0)
            return f;
    }
    fail_msg("%s has no HELP and TYPE", s->name);
    return NULL;
}

static void read_sample(const char *line)
{
    assert_true(page.nsamples < MAX_SAMPLES);
    struct sample *s = &page.sample[page.nsamples];
    char *end, label[64];
    const char *p = read_name(line, s->name);
    s->labels[0] = '\0';
    if (*p == '{') {
        const char *close = strchr(p, '}');
        assert_non_null(close);
        size_t n = (size_t)(close - p - 1);
        assert_true(n >= 1 && n <= 63);
        memcpy(s->labels, p + 1, n);
        s->labels[n] = '\0';
        const char *q = s->labels; /* there is one, or several with commas between them */
        do {
            q = read_name(q, label);
            assert_int_equal(strncmp(q, "=\"", 2), 0);
            assert_null(strpbrk(q + 2, "\\\n"));
            q = strchr(q + 2, '"');
            assert_non_null(q);
        } while (*++q == ',' && *++q);
        assert_ptr_equal(q, s->labels + n);
        p = close + 1;
    }
    assert_int_equal(*p, ' ');
    s->value = strtod(p + 1, &end);
    assert_true(end > p + 1 && *end == '\0' && isfinite(s->value));
    s->family = owner(s);
    assert_string_not_equal(s->family->type, "");
    assert_ptr_equal(s->family, &page.family[page.nfamilies - 1]); /* one family stands together */
    for (unsigned i = 0; i < page.nsamples; i++)
        assert_true(strcmp(page.sample[i].name, s->name) != 0 || strcmp(page.sample[i].labels, s->labels) != 0);
    page.nsamples++;
}

static struct fm_metrics_shown shown;

/* With m->now 0: what this process counts, as of now. */
static void read_metrics(struct fm_metrics *m)
{
    struct fm_buf buf = FM_BUF_INIT;
    if (m->now == 0) {
        fm_counters_read(&m->sum);
        fm_counters_read_ages(&m->ages);
        m->now = fm_now();
    }
    fm_metrics_page(&buf, m, &shown);
    size_t n = fm_buf_size(&buf);
    char *text = malloc(n + 1);
    assert_non_null(text);
    memcpy(text, fm_buf_head(&buf), n);
    text[n] = '\0';
    fm_buf_fini(&buf);
    assert_int_equal(strlen(text), n);
    assert_int_equal(text[n - 1], '\n'); /* the last line, too */
    assert_null(strchr(text, '\r'));
    memset(&page, 0, sizeof page);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        if (*line == '#')
            read_comment(line);
        else
            read_sample(line);
    }
    free(text);
}

static void read_page(unsigned busy, unsigned idle, bool ready)
{
    struct fm_metrics m = {.busy = busy, .idle = idle, .ready = ready, .python = "3.11.2"};
    read_metrics(&m);
}

static double value(const char *name, const char *labels)
{
    for (unsigned i = 0; i < page.nsamples; i++)
        if (strcmp(page.sample[i].name, name) == 0 && strcmp(page.sample[i].labels, labels) == 0)
            return page.sample[i].value;
    fail_msg("no %s{%s}", name, labels);
    return 0;
}

#define assert_value(name, labels, expected) assert_true(value(name, labels) == (double)(expected))

/* ---- tests ---- */

static void test_page_reads(void **state)
{
    (void)state;
    read_page(1, 2, true);
    for (unsigned i = 0; i < page.nfamilies; i++) {
        const struct family *f = &page.family[i];
        unsigned samples = 0;
        size_t n = strlen(f->name);
        assert_true(f->helped);
        assert_string_not_equal(f->type, "");
        assert_true(strncmp(f->name, "fermata_", 8) == 0 || strncmp(f->name, "process_", 8) == 0);
        bool total = n > 6 && strcmp(f->name + n - 6, "_total") == 0;
        assert_int_equal(total, strcmp(f->type, "counter") == 0);
        for (unsigned k = 0; k < page.nsamples; k++)
            samples += page.sample[k].family == f;
        assert_true(samples > 0);
    }
}

static void test_all_are_there(void **state)
{
    (void)state;
    read_page(0, 0, false);
    unsigned n = 0;
#define X(id, name, label, kind, help)                                                                                 \
    value(name, label);                                                                                                \
    assert_string_equal(family_of(name)->type, kind);                                                                  \
    n++;
    FM_COUNTERS(X)
#undef X
#define X(id, status, slug, reason)                                                                                    \
    value("fermata_refused_requests_total", "reason=\"" slug "\"");                                                    \
    n++;
    FM_REFUSALS(X)
#undef X
#define X(id, name, bounds, help)                                                                                      \
    assert_string_equal(family_of(name)->type, "histogram");                                                           \
    value(name "_bucket", "le=\"+Inf\"");                                                                              \
    value(name "_sum", "");                                                                                            \
    value(name "_count", "");                                                                                          \
    n += fm_bounds[FM_HG_##id].n + 3;
    FM_HISTOGRAMS(X)
#undef X
    value("fermata_threads", "state=\"busy\"");
    value("fermata_threads", "state=\"idle\"");
    value("fermata_ready", "");
    value("fermata_build_info", "version=\"" FM_VERSION "\",python=\"3.11.2\"");
    value("fermata_thread_busy_seconds_total", "");
    static const char *const states[] = {"queued", "running", "parked_future", "parked_client", "sending"};
    for (int i = 0; i < 5; i++) {
        char label[40];
        snprintf(label, sizeof label, "state=\"%s\"", states[i]);
        assert_value("fermata_oldest_seconds", label, 0);
    }
    assert_int_equal(page.nsamples, n + 10);
}

static void test_threads_and_readiness(void **state)
{
    (void)state;
    read_page(3, 5, true);
    assert_value("fermata_threads", "state=\"busy\"", 3);
    assert_value("fermata_threads", "state=\"idle\"", 5);
    assert_value("fermata_ready", "", 1);
    read_page(0, 8, false);
    assert_value("fermata_threads", "state=\"busy\"", 0);
    assert_value("fermata_threads", "state=\"idle\"", 8);
    assert_value("fermata_ready", "", 0);
}

/* Each row differs, so that none is mistaken for another. */
static void test_counters(void **state)
{
    (void)state;
    double before[FM_C_COUNT];
    read_page(0, 0, true);
#define X(id, name, label, kind, help) before[FM_C_##id] = value(name, label);
    FM_COUNTERS(X)
#undef X
    for (unsigned i = 0; i < FM_C_COUNT; i++)
        fm_count_add((enum fm_counter)i, 1000 + i);
    read_page(0, 0, true);
#define X(id, name, label, kind, help) assert_value(name, label, before[FM_C_##id] + 1000 + FM_C_##id);
    FM_COUNTERS(X)
#undef X
}

static void test_refusals(void **state)
{
    (void)state;
    for (unsigned i = FM_REFUSE_NOTHING + 1; i < FM_REFUSALS_END; i++)
        for (unsigned n = 0; n < i; n++)
            fm_count_refused(i);
    read_page(0, 0, true);
#define X(id, status, slug, reason)                                                                                    \
    assert_value("fermata_refused_requests_total", "reason=\"" slug "\"", FM_REFUSE_##id);
    FM_REFUSALS(X)
#undef X
}

static void test_large_values(void **state)
{
    (void)state;
    read_page(0, 0, true);
    double before = value("fermata_sent_bytes_total", "");
    fm_count_add(FM_C_BYTES_OUT, 1ull << 50);
    read_page(0, 0, true);
    assert_value("fermata_sent_bytes_total", "", before + (double)(1ull << 50));
}

/* Up in one thread and down in another. */
static void *down(void *arg)
{
    (void)arg;
    fm_counters_attach();
    fm_count_add(FM_C_CONNS, (uint64_t)-7);
    return NULL;
}

static void test_gauge_over_threads(void **state)
{
    (void)state;
    read_page(0, 0, true);
    double before = value("fermata_connections", "");
    fm_count_add(FM_C_CONNS, 5);
    join(spawn(down, NULL));
    read_page(0, 0, true);
    assert_value("fermata_connections", "", before - 2); /* a wrong balance is seen, and not 2^64 */
    fm_count_add(FM_C_CONNS, 2);
}

/* What "le" says, in the order of the page. */
static unsigned buckets(const char *family, double le[], double count[])
{
    unsigned n = 0;
    char name[64];
    snprintf(name, sizeof name, "%s_bucket", family);
    for (unsigned i = 0; i < page.nsamples; i++) {
        const struct sample *s = &page.sample[i];
        char *end;
        if (strcmp(s->name, name) != 0)
            continue;
        assert_true(n < FM_BUCKETS);
        assert_int_equal(strncmp(s->labels, "le=\"", 4), 0);
        le[n] = strtod(s->labels + 4, &end); /* knows +Inf */
        assert_string_equal(end, "\"");
        count[n++] = s->value;
    }
    return n;
}

static void check_histogram(enum fm_histogram id, const char *family)
{
    double le[FM_BUCKETS], count[FM_BUCKETS];
    char name[64];
    unsigned n = buckets(family, le, count);
    assert_int_equal(n, fm_bounds[id].n + 1);
    for (unsigned i = 1; i < n; i++) {
        assert_true(le[i] > le[i - 1]);
        assert_true(count[i] >= count[i - 1]);
    }
    assert_true(le[0] > 0 && isinf(le[n - 1]));
    snprintf(name, sizeof name, "%s_count", family);
    assert_value(name, "", count[n - 1]);
    snprintf(name, sizeof name, "%s_sum", family);
    assert_true(value(name, "") >= 0);
}

static void check_histograms(void)
{
#define X(id, name, bounds, help) check_histogram(FM_HG_##id, name);
    FM_HISTOGRAMS(X)
#undef X
}

static void test_histograms(void **state)
{
    (void)state;
    static const double seconds[] = {0, 0.00005, 0.0003, 0.0003, 0.007, 0.2, 3, 59, 100, 599, 601};
    double le[FM_BUCKETS], before[FM_BUCKETS], after[FM_BUCKETS];
    read_page(0, 0, true);
    check_histograms();
    double sum = value("fermata_parked_seconds_sum", ""), expected = 0;
    double others = value("fermata_step_duration_seconds_count", "");
    buckets("fermata_parked_seconds", le, before);
    for (unsigned i = 0; i < sizeof seconds / sizeof *seconds; i++) {
        fm_observe(FM_HG_PARKED, (uint64_t)(seconds[i] * 1e9));
        expected += seconds[i];
    }
    read_page(0, 0, true);
    check_histograms();
    buckets("fermata_parked_seconds", le, after);
    for (unsigned b = 0; b < FM_BUCKETS; b++) {
        unsigned n = 0;
        for (unsigned i = 0; i < sizeof seconds / sizeof *seconds; i++)
            n += seconds[i] <= le[b];
        assert_true(after[b] == before[b] + n);
    }
    assert_true(fabs(value("fermata_parked_seconds_sum", "") - sum - expected) < 1e-6);
    assert_value("fermata_step_duration_seconds_count", "", others);
}

static void test_bounds(void **state)
{
    (void)state;
    double le[FM_BUCKETS], count[FM_BUCKETS];
    read_page(0, 0, true);
#define X(id, name, bounds, help)                                                                                      \
    buckets(name, le, count);                                                                                          \
    for (unsigned b = 0; b < fm_bounds[FM_HG_##id].n; b++)                                                             \
        assert_true(fabs(le[b] - (double)fm_bounds[FM_HG_##id].at[b] / 1e9) < 1e-9);
    FM_HISTOGRAMS(X)
#undef X
    static const double gil[] = {.00001, .0001, .001, .005, .01, .05, .1, .5, 1, 5};
    assert_int_equal(buckets("fermata_gil_wait_seconds", le, count), 11);
    for (unsigned b = 0; b < 10; b++)
        assert_true(fabs(le[b] - gil[b]) < 1e-9);
}

/* Counters do not go back, and a histogram is one, while others count. */
static atomic_bool enough;

static void *count_all_the_time(void *arg)
{
    uint64_t seed = *(uint64_t *)arg;
    if (seed % 2)
        fm_counters_attach();
    while (!atomic_load(&enough)) {
        fm_observe(FM_HG_STEP, rnd(&seed) % (100 * FM_SEC));
        fm_count(FM_C_REQ_2XX);
    }
    return NULL;
}

static void test_while_others_count(void **state)
{
    (void)state;
    uint64_t seeds[2] = {1, 2};
    double last = 0;
    atomic_store(&enough, false);
    pthread_t threads[2] = {spawn(count_all_the_time, &seeds[0]), spawn(count_all_the_time, &seeds[1])};
    for (int i = 0; i < ROUNDS(200); i++) {
        read_page(0, 0, true);
        check_histograms();
        double now = value("fermata_requests_total", "class=\"2xx\"");
        assert_true(now >= last);
        last = now;
    }
    atomic_store(&enough, true);
    join(threads[0]);
    join(threads[1]);
}

/* Steps that are under way count as far as they have come, and what a step that has just ended seems to take away is
 * not taken away. */
static void test_busy_seconds(void **state)
{
    (void)state;
    struct fm_metrics m = {.now = 100 * FM_SEC, .sum.busy = 7 * FM_SEC, .python = ""};
    shown = (struct fm_metrics_shown){0};
    read_metrics(&m);
    assert_value("fermata_thread_busy_seconds_total", "", 7);
    m.ages.steps = 2;
    m.ages.steps_since = 190 * FM_SEC; /* one for 3 s, one for 7 s */
    m.ages.step_since = 93 * FM_SEC;
    read_metrics(&m);
    assert_value("fermata_thread_busy_seconds_total", "", 17);
    assert_value("fermata_oldest_seconds", "state=\"running\"", 7);
    m.ages.steps = m.ages.steps_since = m.ages.step_since = 0;
    read_metrics(&m);
    assert_value("fermata_thread_busy_seconds_total", "", 17);
    assert_value("fermata_oldest_seconds", "state=\"running\"", 0);
    m.sum.busy = 20 * FM_SEC;
    read_metrics(&m);
    assert_value("fermata_thread_busy_seconds_total", "", 20);
}

static void test_oldest(void **state)
{
    (void)state;
    static const char *const states[] = {"parked_future", "parked_client", "sending"};
    uint64_t now = fm_now();
    for (unsigned s = 0; s < FM_AGE_COUNT; s++) {
        char label[40];
        snprintf(label, sizeof label, "state=\"%s\"", states[s]);
        read_page(0, 0, true);
        assert_value("fermata_oldest_seconds", label, 0);
        fm_count_age(s, now, 1);
        read_page(0, 0, true);
        assert_true(value("fermata_oldest_seconds", label) > 0);
        fm_count_age(s, now, (uint32_t)-1);
    }
    fm_count_queued_since(now - FM_SEC);
    read_page(0, 0, true);
    assert_true(value("fermata_oldest_seconds", "state=\"queued\"") >= 1);
    fm_count_queued_since(0);
}

static void test_process(void **state)
{
    (void)state;
    struct fm_metrics m = {.has_usage = true, .python = ""};
    m.usage = (struct fm_usage){
        .cpu = 1500 * FM_MS, .started = 1700000000123, .memory = 4096, .size = 8192, .open = 7, .most = 1024};
    shown.cpu = 0;
    read_metrics(&m);
    assert_value("process_cpu_seconds_total", "", 1.5);
    assert_value("process_resident_memory_bytes", "", 4096);
    assert_value("process_virtual_memory_bytes", "", 8192);
    assert_value("process_open_fds", "", 7);
    assert_value("process_max_fds", "", 1024);
    assert_value("process_start_time_seconds", "", 1700000000.123);
    m.usage.cpu = 1490 * FM_MS; /* the ticks of a process that has ended are not those that its parent is told */
    read_metrics(&m);
    assert_value("process_cpu_seconds_total", "", 1.5);
}

static void test_appends(void **state)
{
    (void)state;
    struct fm_buf buf = FM_BUF_INIT;
    fm_buf_puts(&buf, "before\n");
    struct fm_metrics m = {.ready = true, .python = ""};
    fm_metrics_page(&buf, &m, &shown);
    assert_memory_equal(fm_buf_head(&buf), "before\n# HELP ", 14);
    fm_buf_fini(&buf);
}

static void park(const char *file, unsigned line, bool guessed, int n)
{
    fm_places_park(fm_places_add(file, "f", line, guessed), n);
}

static void expect_places(const char *text)
{
    struct fm_buf buf = FM_BUF_INIT;
    fm_metrics_places(&buf);
    assert_false(buf.failed);
    fm_buf_append(&buf, "", 1);
    const char *first = strstr(fm_buf_head(&buf), "{");
    assert_memory_equal(fm_buf_head(&buf), "# HELP fermata_parked_requests ", 31);
    assert_string_equal(first - strlen("fermata_parked_requests"), text);
    fm_buf_fini(&buf);
}

#define PARKED "fermata_parked_requests{place="

/* By name and line, what has the same name as one; names that need it are escaped; what is left is "other". */
static void test_places(void **state)
{
    (void)state;
    fm_places_watch();
    expect_places(PARKED "\"other\"} 0\n");
    park("/srv/app/gateway.py", 88, false, 3);
    park("/srv/app/gateway.py", 88, true, 2);
    park("/srv/app/gateway.py", 41, false, 6);
    park("/srv/other/gateway.py", 41, false, 1);
    park("/srv/a\"b\\c\nd", 1, false, 9);
    park("no_slash.py", 7, false, 1);
    park("/left.py", 7, false, 0);
    fm_places_park(0, 4);
    expect_places(PARKED "\"a\\\"b\\\\c\\nd:1\"} 9\n" PARKED "\"gateway.py:41\"} 7\n" PARKED
                         "\"gateway.py:88\"} 5\n" PARKED "\"no_slash.py:7\"} 1\n" PARKED "\"other\"} 4\n");
    for (unsigned i = 0; i < 100; i++)
        park("/many.py", i + 1, false, 20);
    struct fm_buf buf = FM_BUF_INIT;
    fm_metrics_places(&buf);
    fm_buf_append(&buf, "", 1);
    unsigned n = 0;
    for (const char *at = fm_buf_head(&buf); (at = strstr(at, "{place=")); at++)
        n++;
    assert_int_equal(n, 21);
    assert_non_null(strstr(fm_buf_head(&buf), PARKED "\"many.py:1\"} 20\n"));
    assert_null(strstr(fm_buf_head(&buf), "many.py:21\""));
    assert_non_null(strstr(fm_buf_head(&buf), PARKED "\"other\"} 1626\n")); /* 80 * 20 + 9 + 7 + 5 + 1 + 4 */
    fm_buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_page_reads),
        cmocka_unit_test(test_all_are_there),
        cmocka_unit_test(test_threads_and_readiness),
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_large_values),
        cmocka_unit_test(test_gauge_over_threads),
        cmocka_unit_test(test_histograms),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_while_others_count),
        cmocka_unit_test(test_busy_seconds),
        cmocka_unit_test(test_oldest),
        cmocka_unit_test(test_process),
        cmocka_unit_test(test_appends),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The metrics page: the tables of util/counter.h and http/refusal.h, and what is asked for. */
#include "fermata/admin/metrics.h"

#include <stdio.h>
#include <string.h>

#include "fermata/admin/status.h"
#include "fermata/http/refusal.h"
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/version.h"

static const struct {
    const char *family, *labels, *type, *help;
} counters[] = {
#define X(id, family, labels, type, help) {family, labels, type, help},
    FM_COUNTERS(X)
#undef X
};

static const struct {
    const char *family, *help;
} histograms[] = {
#define X(id, family, bounds, help) {family, help},
    FM_HISTOGRAMS(X)
#undef X
};

_Static_assert(FM_REFUSALS_END <= FM_REFUSAL_CELLS, "a counter for each refusal");

static void head(struct fm_buf *out, const char *family, const char *type, const char *help)
{
    fm_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", family, help, family, type);
}

static void put_counters(struct fm_buf *out, const struct fm_counters_sum *sum)
{
    for (unsigned i = 0; i < FM_C_COUNT; i++) {
        bool labelled = *counters[i].labels;
        if (i == 0 || strcmp(counters[i].family, counters[i - 1].family) != 0)
            head(out, counters[i].family, counters[i].type, counters[i].help);
        fm_buf_printf(out, "%s%s%s%s %lld\n", counters[i].family, labelled ? "{" : "", counters[i].labels,
                      labelled ? "}" : "", (long long)sum->cell[i]);
    }
}

static void put_refusals(struct fm_buf *out, const struct fm_counters_sum *sum)
{
    static const char family[] = "fermata_refused_requests_total";
    head(out, family, "counter", "Requests refused before the application, by reason.");
    for (unsigned i = FM_REFUSE_NOTHING + 1; i < FM_REFUSALS_END; i++)
        fm_buf_printf(out, "%s{reason=\"%s\"} %llu\n", family, fm_refusal_error((enum fm_refusal)i)->slug,
                      (unsigned long long)sum->refused[i]);
}

/* Seconds, without zeros at the end.  Not by %g: the application may have set a locale with a decimal comma. */
static const char *seconds(char text[32], uint64_t ns)
{
    int n = snprintf(text, 32, "%llu.%09llu", (unsigned long long)(ns / FM_SEC), (unsigned long long)(ns % FM_SEC));
    while (n > 1 && text[n - 1] == '0')
        n--;
    text[text[n - 1] == '.' ? n - 1 : n] = '\0';
    return text;
}

static void put_histograms(struct fm_buf *out, const struct fm_counters_sum *sum)
{
    char text[32];
    for (unsigned h = 0; h < FM_HG_COUNT; h++) {
        unsigned long long below = 0;
        head(out, histograms[h].family, "histogram", histograms[h].help);
        for (unsigned b = 0; b <= fm_bounds[h].n; b++) {
            below += sum->hist[h].bucket[b];
            if (b < fm_bounds[h].n)
                fm_buf_printf(out, "%s_bucket{le=\"%s\"} %llu\n", histograms[h].family,
                              seconds(text, fm_bounds[h].at[b]), below);
            else
                fm_buf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n", histograms[h].family, below);
        }
        fm_buf_printf(out, "%s_sum %s\n%s_count %llu\n", histograms[h].family, seconds(text, sum->hist[h].sum),
                      histograms[h].family, below);
    }
}

/* Since `since`, which 0 says never was. */
static uint64_t age(uint64_t since, uint64_t now) { return since != 0 && now > since ? now - since : 0; }

void fm_metrics_oldest(const struct fm_ages_sum *ages, uint64_t now, uint64_t oldest[5])
{
    oldest[FM_STATUS_QUEUED] = age(ages->queued_since, now);
    oldest[FM_STATUS_RUNNING] = age(ages->step_since, now);
    oldest[FM_STATUS_PARKED_FUTURE] = fm_ages_oldest(ages, FM_AGE_PARKED_FUTURE, now);
    oldest[FM_STATUS_PARKED_CLIENT] = fm_ages_oldest(ages, FM_AGE_PARKED_CLIENT, now);
    oldest[FM_STATUS_SENDING] = fm_ages_oldest(ages, FM_AGE_SENDING, now);
}

static void put_oldest(struct fm_buf *out, const struct fm_metrics *m)
{
    uint64_t oldest[FM_STATUS_STATE_COUNT];
    char text[32];
    fm_metrics_oldest(&m->ages, m->now, oldest);
    head(out, "fermata_oldest_seconds", "gauge", "How long the oldest request has been in the state; 0: none is.");
    for (unsigned i = 0; i < FM_STATUS_STATE_COUNT; i++)
        fm_buf_printf(out, "fermata_oldest_seconds{state=\"%s\"} %s\n", fm_status_state_name((enum fm_status_state)i),
                      seconds(text, oldest[i]));
}

/* Steps that are under way count as far as they have come. */
static uint64_t busy_so_far(const struct fm_metrics *m)
{
    return m->sum.busy + (m->ages.steps * m->now - m->ages.steps_since);
}

static uint64_t not_less(uint64_t *shown, uint64_t now)
{
    if (now > *shown)
        *shown = now;
    return *shown;
}

static void put_threads(struct fm_buf *out, const struct fm_metrics *m, struct fm_metrics_shown *shown)
{
    char text[32];
    head(out, "fermata_threads", "gauge", "Threads for the application, by what they do.");
    fm_buf_printf(out, "fermata_threads{state=\"busy\"} %u\nfermata_threads{state=\"idle\"} %u\n", m->busy, m->idle);
    head(out, "fermata_thread_busy_seconds_total", "counter", "Time that threads have spent in steps, so far.");
    fm_buf_printf(out, "fermata_thread_busy_seconds_total %s\n", seconds(text, not_less(&shown->busy, busy_so_far(m))));
}

static void put_number(struct fm_buf *out, const char *family, const char *help, uint64_t n)
{
    head(out, family, "gauge", help);
    fm_buf_printf(out, "%s %llu\n", family, (unsigned long long)n);
}

/* The names that every client library of Prometheus has. */
static void put_process(struct fm_buf *out, const struct fm_usage *u, struct fm_metrics_shown *shown)
{
    char text[32];
    head(out, "process_cpu_seconds_total", "counter", "Processor time used.");
    fm_buf_printf(out, "process_cpu_seconds_total %s\n", seconds(text, not_less(&shown->cpu, u->cpu)));
    put_number(out, "process_resident_memory_bytes", "Memory that is resident.", u->memory);
    put_number(out, "process_virtual_memory_bytes", "Size of the address space.", u->size);
    put_number(out, "process_open_fds", "Descriptors that are open.", u->open);
    put_number(out, "process_max_fds", "Descriptors that may be open.", u->most);
    head(out, "process_start_time_seconds", "gauge", "When the process was started, since 1970.");
    fm_buf_printf(out, "process_start_time_seconds %s\n", seconds(text, u->started * FM_MS));
}

void fm_metrics_page(struct fm_buf *out, const struct fm_metrics *m, struct fm_metrics_shown *shown)
{
    put_counters(out, &m->sum);
    put_refusals(out, &m->sum);
    put_oldest(out, m);
    put_threads(out, m, shown);
    head(out, "fermata_ready", "gauge", "1 while new requests are served.");
    fm_buf_printf(out, "fermata_ready %d\n", m->ready);
    head(out, "fermata_build_info", "gauge", "1; its labels say what runs.");
    fm_buf_printf(out, "fermata_build_info{version=\"%s\",python=\"%s\"} 1\n", FM_VERSION, m->python ? m->python : "");
    put_histograms(out, &m->sum);
    if (m->has_usage)
        put_process(out, &m->usage, shown);
}

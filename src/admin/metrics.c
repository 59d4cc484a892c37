/* The metrics page: the tables of util/counter.h and http/refusal.h, and a few gauges asked for. */
#include "fermata/admin/metrics.h"

#include <stdio.h>
#include <string.h>

#include "fermata/http/refusal.h"
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"

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
#define X(id, family, help) {family, help},
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
        for (unsigned b = 0; b < FM_BUCKETS; b++) {
            below += sum->hist[h].bucket[b];
            if (b < FM_BUCKETS - 1)
                fm_buf_printf(out, "%s_bucket{le=\"%s\"} %llu\n", histograms[h].family,
                              seconds(text, fm_bucket_bounds[b]), below);
            else
                fm_buf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n", histograms[h].family, below);
        }
        fm_buf_printf(out, "%s_sum %s\n%s_count %llu\n", histograms[h].family, seconds(text, sum->hist[h].sum),
                      histograms[h].family, below);
    }
}

void fm_metrics_page(struct fm_buf *out, const struct fm_counters_sum *sum, unsigned busy, unsigned idle, bool ready)
{
    put_counters(out, sum);
    put_refusals(out, sum);
    head(out, "fermata_threads", "gauge", "Threads for the application, by what they do.");
    fm_buf_printf(out, "fermata_threads{state=\"busy\"} %u\nfermata_threads{state=\"idle\"} %u\n", busy, idle);
    head(out, "fermata_ready", "gauge", "1 while new requests are served.");
    fm_buf_printf(out, "fermata_ready %d\n", ready);
    put_histograms(out, sum);
}

/* The pages of the arbiter's admin port; see arbiter/pages.h. */
#include "fermata/arbiter/pages.h"

#include <unistd.h>

#include "fermata/admin/metrics.h"
#include "fermata/admin/status.h"
#include "fermata/arbiter/over.h"
#include "fermata/util/buf.h"
#include "fermata/util/clock.h"
#include "fermata/util/usage.h"

#define PLACES (2 * FM_WORKERS_MAX)

/* ---- /readyz ---- */

static bool is_ready(void *ctx)
{
    const struct fm_pages *p = ctx;
    const struct fm_roster *r = p->roster;
    unsigned least = p->options->min_ready < r->wanted ? p->options->min_ready : r->wanted;
    return !r->stopping && fm_roster_serving(r) >= least;
}

/* ---- /metrics ---- */

static void count(void *ctx, struct fm_counters_sum *sum, struct fm_ages_sum *ages) FM_UNCHECKED
{
    struct fm_pages *p = ctx;
    fm_children_count(p->children, sum);
    fm_children_ages(p->children, ages);
}

/* Of the arbiter and its workers. */
static bool read_usage(void *ctx, struct fm_usage *u)
{
    const struct fm_roster *r = ((struct fm_pages *)ctx)->roster;
    struct fm_usage one;
    if (!fm_usage_read(0, u))
        return false;
    u->cpu += fm_usage_ended();
    for (size_t i = 0; i < PLACES; i++)
        if (r->workers[i].pid > 0 && fm_usage_read(r->workers[i].pid, &one))
            fm_usage_add(u, &one);
    return true;
}

static void count_threads(void *ctx, unsigned *busy, unsigned *idle) FM_UNCHECKED
{
    struct fm_pages *p = ctx;
    struct fm_counters_sum sum;
    fm_children_count(p->children, &sum);
    unsigned all = p->options->threads *
                   (fm_roster_count(p->roster, FM_WORKER_READY) + fm_roster_count(p->roster, FM_WORKER_DRAINING));
    unsigned running = (unsigned)sum.cell[FM_C_IN_RUNNING];
    *busy = running < all ? running : all;
    *idle = all - *busy;
}

static void head(struct fm_buf *to, const char *family, const char *type, const char *help)
{
    fm_buf_printf(to, "# HELP %s %s\n# TYPE %s %s\n", family, help, family, type);
}

static void put_by_slot(const struct fm_pages *p, struct fm_buf *to) FM_ON_LOOP
{
    struct fm_slot_sum sums[FM_WORKERS_MAX];
    unsigned n = p->roster->slots_used;
    for (unsigned i = 0; i < n; i++)
        fm_children_count_slot(p->children, i, &sums[i]);
    head(to, "fermata_worker_requests_total", "counter", "Requests answered, by the worker's slot.");
    for (unsigned i = 0; i < n; i++)
        fm_buf_printf(to, "fermata_worker_requests_total{slot=\"%u\"} %llu\n", i, (unsigned long long)sums[i].requests);
    head(to, "fermata_worker_connections", "gauge", "Connections open, by the worker's slot.");
    for (unsigned i = 0; i < n; i++)
        fm_buf_printf(to, "fermata_worker_connections{slot=\"%u\"} %lld\n", i, (long long)sums[i].connections);
    head(to, "fermata_worker_exits_total", "counter", "Ends of workers that were not told to, by slot.");
    for (unsigned i = 0; i < n; i++)
        fm_buf_printf(to, "fermata_worker_exits_total{slot=\"%u\"} %u\n", i, p->roster->slots[i].exits);
}

static void put_metrics(void *ctx, struct fm_buf *to) FM_UNCHECKED
{
    const struct fm_pages *p = ctx;
    const struct fm_roster *r = p->roster;
    head(to, "fermata_workers", "gauge", "Workers, by what they do.");
    for (unsigned i = 0; i < FM_WORKER_STATE_COUNT; i++)
        fm_buf_printf(to, "fermata_workers{state=\"%s\"} %u\n", fm_worker_state_name((enum fm_worker_state)i),
                      fm_roster_count(r, (enum fm_worker_state)i));
    head(to, "fermata_workers_wanted", "gauge", "Workers that there ought to be.");
    fm_buf_printf(to, "fermata_workers_wanted %u\n", r->wanted);
    head(to, "fermata_workers_serving", "gauge", "Workers that are ready and not stuck.");
    fm_buf_printf(to, "fermata_workers_serving %u\n", fm_roster_serving(r));
    head(to, "fermata_workers_replaced_total", "counter", "Workers that were to be replaced, by why.");
    for (unsigned i = FM_WHY_NOTHING + 1; i < FM_WHY_RELOAD; i++)
        fm_buf_printf(to, "fermata_workers_replaced_total{why=\"%s\"} %llu\n",
                      fm_worker_reason_name((enum fm_worker_reason)i), (unsigned long long)r->replaced[i]);
    head(to, "fermata_workers_out_of_memory_total", "counter", "Workers that the kernel killed for want of memory.");
    fm_buf_printf(to, "fermata_workers_out_of_memory_total %llu\n", (unsigned long long)r->out_of_memory);
    put_by_slot(p, to);
}

/* ---- the status: sums ---- */

static bool sum_up(void *ctx, struct fm_status *s, bool first) FM_UNCHECKED
{
    struct fm_counters_sum sum;
    struct fm_ages_sum ages;
    uint64_t oldest[FM_STATUS_STATE_COUNT];
    (void)first;
    count(ctx, &sum, &ages);
    fm_metrics_oldest(&ages, fm_now(), oldest);
    for (unsigned i = 0; i < FM_STATUS_STATE_COUNT; i++) {
        int64_t n = (int64_t)sum.cell[FM_C_IN_QUEUED + i];
        s->in[i].n = n > 0 ? (uint64_t)n : 0;
        s->in[i].oldest = oldest[i];
    }
    return true;
}

static void list_worker(const struct fm_pages *p, const struct fm_roster_worker *w, uint64_t now,
                        struct fm_status_worker *to) FM_ON_LOOP
{
    struct fm_counters_sum sum;
    fm_children_count_one(p->children, w->pid, &sum);
    int64_t parked = (int64_t)(sum.cell[FM_C_IN_PARKED_FUTURE] + sum.cell[FM_C_IN_PARKED_CLIENT]);
    int64_t open = (int64_t)sum.cell[FM_C_CONNS];
    *to = (struct fm_status_worker){.slot = w->slot,
                                    .pid = w->pid,
                                    .state = fm_worker_state_name((enum fm_worker_state)w->state),
                                    .why = fm_worker_reason_name((enum fm_worker_reason)w->why),
                                    .since = now - w->since,
                                    .requests = fm_children_requests(p->children, w->pid),
                                    .connections = open > 0 ? (uint64_t)open : 0,
                                    .parked = parked > 0 ? (uint64_t)parked : 0};
}

/* By slot, and of each the one first that its page is of. */
static unsigned list_workers(const struct fm_pages *p, struct fm_status_worker *to, uint64_t now) FM_ON_LOOP
{
    unsigned n = 0;
    for (unsigned slot = 0; slot < FM_WORKERS_MAX; slot++) {
        const struct fm_roster_worker *first = fm_over_find(p->roster, slot);
        if (first)
            list_worker(p, first, now, &to[n++]);
        for (size_t i = 0; first && i < PLACES; i++) {
            const struct fm_roster_worker *w = &p->roster->workers[i];
            if (w->pid > 0 && w->slot == slot && w != first)
                list_worker(p, w, now, &to[n++]);
        }
    }
    return n;
}

static void tell_about(void *ctx, struct fm_status_about *about) FM_UNCHECKED
{
    const struct fm_pages *p = ctx;
    static struct fm_status_worker each[PLACES]; /* until it is rendered, in this turn */
    unsigned idle;
    count_threads(ctx, &about->busy, &idle);
    about->threads = about->busy + idle;
    about->application = p->options->app;
    about->pid = getpid();
    about->draining = p->roster->stopping;
    about->up = fm_now() - p->started;
    about->workers = fm_roster_count(p->roster, FM_WORKER_READY);
    about->workers = about->workers ? about->workers : 1; /* none is ready yet */
    about->each = each;
    about->neach = list_workers(p, each, fm_now());
}

/* ---- /workers ---- */

/* Seconds; not by %g: a locale may have a decimal comma. */
static void put_seconds(struct fm_buf *to, const char *name, uint64_t ns)
{
    fm_buf_printf(to, ", \"%s\": %llu.%03llu", name, (unsigned long long)(ns / FM_SEC),
                  (unsigned long long)(ns / FM_MS % 1000));
}

static void put_worker(const struct fm_pages *p, const struct fm_roster_worker *w, uint64_t now,
                       struct fm_buf *to) FM_ON_LOOP
{
    struct fm_counters_sum sum;
    fm_children_count_one(p->children, w->pid, &sum);
    fm_buf_printf(to, "\n{\"slot\": %u, \"pid\": %ld, \"generation\": %u, \"state\": \"%s\", \"why\": \"%s\"", w->slot,
                  (long)w->pid, w->generation, fm_worker_state_name((enum fm_worker_state)w->state),
                  fm_worker_reason_name((enum fm_worker_reason)w->why));
    put_seconds(to, "since", now - w->since);
    if (w->boot)
        put_seconds(to, "boot", w->boot);
    fm_buf_printf(to, ", \"requests\": %llu, \"connections\": %lld, \"parked\": %lld}",
                  (unsigned long long)fm_children_requests(p->children, w->pid), (long long)sum.cell[FM_C_CONNS],
                  (long long)sum.cell[FM_C_IN_PARKED_FUTURE] + (long long)sum.cell[FM_C_IN_PARKED_CLIENT]);
}

/* What is remembered of a slot: how its last worker ended, and how long it waits until the next one starts. */
static void put_slot(const struct fm_roster_slot *s, unsigned slot, uint64_t now, struct fm_buf *to)
{
    char how[100];
    fm_buf_printf(to, "\n{\"slot\": %u, \"exits\": %u", slot, s->exits);
    put_seconds(to, "backoff", s->delay);
    put_seconds(to, "starts_in", s->start_at > now ? s->start_at - now : 0);
    if (s->last) {
        fm_roster_describe(s->how, how, sizeof how);
        fm_buf_printf(to, ", \"last\": {\"pid\": %ld, \"how\": \"%s\", \"code\": %d, \"signal\": %d, ", (long)s->last,
                      how, s->how.code, s->how.signal);
        fm_buf_printf(to, "\"out_of_memory\": %s, \"why\": \"%s\"", s->how.out_of_memory ? "true" : "false",
                      fm_worker_reason_name((enum fm_worker_reason)s->why));
        put_seconds(to, "ago", now - s->ended_at);
        fm_buf_puts(to, "}");
    }
    fm_buf_puts(to, "}");
}

static void put_workers(void *ctx, struct fm_buf *to) FM_UNCHECKED
{
    const struct fm_pages *p = ctx;
    const struct fm_roster *r = p->roster;
    const char *comma = "";
    uint64_t now = fm_now();
    fm_buf_printf(to, "{\"wanted\": %u, \"generation\": %u, \"serving\": %u, \"reload\": \"%s\", ", r->wanted,
                  r->generation, fm_roster_serving(r), fm_reload_name(r->reload));
    fm_buf_printf(to, "\"reload_failed\": \"%s\", \"workers\": [",
                  r->reload == FM_RELOAD_FAILED ? r->reload_failed : "");
    for (size_t i = 0; i < PLACES; i++) {
        if (r->workers[i].pid <= 0)
            continue;
        fm_buf_puts(to, comma);
        put_worker(p, &r->workers[i], now, to);
        comma = ",";
    }
    fm_buf_puts(to, "],\n\"slots\": [");
    for (unsigned i = 0; i < r->slots_used; i++) {
        fm_buf_puts(to, i ? "," : "");
        put_slot(&r->slots[i], i, now, to);
    }
    fm_buf_puts(to, "]}\n");
}

/* ---- pages of workers ---- */

static int hand_over(void *ctx, unsigned slot, int fd, const char *head, size_t len, struct fm_buf *to) FM_UNCHECKED
{
    const struct fm_pages *p = ctx;
    return fm_over_give(p->roster, p->children, slot, fd, head, len, to);
}

static void put_slots(void *ctx, struct fm_buf *to) { fm_over_slots(((const struct fm_pages *)ctx)->roster, to); }

void fm_pages_source(struct fm_pages *p, struct fm_admin_source *source)
{
    *source =
        (struct fm_admin_source){.ready = is_ready,
                                 .threads = count_threads,
                                 .ctx = p,
                                 .counters = count,
                                 .usage = read_usage,
                                 .walk = sum_up,
                                 .about = tell_about,
                                 .rules = {p->options->admin_hosts, p->options->nadmin_hosts, p->options->admin_status},
                                 .python = p->options->python,
                                 .more_metrics = put_metrics,
                                 .workers = put_workers,
                                 .hand_over = hand_over,
                                 .slots = put_slots};
}

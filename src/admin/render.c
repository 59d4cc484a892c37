/* The status as JSON and as text; see admin/render.h.  Numbers not by %g or %f: a locale may have a decimal comma. */
#include "fermata/admin/render.h"

#include <string.h>

#include "fermata/util/clock.h"
#include "fermata/util/version.h"

#define FULL (768 * 1024) /* bytes of requests on a page */

/* ---- JSON ---- */

static void put_text(struct fm_buf *to, const char *before, const char *text)
{
    fm_buf_printf(to, "%s\"", before);
    fm_escape_json(to, text);
    fm_buf_puts(to, "\"");
}

static void put_seconds(struct fm_buf *to, const char *before, uint64_t ns)
{
    fm_buf_printf(to, "%s%llu.%03llu", before, (unsigned long long)(ns / FM_SEC),
                  (unsigned long long)(ns / FM_MS % 1000));
}

static void put_trace(struct fm_buf *to, const struct fm_status_request *r)
{
    if (*r->trace)
        put_text(to, ", \"trace\": ", r->trace);
}

static void put_request(struct fm_buf *to, const struct fm_status_request *r)
{
    fm_buf_printf(to, "\n{\"id\": %llu, \"state\": \"%s\"", (unsigned long long)r->number,
                  fm_status_state_name(r->state));
    put_seconds(to, ", \"age_s\": ", r->age);
    put_seconds(to, ", \"state_s\": ", r->in_state);
    put_text(to, ", \"method\": ", r->method);
    put_text(to, ", \"path\": ", r->path);
    put_text(to, ", \"client\": ", r->client);
    if (r->state == FM_STATUS_PARKED_FUTURE)
        fm_buf_printf(to, ", \"place\": %u", r->place);
    if (r->thread)
        fm_buf_printf(to, ", \"thread\": \"fermata-%u\"", r->thread);
    put_trace(to, r);
    fm_buf_puts(to, "}");
}

static void put_requests(struct fm_buf *to, const struct fm_status *s)
{
    unsigned n = 0;
    size_t before = fm_buf_size(to);
    fm_buf_puts(to, "\"requests\": [");
    for (; n < s->nrequests && fm_buf_size(to) - before < FULL; n++) {
        fm_buf_puts(to, n ? "," : "");
        put_request(to, &s->requests[n]);
    }
    fm_buf_printf(to, "],\n\"truncated\": %llu", (unsigned long long)s->more + (s->nrequests - n));
    if (n > 0)
        fm_buf_printf(to, ", \"last\": %llu", (unsigned long long)s->requests[n - 1].number);
}

static void put_place(struct fm_buf *to, uint16_t number)
{
    const struct fm_place *p = fm_places_get(number);
    if (!p) {
        fm_buf_puts(to, ", \"file\": null, \"line\": null, \"function\": null, \"guessed\": false");
        return;
    }
    put_text(to, ", \"file\": ", p->file);
    fm_buf_printf(to, ", \"line\": %u", p->line);
    put_text(to, ", \"function\": ", p->function);
    fm_buf_printf(to, ", \"guessed\": %s", p->guessed ? "true" : "false");
}

/* What requests wait for at a place, if that has been told. */
static void put_kinds(struct fm_buf *to, const struct fm_status *s, const struct fm_status_group *g)
{
    unsigned n, looked_at;
    const struct fm_status_kind *kind = fm_status_kinds_at(s, g->place, &n, &looked_at);
    if (n == 0 || g->state != FM_STATUS_PARKED_FUTURE)
        return;
    fm_buf_printf(to, ", \"looked_at\": %u, \"futures\": [", looked_at);
    for (unsigned i = 0; i < n; i++) {
        fm_buf_printf(to, "%s{\"n\": %u", i ? ", " : "", kind[i].n);
        put_text(to, ", \"kind\": ", kind[i].text);
        fm_buf_puts(to, "}");
    }
    fm_buf_puts(to, "]");
}

static void put_python(struct fm_buf *to, const struct fm_status_python *p)
{
    const char *comma = "";
    if (!p->asked)
        return;
    fm_buf_puts(to, "\"python\": {");
    if (p->answered) {
        put_seconds(to, "\"age_s\": ", p->age);
        comma = ", ";
    }
    if (p->silent) {
        fm_buf_puts(to, comma);
        put_seconds(to, "\"silent_s\": ", p->silent);
    }
    fm_buf_puts(to, "},\n");
}

static void put_group(struct fm_buf *to, const struct fm_status *s, const struct fm_status_group *g)
{
    fm_buf_printf(to, "\n{\"place\": %u, \"state\": \"%s\", \"n\": %u", g->place, fm_status_state_name(g->state), g->n);
    put_place(to, g->place);
    put_seconds(to, ", \"median_s\": ", g->median);
    put_seconds(to, ", \"max_s\": ", g->oldest);
    fm_buf_printf(to, ", \"example\": %llu", (unsigned long long)g->example);
    put_kinds(to, s, g);
    fm_buf_puts(to, "}");
}

static void put_running(struct fm_buf *to, const struct fm_status *s)
{
    fm_buf_puts(to, "\"running\": [");
    for (unsigned i = 0; i < s->nrunning; i++) {
        const struct fm_status_request *r = &s->running[i];
        fm_buf_printf(to, "%s\n{\"thread\": \"fermata-%u\"", i ? "," : "", r->thread);
        put_seconds(to, ", \"since_s\": ", r->in_state);
        fm_buf_printf(to, ", \"request\": %llu", (unsigned long long)r->number);
        put_text(to, ", \"method\": ", r->method);
        put_text(to, ", \"path\": ", r->path);
        fm_buf_puts(to, "}");
    }
    fm_buf_puts(to, "],\n");
}

static void put_slowest(struct fm_buf *to, const struct fm_status *s)
{
    fm_buf_puts(to, "\"slowest\": [");
    for (unsigned i = 0; i < s->about.nslow; i++) {
        const struct fm_status_request *r = &s->about.slow[i];
        put_seconds(to, i ? ",\n{\"took_s\": " : "\n{\"took_s\": ", r->age);
        fm_buf_printf(to, ", \"status\": %u", r->status);
        put_text(to, ", \"method\": ", r->method);
        put_text(to, ", \"path\": ", r->path);
        put_seconds(to, ", \"ago_s\": ", r->in_state);
        put_trace(to, r);
        fm_buf_puts(to, "}");
    }
    fm_buf_puts(to, "],\n");
}

static const char *yes(bool is) { return is ? "true" : "false"; }

static void put_rate(struct fm_buf *to, double rate)
{
    unsigned long long hundredths = (unsigned long long)(rate * 100 + 0.5);
    fm_buf_printf(to, "%llu.%02llu", hundredths / 100, hundredths % 100);
}

static void put_about(struct fm_buf *to, const struct fm_status_about *a)
{
    put_text(to, "{\"version\": 1,\n\"server\": {\"name\": \"fermata\", \"version\": ", FM_VERSION);
    put_text(to, ", \"python\": ", a->python ? a->python : "");
    put_text(to, ", \"application\": ", a->application ? a->application : "");
    fm_buf_printf(to, ", \"pid\": %ld, \"ready\": %s, \"draining\": %s, \"places\": %s", (long)a->pid, yes(a->ready),
                  yes(a->draining), yes(a->has_places));
    put_seconds(to, ", \"up_s\": ", a->up);
    if (a->workers)
        fm_buf_printf(to, ", \"workers\": %u", a->workers);
    if (a->is_worker)
        fm_buf_printf(to, ", \"worker\": %u", a->slot);
    fm_buf_printf(to, "},\n\"threads\": {\"limit\": %u, \"busy\": %u, \"idle\": %u},\n", a->threads, a->busy,
                  a->threads > a->busy ? a->threads - a->busy : 0);
    fm_buf_puts(to, "\"rates\": {");
    if (a->rate >= 0) {
        fm_buf_puts(to, "\"requests\": ");
        put_rate(to, a->rate);
    }
    fm_buf_puts(to, "},\n");
}

void fm_render_json(struct fm_buf *to, const struct fm_status *s)
{
    put_about(to, &s->about);
    fm_buf_puts(to, "\"in_flight\": {");
    for (unsigned i = 0; i < FM_STATUS_STATE_COUNT; i++) {
        fm_buf_printf(to, "%s\"%s\": {\"n\": %llu", i ? ", " : "", fm_status_state_name(i),
                      (unsigned long long)s->in[i].n);
        put_seconds(to, ", \"oldest_s\": ", s->in[i].oldest);
        fm_buf_puts(to, "}");
    }
    fm_buf_puts(to, "},\n\"places\": [");
    for (unsigned i = 0; i < s->ngroups; i++) {
        fm_buf_puts(to, i ? "," : "");
        put_group(to, s, &s->groups[i]);
    }
    fm_buf_printf(to, "],\n\"more_places\": {\"places\": %u, \"n\": %llu},\n", s->more_groups,
                  (unsigned long long)s->in_more);
    put_python(to, &s->python);
    put_running(to, s);
    put_slowest(to, s);
    put_requests(to, s);
    fm_buf_puts(to, "}\n");
}

void fm_render_requests(struct fm_buf *to, const struct fm_status *s)
{
    fm_buf_puts(to, "{\"version\": 1,\n");
    put_requests(to, s);
    fm_buf_puts(to, "}\n");
}

/* ---- text ---- */

static void put_age(struct fm_buf *to, uint64_t ns)
{
    fm_buf_printf(to, " %6llu.%03llu s", (unsigned long long)(ns / FM_SEC), (unsigned long long)(ns / FM_MS % 1000));
}

static void say_place(struct fm_buf *to, const struct fm_status_group *g)
{
    const struct fm_place *p = fm_places_get(g->place);
    if (g->state == FM_STATUS_PARKED_CLIENT) {
        fm_buf_puts(to, "(for the client to take output)");
    } else if (!p) {
        fm_buf_puts(to, "(not known)");
    } else {
        fm_buf_puts(to, p->guessed ? "~" : "");
        fm_escape_text(to, p->file);
        fm_buf_printf(to, ":%u ", p->line);
        fm_escape_text(to, p->function);
    }
}

static void say_kinds(struct fm_buf *to, const struct fm_status *s, const struct fm_status_group *g)
{
    unsigned n, looked_at;
    const struct fm_status_kind *kind = fm_status_kinds_at(s, g->place, &n, &looked_at);
    for (unsigned i = 0; i < n && g->state == FM_STATUS_PARKED_FUTURE; i++) {
        fm_buf_printf(to, "%10s%u of %u: ", "", kind[i].n, looked_at);
        fm_escape_text(to, kind[i].text);
        fm_buf_puts(to, "\n");
    }
}

/* How old is what is said of futures. */
static void say_python(struct fm_buf *to, const struct fm_status_python *p)
{
    if (p->silent) {
        fm_buf_puts(to, "Python has not answered for");
        put_age(to, p->silent);
        fm_buf_puts(to, "\n");
    }
    if (p->silent && p->answered) {
        fm_buf_puts(to, "what they wait for is of");
        put_age(to, p->age);
        fm_buf_puts(to, " ago\n");
    }
}

static void say_request(struct fm_buf *to, const struct fm_status_request *r)
{
    fm_escape_text(to, r->method);
    fm_buf_puts(to, " ");
    fm_escape_text(to, r->path);
}

static void say_trace(struct fm_buf *to, const struct fm_status_request *r)
{
    if (!*r->trace)
        return;
    fm_buf_puts(to, "  trace ");
    fm_escape_text(to, r->trace);
}

static void say_health(struct fm_buf *to, const struct fm_status *s)
{
    const struct fm_status_about *a = &s->about;
    fm_escape_text(to, a->application ? a->application : "");
    fm_buf_printf(to, "  fermata %s, Python %s, pid %ld, ", FM_VERSION, a->python ? a->python : "", (long)a->pid);
    if (a->is_worker)
        fm_buf_printf(to, "worker %u, ", a->slot);
    fm_buf_printf(to, "up %llu s, %s", (unsigned long long)(a->up / FM_SEC),
                  a->draining ? "draining"
                  : a->ready  ? "ready"
                              : "not ready");
    if (a->rate >= 0) {
        fm_buf_puts(to, ", ");
        put_rate(to, a->rate);
        fm_buf_puts(to, " requests a second");
    }
    fm_buf_printf(to, "\nthreads: %u of %u busy\n", a->busy, a->threads);
    for (unsigned i = 0; i < FM_STATUS_STATE_COUNT; i++) {
        fm_buf_printf(to, "%-14s %8llu   oldest", fm_status_state_name(i), (unsigned long long)s->in[i].n);
        put_age(to, s->in[i].oldest);
        fm_buf_puts(to, "\n");
    }
}

static void say_oldest(struct fm_buf *to, const struct fm_status *s)
{
    unsigned i = 0;
    fm_buf_puts(to, "\nOLDEST REQUESTS\n");
    for (; i < s->nrequests && fm_buf_size(to) < FULL; i++) {
        const struct fm_status_request *r = &s->requests[i];
        fm_buf_printf(to, "%10llu  %-13s", (unsigned long long)r->number, fm_status_state_name(r->state));
        put_age(to, r->age);
        fm_buf_puts(to, "  ");
        say_request(to, r);
        say_trace(to, r);
        fm_buf_puts(to, "\n");
    }
    if (s->more + (s->nrequests - i) > 0)
        fm_buf_printf(to, "%llu more\n", (unsigned long long)s->more + (s->nrequests - i));
}

static void say_workers(struct fm_buf *to, const struct fm_status_about *a)
{
    fm_buf_printf(to,
                  "\nThese are sums of %u workers: /workers has them one by one, ?worker=N shows one.\n\n"
                  "WORKERS        pid  state            since    requests connections  parked\n",
                  a->workers);
    for (unsigned i = 0; i < a->neach; i++) {
        const struct fm_status_worker *w = &a->each[i];
        fm_buf_printf(to, "%7u %10ld  %-9s", w->slot, (long)w->pid, w->state);
        put_age(to, w->since);
        fm_buf_printf(to, " %11llu %11llu %7llu%s%s\n", (unsigned long long)w->requests,
                      (unsigned long long)w->connections, (unsigned long long)w->parked, *w->why ? "  " : "", w->why);
    }
}

void fm_render_text(struct fm_buf *to, const struct fm_status *s)
{
    say_health(to, s);
    if (s->about.workers) {
        say_workers(to, &s->about);
        return;
    }
    fm_buf_puts(to, "\nWHERE THEY WAIT\n");
    for (unsigned i = 0; i < s->ngroups; i++) {
        fm_buf_printf(to, "%8u  median", s->groups[i].n);
        put_age(to, s->groups[i].median);
        fm_buf_puts(to, "  oldest");
        put_age(to, s->groups[i].oldest);
        fm_buf_puts(to, "  ");
        say_place(to, &s->groups[i]);
        fm_buf_puts(to, "\n");
        say_kinds(to, s, &s->groups[i]);
    }
    if (s->more_groups > 0)
        fm_buf_printf(to, "%8llu  at %u more places\n", (unsigned long long)s->in_more, s->more_groups);
    say_python(to, &s->python);
    fm_buf_puts(to, "\nRUNNING\n");
    for (unsigned i = 0; i < s->nrunning; i++) {
        fm_buf_printf(to, "fermata-%-4u", s->running[i].thread);
        put_age(to, s->running[i].in_state);
        fm_buf_puts(to, "  ");
        say_request(to, &s->running[i]);
        fm_buf_puts(to, "\n");
    }
    fm_buf_puts(to, "\nSLOWEST OF THE LAST TEN MINUTES\n");
    for (unsigned i = 0; i < s->about.nslow; i++) {
        put_age(to, s->about.slow[i].age);
        fm_buf_printf(to, "  %u  ", s->about.slow[i].status);
        say_request(to, &s->about.slow[i]);
        say_trace(to, &s->about.slow[i]);
        fm_buf_puts(to, "\n");
    }
    say_oldest(to, s);
}

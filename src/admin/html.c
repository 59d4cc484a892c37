/* The status as a page; see admin/render.h.  It is complete as it is sent; its script only asks for it again. */
#include <string.h>

#include "fermata/admin/render.h"
#include "fermata/util/clock.h"
#include "fermata/util/version.h"

#include "page.inc" /* page_style, page_script and their hashes */

#define FULL (512 * 1024) /* bytes of the table of requests */

const char *fm_render_policy(void)
{
    return "Content-Security-Policy: default-src 'none'; style-src '" PAGE_STYLE_HASH "'; script-src '" PAGE_SCRIPT_HASH
           "'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
           "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n";
}

static void put_age(struct fm_buf *to, uint64_t ns)
{
    fm_buf_printf(to, "<td class=n>%llu.%llu s", (unsigned long long)(ns / FM_SEC),
                  (unsigned long long)(ns / (FM_SEC / 10) % 10));
}

static void put_cell(struct fm_buf *to, const char *text)
{
    fm_buf_puts(to, "<td>");
    fm_escape_html(to, text);
}

static void put_path(struct fm_buf *to, const struct fm_status_request *r)
{
    put_cell(to, r->method);
    fm_buf_puts(to, "<td><code>");
    fm_escape_html(to, r->path);
    fm_buf_puts(to, "</code>");
}

static void put_trace(struct fm_buf *to, const struct fm_status_request *r)
{
    fm_buf_puts(to, "<td><code>");
    fm_escape_html(to, r->trace);
    fm_buf_puts(to, "</code>");
}

/* Of a file the name and the directory that it is in. */
static const char *last_two(const char *file)
{
    const char *end = strrchr(file, '/'), *at = end;
    while (at && at > file && at[-1] != '/')
        at--;
    return at && at > file ? at : file;
}

static void put_place(struct fm_buf *to, uint16_t number)
{
    const struct fm_place *p = fm_places_get(number);
    if (!p) {
        fm_buf_puts(to, "not known");
        return;
    }
    fm_buf_printf(to, "<code title=\"");
    fm_escape_html(to, p->file);
    fm_buf_printf(to, "\">%s", p->guessed ? "~" : "");
    fm_escape_html(to, last_two(p->file));
    fm_buf_printf(to, ":%u</code> ", p->line);
    fm_escape_html(to, p->function);
}

static void put_head(struct fm_buf *to, const struct fm_status_about *a)
{
    fm_buf_puts(to, "<!doctype html><html lang=en><head><meta charset=utf-8><title>");
    fm_escape_html(to, a->application ? a->application : "fermata");
    if (a->is_worker)
        fm_buf_printf(to, " worker %u", a->slot);
    fm_buf_puts(to, " - fermata</title><meta name=viewport content=\"width=device-width\"><style>");
    fm_buf_puts(to, page_style);
    fm_buf_puts(to, "</style></head><body><p id=live></p><main>");
}

static void put_health(struct fm_buf *to, const struct fm_status_about *a)
{
    unsigned long long minutes = a->up / (60 * FM_SEC);
    unsigned long long rate = a->rate > 0 ? (unsigned long long)(a->rate * 10 + 0.5) : 0;
    fm_buf_puts(to, "<h1>");
    fm_escape_html(to, a->application ? a->application : "fermata");
    fm_buf_puts(to, "</h1>");
    if (a->is_worker)
        fm_buf_printf(to, "<p>worker %u: <a href=\"/\">all workers</a></p>", a->slot);
    fm_buf_printf(to, "<p>fermata %s, Python %s, pid %ld, up %llu h %llu min, %s, %u of %u threads busy", FM_VERSION,
                  a->python ? a->python : "", (long)a->pid, minutes / 60, minutes % 60,
                  a->draining ? "<span class=bad>draining</span>"
                  : a->ready  ? "ready"
                              : "<span class=bad>not ready</span>",
                  a->busy, a->threads);
    if (a->rate >= 0)
        fm_buf_printf(to, ", %llu.%llu requests a second", rate / 10, rate % 10);
    fm_buf_puts(to, "</p>");
}

/* The parts of the bar are as wide as there are requests in each state: drawn, as the policy allows no style
 * attributes. */
static void put_states(struct fm_buf *to, const struct fm_status *s)
{
    unsigned long long all = 0;
    for (unsigned i = 0; i < FM_STATUS_STATE_COUNT; i++)
        all += s->in[i].n;
    fm_buf_puts(to, "<svg class=bar width=\"100%\" height=\"18\" role=img aria-label=\"requests by state\">");
    for (unsigned long long i = 0, before = 0; i < FM_STATUS_STATE_COUNT; before += s->in[i++].n)
        if (s->in[i].n > 0)
            fm_buf_printf(to, "<rect class=%s x=\"%llu.%llu%%\" width=\"%llu.%llu%%\" height=\"18\"/>",
                          fm_status_state_name((enum fm_status_state)i), before * 1000 / all / 10,
                          before * 1000 / all % 10, s->in[i].n * 1000 / all / 10, s->in[i].n * 1000 / all % 10);
    fm_buf_puts(to, "</svg><div class=states>");
    for (unsigned i = 0; i < FM_STATUS_STATE_COUNT; i++)
        fm_buf_printf(to, "<span><svg class=key><rect class=%s width=\"100%%\" height=\"100%%\"/></svg>%s %llu</span>",
                      fm_status_state_name(i), fm_status_state_name(i), (unsigned long long)s->in[i].n);
    fm_buf_puts(to, "</div>");
}

static void put_kinds(struct fm_buf *to, const struct fm_status *s, const struct fm_status_group *g)
{
    unsigned n, looked_at;
    const struct fm_status_kind *kind = fm_status_kinds_at(s, g->place, &n, &looked_at);
    fm_buf_puts(to, "<td>");
    for (unsigned i = 0; i < n && g->state == FM_STATUS_PARKED_FUTURE; i++) {
        fm_buf_printf(to, "%s%u of %u: ", i ? "<br>" : "", kind[i].n, looked_at);
        fm_escape_html(to, kind[i].text);
    }
}

/* How old is what is said of futures. */
static void put_python(struct fm_buf *to, const struct fm_status_python *p)
{
    unsigned long long silent = p->silent / (FM_SEC / 10), age = p->age / (FM_SEC / 10);
    if (p->silent == 0)
        return;
    fm_buf_printf(to, "<p><span class=bad>Python has not answered for %llu.%llu s</span>", silent / 10, silent % 10);
    if (p->answered)
        fm_buf_printf(to, "; what they wait for is of %llu.%llu s ago", age / 10, age % 10);
    fm_buf_puts(to, "</p>");
}

static void put_groups(struct fm_buf *to, const struct fm_status *s)
{
    fm_buf_puts(to, "<h2>Where they wait</h2><table><tr><th class=n>Requests<th>Place<th>Future<th class=n>Median<th "
                    "class=n>Oldest");
    for (unsigned i = 0; i < s->ngroups; i++) {
        const struct fm_status_group *g = &s->groups[i];
        fm_buf_printf(to, "<tr><td class=n>%u<td>", g->n);
        if (g->state == FM_STATUS_PARKED_CLIENT)
            fm_buf_puts(to, "for the client to take output");
        else
            put_place(to, g->place);
        put_kinds(to, s, g);
        put_age(to, g->median);
        put_age(to, g->oldest);
    }
    if (s->more_groups > 0)
        fm_buf_printf(to, "<tr><td class=n>%llu<td>at %u more places<td><td>", (unsigned long long)s->in_more,
                      s->more_groups);
    fm_buf_puts(to, "</table>");
    if (s->ngroups == 0)
        fm_buf_puts(to, "<p>none</p>");
    put_python(to, &s->python);
}

static void put_running(struct fm_buf *to, const struct fm_status *s)
{
    fm_buf_puts(to, "<h2>Running</h2><table>");
    for (unsigned i = 0; i < s->nrunning; i++) {
        fm_buf_printf(to, "<tr><td>fermata-%u", s->running[i].thread);
        put_age(to, s->running[i].in_state);
        put_path(to, &s->running[i]);
    }
    fm_buf_puts(to, s->nrunning ? "</table>" : "</table><p>none</p>");
}

static void put_slowest(struct fm_buf *to, const struct fm_status_about *a)
{
    fm_buf_puts(to, "<h2>Slowest of the last ten minutes</h2><table>");
    for (unsigned i = 0; i < a->nslow; i++) {
        fm_buf_puts(to, "<tr>");
        put_age(to, a->slow[i].age);
        fm_buf_printf(to, "<td>%u", a->slow[i].status);
        put_path(to, &a->slow[i]);
        put_trace(to, &a->slow[i]);
    }
    fm_buf_puts(to, a->nslow ? "</table>" : "</table><p>none</p>");
}

static void put_oldest(struct fm_buf *to, const struct fm_status *s)
{
    unsigned n = 0;
    size_t before = fm_buf_size(to);
    fm_buf_puts(to, "<h2>Oldest requests</h2><table><tr><th class=n>Id<th>State<th class=n>Age<th class=n>In state"
                    "<th>Method<th>Path<th>Client<th>Place<th>Trace");
    for (; n < s->nrequests && fm_buf_size(to) - before < FULL; n++) {
        const struct fm_status_request *r = &s->requests[n];
        fm_buf_printf(to, "<tr><td class=n>%llu<td>%s", (unsigned long long)r->number, fm_status_state_name(r->state));
        put_age(to, r->age);
        put_age(to, r->in_state);
        put_path(to, r);
        put_cell(to, r->client);
        fm_buf_puts(to, "<td>");
        if (r->state == FM_STATUS_PARKED_FUTURE)
            put_place(to, r->place);
        put_trace(to, r);
    }
    fm_buf_puts(to, "</table>");
    if (s->more + (s->nrequests - n) > 0)
        fm_buf_printf(to, "<p>%llu more</p>", (unsigned long long)s->more + (s->nrequests - n));
}

static void put_workers(struct fm_buf *to, const struct fm_status_about *a)
{
    fm_buf_printf(
        to,
        "<p>These are sums of %u workers: <a href=\"/workers\">/workers</a> has them one by one as JSON, each "
        "has a page of its own.</p><h2>Workers</h2><table><tr><th>Worker<th class=n>Pid<th>State<th "
        "class=n>Since<th class=n>Requests<th class=n>Connections<th class=n>Parked<th>Why it ends",
        a->workers);
    for (unsigned i = 0; i < a->neach; i++) {
        const struct fm_status_worker *w = &a->each[i];
        fm_buf_printf(to, "<tr><td><a href=\"/?worker=%u\">worker %u</a><td class=n>%ld<td>%s", w->slot, w->slot,
                      (long)w->pid, w->state);
        put_age(to, w->since);
        fm_buf_printf(to, "<td class=n>%llu<td class=n>%llu<td class=n>%llu<td>%s", (unsigned long long)w->requests,
                      (unsigned long long)w->connections, (unsigned long long)w->parked, w->why);
    }
    fm_buf_puts(to, "</table>");
}

void fm_render_html(struct fm_buf *to, const struct fm_status *s)
{
    put_head(to, &s->about);
    put_health(to, &s->about);
    put_states(to, s);
    if (s->about.workers) {
        put_workers(to, &s->about);
    } else {
        put_groups(to, s);
        put_running(to, s);
        put_slowest(to, &s->about);
        put_oldest(to, s);
    }
    fm_buf_puts(to, "</main><script>");
    fm_buf_puts(to, page_script);
    fm_buf_puts(to, "</script></body></html>\n");
}

/* What the admin port answers; see admin/answers.h. */
#include "fermata/admin/answers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fermata/admin/query.h"
#include "fermata/admin/render.h"
#include "fermata/admin/status.h"
#include "fermata/http/request.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/inquiry.h"
#include "fermata/util/places.h"

#define PLAIN "text/plain; version=0.0.4; charset=utf-8"
#define JSON "application/json"
#define STACKS "/stacks"
#define METRICS "/metrics"
#define APP_METRICS "/metrics/app"

/* X(ID, "path", "type", how many requests it has) */
#define FM_ADMIN_PAGES(X)                                                                                              \
    X(HTML, "/", "text/html; charset=utf-8", 100)                                                                      \
    X(STATUS_JSON, "/status.json", JSON, 200)                                                                          \
    X(STATUS_TEXT, "/status.txt", "text/plain; charset=utf-8", 50)                                                     \
    X(REQUESTS_JSON, "/requests.json", JSON, 200)                                                                      \
    X(STACKS, STACKS, "text/plain; charset=utf-8", 0)

enum page {
#define X(id, path, type, limit) PAGE_##id,
    FM_ADMIN_PAGES(X)
#undef X
};

static const struct {
    const char *path, *type;
    unsigned limit;
} pages[] = {
#define X(id, path, type, limit) {path, type, limit},
    FM_ADMIN_PAGES(X)
#undef X
};

static bool is(const struct fm_request *r, struct fm_span span, const char *text)
{
    return span.len == strlen(text) && memcmp(fm_request_text(r, span), text, span.len) == 0;
}

/* -1: none. */
static int find_page(const struct fm_admin_source *source, const struct fm_request *r)
{
    int n = sizeof pages / sizeof *pages;
    for (int i = 0; source->walk && i < n; i++)
        if (is(r, r->path, pages[i].path))
            return i;
    return -1;
}

/* ---- workers ---- */

/* The status; 0: nothing is wrong with it. */
static int guard(struct fm_admin_answers *a, const struct fm_request *r, struct fm_admin_answer *answer)
{
    const char *why;
    int status = a->is_checked ? 0 : fm_admin_refuses(&a->source.rules, a->is_local, r, &why);
    if (status != 0)
        fm_buf_printf(&answer->body, "%s\n", why);
    return status;
}

/* 0 with asked->hand_over if a worker is to answer; 0 without: it is ours. */
static int choose_worker(struct fm_admin_answers *a, const struct fm_request *r, struct fm_admin_answer *answer,
                         struct fm_admin_asked *asked)
{
    int page = find_page(&a->source, r), status;
    bool wrong;
    if (page < 0 && !is(r, r->path, METRICS) && !is(r, r->path, APP_METRICS))
        return 0;
    if (!fm_query_worker(r, &asked->slot, &wrong))
        return 0;
    if (page >= 0) {
        answer->fields = fm_render_policy();
        if ((status = guard(a, r, answer)) != 0)
            return status;
    }
    if (wrong || r->chunked || r->head_len > FM_ADMIN_HEAD) {
        fm_buf_puts(&answer->body, wrong        ? "worker=N: the number of a worker\n"
                                   : r->chunked ? "a request with a body is not handed to a worker\n"
                                                : "the head is too long to be handed to a worker\n");
        return wrong || r->chunked ? 400 : 431;
    }
    asked->hand_over = true;
    return 0;
}

bool fm_admin_hand_over(struct fm_admin_answers *a, const struct fm_admin_asked *asked, const struct fm_request *r,
                        int fd, struct fm_admin_answer *answer)
{
    const struct fm_admin_source *source = &a->source;
    *answer = (struct fm_admin_answer){.type = PLAIN, .fields = fm_render_policy(), .body = FM_BUF_INIT};
    answer->status = source->hand_over(source->ctx, asked->slot, fd, r->head, r->head_len, &answer->body);
    return answer->status == 0;
}

/* What only workers have was asked for, and not of which. */
static int ask_for_which(const struct fm_admin_source *source, struct fm_admin_answer *answer)
{
    fm_buf_puts(&answer->body, "each worker has its own: ?worker=N says which (");
    if (source->slots)
        source->slots(source->ctx, &answer->body);
    fm_buf_puts(&answer->body, ")\n");
    return 400;
}

/* ---- at once ---- */

static void put_metrics(struct fm_admin_answers *a, struct fm_buf *body)
{
    const struct fm_admin_source *source = &a->source;
    struct fm_metrics m = {.ready = source->ready(source->ctx), .python = source->python};
    source->threads(source->ctx, &m.busy, &m.idle);
    if (source->counters) {
        source->counters(source->ctx, &m.sum, &m.ages);
    } else {
        fm_counters_read(&m.sum);
        fm_counters_read_ages(&m.ages);
    }
    m.now = fm_now();
    m.has_usage = source->usage ? source->usage(source->ctx, &m.usage) : fm_usage_read(0, &m.usage);
    fm_metrics_page(body, &m, &a->shown);
    if (atomic_load_explicit(&fm_places_watched, memory_order_relaxed))
        fm_metrics_places(body);
    if (source->more_metrics)
        source->more_metrics(source->ctx, body);
}

static void put_app_metrics(const struct fm_admin_source *source, struct fm_admin_answer *answer)
{
    struct fm_inquiry_seen seen;
    fm_inquiry_read(source->app_metrics, &seen, &answer->body);
    uint64_t now = fm_now(), age = now > seen.at ? now - seen.at : 0;
    bool text = seen.how == FM_ANSWER_TEXT;
    answer->status = text && age <= FM_APP_METRICS_OLDEST ? 200 : 503;
    if (answer->status == 200) {
        snprintf(answer->age, sizeof answer->age, "Age: %llu\r\n", (unsigned long long)(age / FM_SEC));
        if (seen.under_way)
            fm_buf_printf(&answer->body, "# Of %llu s ago: the application has not answered since.\n",
                          (unsigned long long)(age / FM_SEC));
        return;
    }
    fm_buf_clear(&answer->body);
    switch (seen.how) {
    case FM_ANSWER_NONE: fm_buf_puts(&answer->body, "The application has not answered so far.\n"); break;
    case FM_ANSWER_TEXT:
        fm_buf_printf(&answer->body, "The application has not answered for %llu s.\n",
                      (unsigned long long)(age / FM_SEC));
        break;
    case FM_ANSWER_ABSENT:
        answer->status = 404;
        fm_buf_puts(&answer->body, "The application has not imported prometheus_client.\n");
        break;
    case FM_ANSWER_FAILED:
        answer->status = 500;
        fm_buf_puts(&answer->body, "The application's metrics cannot be collected: the log says why.\n");
    }
}

/* 0: the application is being asked, and is to be waited for. */
static int ask_application(const struct fm_admin_source *source, struct fm_admin_answer *answer)
{
    struct fm_inquiry_seen seen;
    uint64_t now = fm_now();
    if (!source->app_metrics)
        return ask_for_which(source, answer);
    int err = fm_inquiry_ask(source->app_metrics, now);
    if (err != 0) {
        fm_buf_printf(&answer->body, "The application cannot be asked: %s.\n",
                      err == -EAGAIN ? "it has not been loaded, or ends" : fm_strerror(err));
        return 503;
    }
    fm_inquiry_read(source->app_metrics, &seen, NULL);
    if (!seen.under_way || now - seen.asked < FM_APP_METRICS_WAIT)
        return 0;
    put_app_metrics(source, answer); /* who came before has waited in vain */
    return answer->status;
}

/* Health and metrics; 0: it is something else, or, with asked->app_metrics, to be waited for. */
static int answer_open(struct fm_admin_answers *a, const struct fm_request *r, struct fm_admin_answer *answer,
                       struct fm_admin_asked *asked)
{
    struct fm_buf *body = &answer->body;
    const struct fm_admin_source *source = &a->source;
    bool ready = source->ready(source->ctx);
    if (!is(r, r->method, "GET") && !is(r, r->method, "HEAD")) {
        if (is(r, r->path, STACKS))
            return 0;
        fm_buf_puts(body, "GET or HEAD\n");
        return 405;
    }
    if (is(r, r->path, "/healthz")) {
        const char *why = source->why_ill ? source->why_ill(source->ctx) : NULL;
        fm_buf_printf(body, "%s\n", why ? why : "ok");
        return why ? 503 : 200;
    }
    if (is(r, r->path, "/readyz")) {
        fm_buf_puts(body, ready ? "ok\n" : "not ready\n");
        return ready ? 200 : 503;
    }
    asked->app_metrics = is(r, r->path, APP_METRICS) && (source->app_metrics || source->hand_over);
    if (asked->app_metrics)
        return ask_application(source, answer);
    if (!is(r, r->path, METRICS))
        return 0;
    put_metrics(a, body);
    return 200;
}

/* ---- what is told to those only who may see it ---- */

static void list_pages(const struct fm_admin_source *source, struct fm_buf *body)
{
    if (source->walk)
        for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
            if (i != PAGE_STACKS || source->ask_stacks || source->hand_over)
                fm_buf_printf(body, i == PAGE_STACKS ? "POST %s, " : "%s, ", pages[i].path);
    fm_buf_puts(body, source->app_metrics || source->hand_over ? APP_METRICS ", " : "");
    fm_buf_puts(body, source->workers ? "/healthz, /readyz, /metrics or /workers" : "/healthz, /readyz or /metrics");
    fm_buf_puts(body, source->hand_over ? "; of a worker with ?worker=N\n" : "\n");
}

/* They are more than a look: a page of another site must not be able to ask for them, and a link must not.  0: they may
 * be had. */
static int refuse_stacks(const struct fm_admin_source *source, const struct fm_request *r,
                         struct fm_admin_answer *answer)
{
    unsigned len;
    const char *value = fm_admin_field(r, "X-Fermata", &len);
    if (!is(r, r->method, "POST")) {
        answer->fields = "Allow: POST\r\nCache-Control: no-store\r\n";
        fm_buf_puts(&answer->body, "POST, with the header X-Fermata: 1\n");
        return 405;
    }
    if (!value || len != 1 || *value != '1') {
        fm_buf_puts(&answer->body, "the header X-Fermata: 1 is missing, which no page of another site can send\n");
        return 403;
    }
    return source->ask_stacks ? 0 : ask_for_which(source, answer);
}

static bool shows_futures(int page) { return page != PAGE_REQUESTS_JSON && page != PAGE_STACKS; }

/* 0: it waits for the requests to be looked at. */
static int answer_guarded(struct fm_admin_answers *a, const struct fm_request *r, struct fm_admin_answer *answer,
                          struct fm_admin_asked *asked)
{
    const struct fm_admin_source *source = &a->source;
    bool workers = source->workers && is(r, r->path, "/workers");
    int page = find_page(source, r);
    answer->fields = fm_render_policy();
    if (!workers && page < 0) {
        list_pages(source, &answer->body);
        return 404;
    }
    int status = guard(a, r, answer);
    if (status != 0)
        return status;
    if (workers) {
        answer->type = JSON;
        source->workers(source->ctx, &answer->body);
        return 200;
    }
    asked->page = (uint8_t)page;
    if (page == PAGE_STACKS && (status = refuse_stacks(source, r, answer)) != 0)
        return status;
    if (page == PAGE_REQUESTS_JSON && source->hand_over)
        return ask_for_which(source, answer);
    if (source->futures && shows_futures(page))
        fm_inquiry_ask(source->futures, fm_now()); /* where it cannot be asked there is no answer */
    asked->query = (struct fm_status_query){.place = -1, .state = -1, .limit = pages[page].limit};
    if (page != PAGE_REQUESTS_JSON || fm_query_requests(r, &asked->query))
        return 0;
    fm_buf_puts(&answer->body, "place=0 to 4095, state=NAME, after=ID and limit=0 to 1000\n");
    return 400;
}

bool fm_admin_answer(struct fm_admin_answers *a, const struct fm_request *r, struct fm_admin_answer *answer,
                     struct fm_admin_asked *asked)
{
    *answer = (struct fm_admin_answer){.type = PLAIN, .fields = "", .body = FM_BUF_INIT};
    *asked = (struct fm_admin_asked){0};
    answer->status = a->source.hand_over ? choose_worker(a, r, answer, asked) : 0;
    if (answer->status != 0 || asked->hand_over)
        return !asked->hand_over;
    answer->status = answer_open(a, r, answer, asked);
    if (answer->status == 405)
        answer->fields = "Allow: GET, HEAD\r\n";
    if (answer->status == 0 && !asked->app_metrics)
        answer->status = answer_guarded(a, r, answer, asked);
    return answer->status != 0;
}

/* ---- stacks ---- */

bool fm_admin_wants_stacks(const struct fm_admin_asked *asked) { return asked->page == PAGE_STACKS; }

void fm_admin_answer_no_stacks(struct fm_admin_answer *answer, int err)
{
    *answer = (struct fm_admin_answer){.status = 503, .type = PLAIN, .fields = fm_render_policy(), .body = FM_BUF_INIT};
    fm_buf_printf(&answer->body, "%s\n", fm_strerror(err));
}

/* ---- the application's metrics ---- */

void fm_admin_answer_app(struct fm_admin_answers *a, struct fm_admin_answer *answer)
{
    *answer = (struct fm_admin_answer){.type = PLAIN, .fields = "", .body = FM_BUF_INIT};
    put_app_metrics(&a->source, answer);
}

/* ---- the status ---- */

bool fm_admin_waits_for_futures(const struct fm_admin_answers *a, uint8_t page)
{
    struct fm_inquiry_seen seen;
    if (!a->source.futures || !shows_futures(page))
        return false;
    fm_inquiry_read(a->source.futures, &seen, NULL);
    return seen.under_way && fm_now() - seen.asked < FM_FUTURES_WAIT;
}

/* How many requests have been answered a second since it was asked before, if that was a moment ago and no hour. */
static double rate(struct fm_admin_answers *a, uint64_t now)
{
    struct fm_counters_sum sum;
    uint64_t n = 0, before = a->rate_at, answered = a->answered;
    struct fm_ages_sum ages;
    if (a->source.counters)
        a->source.counters(a->source.ctx, &sum, &ages);
    else
        fm_counters_read(&sum);
    for (unsigned i = FM_C_REQ_1XX; i <= FM_C_REQ_NONE; i++)
        n += sum.cell[i];
    if (before == 0 || now - before >= FM_SEC) {
        a->last_rate = before == 0 || now - before > 60 * FM_SEC
                           ? -1
                           : (double)(n - answered) / ((double)(now - before) / (double)FM_SEC);
        a->rate_at = now;
        a->answered = n;
    }
    return a->last_rate;
}

void fm_admin_answer_status(struct fm_admin_answers *a, uint8_t page, struct fm_status *s,
                            struct fm_admin_answer *answer)
{
    const struct fm_admin_source *source = &a->source;
    *answer = (struct fm_admin_answer){.status = 200,
                                       .type = pages[page].type,
                                       .fields = fm_render_policy(),
                                       .body = FM_BUF_INIT};
    if (!s || s->failed || (page == PAGE_STACKS && !a->stacks)) {
        fm_admin_answer_no_stacks(answer, -ENOMEM);
        return;
    }
    fm_status_finish(s);
    source->about(source->ctx, &s->about);
    if (source->futures && shows_futures(page))
        fm_status_take_kinds(s, source->futures, fm_now());
    s->about.python = source->python;
    s->about.ready = source->ready(source->ctx);
    s->about.rate = rate(a, fm_now());
    switch (page) {
    case PAGE_HTML: fm_render_html(&answer->body, s); break;
    case PAGE_STATUS_JSON: fm_render_json(&answer->body, s); break;
    case PAGE_STACKS: fm_render_stacks(&answer->body, s, a->stacks); break;
    case PAGE_STATUS_TEXT: fm_render_text(&answer->body, s); break;
    default: fm_render_requests(&answer->body, s);
    }
}

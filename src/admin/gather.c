/* What takes more than a turn of the loop; see admin/internal.h. */
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/inquiry.h"
#include "fermata/util/stacks.h"
#include "internal.h"

static void wait_for_requests(struct fm_admin *a, struct admin_conn *c) FM_ON_LOOP
{
    fm_list_push(&a->waiting, &c->wait);
    if (a->waiting.next != &c->wait)
        return;
    fm_loop_cancel(c->stream.loop, &a->survey); /* the one that it was posted for may have gone */
    fm_loop_post(c->stream.loop, &a->survey, 0, NULL);
}

/* In the thread that has found them. */
static void be_found(void *admin, struct fm_stacks *stacks)
{
    struct fm_admin *a = admin;
    atomic_store(&a->stacks, stacks);
    fm_loop_post(a->loop, &a->found, 0, NULL);
}

/* For all who ask meanwhile, too.  0 or a negated errno. */
static int find_stacks(struct fm_admin *a) FM_ON_LOOP
{
    if (a->finding)
        return 0;
    a->finding = true; /* first: it may be found before ask_stacks returns */
    int err = a->answers.source.ask_stacks(a->answers.source.ctx, be_found, a);
    a->finding = err == 0;
    return err;
}

static void on_found(struct fm_event *event)
{
    struct fm_admin *a = FM_LIST_ENTRY(event, struct fm_admin, found);
    fm_assert_on_loop();
    a->finding = false;
    fm_stacks_free(a->answers.stacks);
    a->answers.stacks = atomic_exchange(&a->stacks, NULL);
    while (!fm_list_empty(&a->for_stacks)) {
        struct admin_conn *c = FM_LIST_ENTRY(a->for_stacks.next, struct admin_conn, wait);
        fm_list_remove(&c->wait);
        wait_for_requests(a, c);
    }
}

/* The first of those that wait is answered; all the requests have been seen. */
static void answer_first(struct fm_admin *a, struct admin_conn *c) FM_ON_LOOP
{
    struct fm_admin_answer answer;
    fm_list_remove(&c->wait);
    fm_timer_stop(&c->late);
    a->walked = false;
    fm_admin_answer_status(&a->answers, c->asked.page, a->status, &answer);
    fm_status_free(a->status);
    a->status = NULL;
    if (fm_admin_send(c, &answer) != 0)
        fm_admin_close(c);
    else
        fm_admin_go_on(c);
    if (!fm_list_empty(&a->waiting))
        fm_loop_post(a->loop, &a->survey, 0, NULL);
}

/* A part of the walk: one client after the other has one of its own, however many there are. */
static void on_survey(struct fm_event *event)
{
    struct fm_admin *a = FM_LIST_ENTRY(event, struct fm_admin, survey);
    fm_assert_on_loop();
    if (fm_list_empty(&a->waiting))
        return;
    struct admin_conn *c = FM_LIST_ENTRY(a->waiting.next, struct admin_conn, wait);
    bool first = !a->status;
    if (first)
        a->status = fm_status_new(&c->asked.query);
    if (a->status && !a->answers.source.walk(a->answers.source.ctx, a->status, first)) {
        fm_loop_post(a->loop, &a->survey, 0, NULL);
        return;
    }
    a->walked = a->status && fm_admin_waits_for_futures(&a->answers, c->asked.page);
    if (a->walked)
        fm_timer_start(&a->loop->timers, &c->late, a->answers.source.futures_kind, fm_now());
    else
        answer_first(a, c);
}

/* ---- the application's metrics ---- */

static void answer_with_metrics(struct admin_conn *c) FM_ON_LOOP
{
    struct fm_admin_answer answer;
    fm_list_remove(&c->wait);
    fm_timer_stop(&c->late);
    fm_admin_answer_app(&c->admin->answers, &answer);
    if (fm_admin_send(c, &answer) != 0)
        fm_admin_close(c);
    else
        fm_admin_go_on(c);
}

/* ---- answers of Python ---- */

void fm_admin_late(struct fm_timer *t)
{
    struct admin_conn *c = FM_LIST_ENTRY(t, struct admin_conn, late);
    fm_assert_on_loop();
    if (c->asked.app_metrics)
        answer_with_metrics(c);
    else
        answer_first(c->admin, c);
}

/* By the thread that has asked. */
static void tell(void *answered)
{
    struct answered *a = answered;
    if (!atomic_exchange(&a->posted, true))
        fm_loop_post(a->admin->loop, &a->event, 0, NULL);
}

/* Whoever waits now is answered; who comes meanwhile has another answer to wait for, and is posted for again. */
static void on_metrics(struct fm_event *event)
{
    struct answered *metrics = FM_LIST_ENTRY(event, struct answered, event);
    struct fm_admin *a = metrics->admin;
    fm_assert_on_loop();
    atomic_store(&metrics->posted, false);
    while (!fm_list_empty(&a->asking))
        answer_with_metrics(FM_LIST_ENTRY(a->asking.next, struct admin_conn, wait));
}

static void on_futures(struct fm_event *event)
{
    struct answered *futures = FM_LIST_ENTRY(event, struct answered, event);
    struct fm_admin *a = futures->admin;
    fm_assert_on_loop();
    atomic_store(&futures->posted, false);
    if (a->walked)
        answer_first(a, FM_LIST_ENTRY(a->waiting.next, struct admin_conn, wait));
}

static void listen_to(struct answered *answered, struct fm_inquiry *q, bool listen)
{
    if (q)
        fm_inquiry_listen(q, listen ? tell : NULL, listen ? answered : NULL);
}

/* ---- connections ---- */

int fm_admin_gather(struct admin_conn *c)
{
    struct fm_admin *a = c->admin;
    struct fm_admin_answer answer;
    int err;
    if (fm_admin_wants_stacks(&c->asked) && (err = find_stacks(a)) != 0) {
        fm_admin_answer_no_stacks(&answer, err);
        return fm_admin_send(c, &answer);
    }
    c->state = WAITING; /* for what is gathered in the next turns */
    if (c->asked.app_metrics) {
        fm_list_push(&a->asking, &c->wait);
        fm_timer_start(&c->stream.loop->timers, &c->late, a->answers.source.metrics_kind, fm_now());
    } else if (fm_admin_wants_stacks(&c->asked)) {
        fm_list_push(&a->for_stacks, &c->wait);
    } else {
        wait_for_requests(a, c);
    }
    return 0;
}

/* ---- all ---- */

void fm_admin_gather_init(struct fm_admin *a)
{
    fm_list_init(&a->waiting);
    fm_list_init(&a->asking);
    fm_list_init(&a->for_stacks);
    fm_event_init(&a->survey, on_survey);
    fm_event_init(&a->metrics.event, on_metrics);
    fm_event_init(&a->futures.event, on_futures);
    fm_event_init(&a->found, on_found);
    a->metrics.admin = a->futures.admin = a;
}

void fm_admin_gather_listen(struct fm_admin *a, bool listen)
{
    listen_to(&a->metrics, a->answers.source.app_metrics, listen);
    listen_to(&a->futures, a->answers.source.futures, listen);
}

void fm_admin_gather_fini(struct fm_admin *a)
{
    fm_admin_gather_listen(a, false);
    if (a->loop) {
        fm_loop_cancel(a->loop, &a->survey);
        fm_loop_cancel(a->loop, &a->metrics.event);
        fm_loop_cancel(a->loop, &a->futures.event);
        fm_loop_cancel(a->loop, &a->found);
    }
    fm_stacks_free(a->answers.stacks);
    fm_stacks_free(atomic_load(&a->stacks));
}

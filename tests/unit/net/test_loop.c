/* The loop: its inbox, its sleep, and that no wake-up is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <sys/eventfd.h>

#include "loopback.h"

enum { TIMER_KIND, OTHER_KIND };

struct counted {
    struct fm_event event;
    atomic_uint visits;
    unsigned order;
};

static struct fm_loop l;
static unsigned visited;

static void on_event(struct fm_event *n)
{
    struct counted *c = FM_LIST_ENTRY(n, struct counted, event);
    fm_assert_on_loop();
    CHECK(fm_thread_on_loop);
    c->order = visited++;
    atomic_fetch_add(&c->visits, 1);
}

static void counted_init(struct counted *c)
{
    fm_event_init(&c->event, on_event);
    atomic_init(&c->visits, 0);
    c->order = 0;
}

static unsigned visits(struct counted *c) { return atomic_load(&c->visits); }

/* ---- turned by the test ---- */

static int start(void **state)
{
    (void)state;
    visited = 0;
    fm_role_take_loop();
    return fm_loop_init(&l);
}

static int finish(void **state)
{
    (void)state;
    fm_loop_fini(&l);
    fm_role_drop_loop();
    return 0;
}

static void test_visits_in_order(void **state)
{
    (void)state;
    struct counted c[5];
    fm_loop_turn(&l, false); /* an empty one */
    for (unsigned i = 0; i < 5; i++) {
        counted_init(&c[i]);
        fm_loop_post(&l, &c[i].event, 0, NULL);
    }
    fm_loop_turn(&l, false);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(visits(&c[i]), 1);
        assert_int_equal(c[i].order, i);
    }
    fm_loop_turn(&l, false);
    assert_int_equal(visited, 5);
}

static void test_posting_again_after_the_visit(void **state)
{
    (void)state;
    struct counted c;
    counted_init(&c);
    for (unsigned i = 1; i <= 3; i++) {
        fm_loop_post(&l, &c.event, i == 2 ? fm_now() : 0, NULL);
        fm_loop_turn(&l, false);
        assert_int_equal(visits(&c), i);
    }
}

static void test_unpost(void **state)
{
    (void)state;
    struct counted c, d;
    counted_init(&c);
    counted_init(&d);
    fm_loop_cancel(&l, &c.event); /* not there */
    fm_loop_post(&l, &c.event, 0, NULL);
    fm_loop_post(&l, &d.event, 0, NULL);
    fm_loop_cancel(&l, &c.event);
    fm_loop_turn(&l, false);
    assert_int_equal(visits(&c), 0);
    assert_int_equal(visits(&d), 1);
}

struct closing {
    struct fm_event event, gone; /* closed when the one is visited, freed when the other is */
    unsigned closed, freed;
};

static void close_it(struct fm_event *n)
{
    struct closing *c = FM_LIST_ENTRY(n, struct closing, event);
    fm_loop_defer(&l, &c->gone);
    c->closed++;
    CHECK(c->freed == 0); /* the caller goes on with it */
}

static void free_it(struct fm_event *n)
{
    struct closing *c = FM_LIST_ENTRY(n, struct closing, gone);
    CHECK(c->closed == 1);
    c->freed++;
}

static void test_what_is_closed_is_freed_at_the_end_of_the_turn(void **state)
{
    (void)state;
    struct closing c[3] = {0};
    for (unsigned i = 0; i < 3; i++) {
        fm_event_init(&c[i].event, close_it);
        fm_event_init(&c[i].gone, free_it);
    }
    fm_loop_post(&l, &c[0].event, 0, NULL);
    fm_loop_post(&l, &c[1].event, 0, NULL);
    fm_loop_turn(&l, false);
    assert_int_equal(c[0].freed + c[1].freed, 2);
    fm_loop_post(&l, &c[2].event, 0, NULL);
    assert_true(fm_loop_visit(&l)); /* no turn: at its end */
    assert_int_equal(c[2].closed, 1);
    assert_int_equal(c[2].freed, 0);
    fm_loop_reap(&l);
    assert_int_equal(c[2].freed, 1);
    fm_loop_turn(&l, false);
    assert_int_equal(c[0].freed + c[1].freed + c[2].freed, 3);
}

struct chain {
    struct fm_event event;
    unsigned *freed;
    struct chain *next;
};

static void free_and_post_next(struct fm_event *n)
{
    struct chain *c = FM_LIST_ENTRY(n, struct chain, event);
    if (c->next)
        fm_loop_post(&l, &c->next->event, 0, NULL);
    ++*c->freed;
    free(c);
}

static void test_note_may_free_its_owner(void **state)
{
    (void)state;
    unsigned freed = 0;
    struct chain *next = NULL;
    for (int i = 0; i < 3; i++) {
        struct chain *c = malloc(sizeof *c);
        *c = (struct chain){.freed = &freed, .next = next};
        fm_event_init(&c->event, free_and_post_next);
        next = c;
    }
    fm_loop_post(&l, &next->event, 0, NULL);
    TURN_UNTIL(&l, freed == 3);
}

/* Writing the eventfd costs a system call: not while the loop is awake. */
static void test_no_wake_up_when_awake(void **state)
{
    (void)state;
    struct counted c;
    eventfd_t count;
    counted_init(&c);
    fm_loop_wake(&l);
    fm_loop_post(&l, &c.event, 0, NULL);
    assert_int_equal(eventfd_read(l.wake_fd, &count), -1);
    fm_loop_turn(&l, false);
    assert_int_equal(visits(&c), 1);
}

static unsigned flushed, asked;
static void on_flush(void *ctx)
{
    assert_ptr_equal(ctx, &l);
    fm_assert_on_loop();
    flushed++;
}
static bool has_work(void *ctx)
{
    assert_ptr_equal(ctx, &l);
    asked++;
    return true;
}

static void test_other_work_keeps_it_awake(void **state)
{
    (void)state;
    flushed = asked = 0;
    l.ready = has_work;
    l.ready_ctx = &l;
    l.flush = on_flush;
    l.flush_ctx = &l;
    fm_loop_turn(&l, true); /* would sleep for ever */
    assert_int_equal(flushed, 2);
    assert_int_equal(asked, 1);
    fm_loop_turn(&l, false);
    assert_int_equal(flushed, 4);
}

static uint64_t expired_at;
static void on_expired(struct fm_timer *t)
{
    (void)t;
    fm_assert_on_loop();
    expired_at = fm_now();
}
/* The turn that has run the timer would sleep on. */
static bool has_expired(void *ctx)
{
    (void)ctx;
    return expired_at != 0;
}

static struct counted posted_by_timer;
static void post_note(struct fm_timer *t)
{
    (void)t;
    fm_loop_post(&l, &posted_by_timer.event, 0, NULL);
}

/* An event that comes between the visit and the sleep. */
static void test_does_not_sleep_over_a_note(void **state)
{
    (void)state;
    struct fm_timer t;
    counted_init(&posted_by_timer);
    fm_timers_define(&l.timers, TIMER_KIND, 1, post_note);
    fm_timer_init(&t);
    fm_timer_start(&l.timers, &t, TIMER_KIND, fm_now() - FM_SEC);
    fm_loop_turn(&l, true); /* would sleep for ever */
    assert_int_equal(visits(&posted_by_timer), 1);
}

static void test_time_of_a_turn(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        uint64_t before = fm_now(), now = fm_loop_now(&l);
        assert_true(now >= before);
        usleep(1000);
        assert_int_equal(fm_loop_now(&l), now); /* asked for once */
        assert_true(fm_now() > now);
        fm_loop_turn(&l, false);
    }
}

static void test_sleeps_until_the_timer(void **state)
{
    (void)state;
    l.ready = has_expired;
    struct fm_timer t;
    fm_timers_define(&l.timers, TIMER_KIND, 30 * FM_MS, on_expired);
    for (int i = 0; i < 3; i++) {
        expired_at = 0;
        fm_timer_init(&t);
        fm_timer_start(&l.timers, &t, TIMER_KIND, fm_now());
        unsigned turns = 0;
        for (; !expired_at && turns < 1000; turns++)
            fm_loop_turn(&l, true);
        assert_true(expired_at >= t.due);
        assert_true(turns < 10); /* it slept */
        assert_true(fm_loop_now(&l) >= t.due);
    }
}

/* A stopped timer may wake the loop for nothing, and the one after it still comes. */
static void test_stopped_timer(void **state)
{
    (void)state;
    l.ready = has_expired;
    struct fm_timer t, late;
    fm_timers_define(&l.timers, TIMER_KIND, 10 * FM_MS, on_expired);
    fm_timers_define(&l.timers, OTHER_KIND, 40 * FM_MS, on_expired);
    expired_at = 0;
    fm_timer_init(&t);
    fm_timer_init(&late);
    fm_timer_start(&l.timers, &t, TIMER_KIND, fm_now());
    fm_timer_start(&l.timers, &late, OTHER_KIND, fm_now());
    fm_loop_turn(&l, false); /* sets the clock for the early one */
    fm_timer_stop(&t);
    for (int i = 0; i < 100 && !expired_at; i++)
        fm_loop_turn(&l, true);
    assert_true(expired_at >= late.due);
}

static void test_earlier_timer_after_a_later_one(void **state)
{
    (void)state;
    l.ready = has_expired;
    struct fm_timer t, late;
    fm_timers_define(&l.timers, TIMER_KIND, 10 * FM_MS, on_expired);
    fm_timers_define(&l.timers, OTHER_KIND, 3600 * FM_SEC, on_expired);
    expired_at = 0;
    fm_timer_init(&t);
    fm_timer_init(&late);
    fm_timer_start(&l.timers, &late, OTHER_KIND, fm_now());
    fm_loop_turn(&l, false);
    fm_timer_start(&l.timers, &t, TIMER_KIND, fm_now());
    for (int i = 0; i < 10 && !expired_at; i++)
        fm_loop_turn(&l, true);
    assert_true(expired_at >= t.due);
    fm_timer_stop(&late);
}

/* ---- in a thread ---- */

static struct loop_thread lt;

static int start_thread(void **state)
{
    (void)state;
    if (fm_loop_init(&lt.loop) != 0)
        return -1;
    fm_timers_define(&lt.loop.timers, TIMER_KIND, 3600 * FM_SEC, on_expired);
    loop_thread_start(&lt);
    return 0;
}

static int finish_thread(void **state)
{
    (void)state;
    loop_thread_stop(&lt);
    fm_role_take_loop();
    fm_loop_fini(&lt.loop);
    fm_role_drop_loop();
    return 0;
}

static void test_post_wakes(void **state)
{
    (void)state;
    struct counted c;
    counted_init(&c);
    for (unsigned i = 0; i < 200; i++) {
        WAIT_FOR(loop_sleeps(&lt)); /* nothing else would end this sleep */
        fm_loop_post(&lt.loop, &c.event, 0, NULL);
        WAIT_FOR(visits(&c) == i + 1);
    }
}

static void test_wake(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        WAIT_FOR(loop_sleeps(&lt));
        unsigned turns = atomic_load(&lt.turns);
        fm_loop_wake(&lt.loop);
        fm_loop_wake(&lt.loop);
        WAIT_FOR(atomic_load(&lt.turns) > turns);
    }
}

struct timed {
    struct fm_event event;
    struct fm_timer timer;
    atomic_bool started;
};

static void start_timer(struct fm_event *n)
{
    struct timed *t = FM_LIST_ENTRY(n, struct timed, event);
    fm_timer_init(&t->timer);
    fm_timer_start(&lt.loop.timers, &t->timer, TIMER_KIND, fm_loop_now(&lt.loop));
    atomic_store(&t->started, true);
}

static void stop_timer(struct fm_event *n)
{
    struct timed *t = FM_LIST_ENTRY(n, struct timed, event);
    fm_timer_stop(&t->timer);
    atomic_store(&t->started, false);
}

/* The loop sleeps until a timer in an hour. */
static void sleep_for_an_hour(struct timed *t)
{
    fm_event_init(&t->event, start_timer);
    fm_loop_post(&lt.loop, &t->event, 0, NULL);
    WAIT_FOR(atomic_load(&t->started));
    WAIT_FOR(loop_sleeps(&lt));
}

static void sleep_is_over(struct timed *t)
{
    fm_event_init(&t->event, stop_timer);
    fm_loop_post(&lt.loop, &t->event, 0, NULL);
    WAIT_FOR(!atomic_load(&t->started));
}

/* Whether posting ended the sleep is known when it returns: `asleep` is taken back first. */
static void test_due_note(void **state)
{
    (void)state;
    struct timed t;
    struct counted c[6];
    atomic_bool urgent;
    uint64_t now = fm_now();
    for (int i = 0; i < 6; i++)
        counted_init(&c[i]);
    atomic_init(&t.started, false);
    atomic_init(&urgent, false);
    sleep_for_an_hour(&t);

    fm_loop_post(&lt.loop, &c[0].event, now + 7200 * FM_SEC, &urgent); /* it wakes earlier anyway */
    assert_true(loop_sleeps(&lt));
    fm_loop_post(&lt.loop, &c[1].event, now + 7300 * FM_SEC, NULL);
    assert_true(loop_sleeps(&lt));
    assert_int_equal(visits(&c[0]), 0);

    fm_loop_post(&lt.loop, &c[2].event, now + 1800 * FM_SEC, NULL); /* it would wake too late */
    for (int i = 0; i < 3; i++)
        WAIT_FOR(visits(&c[i]) == 1);

    WAIT_FOR(loop_sleeps(&lt));
    fm_loop_post(&lt.loop, &c[3].event, now + 7200 * FM_SEC, &urgent);
    assert_true(loop_sleeps(&lt));
    atomic_store(&urgent, true);
    fm_loop_post(&lt.loop, &c[4].event, now + 7200 * FM_SEC, &urgent);
    WAIT_FOR(visits(&c[3]) == 1 && visits(&c[4]) == 1);

    WAIT_FOR(loop_sleeps(&lt));
    atomic_store(&urgent, false);
    fm_loop_post(&lt.loop, &c[5].event, now + 7200 * FM_SEC, &urgent);
    sleep_is_over(&t); /* any other wake-up brings it, too */
    WAIT_FOR(visits(&c[5]) == 1);
}

static void test_due_note_without_any_timer(void **state)
{
    (void)state;
    struct counted c;
    counted_init(&c);
    WAIT_FOR(loop_sleeps(&lt));
    fm_loop_post(&lt.loop, &c.event, fm_now() + 3600 * FM_SEC, NULL); /* it would never wake */
    WAIT_FOR(visits(&c) == 1);
}

/* ---- no wake-up is lost ---- */

enum { POSTERS = 4, BATCH = 8 };

/* Posts a few events, then waits for them, so that the loop goes to sleep between most batches.  One lost wake-up and
 * the wait does not end. */
static void *post_many(void *arg)
{
    uint64_t seed = *(uint64_t *)arg;
    struct counted c[BATCH];
    unsigned posted[BATCH] = {0};
    for (unsigned i = 0; i < BATCH; i++)
        counted_init(&c[i]);
    for (unsigned left = ROUNDS(100000) / POSTERS; left > 0;) {
        unsigned n = 1 + (unsigned)(rnd(&seed) % BATCH);
        n = n < left ? n : left;
        for (unsigned i = 0; i < n; i++) {
            uint64_t due = rnd(&seed) % 3 ? 0 : 1 + rnd(&seed) % (2 * fm_now()); /* before or after now */
            fm_loop_post(&lt.loop, &c[i].event, due, NULL);
            posted[i]++;
        }
        left -= n;
        for (unsigned i = 0; i < n; i++)
            WAIT_FOR(visits(&c[i]) == posted[i]);
        for (uint64_t spin = rnd(&seed) % 200; spin > 0; spin--)
            atomic_signal_fence(memory_order_seq_cst);
    }
    return NULL;
}

static void test_no_wake_up_is_lost(void **state)
{
    (void)state;
    pthread_t threads[POSTERS];
    uint64_t seeds[POSTERS], seed = new_seed();
    for (int i = 0; i < POSTERS; i++) {
        seeds[i] = rnd(&seed);
        threads[i] = spawn(post_many, &seeds[i]);
    }
    for (int i = 0; i < POSTERS; i++)
        join(threads[i]);
}

struct urged {
    struct counted finished; /* posted with a far time */
    struct fm_event flag;    /* sets urgent on the loop, as the next request on a connection does */
    atomic_bool urgent, flagged;
};

static void set_urgent(struct fm_event *n)
{
    struct urged *h = FM_LIST_ENTRY(n, struct urged, flag);
    atomic_store(&h->urgent, true);
    atomic_store(&h->flagged, true);
}

static struct urged *_Atomic round_of_urgent;
static atomic_uint urgent_rounds;

static void *post_flags(void *arg)
{
    struct urged *last = NULL;
    uint64_t seed = *(uint64_t *)arg;
    for (;;) {
        struct urged *h = atomic_load(&round_of_urgent);
        if (!h)
            return NULL;
        if (h == last) {
            sched_yield();
            continue;
        }
        last = h;
        for (uint64_t spin = rnd(&seed) % 300; spin > 0; spin--)
            atomic_signal_fence(memory_order_seq_cst);
        fm_loop_post(&lt.loop, &h->flag, 0, NULL);
        atomic_fetch_add(&urgent_rounds, 1);
    }
}

/* Whichever of the two is first, the event is visited without any further wake-up. */
static void test_urgent_is_not_missed(void **state)
{
    (void)state;
    enum { N = ROUNDS(20000) };
    uint64_t seed = new_seed(), other = rnd(&seed);
    struct urged h[2];
    struct timed t;
    atomic_init(&t.started, false);
    sleep_for_an_hour(&t);
    atomic_store(&round_of_urgent, &h[0]);
    pthread_t thread = 0;
    for (unsigned i = 0; i < N; i++) {
        struct urged *now = &h[i % 2];
        counted_init(&now->finished);
        fm_event_init(&now->flag, set_urgent);
        atomic_init(&now->urgent, false);
        atomic_init(&now->flagged, false);
        if (i == 0)
            thread = spawn(post_flags, &other);
        else
            atomic_store(&round_of_urgent, now);
        for (uint64_t spin = rnd(&seed) % 300; spin > 0; spin--)
            atomic_signal_fence(memory_order_seq_cst);
        fm_loop_post(&lt.loop, &now->finished.event, fm_now() + 7200 * FM_SEC, &now->urgent);
        WAIT_FOR(atomic_load(&now->flagged) && visits(&now->finished) == 1);
        WAIT_FOR(atomic_load(&urgent_rounds) == i + 1);
    }
    atomic_store(&round_of_urgent, NULL);
    join(thread);
    sleep_is_over(&t);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)
#define THREAD_TEST(name) cmocka_unit_test_setup_teardown(name, start_thread, finish_thread)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_visits_in_order),
        TEST(test_posting_again_after_the_visit),
        TEST(test_unpost),
        TEST(test_what_is_closed_is_freed_at_the_end_of_the_turn),
        TEST(test_note_may_free_its_owner),
        TEST(test_no_wake_up_when_awake),
        TEST(test_other_work_keeps_it_awake),
        TEST(test_does_not_sleep_over_a_note),
        TEST(test_time_of_a_turn),
        TEST(test_sleeps_until_the_timer),
        TEST(test_stopped_timer),
        TEST(test_earlier_timer_after_a_later_one),
        THREAD_TEST(test_post_wakes),
        THREAD_TEST(test_wake),
        THREAD_TEST(test_due_note),
        THREAD_TEST(test_due_note_without_any_timer),
        THREAD_TEST(test_no_wake_up_is_lost),
        THREAD_TEST(test_urgent_is_not_missed),
    };
    no_longer_than(300);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

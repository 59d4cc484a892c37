/* The task: which thread may move it where, and that parking, firing and aborting never lose or double it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "../util/threads.h"
#include "fermata/sched/sched.h"
#include "fermata/sched/task.h"
#include "fermata/sched/wake.h"

/* ---- a scheduler without pool threads: the test pops from its queue ---- */

static struct fm_sched sched;
static atomic_uint wakes;

static void count_wake(void *ctx)
{
    CHECK(ctx == &sched);
    atomic_fetch_add(&wakes, 1);
}

static const struct fm_sched_ops ops = {.wake = count_wake};

static struct fm_task *pop(void)
{
    fm_mutex_lock(&sched.lock);
    struct fm_task *t = fm_runq_pop(&sched.runq);
    fm_mutex_unlock(&sched.lock);
    return t;
}

static unsigned queue_length(void)
{
    unsigned n = 0;
    fm_mutex_lock(&sched.lock);
    for (unsigned line = FM_UNSTARTED; line <= FM_STARTED; line++) {
        const struct fm_list *head = &sched.runq.line[line];
        unsigned before = n;
        for (struct fm_list *node = head->next; node != head; node = node->next)
            n++;
        CHECK(sched.runq.length[line] == n - before);
    }
    fm_mutex_unlock(&sched.lock);
    return n;
}

/* ---- gauges ---- */

static const struct {
    enum fm_task_state state;
    enum fm_counter gauge;
} gauges[] = {
    {FM_TASK_QUEUED, FM_C_IN_QUEUED}, {FM_TASK_RUNNING, FM_C_IN_RUNNING},      {FM_TASK_PARKING, FM_C_IN_RUNNING},
    {FM_TASK_WOKEN, FM_C_IN_RUNNING}, {FM_TASK_PARKED, FM_C_IN_PARKED_FUTURE}, {FM_TASK_WRITING, FM_C_IN_PARKED_CLIENT},
    {FM_TASK_DONE, FM_C_IN_SENDING},
};

static struct fm_counters_sum at_start;

static int64_t gauge(enum fm_counter id)
{
    struct fm_counters_sum sum;
    fm_counters_read(&sum);
    return (int64_t)(sum.cell[id] - at_start.cell[id]);
}

/* One task there is, and it is in this state. */
static bool counted_in(enum fm_task_state s)
{
    int64_t expected[FM_C_COUNT] = {0};
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
        if (gauges[i].state == s)
            expected[gauges[i].gauge] = 1;
    for (int id = FM_C_IN_QUEUED; id <= FM_C_IN_SENDING; id++)
        if (gauge((enum fm_counter)id) != expected[id])
            return false;
    return true;
}

static bool none_counted(void) { return counted_in(FM_TASK_IDLE); }

static int start(void **state)
{
    (void)state;
    atomic_store(&wakes, 0);
    fm_counters_read(&at_start);
    int err = fm_sched_init(&sched, 2, &ops, &sched);
    sched.handing_off = true; /* so that what the loop pushes is in the queue at once */
    return err;
}

static int finish(void **state)
{
    (void)state;
    fm_sched_fini(&sched);
    return 0;
}

static uint32_t word(struct fm_task *t) { return atomic_load(&t->word); }

/* On the shortest way there. */
static void bring_to(struct fm_task *t, struct fm_wait *w, enum fm_task_state s)
{
    fm_task_init(t);
    if (s == FM_TASK_IDLE)
        return;
    fm_task_move(t, FM_TASK_IDLE, FM_TASK_QUEUED);
    if (s == FM_TASK_QUEUED)
        return;
    fm_task_move(t, FM_TASK_QUEUED, FM_TASK_RUNNING);
    if (s == FM_TASK_RUNNING)
        return;
    if (s == FM_TASK_WRITING || s == FM_TASK_DONE) {
        fm_task_move(t, FM_TASK_RUNNING, s);
        return;
    }
    fm_task_park(t, w);
    if (s == FM_TASK_WOKEN)
        fm_wait_fire(w, &sched);
    if (s == FM_TASK_PARKED)
        assert_true(fm_task_let_go(t, w));
}

/* ---- the table ---- */

static const char *const names[] = {"IDLE", "QUEUED", "RUNNING", "PARKING", "WOKEN", "PARKED", "WRITING", "DONE"};

/* Row: from; column: to. */
static const char *const allowed[] = {
    /*         IQRPWPWD */
    /* IDLE */ ".x......",
    /* QUEUED */ "x.x.....",
    /* RUNNING */ ".x.x..xx",
    /* PARKING */ "..x.xx..",
    /* WOKEN */ "..x.....",
    /* PARKED */ ".x......",
    /* WRITING */ ".x......",
    /* DONE */ "x.......",
};

static bool may(unsigned from, unsigned to) { return allowed[from][to] == 'x'; }

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(FM_TASK_STATE_COUNT, sizeof names / sizeof *names);
    for (unsigned s = 0; s < FM_TASK_STATE_COUNT; s++)
        assert_string_equal(fm_task_state_name((enum fm_task_state)s), names[s]);
    assert_string_equal(fm_task_state_name(FM_TASK_STATE_COUNT), "?");
}

static void test_table(void **state)
{
    (void)state;
    for (unsigned from = 0; from < FM_TASK_STATE_COUNT; from++)
        for (unsigned to = 0; to < FM_TASK_STATE_COUNT; to++)
            if (fm_task_move_allowed((enum fm_task_state)from, (enum fm_task_state)to) != may(from, to))
                fail_msg("%s to %s", names[from], names[to]);
}

static void test_init(void **state)
{
    (void)state;
    struct fm_task t;
    memset(&t, 0xa5, sizeof t);
    fm_task_init(&t);
    assert_int_equal(word(&t), FM_TASK_IDLE);
    assert_true(fm_list_empty(&t.node));
    assert_false(t.begun);
    assert_false(fm_task_aborted(&t));
    assert_true(none_counted());
}

static void test_allowed_moves(void **state)
{
    (void)state;
    static const uint32_t flags[] = {0, FM_TASK_ABORT, FM_TASK_GONE, FM_TASK_ABORT | FM_TASK_GONE};
    for (unsigned from = 0; from < FM_TASK_STATE_COUNT; from++) {
        for (unsigned to = 0; to < FM_TASK_STATE_COUNT; to++) {
            for (unsigned f = 0; may(from, to) && f < 4; f++) {
                struct fm_task t;
                struct fm_wait w;
                fm_counters_read(&at_start);
                bring_to(&t, &w, (enum fm_task_state)from);
                assert_true(counted_in((enum fm_task_state)from));
                atomic_fetch_or(&t.word, flags[f]);
                fm_task_move(&t, (enum fm_task_state)from, (enum fm_task_state)to);
                assert_int_equal(word(&t), to | flags[f]);
                assert_int_equal(fm_task_state(&t), to);
                assert_int_equal(fm_task_aborted(&t), (flags[f] & FM_TASK_ABORT) != 0);
                assert_true(counted_in((enum fm_task_state)to));
            }
        }
    }
    assert_int_equal(queue_length(), 0);
}

struct pair {
    unsigned is, from, to;
};

static void move(void *arg)
{
    const struct pair *p = arg;
    struct fm_task t;
    fm_task_init(&t);
    atomic_store(&t.word, p->is);
    fm_task_move(&t, (enum fm_task_state)p->from, (enum fm_task_state)p->to);
}

/* Debug builds die; others do not look. */
static void test_forbidden_moves(void **state)
{
    (void)state;
#ifdef FM_DEBUG
    bool expected = true;
#else
    bool expected = false;
#endif
    for (unsigned from = 0; from < FM_TASK_STATE_COUNT; from++)
        for (unsigned to = 0; to < FM_TASK_STATE_COUNT; to++)
            if (!may(from, to) && dies(move, &(struct pair){from, from, to}) != expected)
                fail_msg("%s to %s", names[from], names[to]);
}

/* Every build: the thread that moves a task holds it, so it knows where it is. */
static void test_moving_from_where_it_is_not(void **state)
{
    (void)state;
    for (unsigned is = 0; is < FM_TASK_STATE_COUNT; is++) {
        struct pair p = {is, is == FM_TASK_RUNNING ? FM_TASK_QUEUED : FM_TASK_RUNNING, FM_TASK_QUEUED};
        if (p.from == FM_TASK_QUEUED)
            p.to = FM_TASK_IDLE;
        assert_true(dies(move, &p));
    }
}

static void reset(void *arg)
{
    struct fm_task t;
    fm_task_init(&t);
    atomic_store(&t.word, *(unsigned *)arg);
    fm_role_take_loop();
    fm_task_reset(&t);
}

static void test_reset(void **state)
{
    (void)state;
    static const enum fm_task_state fine[] = {FM_TASK_DONE, FM_TASK_IDLE};
    fm_role_take_loop();
    for (unsigned i = 0; i < 2; i++) {
        struct fm_task t;
        bring_to(&t, NULL, fine[i]);
        atomic_fetch_or(&t.word, FM_TASK_ABORT | FM_TASK_GONE);
        t.begun = true;
        fm_task_reset(&t);
        assert_int_equal(word(&t), FM_TASK_IDLE);
        assert_false(t.begun);
        assert_true(none_counted());
    }
    fm_role_drop_loop();
    for (unsigned s = 0; s < FM_TASK_STATE_COUNT; s++)
        assert_int_equal(dies(reset, &s), s != FM_TASK_DONE && s != FM_TASK_IDLE);
}

/* ---- parking and firing ---- */

static void *fire(void *arg)
{
    fm_wait_fire(arg, &sched);
    return NULL;
}

static void test_fire_after_letting_go(void **state)
{
    (void)state;
    struct fm_task t;
    struct fm_wait w;
    bring_to(&t, NULL, FM_TASK_RUNNING);
    fm_task_park(&t, &w);
    assert_int_equal(word(&t), FM_TASK_PARKING);
    assert_int_equal(w.state, FM_WAIT_ARMED);
    assert_true(counted_in(FM_TASK_PARKING));
    assert_true(fm_task_let_go(&t, &w));
    assert_int_equal(word(&t), FM_TASK_PARKED);
    assert_int_equal(w.state, FM_WAIT_ARMED);
    assert_true(counted_in(FM_TASK_PARKED));
    assert_int_equal(queue_length(), 0);

    uint64_t before = fm_now();
    join(spawn(fire, &w));
    assert_int_equal(word(&t), FM_TASK_QUEUED);
    assert_int_equal(w.state, FM_WAIT_FIRED);
    assert_true(counted_in(FM_TASK_QUEUED));
    assert_true(t.queued_at >= before && t.queued_at <= fm_now());
    assert_int_equal(queue_length(), 1);
    assert_int_equal(wakes, 1);

    fm_wait_fire(&w, &sched); /* again, while it is queued */
    assert_int_equal(queue_length(), 1);
    assert_ptr_equal(pop(), &t);
    fm_wait_fire(&w, &sched); /* ... while it is nowhere */
    fm_task_move(&t, FM_TASK_QUEUED, FM_TASK_RUNNING);
    fm_wait_fire(&w, &sched); /* ... while it runs */
    fm_wait_disarm(&w);
    fm_wait_fire(&w, &sched);
    assert_int_equal(word(&t), FM_TASK_RUNNING);
    assert_int_equal(w.state, FM_WAIT_FIRED);
    assert_int_equal(queue_length(), 0);
    assert_int_equal(wakes, 1);
}

static void test_fire_before_letting_go(void **state)
{
    (void)state;
    for (int other_thread = 0; other_thread < 2; other_thread++) {
        struct fm_task t;
        struct fm_wait w;
        fm_counters_read(&at_start);
        bring_to(&t, &w, FM_TASK_PARKING);
        if (other_thread)
            join(spawn(fire, &w));
        else
            fm_wait_fire(&w, &sched);
        assert_int_equal(word(&t), FM_TASK_WOKEN);
        assert_int_equal(w.state, FM_WAIT_FIRED);
        fm_wait_fire(&w, &sched);
        assert_int_equal(word(&t), FM_TASK_WOKEN);
        assert_false(fm_task_let_go(&t, &w));
        assert_int_equal(word(&t), FM_TASK_RUNNING);
        assert_true(counted_in(FM_TASK_RUNNING));
        fm_wait_fire(&w, &sched);
        assert_int_equal(word(&t), FM_TASK_RUNNING);
        assert_int_equal(queue_length(), 0);
        assert_int_equal(wakes, 0);
    }
}

/* The wait of the last future is still about when the task waits for the next one. */
static void test_an_old_wait_does_not_wake(void **state)
{
    (void)state;
    struct fm_task t;
    struct fm_wait first, second;
    bring_to(&t, &first, FM_TASK_PARKED);
    fm_role_take_loop();
    fm_task_abort(&t, &sched, false);
    fm_role_drop_loop();
    assert_ptr_equal(pop(), &t);
    atomic_store(&t.word, FM_TASK_QUEUED); /* had it not been aborted, but run for another reason */
    fm_task_move(&t, FM_TASK_QUEUED, FM_TASK_RUNNING);
    fm_wait_disarm(&first);
    assert_int_equal(first.state, FM_WAIT_DISARMED);

    fm_task_park(&t, &second);
    fm_wait_fire(&first, &sched);
    assert_int_equal(word(&t), FM_TASK_PARKING);
    assert_true(fm_task_let_go(&t, &second));
    fm_wait_fire(&first, &sched);
    assert_int_equal(word(&t), FM_TASK_PARKED);
    assert_int_equal(first.state, FM_WAIT_DISARMED);
    assert_int_equal(queue_length(), 0);
    fm_wait_fire(&second, &sched);
    assert_int_equal(word(&t), FM_TASK_QUEUED);
    assert_ptr_equal(pop(), &t);
}

/* A callback object outlives the request: nothing of the task may be touched. */
static void test_a_late_fire_touches_no_task(void **state)
{
    (void)state;
    struct fm_task *t = malloc(sizeof *t);
    struct fm_wait fired, disarmed;
    bring_to(t, &fired, FM_TASK_PARKING);
    fm_wait_fire(&fired, &sched);
    assert_false(fm_task_let_go(t, &fired));
    fm_task_park(t, &disarmed);
    fm_task_unpark(t, &disarmed);
    fm_task_move(t, FM_TASK_RUNNING, FM_TASK_DONE);
    memset(t, 0xff, sizeof *t);
    free(t);
    fired.task = disarmed.task = NULL;
    fm_wait_fire(&fired, &sched);
    fm_wait_fire(&disarmed, &sched);
    assert_int_equal(queue_length(), 0);
}

static void test_disarm(void **state)
{
    (void)state;
    struct fm_task t;
    struct fm_wait w;
    bring_to(&t, &w, FM_TASK_PARKING);
    fm_wait_disarm(&w);
    assert_int_equal(w.state, FM_WAIT_DISARMED);
    assert_int_equal(word(&t), FM_TASK_PARKING); /* the task is another matter */
    fm_wait_disarm(&w);
    assert_int_equal(w.state, FM_WAIT_DISARMED);
    fm_wait_fire(&w, &sched);
    assert_int_equal(w.state, FM_WAIT_DISARMED);
    assert_int_equal(word(&t), FM_TASK_PARKING);

    bring_to(&t, &w, FM_TASK_WOKEN);
    fm_wait_disarm(&w);
    assert_int_equal(w.state, FM_WAIT_FIRED);
    assert_int_equal(word(&t), FM_TASK_WOKEN);
}

static void test_unpark(void **state)
{
    (void)state;
    static const uint32_t flags[] = {0, FM_TASK_ABORT, FM_TASK_GONE};
    for (unsigned f = 0; f < 3; f++) {
        for (int woken = 0; woken < 2; woken++) {
            struct fm_task t;
            struct fm_wait w;
            fm_counters_read(&at_start);
            bring_to(&t, &w, woken ? FM_TASK_WOKEN : FM_TASK_PARKING);
            atomic_fetch_or(&t.word, flags[f]);
            fm_task_unpark(&t, &w);
            assert_int_equal(word(&t), FM_TASK_RUNNING | flags[f]);
            assert_int_equal(w.state, woken ? FM_WAIT_FIRED : FM_WAIT_DISARMED);
            assert_true(counted_in(FM_TASK_RUNNING));
            fm_wait_fire(&w, &sched);
            assert_int_equal(word(&t), FM_TASK_RUNNING | flags[f]);
            assert_int_equal(queue_length(), 0);
        }
    }
}

/* ---- a callback between its instructions ---- */

struct meanwhile {
    struct fm_task t;
    struct fm_wait w;
    atomic_bool returned;
};

static void *disarm_meanwhile(void *arg)
{
    struct meanwhile *m = arg;
    fm_wait_disarm(&m->w);
    atomic_store(&m->returned, true);
    return NULL;
}

static void *let_go_meanwhile(void *arg)
{
    struct meanwhile *m = arg;
    CHECK(!fm_task_let_go(&m->t, &m->w));
    atomic_store(&m->returned, true);
    return NULL;
}

static void *unpark_meanwhile(void *arg)
{
    struct meanwhile *m = arg;
    fm_task_unpark(&m->t, &m->w);
    atomic_store(&m->returned, true);
    return NULL;
}

/* The thread that goes on waits for it, as it may still look at the task. */
static void test_waits_for_a_firing_callback(void **state)
{
    (void)state;
    void *(*const run[])(void *) = {disarm_meanwhile, let_go_meanwhile, unpark_meanwhile};
    for (int i = 0; i < 3; i++) {
        struct meanwhile m;
        bring_to(&m.t, &m.w, FM_TASK_WOKEN);
        atomic_init(&m.returned, false);
        atomic_store(&m.w.state, FM_WAIT_FIRING);
        pthread_t thread = spawn(run[i], &m);
        usleep(20000);
        assert_false(atomic_load(&m.returned));
        assert_int_equal(word(&m.t), FM_TASK_WOKEN);
        atomic_store(&m.w.state, FM_WAIT_FIRED);
        join(thread);
        assert_true(atomic_load(&m.returned));
        assert_int_equal(word(&m.t), i == 0 ? FM_TASK_WOKEN : FM_TASK_RUNNING);
    }
}

/* The request is to end, and the callback has begun, but not got to the task yet: WOKEN comes while let_go waits. */
static void test_fires_while_an_aborted_task_lets_go(void **state)
{
    (void)state;
    struct meanwhile m;
    bring_to(&m.t, &m.w, FM_TASK_PARKING);
    atomic_init(&m.returned, false);
    atomic_fetch_or(&m.t.word, FM_TASK_GONE);
    atomic_store(&m.w.state, FM_WAIT_FIRING);
    pthread_t thread = spawn(let_go_meanwhile, &m);
    usleep(20000);
    assert_false(atomic_load(&m.returned));
    fm_task_move(&m.t, FM_TASK_PARKING, FM_TASK_WOKEN);
    atomic_store(&m.w.state, FM_WAIT_FIRED);
    join(thread);
    assert_int_equal(word(&m.t), FM_TASK_RUNNING | FM_TASK_GONE); /* it need not park: it goes on */
}

/* ---- the loop wants it to end ---- */

static void test_abort_in_each_state(void **state)
{
    (void)state;
    fm_role_take_loop();
    for (int gone = 0; gone < 2; gone++) {
        for (unsigned s = 0; s < FM_TASK_STATE_COUNT; s++) {
            struct fm_task t;
            struct fm_wait w;
            fm_counters_read(&at_start);
            bring_to(&t, &w, (enum fm_task_state)s);
            bool queued = s == FM_TASK_PARKED || (s == FM_TASK_WRITING && !gone);
            uint32_t expected = queued ? FM_TASK_QUEUED | FM_TASK_ABORT : s | (gone ? FM_TASK_GONE : FM_TASK_ABORT);
            assert_int_equal(fm_task_abort(&t, &sched, gone), s);
            assert_int_equal(word(&t), expected);
            assert_int_equal(fm_task_aborted(&t), !gone || queued);
            assert_true(counted_in((enum fm_task_state)(expected & FM_TASK_STATE_MASK)));
            assert_int_equal(queue_length(), queued);

            assert_int_equal(fm_task_abort(&t, &sched, gone), expected & FM_TASK_STATE_MASK); /* repeated */
            assert_int_equal(word(&t), expected);
            assert_int_equal(queue_length(), queued);
            assert_ptr_equal(pop(), queued ? &t : NULL);
        }
    }
    assert_int_equal(wakes, 0); /* the loop is awake */
    fm_role_drop_loop();
}

/* First the client's end of file, then something worse; or the reverse. */
static void test_abort_twice(void **state)
{
    (void)state;
    fm_role_take_loop();
    for (int gone_first = 0; gone_first < 2; gone_first++) {
        for (unsigned s = 0; s < FM_TASK_STATE_COUNT; s++) {
            struct fm_task t;
            struct fm_wait w;
            bring_to(&t, &w, (enum fm_task_state)s);
            fm_task_abort(&t, &sched, gone_first);
            fm_task_abort(&t, &sched, !gone_first);
            bool queued = s == FM_TASK_PARKED || s == FM_TASK_WRITING;
            assert_true(fm_task_aborted(&t));
            assert_int_equal(fm_task_state(&t), queued ? FM_TASK_QUEUED : s);
            assert_int_equal(queue_length(), queued);
            assert_ptr_equal(pop(), queued ? &t : NULL);
        }
    }
    fm_role_drop_loop();
}

static void abort_on_loop(struct fm_task *t, bool gone)
{
    fm_role_take_loop();
    fm_task_abort(t, &sched, gone);
    fm_role_drop_loop();
}

static void test_abort_before_letting_go(void **state)
{
    (void)state;
    for (int gone = 0; gone < 2; gone++) {
        for (int before_parking = 0; before_parking < 2; before_parking++) {
            struct fm_task t;
            struct fm_wait w;
            fm_counters_read(&at_start);
            bring_to(&t, NULL, FM_TASK_RUNNING);
            if (before_parking)
                abort_on_loop(&t, gone);
            fm_task_park(&t, &w);
            if (!before_parking)
                abort_on_loop(&t, gone);
            assert_int_equal(fm_task_aborted(&t), !gone);
            assert_false(fm_task_let_go(&t, &w)); /* it would park: it ends */
            assert_int_equal(fm_task_state(&t), FM_TASK_RUNNING);
            assert_true(fm_task_aborted(&t));
            assert_true(counted_in(FM_TASK_RUNNING));
            assert_int_equal(w.state, FM_WAIT_DISARMED);
            fm_wait_fire(&w, &sched);
            assert_int_equal(fm_task_state(&t), FM_TASK_RUNNING);
            assert_int_equal(queue_length(), 0);
        }
    }
}

/* The future is done, so it would not park: that the client is gone is only noted, until it would. */
static void test_gone_but_woken(void **state)
{
    (void)state;
    struct fm_task t;
    struct fm_wait w;
    for (int order = 0; order < 2; order++) {
        bring_to(&t, &w, FM_TASK_PARKING);
        if (order)
            fm_wait_fire(&w, &sched);
        abort_on_loop(&t, true);
        if (!order)
            fm_wait_fire(&w, &sched);
        assert_false(fm_task_let_go(&t, &w));
        assert_int_equal(word(&t), FM_TASK_RUNNING | FM_TASK_GONE);
        assert_false(fm_task_aborted(&t));
    }
    fm_task_park(&t, &w);
    assert_false(fm_task_let_go(&t, &w));
    assert_true(fm_task_aborted(&t));
}

static void test_aborted_and_woken(void **state)
{
    (void)state;
    struct fm_task t;
    struct fm_wait w;
    for (int order = 0; order < 2; order++) {
        bring_to(&t, &w, FM_TASK_PARKING);
        if (order)
            fm_wait_fire(&w, &sched);
        abort_on_loop(&t, false);
        if (!order)
            fm_wait_fire(&w, &sched);
        assert_false(fm_task_let_go(&t, &w));
        assert_int_equal(word(&t), FM_TASK_RUNNING | FM_TASK_ABORT);
        assert_int_equal(w.state, FM_WAIT_FIRED);
        assert_int_equal(queue_length(), 0);
    }
}

static void test_fire_after_abort(void **state)
{
    (void)state;
    struct fm_task t;
    struct fm_wait w;
    bring_to(&t, &w, FM_TASK_PARKED);
    abort_on_loop(&t, true);
    fm_wait_fire(&w, &sched);
    assert_int_equal(w.state, FM_WAIT_FIRED);
    assert_int_equal(word(&t), FM_TASK_QUEUED | FM_TASK_ABORT);
    assert_int_equal(queue_length(), 1); /* once */
    assert_ptr_equal(pop(), &t);
}

static void test_abort_after_fire(void **state)
{
    (void)state;
    struct fm_task t;
    struct fm_wait w;
    bring_to(&t, &w, FM_TASK_PARKED);
    fm_wait_fire(&w, &sched);
    fm_role_take_loop();
    assert_int_equal(fm_task_abort(&t, &sched, false), FM_TASK_QUEUED);
    fm_role_drop_loop();
    assert_int_equal(word(&t), FM_TASK_QUEUED | FM_TASK_ABORT);
    assert_int_equal(queue_length(), 1);
    assert_ptr_equal(pop(), &t);
}

/* ---- writing ---- */

static void test_resume_writing(void **state)
{
    (void)state;
    fm_role_take_loop();
    for (unsigned s = 0; s < FM_TASK_STATE_COUNT; s++) {
        struct fm_task t;
        struct fm_wait w;
        fm_counters_read(&at_start);
        bring_to(&t, &w, (enum fm_task_state)s);
        bool resumed = s == FM_TASK_WRITING;
        assert_int_equal(fm_task_resume_writing(&t, &sched), resumed);
        assert_int_equal(word(&t), resumed ? FM_TASK_QUEUED : s);
        assert_true(counted_in(resumed ? FM_TASK_QUEUED : (enum fm_task_state)s));
        assert_false(fm_task_resume_writing(&t, &sched));
        assert_int_equal(queue_length(), resumed);
        assert_ptr_equal(pop(), resumed ? &t : NULL);
    }
    fm_role_drop_loop();
}

/* It has what to send, so it is not ended; but where it would park next. */
static void test_gone_while_writing(void **state)
{
    (void)state;
    struct fm_task t;
    struct fm_wait w;
    bring_to(&t, NULL, FM_TASK_WRITING);
    fm_role_take_loop();
    assert_int_equal(fm_task_abort(&t, &sched, true), FM_TASK_WRITING);
    assert_true(fm_task_resume_writing(&t, &sched));
    fm_role_drop_loop();
    assert_ptr_equal(pop(), &t);
    assert_int_equal(word(&t), FM_TASK_QUEUED | FM_TASK_GONE);
    fm_task_move(&t, FM_TASK_QUEUED, FM_TASK_RUNNING);
    fm_task_park(&t, &w);
    assert_false(fm_task_let_go(&t, &w));
    assert_true(fm_task_aborted(&t));
}

static void test_aborted_while_writing(void **state)
{
    (void)state;
    struct fm_task t;
    bring_to(&t, NULL, FM_TASK_WRITING);
    fm_role_take_loop();
    assert_int_equal(fm_task_abort(&t, &sched, false), FM_TASK_WRITING);
    assert_false(fm_task_resume_writing(&t, &sched));
    fm_role_drop_loop();
    assert_int_equal(queue_length(), 1);
    assert_ptr_equal(pop(), &t);
    assert_int_equal(word(&t), FM_TASK_QUEUED | FM_TASK_ABORT);
}

/* ---- one task, and everything at once ---- */

enum { PARKS = 3 };

struct race {
    struct fm_task task;
    struct fm_wait wait[PARKS];
    struct fm_mutex lock; /* as the stream's */
    atomic_uint armed;    /* so many waits have a future */
    atomic_bool over;
    atomic_bool only_abort; /* the futures complete when all is over */
};

static struct {
    struct race *_Atomic race; /* NULL: the end */
    atomic_uint number, left;
} now;

static void spin(uint64_t *seed, unsigned most)
{
    for (uint64_t n = rnd(seed) % most; n > 0; n--)
        atomic_signal_fence(memory_order_seq_cst);
}

/* Between two looks at what another thread is about to do, mostly on another processor. */
static void relax(unsigned *looks)
{
    if (++*looks % 256 == 0)
        sched_yield();
}

static bool wants_end(struct fm_task *t) { return word(t) & (FM_TASK_ABORT | FM_TASK_GONE); }

struct rival {
    bool fires, aborts;
    uint64_t seed;
};

/* Completes futures early, late and again; and does what the loop does: aborts, or not, and resumes. */
static void *be_rival(void *arg)
{
    struct rival *me = arg;
    uint64_t *seed = &me->seed;
    for (unsigned last = 0, looks = 0;;) {
        while (atomic_load(&now.number) == last)
            relax(&looks);
        last = atomic_load(&now.number);
        struct race *r = atomic_load(&now.race);
        if (!r)
            return NULL;
        unsigned armed, aborts = rnd(seed) % 4, how = (unsigned)rnd(seed);
        while (!atomic_load(&r->over)) {
            relax(&looks);
            bool only_abort = atomic_load(&r->only_abort);
            if (me->fires && (armed = atomic_load(&r->armed)) > 0 && !only_abort) {
                spin(seed, 300);
                if (rnd(seed) % 4 == 0)
                    fm_wait_fire(&r->wait[rnd(seed) % armed], &sched);
                fm_wait_fire(&r->wait[armed - 1], &sched);
            }
            if (!me->aborts)
                continue;
            fm_role_take_loop();
            fm_mutex_lock(&r->lock);
            if (rnd(seed) % 2)
                fm_task_resume_writing(&r->task, &sched);
            fm_mutex_unlock(&r->lock);
            if ((aborts > 0 || only_abort) && rnd(seed) % 16 == 0) {
                aborts -= aborts > 0;
                spin(seed, 300);
                fm_mutex_lock(&r->lock);
                fm_task_abort(&r->task, &sched, (how & 1) && !only_abort);
                fm_mutex_unlock(&r->lock);
                how >>= 1;
            }
            fm_role_drop_loop();
        }
        for (unsigned k = me->fires ? atomic_load(&r->armed) : 0; k-- > 0;)
            fm_wait_fire(&r->wait[k], &sched);
        atomic_fetch_sub(&now.left, 1);
    }
}

static struct {
    unsigned fired_early, fired_late, ended_early, ended_late, unparked, wrote;
} happened;

static void take_up(struct fm_task *t)
{
    struct fm_task *popped;
    uint64_t end = fm_now() + 30 * FM_SEC;
    for (unsigned looks = 0; !(popped = pop()); relax(&looks))
        CHECK(looks % 4096 != 0 || fm_now() < end); /* it was lost */
    CHECK(popped == t);
    CHECK(fm_task_state(t) == FM_TASK_QUEUED);
    fm_task_move(t, FM_TASK_QUEUED, FM_TASK_RUNNING);
}

static void wait_for_future(struct race *r, unsigned k, uint64_t *seed)
{
    struct fm_task *t = &r->task;
    struct fm_wait *w = &r->wait[k];
    bool fails = rnd(seed) % 16 == 0, late = rnd(seed) % 8 == 0;
    fm_task_park(t, w);
    spin(seed, 30);
    atomic_store(&r->armed, k + 1); /* add_done_callback */
    spin(seed, 1000);
    for (unsigned looks = 0; late && atomic_load(&w->state) == FM_WAIT_ARMED && !wants_end(t);)
        relax(&looks);
    if (fails) {
        fm_task_unpark(t, w);
        CHECK(fm_task_state(t) == FM_TASK_RUNNING);
        happened.unparked++;
    } else if (!fm_task_let_go(t, w)) {
        int state = atomic_load(&w->state);
        CHECK(fm_task_state(t) == FM_TASK_RUNNING);
        CHECK(state == FM_WAIT_FIRED || (state == FM_WAIT_DISARMED && fm_task_aborted(t)));
        if (state == FM_WAIT_FIRED)
            happened.fired_early++;
        else
            happened.ended_early++;
    } else {
        take_up(t);
        fm_wait_disarm(w);
        int state = atomic_load(&w->state);
        CHECK(state == FM_WAIT_FIRED || (state == FM_WAIT_DISARMED && fm_task_aborted(t)));
        if (state == FM_WAIT_FIRED && !fm_task_aborted(t))
            happened.fired_late++;
        if (state == FM_WAIT_DISARMED)
            happened.ended_late++;
    }
}

static void wait_for_client(struct race *r)
{
    struct fm_task *t = &r->task;
    fm_mutex_lock(&r->lock);
    bool aborted = fm_task_aborted(t);
    if (!aborted)
        fm_task_move(t, FM_TASK_RUNNING, FM_TASK_WRITING);
    fm_mutex_unlock(&r->lock);
    if (!aborted) {
        take_up(t);
        happened.wrote++;
    }
}

static void race(struct rival *rivals, unsigned nrivals, unsigned rounds)
{
    uint64_t seed = new_seed();
    pthread_t threads[2];
    struct race r;
    memset(&happened, 0, sizeof happened);
    fm_mutex_init(&r.lock);
    atomic_store(&now.number, 0);
    for (unsigned i = 0; i < nrivals; i++) {
        rivals[i].seed = rnd(&seed);
        threads[i] = spawn(be_rival, &rivals[i]);
    }
    for (unsigned round = 1, looks = 0; round <= rounds; round++) {
        bring_to(&r.task, NULL, FM_TASK_RUNNING);
        atomic_store(&r.armed, 0);
        atomic_store(&r.over, false);
        atomic_store(&r.only_abort, rnd(&seed) % 8 == 0);
        atomic_store(&now.left, nrivals);
        atomic_store(&now.race, &r);
        atomic_store(&now.number, round);
        for (unsigned k = 0; k < PARKS && !fm_task_aborted(&r.task); k++) {
            if (rnd(&seed) % 8 == 0)
                wait_for_client(&r);
            wait_for_future(&r, k, &seed);
        }
        fm_task_move(&r.task, FM_TASK_RUNNING, FM_TASK_DONE);
        atomic_store(&r.over, true);
        while (atomic_load(&now.left) > 0)
            relax(&looks);
        CHECK(fm_task_state(&r.task) == FM_TASK_DONE);
        CHECK(queue_length() == 0);
        fm_role_take_loop();
        fm_task_reset(&r.task);
        fm_role_drop_loop();
    }
    atomic_store(&now.race, NULL);
    atomic_store(&now.number, UINT32_MAX);
    for (unsigned i = 0; i < nrivals; i++)
        join(threads[i]);
    fm_mutex_fini(&r.lock);
    assert_true(none_counted());
    printf("fired early %u, late %u; ended early %u, late %u; unparked %u; wrote %u\n", happened.fired_early,
           happened.fired_late, happened.ended_early, happened.ended_late, happened.unparked, happened.wrote);
    assert_true(happened.fired_early > 0 && happened.fired_late > 0 && happened.unparked > 0 && happened.wrote > 0);
    assert_true(happened.ended_early > 0 && happened.ended_late > 0);
}

/* On two processors this is the tighter race; with three threads there is more that can happen at once. */
static void test_race_of_two(void **state)
{
    (void)state;
    race((struct rival[]){{.fires = true, .aborts = true}}, 1, ROUNDS(40000));
}

static void test_race_of_three(void **state)
{
    (void)state;
    race((struct rival[]){{.fires = true}, {.aborts = true}}, 2, ROUNDS(10000));
}

/* ---- many requests, several pool threads ---- */

enum { TASKS = 24, THREADS = 2, REQUESTS = ROUNDS(30000), WAITS = REQUESTS * PARKS };

struct request {
    struct fm_task task;
    struct fm_mutex lock;
    struct fm_wait *wait; /* parked on this one */
    atomic_int held;
    unsigned steps, parks; /* the holder's: the thread sanitizer sees a thread that is no holder */
};

static struct request requests[TASKS];
static struct {
    struct fm_wait wait; /* each is used once, so that a callback may come as late as it likes */
    atomic_bool armed;
} * waits;
static atomic_uint nwaits;
static atomic_bool all_over;

static void grab(struct request *r) { CHECK(atomic_exchange(&r->held, 1) == 0); }
static void give(struct request *r) { CHECK(atomic_exchange(&r->held, 0) == 1); }

/* One step; the task is gone when it returns. */
static void run_step(struct request *r, uint64_t *seed)
{
    struct fm_task *t = &r->task;
    grab(r);
    fm_task_move(t, FM_TASK_QUEUED, FM_TASK_RUNNING);
    t->begun = true;
    r->steps++;
    if (r->wait) {
        fm_wait_disarm(r->wait);
        CHECK(atomic_load(&r->wait->state) == FM_WAIT_FIRED || fm_task_aborted(t));
    }
    r->wait = NULL;
    while (!fm_task_aborted(t)) {
        unsigned fate = (unsigned)(rnd(seed) % 8);
        if (fate == 0) {
            fm_mutex_lock(&r->lock);
            bool aborted = fm_task_aborted(t);
            if (!aborted) {
                give(r);
                fm_task_move(t, FM_TASK_RUNNING, FM_TASK_WRITING);
            }
            fm_mutex_unlock(&r->lock);
            if (!aborted)
                return;
        } else if (fate == 1) {
            give(r);
            fm_task_move(t, FM_TASK_RUNNING, FM_TASK_QUEUED);
            fm_sched_push(&sched, t);
            return;
        } else if (r->parks == PARKS || fate == 2) {
            break;
        } else {
            unsigned i = atomic_fetch_add(&nwaits, 1);
            struct fm_wait *w = &waits[i].wait;
            CHECK(i < WAITS);
            r->parks++;
            fm_task_park(t, w);
            atomic_store(&waits[i].armed, true);
            spin(seed, 200);
            r->wait = w;
            give(r);
            if (fm_task_let_go(t, w))
                return;
            grab(r);
            r->wait = NULL;
        }
    }
    give(r);
    fm_task_move(t, FM_TASK_RUNNING, FM_TASK_DONE);
}

static void *be_thread(void *arg)
{
    while (!atomic_load(&all_over)) {
        struct fm_task *t = pop();
        if (t)
            run_step(FM_LIST_ENTRY(t, struct request, task), arg);
        else
            sched_yield();
    }
    return NULL;
}

static void *complete_all(void *arg)
{
    uint64_t *seed = arg;
    for (unsigned i = 0; !atomic_load(&all_over);) {
        if (i == WAITS || !atomic_load(&waits[i].armed)) {
            sched_yield();
            continue;
        }
        unsigned n = atomic_load(&nwaits), other = (unsigned)(rnd(seed) % n); /* most of them long gone */
        if (rnd(seed) % 2)
            other = i + (unsigned)(rnd(seed) % (n - i)); /* or before its turn */
        if (atomic_load(&waits[other].armed))
            fm_wait_fire(&waits[other].wait, &sched);
        spin(seed, 300);
        fm_wait_fire(&waits[i++].wait, &sched);
    }
    return NULL;
}

static void test_race_for_many_tasks(void **state)
{
    (void)state;
    uint64_t seed = new_seed(), seeds[THREADS + 1];
    pthread_t threads[THREADS + 1];
    unsigned started = 0, over = 0, taken_back = 0;
    uint64_t deadline = fm_now() + 60 * FM_SEC;
    waits = calloc(WAITS, sizeof *waits);
    assert_non_null(waits);
    atomic_store(&nwaits, 0);
    atomic_store(&all_over, false);
    for (int i = 0; i < TASKS; i++) {
        struct request *r = &requests[i];
        memset(r, 0, sizeof *r);
        fm_task_init(&r->task);
        fm_mutex_init(&r->lock);
    }
    for (int i = 0; i <= THREADS; i++) {
        seeds[i] = rnd(&seed);
        threads[i] = spawn(i < THREADS ? be_thread : complete_all, &seeds[i]);
    }
    fm_role_take_loop();
    while (over < REQUESTS) {
        struct request *r = &requests[rnd(&seed) % TASKS];
        struct fm_task *t = &r->task;
        CHECK(fm_now() < deadline); /* one was lost */
        switch (fm_task_state(t)) {
        case FM_TASK_DONE:
            grab(r);
            CHECK(r->steps > 0 && !r->wait);
            fm_task_reset(t);
            r->steps = r->parks = 0;
            give(r);
            over++;
            break;
        case FM_TASK_IDLE:
            if (started == REQUESTS)
                break;
            started++;
            fm_task_reset(t); /* it may have been aborted before it began */
            fm_task_move(t, FM_TASK_IDLE, FM_TASK_QUEUED);
            fm_sched_push(&sched, t);
            break;
        case FM_TASK_QUEUED:
            if (rnd(&seed) % 4 == 0 && fm_sched_take_back(&sched, t)) {
                CHECK(r->steps == 0);
                CHECK(fm_task_state(t) == FM_TASK_IDLE);
                taken_back++;
                started--;
            }
            break;
        case FM_TASK_WRITING:
            fm_mutex_lock(&r->lock);
            fm_task_resume_writing(t, &sched);
            fm_mutex_unlock(&r->lock);
            break;
        default: break;
        }
        if (rnd(&seed) % 16 == 0) {
            fm_mutex_lock(&r->lock);
            fm_task_abort(t, &sched, rnd(&seed) % 2);
            fm_mutex_unlock(&r->lock);
        }
        if (rnd(&seed) % 4 == 0)
            sched_yield();
    }
    fm_role_drop_loop();
    atomic_store(&all_over, true);
    for (int i = 0; i <= THREADS; i++)
        join(threads[i]);
    for (int i = 0; i < TASKS; i++) {
        assert_int_equal(fm_task_state(&requests[i].task), FM_TASK_IDLE);
        fm_mutex_fini(&requests[i].lock);
    }
    assert_int_equal(started, REQUESTS);
    assert_int_equal(queue_length(), 0);
    assert_true(none_counted());
    assert_true(taken_back > 0);
    assert_true(atomic_load(&nwaits) > REQUESTS / 10);
    free(waits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_table),
        cmocka_unit_test_setup_teardown(test_init, start, finish),
        cmocka_unit_test_setup_teardown(test_allowed_moves, start, finish),
        cmocka_unit_test(test_forbidden_moves),
        cmocka_unit_test(test_moving_from_where_it_is_not),
        cmocka_unit_test_setup_teardown(test_reset, start, finish),
        cmocka_unit_test_setup_teardown(test_fire_after_letting_go, start, finish),
        cmocka_unit_test_setup_teardown(test_fire_before_letting_go, start, finish),
        cmocka_unit_test_setup_teardown(test_an_old_wait_does_not_wake, start, finish),
        cmocka_unit_test_setup_teardown(test_a_late_fire_touches_no_task, start, finish),
        cmocka_unit_test_setup_teardown(test_disarm, start, finish),
        cmocka_unit_test_setup_teardown(test_unpark, start, finish),
        cmocka_unit_test_setup_teardown(test_waits_for_a_firing_callback, start, finish),
        cmocka_unit_test_setup_teardown(test_fires_while_an_aborted_task_lets_go, start, finish),
        cmocka_unit_test_setup_teardown(test_abort_in_each_state, start, finish),
        cmocka_unit_test_setup_teardown(test_abort_twice, start, finish),
        cmocka_unit_test_setup_teardown(test_abort_before_letting_go, start, finish),
        cmocka_unit_test_setup_teardown(test_gone_but_woken, start, finish),
        cmocka_unit_test_setup_teardown(test_aborted_and_woken, start, finish),
        cmocka_unit_test_setup_teardown(test_fire_after_abort, start, finish),
        cmocka_unit_test_setup_teardown(test_abort_after_fire, start, finish),
        cmocka_unit_test_setup_teardown(test_resume_writing, start, finish),
        cmocka_unit_test_setup_teardown(test_gone_while_writing, start, finish),
        cmocka_unit_test_setup_teardown(test_aborted_while_writing, start, finish),
        cmocka_unit_test_setup_teardown(test_race_of_two, start, finish),
        cmocka_unit_test_setup_teardown(test_race_of_three, start, finish),
        cmocka_unit_test_setup_teardown(test_race_for_many_tasks, start, finish),
    };
    no_longer_than(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

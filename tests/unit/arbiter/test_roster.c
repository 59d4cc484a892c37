/* Which workers there ought to be, told by what happens to pretended ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/arbiter/roster.h"
#include "fermata/util/clock.h"

#define PATIENCE (40 * FM_SEC)
#define LONG (100 * FM_SEC)
#define QUICK (5 * FM_SEC)
#define DRAINING 3
#define ROOM (30 * FM_SEC)

static struct world {
    struct fm_roster r;
    uint64_t now;
    pid_t last; /* pids count up */
    int starts, refuse;
    bool checked; /* whether the end of a ready worker must leave as many as are wanted */
    struct {
        pid_t pid;
        int number;
    } signals[4096];
    int nsignals;
    char said[4096];
} w;

static pid_t start(void *ctx, unsigned slot)
{
    (void)ctx;
    assert_true(slot < w.r.wanted);
    if (w.refuse > 0) {
        w.refuse--;
        return -1;
    }
    w.starts++;
    return ++w.last;
}

static const struct fm_roster_worker *worker(pid_t pid)
{
    for (size_t i = 0; i < sizeof w.r.workers / sizeof *w.r.workers; i++)
        if (w.r.workers[i].pid == pid)
            return &w.r.workers[i];
    fail_msg("there is no worker %ld", (long)pid);
    return NULL;
}

static unsigned count(enum fm_worker_state state) { return fm_roster_count(&w.r, state); }

/* When this is called for a ready one it counts as draining already. */
static void signal_one(void *ctx, pid_t pid, int number)
{
    (void)ctx;
    const struct fm_roster_worker *one = worker(pid);
    if (w.checked && !w.r.stopping && number == SIGINT && one->was_ready)
        assert_true(fm_roster_serving(&w.r) >= w.r.wanted);
    if (w.nsignals < 4096) {
        w.signals[w.nsignals].pid = pid;
        w.signals[w.nsignals++].number = number;
    }
}

static void say(void *ctx, int level, const char *text)
{
    (void)ctx, (void)level;
    snprintf(w.said, sizeof w.said, "%s", text);
}

static const struct fm_roster_ops ops = {start, signal_one, say};

static void begin_with(unsigned wanted, uint64_t lifetime)
{
    struct fm_roster_limits limits = {.stop = PATIENCE,
                                      .replaced = LONG,
                                      .quick = QUICK,
                                      .lifetime = lifetime,
                                      .draining = DRAINING,
                                      .patience = ROOM};
    memset(&w, 0, sizeof w);
    w.now = FM_SEC;
    w.last = 100;
    w.checked = true;
    fm_roster_init(&w.r, &ops, NULL, wanted, &limits);
}

static void begin(unsigned wanted) { begin_with(wanted, 0); }

static uint64_t tick(void) { return fm_roster_tick(&w.r, w.now); }

static void ready(pid_t pid)
{
    fm_roster_ready(&w.r, pid, w.now);
    tick();
}

static void exits(pid_t pid, int code)
{
    fm_roster_exited(&w.r, pid, (struct fm_roster_exit){code, 0, false}, w.now);
    tick();
}

static void mark(pid_t pid, enum fm_worker_reason why)
{
    fm_roster_mark(&w.r, pid, why, w.now);
    tick();
}

static void killed(pid_t pid, int number)
{
    fm_roster_exited(&w.r, pid, (struct fm_roster_exit){-1, number, false}, w.now);
    tick();
}

static void serve(unsigned n)
{
    begin(n);
    tick();
    for (unsigned i = 0; i < n; i++)
        ready(101 + (pid_t)i);
    assert_int_equal(count(FM_WORKER_READY), n);
}

static int last_signal(pid_t *pid)
{
    assert_true(w.nsignals > 0);
    *pid = w.signals[w.nsignals - 1].pid;
    return w.signals[w.nsignals - 1].number;
}

static void test_all_at_once(void **state)
{
    (void)state;
    begin(4);
    assert_int_equal(tick(), UINT64_MAX);
    assert_int_equal(count(FM_WORKER_LOADING), 4);
    tick();
    assert_int_equal(w.starts, 4);
    for (pid_t pid = 101; pid <= 104; pid++)
        assert_int_equal(worker(pid)->slot, pid - 101);
}

static void test_nothing_was_ever_ready(void **state)
{
    (void)state;
    begin(3);
    tick();
    exits(102, 3);
    assert_true(w.r.stopping);
    assert_non_null(strstr(w.said, "has exited with 3"));
    assert_int_equal(count(FM_WORKER_DRAINING), 2);
    assert_false(fm_roster_is_over(&w.r));
    exits(101, 0);
    killed(103, SIGTERM);
    assert_true(fm_roster_is_over(&w.r));
    assert_int_equal(w.r.code, 3);
    assert_int_equal(w.starts, 3);
}

static void test_killed_before_ready(void **state)
{
    (void)state;
    begin(1);
    tick();
    killed(101, SIGSEGV);
    assert_non_null(strstr(w.said, "signal 11"));
    assert_true(fm_roster_is_over(&w.r));
    assert_int_equal(w.r.code, 1);
}

static void test_one_that_dies_is_replaced(void **state)
{
    (void)state;
    serve(2);
    killed(101, SIGKILL);
    assert_int_equal(w.starts, 2); /* in a moment */
    uint64_t next = tick();
    assert_in_range(next - w.now, FM_SEC / 20, FM_SEC / 5);
    w.now = next;
    tick();
    assert_int_equal(w.starts, 3);
    assert_int_equal(worker(103)->slot, 0);
}

/* A crash loop of one of them takes ever longer, and is forgotten after a good minute. */
static void test_crash_loop(void **state)
{
    (void)state;
    serve(2);
    uint64_t waits[12];
    for (int i = 0; i < 12; i++) {
        killed(i == 0 ? 101 : w.last, SIGSEGV);
        waits[i] = tick() - w.now;
        w.now += waits[i];
        tick();
        assert_int_equal(worker(w.last)->slot, 0);
        if (i % 2)
            ready(w.last);
        w.now += FM_SEC;
    }
    for (int i = 1; i < 8; i++)
        assert_true(waits[i] > waits[i - 1]);
    assert_in_range(waits[11], 20 * FM_SEC, 40 * FM_SEC);
    assert_false(w.r.stopping);
    assert_int_equal(worker(102)->state, FM_WORKER_READY);
    ready(w.last);
    w.now += 61 * FM_SEC;
    int before = w.starts;
    killed(w.last, SIGSEGV);
    assert_int_equal(w.starts, before + 1); /* at once */
}

static void test_fork_that_fails(void **state)
{
    (void)state;
    serve(1);
    w.refuse = 2;
    killed(101, SIGKILL);
    for (int i = 0; i < 4 && w.starts == 1; i++)
        w.now = tick();
    tick();
    assert_int_equal(w.starts, 2);
    begin(1); /* the first one: nothing is lost by giving up */
    w.refuse = 1;
    tick();
    assert_true(fm_roster_is_over(&w.r));
    assert_int_equal(w.r.code, 1);
}

static void test_ends_that_go_wrong(void **state)
{
    (void)state;
    serve(2);
    fm_roster_stop(&w.r, SIGTERM, w.now);
    killed(101, SIGSEGV);
    exits(102, 0);
    assert_true(fm_roster_is_over(&w.r));
    assert_int_equal(w.r.code, 1);
}

static void test_reload(void **state)
{
    (void)state;
    serve(3);
    fm_roster_reload(&w.r, w.now);
    tick();
    assert_int_equal(w.starts, 4); /* one, and the others wait for it */
    assert_int_equal(w.nsignals, 0);
    for (int i = 0; i < 3; i++) {
        pid_t told;
        ready(w.last);
        assert_int_equal(w.nsignals, i + 1);
        assert_int_equal(last_signal(&told), SIGINT);
        assert_int_equal(worker(told)->generation, 1);
        assert_true(count(FM_WORKER_READY) >= 3);
    }
    assert_int_equal(w.starts, 6);
    for (pid_t pid = 101; pid <= 103; pid++)
        exits(pid, 0);
    assert_int_equal(count(FM_WORKER_READY), 3);
    assert_int_equal(tick(), UINT64_MAX);
    assert_int_equal(w.starts, 6);
}

static void test_reload_that_fails(void **state)
{
    (void)state;
    serve(3);
    fm_roster_reload(&w.r, w.now);
    tick();
    exits(104, 3);
    assert_non_null(strstr(w.said, "Reload failed"));
    assert_int_equal(count(FM_WORKER_READY), 3);
    assert_int_equal(w.nsignals, 0);
    assert_true(w.r.reload == FM_RELOAD_FAILED && !fm_roster_is_reloading(&w.r));
    assert_int_equal(tick(), UINT64_MAX); /* no second try */
    killed(101, SIGKILL);                 /* and supervision goes on */
    w.now = tick();
    tick();
    assert_int_equal(w.starts, 5);
}

static void test_while_it_reloads(void **state)
{
    (void)state;
    begin(2);
    tick();
    assert_false(fm_roster_is_reloading(&w.r));
    ready(101);
    ready(102);
    assert_false(fm_roster_is_reloading(&w.r));
    fm_roster_reload(&w.r, w.now);
    assert_true(fm_roster_is_reloading(&w.r));
    tick();
    ready(103);
    tick();
    assert_true(fm_roster_is_reloading(&w.r)); /* one is old still */
    ready(104);
    tick();
    assert_false(fm_roster_is_reloading(&w.r)); /* and those that drain do not count */
    killed(103, SIGKILL);
    tick();
    assert_false(fm_roster_is_reloading(&w.r));
    fm_roster_reload(&w.r, w.now);
    fm_roster_stop(&w.r, SIGTERM, w.now);
    assert_false(fm_roster_is_reloading(&w.r));
}

static void test_reload_while_reloading(void **state)
{
    (void)state;
    serve(2);
    fm_roster_reload(&w.r, w.now);
    tick();
    fm_roster_reload(&w.r, w.now); /* 103 loads still, and hangs */
    tick();
    pid_t told;
    assert_int_equal(last_signal(&told), SIGINT);
    assert_int_equal(told, 103);
    assert_int_equal(w.starts, 4);
    ready(104);
    ready(w.last);
    exits(103, 0);
    assert_int_equal(count(FM_WORKER_READY), 2);
    assert_int_equal(worker(104)->generation, 3);
}

/* Part of the new generation serves when the next one fails: all go on as they are. */
static void test_failure_after_a_half_reload(void **state)
{
    (void)state;
    serve(3);
    fm_roster_reload(&w.r, w.now);
    tick();
    ready(104);
    fm_roster_reload(&w.r, w.now);
    tick();
    pid_t canary = w.last;
    exits(canary, 3);
    int starts = w.starts;
    tick();
    assert_int_equal(w.starts, starts);
    assert_int_equal(count(FM_WORKER_READY), 3);
    fm_roster_reload(&w.r, w.now); /* until the next one */
    tick();
    assert_int_equal(w.starts, starts + 1);
}

static void test_reload_before_anything_serves(void **state)
{
    (void)state;
    begin(2);
    tick();
    fm_roster_reload(&w.r, w.now);
    tick();
    assert_int_equal(w.starts, 2);
    assert_int_equal(w.r.generation, 1);
}

static void test_resize(void **state)
{
    (void)state;
    serve(2);
    fm_roster_resize(&w.r, 1);
    tick();
    assert_int_equal(w.starts, 3);
    ready(103);
    fm_roster_resize(&w.r, -1);
    tick();
    pid_t told;
    assert_int_equal(last_signal(&told), SIGINT);
    assert_int_equal(told, 103);
    for (int i = 0; i < 5; i++)
        fm_roster_resize(&w.r, -1);
    tick();
    assert_int_equal(w.r.wanted, 1); /* never none */
    assert_int_equal(count(FM_WORKER_READY), 1);
    for (int i = 0; i < 300; i++)
        fm_roster_resize(&w.r, 1);
    assert_int_equal(w.r.wanted, FM_WORKERS_MAX);
}

static void test_stop(void **state)
{
    (void)state;
    serve(2);
    fm_roster_resize(&w.r, 1);
    tick();
    fm_roster_stop(&w.r, SIGTERM, w.now);
    assert_int_equal(w.nsignals, 3); /* a worker that loads is told as well */
    exits(101, 0);
    exits(103, 0);
    fm_roster_reload(&w.r, w.now);
    tick();
    assert_int_equal(w.starts, 3);
    assert_false(fm_roster_is_over(&w.r));
    exits(102, 0);
    assert_true(fm_roster_is_over(&w.r));
    assert_int_equal(w.r.code, 0);
    assert_false(w.r.killed);
}

static void test_one_that_does_not_end(void **state)
{
    (void)state;
    serve(1);
    fm_roster_stop(&w.r, SIGTERM, w.now);
    uint64_t next = tick();
    assert_int_equal(next - w.now, PATIENCE);
    w.now += FM_SEC;
    fm_roster_stop(&w.r, SIGTERM, w.now); /* again: the deadline stays */
    assert_int_equal(tick(), next);
    w.now = next;
    tick();
    pid_t told;
    assert_int_equal(last_signal(&told), SIGKILL);
    assert_int_equal(tick(), UINT64_MAX);
    killed(101, SIGKILL);
    assert_true(fm_roster_is_over(&w.r) && w.r.killed);
}

/* For development: no old one is to answer any more, and a reload also ends what loads. */
static void test_old_first(void **state)
{
    pid_t told;
    (void)state;
    serve(2);
    w.checked = false;
    w.r.old_first = true;
    fm_roster_reload(&w.r, w.now);
    assert_int_equal(count(FM_WORKER_DRAINING), 2);
    assert_int_equal(last_signal(&told), SIGINT);
    tick();
    assert_int_equal(w.starts, 4); /* both at once */
    fm_roster_reload(&w.r, w.now);
    tick();
    assert_int_equal(w.starts, 6);
    assert_int_equal(count(FM_WORKER_DRAINING), 4);
    exits(103, 0);
    exits(105, 3); /* it is tried again */
    assert_false(w.r.stopping);
    w.now = tick();
    tick();
    assert_int_equal(w.starts, 7);
    ready(106);
    ready(107);
    assert_int_equal(count(FM_WORKER_READY), 2);
    begin(1); /* what loads first may hang, too */
    w.r.old_first = true;
    tick();
    fm_roster_reload(&w.r, w.now);
    tick();
    assert_int_equal(w.starts, 2);
    exits(101, 0);
    assert_false(w.r.stopping);
    ready(102);
    assert_int_equal(count(FM_WORKER_READY), 1);
}

/* One that a zygote is to fork goes by the pid of that one until it is there. */
static void test_another_pid(void **state)
{
    (void)state;
    serve(2);
    fm_roster_reload(&w.r, w.now);
    tick();
    pid_t zygote = w.last, told;
    fm_roster_renamed(&w.r, zygote, 900);
    fm_roster_ready(&w.r, zygote, w.now);
    assert_int_equal(worker(900)->state, FM_WORKER_LOADING);
    ready(900);
    assert_int_equal(worker(900)->state, FM_WORKER_READY);
    assert_int_equal(last_signal(&told), SIGINT); /* an old one */
    exits(zygote, 0);
    assert_int_equal(count(FM_WORKER_READY), 2);
    fm_roster_renamed(&w.r, 4711, 901); /* none of ours */
    fm_roster_renamed(&w.r, 0, 902);
    assert_int_equal(count(FM_WORKER_READY), 2);
}

static void test_strangers(void **state)
{
    (void)state;
    serve(1);
    exits(4711, 1); /* an orphan that came to process 1 */
    fm_roster_ready(&w.r, 4711, w.now);
    fm_roster_ready(&w.r, 0, w.now);
    fm_roster_exited(&w.r, 0, (struct fm_roster_exit){0, 0, false}, w.now);
    assert_int_equal(count(FM_WORKER_READY), 1);
}

/* ---- those that are to be replaced ---- */

/* New first, one at a time, in the same slot. */
static void test_spent(void **state)
{
    (void)state;
    pid_t told;
    serve(3);
    mark(102, FM_WHY_REQUESTS);
    mark(101, FM_WHY_MEMORY);
    assert_int_equal(w.starts, 4);
    assert_int_equal(w.nsignals, 0);
    assert_int_equal(fm_roster_serving(&w.r), 3); /* they serve until then */
    ready(104);
    assert_int_equal(last_signal(&told), SIGINT);
    assert_int_equal(told, 102);
    assert_int_equal(w.nsignals, 1);
    assert_int_equal(w.starts, 5);
    ready(105);
    assert_int_equal(last_signal(&told), SIGINT);
    assert_int_equal(told, 101);
    assert_int_equal(w.nsignals, 2);
    exits(101, 0);
    exits(102, 0);
    assert_int_equal(tick(), UINT64_MAX);
    assert_int_equal(w.starts, 5);
    assert_int_equal(w.r.replaced[FM_WHY_REQUESTS], 1);
    assert_int_equal(w.r.slots[1].why, FM_WHY_REQUESTS);
    assert_int_equal(w.r.slots[1].exits, 0);
}

static void test_marks_that_say_nothing(void **state)
{
    (void)state;
    begin(2);
    tick();
    mark(101, FM_WHY_REQUESTS); /* loads still */
    ready(101);
    ready(102);
    mark(101, FM_WHY_RELOAD);
    mark(101, FM_WHY_NOTHING);
    mark(4711, FM_WHY_SILENT);
    assert_int_equal(w.starts, 2);
    mark(101, FM_WHY_SILENT);
    mark(101, FM_WHY_MEMORY); /* less urgent */
    assert_int_equal(worker(101)->why, FM_WHY_SILENT);
    assert_non_null(strstr(w.said, "does not turn"));
}

/* The replacement of a spent one does not come up: it goes on serving, and others are tried ever more seldom. */
static void test_spent_and_broken(void **state)
{
    (void)state;
    serve(1);
    mark(101, FM_WHY_REQUESTS);
    for (int i = 0; i < 5; i++) {
        exits(w.last, 3);
        assert_int_equal(worker(101)->state, FM_WORKER_READY);
        assert_int_equal(fm_roster_serving(&w.r), 1);
        uint64_t next = tick();
        assert_true(next > w.now);
        w.now = next;
        tick();
    }
    ready(w.last);
    assert_int_equal(worker(101)->state, FM_WORKER_DRAINING);
    assert_int_equal(w.r.slots[0].exits, 5);
}

/* One that is stuck serves nobody: it is replaced though another is being, and goes when as many serve as are wanted.
 */
static void test_stuck(void **state)
{
    (void)state;
    pid_t told;
    serve(3);
    mark(101, FM_WHY_EXHAUSTED);
    mark(102, FM_WHY_SILENT);
    assert_int_equal(fm_roster_serving(&w.r), 1);
    assert_int_equal(w.starts, 5); /* both at once */
    ready(104);
    assert_int_equal(w.nsignals, 0); /* two serve, three are wanted */
    ready(105);
    assert_int_equal(w.nsignals, 2);
    last_signal(&told);
    assert_true(told == 101 || told == 102);
    uint64_t next = tick();
    assert_int_equal(next - w.now, LONG);
    w.now = next;
    tick();
    assert_int_equal(worker(101)->state, FM_WORKER_KILLED);
    assert_int_equal(worker(102)->state, FM_WORKER_KILLED);
    assert_false(w.r.killed); /* that is for the exit code of a stop */
}

static void test_the_only_one_is_stuck(void **state)
{
    (void)state;
    serve(1);
    mark(101, FM_WHY_GIL);
    assert_int_equal(w.starts, 2);
    assert_int_equal(w.nsignals, 0);
    exits(102, 3); /* what would replace it cannot be loaded: it may get on again */
    assert_false(w.r.stopping);
    assert_int_equal(worker(101)->state, FM_WORKER_READY);
    w.now = tick();
    tick();
    assert_int_equal(w.starts, 3);
    ready(103);
    assert_int_equal(worker(101)->state, FM_WORKER_DRAINING);
}

/* A reload whose first worker fails while all old ones are stuck has failed as any other. */
static void test_stuck_in_a_reload(void **state)
{
    (void)state;
    serve(2);
    mark(101, FM_WHY_EXHAUSTED);
    mark(102, FM_WHY_EXHAUSTED);
    exits(103, 3);
    exits(104, 3);
    fm_roster_reload(&w.r, w.now);
    tick();
    exits(w.last, 3);
    assert_int_equal(w.r.reload, FM_RELOAD_FAILED);
    assert_int_equal(worker(101)->generation, w.r.generation);
}

static void test_lifetime(void **state)
{
    (void)state;
    begin_with(2, 60 * FM_SEC);
    tick();
    ready(101);
    w.now += FM_SEC;
    ready(102);
    uint64_t next = tick();
    assert_int_equal(next - w.now, 59 * FM_SEC);
    w.now = next;
    tick();
    assert_int_equal(worker(101)->why, FM_WHY_LIFETIME);
    assert_int_equal(w.starts, 3);
    w.now += 5 * FM_SEC; /* both are old, and one at a time is replaced */
    tick();
    assert_int_equal(w.starts, 3);
    ready(103);
    assert_int_equal(w.starts, 4);
    ready(104);
    exits(101, 0);
    exits(102, 0);
    assert_int_equal(tick() - w.now, 60 * FM_SEC);
}

/* Old workers with requests that do not end must not become ever more, and none of them is cut off in its time: the one
 * that is to be replaced goes on. */
static void test_too_many_drain(void **state)
{
    (void)state;
    pid_t told;
    serve(1);
    for (int i = 0; i < DRAINING + 1; i++) {
        fm_roster_reload(&w.r, w.now);
        tick();
        w.now += FM_SEC;
        ready(w.last);
    }
    pid_t last = w.last;
    assert_int_equal(count(FM_WORKER_DRAINING), DRAINING);
    assert_int_equal(count(FM_WORKER_READY), 2);
    assert_int_equal(last_signal(&told), SIGINT);
    int starts = w.starts;
    assert_int_equal(tick() - w.now, ROOM - DRAINING * FM_SEC); /* 101 has been told DRAINING s ago */
    assert_int_equal(w.starts, starts);
    exits(102, 0); /* there is room */
    assert_int_equal(last_signal(&told), SIGINT);
    assert_int_equal(told, last - 1);
    assert_int_equal(count(FM_WORKER_READY), 1);
    assert_int_equal(w.r.reload, FM_RELOAD_DONE);
    fm_roster_reload(&w.r, w.now);
    tick();
    ready(w.last);
    w.now = tick();
    tick();
    assert_true(worker(101)->quick);
    assert_int_equal(worker(101)->kill_at, w.now + QUICK);
    assert_int_equal(last_signal(&told), SIGINT); /* behind SIGQUIT for 101 */
    assert_int_equal(told, last);
    assert_false(worker(103)->quick);
    assert_int_equal(count(FM_WORKER_READY), 1);
}

/* Reloads that come faster than an import is: what has never served has nothing to lose, and takes no room. */
static void test_too_many_load(void **state)
{
    (void)state;
    serve(1);
    for (int i = 0; i < 2 * DRAINING; i++) {
        fm_roster_reload(&w.r, w.now);
        w.now += FM_MS;
        tick();
    }
    assert_int_equal(worker(101)->state, FM_WORKER_READY);
    assert_int_equal(count(FM_WORKER_DRAINING), 2 * DRAINING - 1);
    for (pid_t pid = 102; pid < 101 + 2 * DRAINING; pid++)
        assert_int_equal(worker(pid)->quick, pid < 101 + DRAINING);
    ready(w.last);
    assert_int_equal(worker(101)->state, FM_WORKER_DRAINING);
    assert_false(worker(101)->quick);
}

/* Of those that drain, the ones that have served. */
static unsigned served(void)
{
    unsigned n = 0;
    for (size_t i = 0; i < sizeof w.r.workers / sizeof *w.r.workers; i++)
        n += w.r.workers[i].pid > 0 && w.r.workers[i].state == FM_WORKER_DRAINING && w.r.workers[i].was_ready;
    return n;
}

/* Of four workers as many drain as may, so that a new one serves beside those that are still to. */
static void fill(void)
{
    serve(4);
    for (int i = 0; i < 4; i++) {
        fm_roster_reload(&w.r, w.now);
        tick();
        ready(w.last);
    }
    for (int i = 0; i < 20 && count(FM_WORKER_LOADING) > 0; i++)
        ready(w.last);
}

/* Until there is room no more are started: a new one beside each old one would be twice as many. */
static void test_no_room_for_any(void **state)
{
    (void)state;
    fill();
    assert_int_equal(served(), DRAINING);
    assert_int_equal(count(FM_WORKER_READY), 5);
    for (int i = 0; i < 20 && w.r.reload != FM_RELOAD_DONE; i++) {
        w.now += ROOM;
        tick();
        if (count(FM_WORKER_LOADING) > 0)
            ready(w.last);
        assert_true(count(FM_WORKER_READY) <= 5);
    }
    assert_int_equal(w.r.reload, FM_RELOAD_DONE);
    assert_int_equal(count(FM_WORKER_READY), 4);
}

/* New ones that are spent themselves while no old one may drain do not become ever more. */
static void test_spent_without_room(void **state)
{
    (void)state;
    fill();
    assert_int_equal(count(FM_WORKER_READY), 5);
    for (int i = 0; i < 20; i++) {
        fm_roster_mark(&w.r, w.last, FM_WHY_REQUESTS, w.now);
        tick();
        if (count(FM_WORKER_LOADING) > 0)
            ready(w.last);
        assert_true(count(FM_WORKER_READY) <= 5);
    }
}

/* A stop leaves those that drain already no more time than the others. */
static void test_stop_while_draining(void **state)
{
    (void)state;
    serve(1);
    fm_roster_reload(&w.r, w.now);
    tick();
    ready(102);
    assert_int_equal(worker(101)->kill_at, w.now + LONG);
    assert_int_equal(worker(101)->why, FM_WHY_RELOAD);
    fm_roster_stop(&w.r, SIGTERM, w.now);
    assert_int_equal(worker(101)->kill_at, w.now + PATIENCE);
    assert_int_equal(worker(102)->why, FM_WHY_STOP);
    fm_roster_stop(&w.r, SIGQUIT, w.now);
    assert_int_equal(worker(101)->kill_at, w.now + QUICK);
}

static void test_what_is_remembered(void **state)
{
    (void)state;
    char text[100];
    begin(2);
    tick();
    w.now += 3 * FM_SEC;
    ready(101);
    ready(102);
    assert_int_equal(worker(101)->boot, 3 * FM_SEC);
    fm_roster_exited(&w.r, 102, (struct fm_roster_exit){-1, SIGKILL, true}, w.now);
    const struct fm_roster_slot *s = &w.r.slots[1];
    assert_int_equal(s->last, 102);
    assert_int_equal(s->exits, 1);
    assert_true(s->how.out_of_memory && s->delay > 0 && s->start_at > w.now);
    assert_int_equal(w.r.out_of_memory, 1);
    fm_roster_describe(s->how, text, sizeof text);
    assert_non_null(strstr(text, "for want of memory"));
    fm_roster_reload(&w.r, w.now);
    assert_int_equal(s->last, 102); /* the wait is forgotten, and what was is not */
    assert_int_equal(s->start_at, 0);
}

static void test_the_result_of_a_reload(void **state)
{
    (void)state;
    serve(2);
    assert_string_equal(fm_reload_name(w.r.reload), "none");
    fm_roster_reload(&w.r, w.now);
    tick();
    assert_string_equal(fm_reload_name(w.r.reload), "loading");
    ready(103);
    assert_string_equal(fm_reload_name(w.r.reload), "replacing");
    ready(104);
    assert_string_equal(fm_reload_name(w.r.reload), "done");
    fm_roster_reload(&w.r, w.now);
    tick();
    exits(105, 3);
    assert_string_equal(fm_reload_name(w.r.reload), "failed");
    assert_string_equal(w.r.reload_failed, "worker 0 has exited with 3");
}

/* ---- whatever happens ---- */

static uint32_t seed;

static uint32_t dice(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static const struct fm_roster_worker *any_worker(void)
{
    const struct fm_roster_worker *found = NULL;
    uint32_t n = 0;
    for (size_t i = 0; i < sizeof w.r.workers / sizeof *w.r.workers; i++)
        if (w.r.workers[i].pid > 0 && dice(++n) == 0)
            found = &w.r.workers[i];
    return found;
}

static void happen(void)
{
    const struct fm_roster_worker *one = any_worker();
    switch (dice(13)) {
    case 0: fm_roster_reload(&w.r, w.now); break;
    case 1: fm_roster_resize(&w.r, dice(2) ? 1 : -1); break;
    case 2: w.refuse = (int)dice(3); break;
    case 3:
        if (one)
            fm_roster_exited(&w.r, one->pid, (struct fm_roster_exit){-1, SIGKILL, false}, w.now);
        break;
    case 4:
    case 5:
        if (one && one->state >= FM_WORKER_DRAINING)
            fm_roster_exited(&w.r, one->pid, (struct fm_roster_exit){0, 0, false}, w.now);
        break;
    case 12:
        if (one)
            fm_roster_mark(&w.r, one->pid, (enum fm_worker_reason)dice(FM_WHY_COUNT), w.now);
        break;
    case 6: w.now += dice(100) * FM_SEC; break;
    default:
        if (one && one->state == FM_WORKER_LOADING)
            fm_roster_ready(&w.r, one->pid, w.now);
    }
}

/* From here on all do as they are told, and are ready a second after they were started. */
static void settle(void)
{
    w.refuse = 0;
    for (int i = 0; i < 3000; i++) {
        uint64_t next = tick();
        bool any = false;
        for (size_t k = 0; k < sizeof w.r.workers / sizeof *w.r.workers; k++) {
            const struct fm_roster_worker *one = &w.r.workers[k];
            if (one->pid > 0 && one->state >= FM_WORKER_DRAINING) {
                fm_roster_exited(&w.r, one->pid, (struct fm_roster_exit){0, 0, false}, w.now);
                any = true;
            } else if (one->pid > 0 && one->state == FM_WORKER_LOADING) {
                fm_roster_ready(&w.r, one->pid, w.now);
                any = true;
            }
        }
        if (!any && next == UINT64_MAX)
            return;
        w.now = any ? w.now + FM_SEC : next;
    }
    fail_msg("it does not settle (seed %u)", seed);
}

static void test_whatever_happens(void **state)
{
    (void)state;
    for (uint32_t run = 0; run < 2000; run++) {
        seed = run;
        begin(1 + dice(4));
        tick();
        ready(101);
        for (int i = 0; i < 60 && !w.r.stopping; i++) {
            happen();
            tick();
        }
        assert_false(w.r.stopping); /* one was ready, so nothing ends all */
        settle();
        assert_int_equal(count(FM_WORKER_READY), w.r.wanted);
        assert_int_equal(fm_roster_serving(&w.r), w.r.wanted);
        assert_int_not_equal(w.r.reload, FM_RELOAD_LOADING);
        assert_int_not_equal(w.r.reload, FM_RELOAD_REPLACING);
        for (size_t i = 0; i < sizeof w.r.workers / sizeof *w.r.workers; i++)
            if (w.r.workers[i].pid > 0) {
                assert_int_equal(w.r.workers[i].generation, w.r.generation);
                assert_int_equal(w.r.workers[i].why, FM_WHY_NOTHING);
            }
        fm_roster_stop(&w.r, SIGTERM, w.now);
        settle();
        assert_true(fm_roster_is_over(&w.r));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_at_once),
        cmocka_unit_test(test_nothing_was_ever_ready),
        cmocka_unit_test(test_killed_before_ready),
        cmocka_unit_test(test_one_that_dies_is_replaced),
        cmocka_unit_test(test_crash_loop),
        cmocka_unit_test(test_fork_that_fails),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_reload_that_fails),
        cmocka_unit_test(test_while_it_reloads),
        cmocka_unit_test(test_reload_while_reloading),
        cmocka_unit_test(test_failure_after_a_half_reload),
        cmocka_unit_test(test_reload_before_anything_serves),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_one_that_does_not_end),
        cmocka_unit_test(test_ends_that_go_wrong),
        cmocka_unit_test(test_old_first),
        cmocka_unit_test(test_another_pid),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_spent),
        cmocka_unit_test(test_marks_that_say_nothing),
        cmocka_unit_test(test_spent_and_broken),
        cmocka_unit_test(test_stuck),
        cmocka_unit_test(test_the_only_one_is_stuck),
        cmocka_unit_test(test_stuck_in_a_reload),
        cmocka_unit_test(test_lifetime),
        cmocka_unit_test(test_too_many_drain),
        cmocka_unit_test(test_too_many_load),
        cmocka_unit_test(test_no_room_for_any),
        cmocka_unit_test(test_spent_without_room),
        cmocka_unit_test(test_stop_while_draining),
        cmocka_unit_test(test_what_is_remembered),
        cmocka_unit_test(test_the_result_of_a_reload),
        cmocka_unit_test(test_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

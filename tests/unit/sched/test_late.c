/* The scheduler and the monitor, as they are, under a controlled interleaving in which time is kept: are requests late?
 *
 * Clients send requests to a scheduler of a few threads, each the next one when it has its answer; steps sleep without
 * the GIL, compute with it, compute while the machine is busy, or wait once for long; or hundreds of continuations come
 * at once.  Where no request is lost all can still be late, which test_interleave.c does not see.
 *
 * Held against each schedule: the loop is polled every few milliseconds; steps that wait run side by side, in not much
 * more time than it takes with all threads; steps that compute are never handed off, also where they are kept from the
 * processor; a request beside hundreds of continuations is not late; the monitor looks once a request where there are
 * few, and hardly ever where quick ones follow one another.
 *
 * FM_SIM_SCHEDULES says how many, FM_SIM_SEED repeats a run and FM_SIM_FIRST a schedule of it. */
#ifndef FM_DEBUG
#define FM_DEBUG /* each transition is checked */
#endif
#include "simulate.h"

#include "../../../src/sched/task.c"
#include "../../../src/sched/runq.c"
#include "../../../src/sched/waits.c"
#include "../../../src/sched/sched.c"
#include "../../../src/sched/wake.c"
#include "../../../src/sched/monitor.c"

enum { POOL = 4, CLIENTS = 16, CONTINUATIONS = 300 };

/* X(KIND, clients, requests, ns that a client thinks at most, ns of a step at least, at most) */
#define KINDS(X)                                                                                                       \
    X(SLEEP, 16, 800, FM_MS / 20, FM_MS / 5, FM_MS * 9 / 10)   /* many short waits */                                  \
    X(COMPUTE, 16, 200, FM_MS / 20, FM_MS / 50, FM_MS * 2)     /* ... or computations */                               \
    X(KEPT, 16, 200, FM_MS / 20, FM_MS / 50, FM_MS / 2)        /* the same, by a thread that often has no processor */ \
    X(STUCK, 16, 200, FM_MS / 20, FM_MS / 100, FM_MS / 50)     /* quick ones; now and then one that waits for long */  \
    X(CONTINUE_COMPUTE, 1, 40, FM_MS * 5, FM_MS, FM_MS * 2)    /* quick ones, and continuations that compute */        \
    X(CONTINUE_SLEEP, 1, 40, FM_MS * 5, FM_MS, FM_MS * 2)      /* ... or wait, and come all at once */                 \
    X(GIL_TAKEN, 16, 100, FM_MS / 20, FM_MS / 100, FM_MS / 50) /* quick ones, while another thread has the GIL */      \
    X(STEADY, 16, 1000, FM_MS / 50, FM_MS / 50, FM_MS / 25)    /* quick ones, one after the other */                   \
    X(SELDOM, 1, 20, FM_MS * 60, FM_MS / 100, FM_MS / 5)       /* quick ones, one at a time */

enum kind {
#define X(kind, clients, requests, thinks, least, most) kind,
    KINDS(X)
#undef X
        KIND_COUNT,
};

static const struct {
    const char *name;
    unsigned clients, requests;
    uint64_t thinks, least, most;
} kinds[] = {
#define X(kind, clients, requests, thinks, least, most) {#kind, clients, requests, thinks, least, most},
    KINDS(X)
#undef X
};

#define LONG (40 * FM_MS)

struct job {
    struct fm_task task;
    bool coming;      /* sent, and not read */
    uint64_t arrives; /* when the loop can read it */
    uint64_t lasts;
};

static struct {
    enum kind kind;
    struct fm_sched sched;
    struct fm_monitor monitor;
    struct fm_mutex gil;
    int wake_fd;
    atomic_int asleep;
    struct job client[CLIENTS], continuation[CONTINUATIONS];
    unsigned clients, left, done, threads_left, continuations;
    unsigned looks; /* of the monitor */
    unsigned stuck; /* steps that waited for long */
    uint64_t polled, begun;
    uint64_t kept; /* how long threads have been without a processor */
    uint64_t gap;  /* the longest without polling */
    uint64_t late; /* the longest from a request's arrival to its step */
    uint64_t work; /* all that steps last */
} w;

static struct {
    uint64_t schedules, stalls, most_gap[KIND_COUNT], most_late[KIND_COUNT];
    double slowest; /* by how much SLEEP took longer than it must */
} sum;

static void sim_save(struct sim_fiber *f)
{
    f->own[0] = self;
    f->on_loop = fm_thread_on_loop;
}

static void sim_load(struct sim_fiber *f)
{
    self = f->own[0];
    fm_thread_on_loop = f->on_loop;
}

static void sim_explain(void)
{
    fprintf(stderr, "  %s: %.1f ms since it began; gap %.1f ms, late %.1f ms, all steps %.1f ms, budget %u\n",
            kinds[w.kind].name, (double)(sim.now - w.begun) / FM_MS, (double)w.gap / FM_MS, (double)w.late / FM_MS,
            (double)w.work / FM_MS, w.sched.budget);
}

/* ---- what the server is to the scheduler ---- */

static uint64_t sim_next_event(void)
{
    uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i < w.clients; i++)
        if (w.client[i].coming && w.client[i].arrives < next)
            next = w.client[i].arrives;
    return next;
}

static bool woken(const void *arg)
{
    (void)arg;
    return sim.eventfd[w.wake_fd] > 0 || sim_next_event() <= sim.now;
}

static void note_gap(void)
{
    uint64_t gap = sim.now - w.polled;
    w.gap = gap > w.gap ? gap : w.gap;
}

static void poll_events(void *ctx, bool block)
{
    note_gap();
    if (block) {
        atomic_store(&w.asleep, 1);
        if (!fm_sched_has_work(ctx))
            sim_wait_until(woken, NULL);
        atomic_store(&w.asleep, 0);
    }
    uint64_t wakes;
    (void)!eventfd_read(w.wake_fd, &wakes);
    for (unsigned i = 0; i < w.clients; i++) {
        struct job *j = &w.client[i];
        if (!j->coming || j->arrives > sim.now)
            continue;
        j->coming = false;
        fm_task_move(&j->task, FM_TASK_IDLE, FM_TASK_QUEUED);
        fm_sched_push(&w.sched, &j->task);
    }
    w.polled = sim.now;
}

static void wake(void *ctx)
{
    (void)ctx;
    if (atomic_load(&w.asleep) && atomic_exchange(&w.asleep, 0))
        fm_vital_wake(w.wake_fd);
}

static void take_gil(void *ctx, struct fm_thread *thread)
{
    (void)ctx, (void)thread;
    fm_mutex_lock(&w.gil);
}

static void drop_gil(void *ctx, struct fm_thread *thread)
{
    (void)ctx, (void)thread;
    fm_mutex_unlock(&w.gil);
}

static void sleep_for(uint64_t ns)
{
    drop_gil(NULL, NULL);
    sim_spend(SIM_SLEEPS, ns);
    take_gil(NULL, NULL);
}

/* Computing, in pieces between which others have the processor. */
static void compute_when_there_is_one(uint64_t ns)
{
    for (; ns > FM_MS / 20; ns /= 2) {
        uint64_t kept = sim_one_in(8) ? sim_random(20 * FM_MS) : 0;
        sim_spend(SIM_COMPUTES, ns / 2);
        sim_spend(SIM_HAS_NO_PROCESSOR, kept);
        w.kept += kept;
    }
    sim_spend(SIM_COMPUTES, ns);
}

static uint64_t length(void) { return kinds[w.kind].least + sim_random(kinds[w.kind].most - kinds[w.kind].least); }

static void send_next(struct job *j)
{
    if (w.left == 0)
        return;
    j->coming = true;
    w.left--;
    j->arrives = sim.now + sim_random(kinds[w.kind].thinks);
    j->lasts = length();
    w.work += j->lasts;
}

static void step(void *ctx, struct fm_thread *thread, struct fm_task *task)
{
    struct job *j = FM_LIST_ENTRY(task, struct job, task);
    (void)ctx;
    SIM_CHECK(fm_task_state(task) == FM_TASK_RUNNING);
    bool continues = task->begun;
    uint64_t late = sim.now - j->arrives;
    if (!continues)
        w.late = late > w.late ? late : w.late;
    task->begun = true;
    bool stuck = w.kind == STUCK && sim_one_in(20);
    w.stuck += stuck;
    if (w.kind == SLEEP || (continues && w.kind == CONTINUE_SLEEP))
        sleep_for(j->lasts);
    else if (w.kind == KEPT)
        compute_when_there_is_one(j->lasts);
    else if (stuck)
        sleep_for(LONG);
    else
        sim_spend(SIM_COMPUTES, continues || w.kind == COMPUTE || w.kind == STEADY ? j->lasts : FM_MS / 100);
    fm_thread_release(thread);
    fm_task_move(task, FM_TASK_RUNNING, FM_TASK_DONE);
    fm_task_reset(task);
    if (!continues)
        send_next(j);
    sim.changed = true;
    if (++w.done < kinds[w.kind].requests + w.continuations)
        return;
    if (fm_sched_is_inline(&w.sched, thread))
        note_gap(); /* it does not poll again */
    fm_sched_stop(&w.sched);
}

static bool flush(void *ctx, struct fm_task *task, uint64_t since)
{
    (void)ctx, (void)task, (void)since;
    return false;
}

static const struct fm_sched_ops ops = {poll_events, wake, take_gil, drop_gil, step, flush, NULL};

/* ---- the threads ---- */

static void thread_main(void *arg) FM_UNCHECKED
{
    fm_sched_run(&w.sched, (unsigned)(uintptr_t)arg);
    w.threads_left--;
    sim.changed = true;
}

static bool monitor_can_go_on(const void *arg)
{
    (void)arg;
    return sim.eventfd[w.sched.monitor_fd] > 0 || w.sched.stop;
}

static bool all_have_left(const void *arg)
{
    (void)arg;
    return w.threads_left == 0;
}

static void monitor_main(void *arg)
{
    (void)arg;
    while (!fm_sched_has_stopped(&w.sched)) {
        w.looks++;
        uint64_t pause = fm_monitor_tick(&w.monitor);
        sim_wait_until_or_at(monitor_can_go_on, NULL, pause == UINT64_MAX ? 0 : sim.now + pause);
        if (sim.eventfd[w.sched.monitor_fd] > 0)
            fm_monitor_woken(&w.monitor);
    }
    sim_wait_until(all_have_left, NULL);
}

/* A thread of the application: it completes the future of all continuations, or keeps the GIL, in the midst of it. */
static void application_main(void *arg) FM_UNCHECKED
{
    (void)arg;
    sim_spend(SIM_SLEEPS, FM_MS);
    if (w.kind == GIL_TAKEN) {
        take_gil(NULL, NULL);
        sim_spend(SIM_COMPUTES, LONG);
        drop_gil(NULL, NULL);
    }
    for (unsigned i = 0; i < w.continuations; i++) {
        struct job *j = &w.continuation[i];
        j->task.begun = true;
        j->arrives = sim.now;
        j->lasts = length();
        fm_task_move(&j->task, FM_TASK_IDLE, FM_TASK_QUEUED);
        fm_sched_push(&w.sched, &j->task);
    }
}

/* ---- a schedule ---- */

static void set_up(void)
{
    memset(&w, 0, sizeof w);
    sim.timed = true;
    w.kind = (enum kind)(sim.schedule % KIND_COUNT);
    w.left = kinds[w.kind].requests;
    w.continuations = w.kind == CONTINUE_COMPUTE || w.kind == CONTINUE_SLEEP ? CONTINUATIONS : 0;
    w.clients = kinds[w.kind].clients;
    fm_mutex_init(&w.gil);
    w.wake_fd = sim_eventfd();
    SIM_CHECK(fm_sched_init(&w.sched, POOL, &ops, &w.sched) == 0);
    fm_monitor_init(&w.monitor, &w.sched);
    w.threads_left = POOL + 1;
    for (unsigned i = 0; i < CONTINUATIONS; i++)
        fm_task_init(&w.continuation[i].task);
    w.begun = w.polled = sim.now;
    for (unsigned i = 0; i < w.clients; i++) {
        fm_task_init(&w.client[i].task);
        send_next(&w.client[i]);
    }
    static const char *const names[] = {"thread 0", "thread 1", "thread 2", "thread 3", "thread 4"};
    for (unsigned i = 0; i <= POOL; i++)
        sim_start(names[i], thread_main, (void *)(uintptr_t)i);
    sim_start("monitor", monitor_main, NULL);
    sim_start("application", application_main, NULL);
}

static uint64_t stalls(void)
{
    struct fm_counters_sum counters;
    fm_counters_read(&counters);
    return counters.cell[FM_C_STALLS];
}

static void judge(uint64_t stalls_before)
{
    uint64_t took = sim.now - w.begun, stalled = stalls() - stalls_before;
    /* A batch and a step of it; or until a step that does not come back is noticed. */
    static const uint64_t gaps[KIND_COUNT] = {
        [SLEEP] = 5 * FM_MS,      [COMPUTE] = 5 * FM_MS,          [KEPT] = 5 * FM_MS,
        [STUCK] = 5 * FM_MS,      [CONTINUE_COMPUTE] = 5 * FM_MS, [CONTINUE_SLEEP] = 5 * FM_MS,
        [GIL_TAKEN] = 13 * FM_MS, [STEADY] = 5 * FM_MS,           [SELDOM] = FM_MS};
    SIM_CHECK(w.gap <= gaps[w.kind] + w.kept);
    if (w.kind == SLEEP) {
        double ideal = (double)w.work / POOL;
        sum.slowest = (double)took / ideal > sum.slowest ? (double)took / ideal : sum.slowest;
        SIM_CHECK((double)took <= 1.6 * ideal);
    }
    if (w.kind == COMPUTE || w.kind == KEPT)
        SIM_CHECK(stalled == 0);
    if (w.kind == CONTINUE_COMPUTE || w.kind == CONTINUE_SLEEP)
        SIM_CHECK(w.late <= 25 * FM_MS);
    if (w.kind == STUCK)
        SIM_CHECK((stalled > 0) == (w.stuck > 0)); /* a few schedules have none */
    if (w.kind == STEADY)                          /* of 30 ms */
        SIM_CHECK(w.looks <= 8);
    if (w.kind == SELDOM) /* one a request, when its step could be late */
        SIM_CHECK(w.looks <= w.done + w.done / 4 + 2);
    if (w.gap > sum.most_gap[w.kind])
        sum.most_gap[w.kind] = w.gap;
    if (w.late > sum.most_late[w.kind])
        sum.most_late[w.kind] = w.late;
    sum.stalls += stalled;
    sum.schedules++;
}

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

int main(void)
{
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
    puts("late: not with the thread sanitizer, for which fibers are no threads");
    return 0;
#endif
#endif
    sim.seed = setting("FM_SIM_SEED", (uint64_t)time(NULL));
    uint64_t first = setting("FM_SIM_FIRST", 0), n = setting("FM_SIM_SCHEDULES", 800);
    printf("late: %llu schedules, FM_SIM_SEED=%llu\n", (unsigned long long)n, (unsigned long long)sim.seed);
    fflush(stdout);
    for (uint64_t i = first; i < first + n; i++) {
        uint64_t before = stalls();
        sim_begin(i);
        set_up();
        sim_run();
        judge(before);
        fm_sched_fini(&w.sched);
    }
    printf("%llu stalls; steps that sleep took at most %.2f of what they must; %llu points a schedule\n",
           (unsigned long long)sum.stalls, sum.slowest, (unsigned long long)(sim.total_steps / sum.schedules));
    for (unsigned i = 0; i < KIND_COUNT; i++)
        printf("  %-17s polled after at most %5.2f ms, a new request begun after %6.2f ms\n", kinds[i].name,
               (double)sum.most_gap[i] / FM_MS, (double)sum.most_late[i] / FM_MS);
    for (unsigned i = 0; i < SIM_FIBERS; i++)
        free(sim.fiber[i].stack);
    return 0;
}

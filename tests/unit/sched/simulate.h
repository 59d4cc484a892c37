/* Threads under a controlled interleaving: fibers of one thread, of which a seeded generator says which goes on.
 *
 * A .c file of the product is compiled into the test after this header: its mutexes, condition variables, eventfds,
 * clock and sequentially consistent atomics become calls of the functions here, each a point where another fiber may go
 * on.  What the compiler and the processor may reorder is not tried: every step is sequentially consistent, which is
 * what the product asks of the operations that this replaces; relaxed ones (counters, hints) are left as they are.
 *
 * When no fiber can go on though some have not ended, a wake-up was lost: the schedule fails, and says how to repeat
 * it.  Signals of a condition variable wake any of its waiters; waits end without a signal now and then, and weak
 * exchanges fail without a reason, as both may.
 *
 * Time is part of it.  Where a test wants to know that a fiber is lost, any amount passes at any moment.  Where it
 * wants to know that a fiber is late (sim.timed), time stands still while a fiber can go on, apart from a microsecond
 * each time that the clock is read, and then goes on to the next moment that a fiber or a timer waits for: each has a
 * processor of its own.  A fiber sleeps, computes, or is kept from its processor for a while (sim_spend), which its
 * thread's clock and its state tell the product. */
#ifndef FERMATA_TESTS_SIMULATE_H
#define FERMATA_TESTS_SIMULATE_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <ucontext.h>
#include <unistd.h>

/* Before any header of the product, for the sake of its inline functions. */
static int sim_mutex_init(void *mutex), sim_mutex_lock(void *mutex), sim_mutex_unlock(void *mutex);
static int sim_cond_init(void *cond), sim_cond_wait(void *cond, void *mutex);
static int sim_cond_signal(const void *cond), sim_cond_broadcast(const void *cond);
#define pthread_mutex_init(m, a) sim_mutex_init(m)
#define pthread_mutex_destroy(m) ((void)(m))
#define pthread_mutex_lock(m) sim_mutex_lock(m)
#define pthread_mutex_unlock(m) sim_mutex_unlock(m)
#define pthread_cond_init(c, a) sim_cond_init(c)
#define pthread_cond_destroy(c) ((void)(c))
#define pthread_cond_wait(c, m) sim_cond_wait(c, m)
#define pthread_cond_timedwait(c, m, t) ((void)(t), sim_cond_wait(c, m))
#define pthread_cond_signal(c) sim_cond_signal(c)
#define pthread_cond_broadcast(c) sim_cond_broadcast(c)

#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/fds.h"
#include "fermata/util/thread_time.h"
#include "fermata/util/vital.h"

/* The change of fibers.  ucontext's costs a system call, 7 of 10 instructions of a run. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
typedef void *sim_context;
__attribute__((naked, noinline, used)) static void sim_jump(sim_context *from __attribute__((unused)),
                                                            sim_context *to __attribute__((unused)))
{
    __asm__("push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n mov %rsp, (%rdi)\n"
            "mov (%rsi), %rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret");
}
static void sim_prepare(sim_context *c, char *stack, size_t size, void (*entry)(void))
{
    void **top = (void **)(stack + size - 24); /* as after a call: 8 beside a multiple of 16 */
    top[0] = NULL;
    top[-1] = (void *)entry;
    *c = top - 7; /* and six registers */
}
#else
typedef ucontext_t sim_context;
static void sim_jump(sim_context *from, sim_context *to) { swapcontext(from, to); }
static void sim_prepare(sim_context *c, char *stack, size_t size, void (*entry)(void))
{
    getcontext(c);
    c->uc_stack.ss_sp = stack;
    c->uc_stack.ss_size = size;
    c->uc_link = NULL;
    makecontext(c, entry, 0);
}
#endif

enum { SIM_FIBERS = 12, SIM_EVENTFDS = 4, SIM_STACK = 256 * 1024, SIM_STEPS = 400000, SIM_FREED = 8 };

enum sim_spending { SIM_SLEEPS, SIM_COMPUTES, SIM_HAS_NO_PROCESSOR };

struct sim_fiber {
    const char *name;
    void (*body)(void *);
    void *arg;
    sim_context context;
    char *stack;
    bool ended;
    const void *waits_for;          /* a mutex or a condition variable; or NULL */
    bool (*until)(const void *arg); /* or for this to hold */
    const void *until_arg;
    uint64_t wakes_at; /* or, if it is not 0, for this time; whichever comes first */
    uint64_t used, delayed, spends_since;
    enum sim_spending spends;
    int64_t priority;
    void *own[2]; /* the product's thread-locals, put aside */
    int on_loop;
};

struct sim_freed {
    char *at;
    size_t size;
};

static struct {
    struct sim_freed freed[SIM_FREED];
    unsigned nfreed;
    struct sim_fiber fiber[SIM_FIBERS];
    unsigned count, current;
    sim_context home;
    uint64_t seed, schedule, random, now, steps, total_steps;
    int64_t lowest;     /* priority so far */
    unsigned switch_in; /* a random walk changes fibers at one in so many points; 0: by priorities */
    unsigned change_at[4];
    bool changed; /* since the last choice: another fiber may be able to go on */
    uint64_t eventfd[SIM_EVENTFDS];
    uint64_t timer[SIM_EVENTFDS]; /* when it expires; 0: it is not set */
    unsigned eventfds;
    bool timed;
} sim;

static void sim_save(struct sim_fiber *f); /* of the test: the thread-locals */
static void sim_load(struct sim_fiber *f);
static void sim_explain(void);        /* of the test: what it was about */
static uint64_t sim_next_event(void); /* of the test: when something comes from outside; UINT64_MAX: nothing does */

static uint64_t sim_random(uint64_t below)
{
    sim.random ^= sim.random << 13;
    sim.random ^= sim.random >> 7;
    sim.random ^= sim.random << 17;
    return (sim.random >> 11) % below;
}

static bool sim_one_in(unsigned n) { return sim_random(n) == 0; }

#define SIM_CHECK(condition)                                                                                           \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            sim_fail(#condition, __FILE__, __LINE__);                                                                  \
    } while (0)

static void __attribute__((noreturn)) sim_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: %s does not hold, in fiber %s after %llu points\n", file, line, what,
            sim.fiber[sim.current].name, (unsigned long long)sim.steps);
    fprintf(stderr, "repeat it with FM_SIM_SEED=%llu FM_SIM_FIRST=%llu FM_SIM_SCHEDULES=1\n",
            (unsigned long long)sim.seed, (unsigned long long)sim.schedule);
    for (unsigned i = 0; i < sim.count; i++) {
        struct sim_fiber *f = &sim.fiber[i];
        fprintf(stderr, "  %-10s %s\n", f->name,
                f->ended       ? "ended"
                : f->waits_for ? "waits"
                : f->until     ? "idle"
                               : "can go on");
    }
    sim_explain();
    _exit(1);
}

static bool sim_can_go_on(struct sim_fiber *f)
{
    if (f->ended || f->waits_for)
        return false;
    if (!f->until && !f->wakes_at)
        return true;
    bool may = (f->wakes_at && f->wakes_at <= sim.now) || (f->until && f->until(f->until_arg));
    if (may) {
        f->until = NULL;
        f->wakes_at = 0;
    }
    return may;
}

/* No fiber can go on: time does, to the next moment that one waits for.  False if there is none. */
static bool sim_pass_time(void)
{
    uint64_t next = sim_next_event();
    if (next <= sim.now)
        next = UINT64_MAX; /* it has come, and no fiber looks */
    for (unsigned i = 0; i < sim.count; i++)
        if (!sim.fiber[i].ended && !sim.fiber[i].waits_for && sim.fiber[i].wakes_at && sim.fiber[i].wakes_at < next)
            next = sim.fiber[i].wakes_at;
    for (unsigned i = 0; i < SIM_EVENTFDS; i++)
        if (sim.timer[i] > sim.now && sim.timer[i] < next)
            next = sim.timer[i];
    if (!sim.timed || next == UINT64_MAX)
        return false;
    sim.now = next;
    return true;
}

static void sim_expire_timers(void)
{
    for (unsigned i = 0; i < SIM_EVENTFDS; i++)
        if (sim.timer[i] && (!sim.timed || sim.timer[i] <= sim.now)) {
            sim.timer[i] = 0;
            sim.eventfd[i]++;
        }
}

static int sim_choose(void)
{
    unsigned able[SIM_FIBERS], n = 0;
    sim.changed = false;
    do {
        sim_expire_timers();
        for (unsigned i = 0; i < sim.count; i++)
            if (sim_can_go_on(&sim.fiber[i]))
                able[n++] = i;
    } while (n == 0 && sim_pass_time());
    if (n == 0)
        return -1;
    if (sim.switch_in > 0)
        return (int)able[sim_random(n)];
    unsigned best = able[0];
    for (unsigned i = 1; i < n; i++)
        if (sim.fiber[able[i]].priority > sim.fiber[best].priority)
            best = able[i];
    return (int)best;
}

/* Goes on with the fiber whose turn it is. */
static void sim_switch(void)
{
    unsigned from = sim.current;
    int to = sim_choose();
    if (to < 0) {
        for (unsigned i = 0; i < sim.count; i++)
            if (!sim.fiber[i].ended)
                sim_fail("a fiber can go on", __FILE__, __LINE__);
    }
    if (to == (int)from)
        return;
    sim_save(&sim.fiber[from]);
    if (to < 0) {
        sim_jump(&sim.fiber[from].context, &sim.home);
        return;
    }
    sim.current = (unsigned)to;
    sim_load(&sim.fiber[to]);
    sim_jump(&sim.fiber[from].context, &sim.fiber[to].context);
}

/* A point where another thread may go on. */
static void sim_point(void)
{
    if (++sim.steps > SIM_STEPS)
        sim_fail("this ends", __FILE__, __LINE__);
    if (sim.switch_in > 0) {
        if (sim_one_in(sim.switch_in))
            sim_switch();
        return;
    }
    for (unsigned i = 0; i < sizeof sim.change_at / sizeof *sim.change_at; i++)
        if (sim.steps == sim.change_at[i]) {
            sim.fiber[sim.current].priority = --sim.lowest;
            sim.changed = true;
        }
    if (sim.changed) /* else the one with the highest priority is the same as before */
        sim_switch();
}

/* A point that waits for others to do something: the calling fiber is the last to be chosen. */
static void sim_yield(void)
{
    if (!sim.timed)
        sim.now += sim_random(FM_MS);
    sim.fiber[sim.current].priority = --sim.lowest;
    sim.changed = true;
    sim_point();
    if (sim.switch_in > 0)
        sim_switch();
}

static void sim_wait_until(bool (*until)(const void *), const void *arg)
{
    struct sim_fiber *f = &sim.fiber[sim.current];
    f->until = until;
    f->until_arg = arg;
    sim_switch();
}

/* The same, but not for longer than until `at`. */
static void __attribute__((unused)) sim_wait_until_or_at(bool (*until)(const void *), const void *arg, uint64_t at)
{
    sim.fiber[sim.current].wakes_at = at;
    sim_wait_until(until, arg);
}

/* The calling fiber is at something for so many nanoseconds. */
static void __attribute__((unused)) sim_spend(enum sim_spending how, uint64_t ns)
{
    struct sim_fiber *f = &sim.fiber[sim.current];
    f->spends = how;
    f->spends_since = sim.now;
    f->wakes_at = sim.now + ns;
    sim_switch();
    uint64_t took = sim.now - f->spends_since;
    f->used += how == SIM_COMPUTES ? took : 0;
    f->delayed += how == SIM_HAS_NO_PROCESSOR ? took : 0;
    f->spends = SIM_SLEEPS;
}

/* ---- memory ---- */

/* Frees it for the product; it is kept until the schedule ends, so that a fiber that touches it is caught. */
static void __attribute__((unused)) sim_free(void *memory, size_t size)
{
    SIM_CHECK(sim.nfreed < SIM_FREED);
    memset(memory, 0xdd, size);
    sim.freed[sim.nfreed++] = (struct sim_freed){memory, size};
}

static void sim_touch(const volatile void *p)
{
    for (unsigned i = 0; i < sim.nfreed; i++)
        if ((char *)(uintptr_t)p >= sim.freed[i].at && (char *)(uintptr_t)p < sim.freed[i].at + sim.freed[i].size)
            sim_fail("memory is not used after it is freed", __FILE__, __LINE__);
}

/* ---- what the product uses ---- */

struct sim_mutex {
    unsigned owner; /* number of the fiber + 1 */
};
_Static_assert(sizeof(struct sim_mutex) <= sizeof(pthread_mutex_t), "it takes the place of one");

static int sim_mutex_init(void *m)
{
    memset(m, 0, sizeof(struct sim_mutex));
    return 0;
}

static int sim_mutex_lock(void *mutex)
{
    struct sim_mutex *m = mutex;
    sim_point();
    sim_touch(m);
    SIM_CHECK(m->owner != sim.current + 1);
    while (m->owner) {
        sim.fiber[sim.current].waits_for = m;
        sim_switch();
    }
    m->owner = sim.current + 1;
    return 0;
}

static void sim_wake_all(const void *what)
{
    for (unsigned i = 0; i < sim.count; i++)
        if (sim.fiber[i].waits_for == what) {
            sim.fiber[i].waits_for = NULL;
            sim.changed = true;
        }
}

static int sim_mutex_unlock(void *mutex)
{
    struct sim_mutex *m = mutex;
    SIM_CHECK(m->owner == sim.current + 1);
    m->owner = 0;
    sim_wake_all(m);
    sim_point();
    return 0;
}

static int sim_cond_init(void *c)
{
    (void)c;
    return 0;
}

static int sim_cond_wait(void *c, void *mutex)
{
    struct sim_mutex *m = mutex;
    SIM_CHECK(m->owner == sim.current + 1);
    m->owner = 0;
    sim_wake_all(m);
    if (!sim_one_in(64))
        sim.fiber[sim.current].waits_for = c;
    sim_switch();
    return sim_mutex_lock(m);
}

static int sim_cond_signal(const void *c)
{
    unsigned waiting[SIM_FIBERS], n = 0;
    for (unsigned i = 0; i < sim.count; i++)
        if (sim.fiber[i].waits_for == c)
            waiting[n++] = i;
    if (n > 0)
        sim.fiber[waiting[sim_random(n)]].waits_for = NULL;
    sim.changed = true;
    return 0;
}

static int __attribute__((unused)) sim_cond_broadcast(const void *c)
{
    sim_wake_all(c);
    return 0;
}

static int sim_eventfd(void) { return (int)sim.eventfds++ % SIM_EVENTFDS; }

static void sim_eventfd_write(int fd)
{
    sim_point();
    sim.eventfd[fd]++;
    sim.changed = true;
}

static int sim_eventfd_read(int fd, uint64_t *n)
{
    sim_point();
    *n = sim.eventfd[fd];
    sim.eventfd[fd] = 0;
    return *n ? 0 : -1;
}

/* A timerfd, which shares its numbers with the eventfds. */
static int sim_timer_set(int fd, uint64_t ns)
{
    sim_point();
    sim.timer[fd] = sim.now + ns;
    sim.changed = true;
    return 0;
}

static uint64_t sim_clock(void)
{
    uint64_t ns = 1 + sim_random(sim.timed ? FM_MS / 1000 : FM_MS / 100);
    sim.fiber[sim.current].used += ns;
    return sim.now += ns;
}

/* What the kernel says of a fiber, whose thread id is its number + 1. */
static uint64_t sim_thread_used(int tid)
{
    const struct sim_fiber *f = &sim.fiber[tid - 1];
    return f->used + 1 + (f->spends == SIM_COMPUTES ? sim.now - f->spends_since : 0);
}

static uint64_t sim_thread_delayed(int tid) { return sim.fiber[tid - 1].delayed; }

static enum fm_tid_state sim_thread_state(int tid)
{
    struct sim_fiber *f = &sim.fiber[tid - 1];
    bool waits = f->waits_for || f->until || (f->wakes_at && f->spends == SIM_SLEEPS);
    return !sim.timed || waits ? FM_TID_BLOCKED : FM_TID_RUNNABLE;
}

#undef atomic_load
#undef atomic_store
#undef atomic_exchange
#undef atomic_fetch_add
#undef atomic_fetch_sub
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_weak
#define atomic_load(p) (sim_point(), sim_touch(p), atomic_load_explicit(p, memory_order_seq_cst))
#define atomic_store(p, v) (sim_point(), sim_touch(p), atomic_store_explicit(p, v, memory_order_seq_cst))
#define atomic_exchange(p, v) (sim_point(), sim_touch(p), atomic_exchange_explicit(p, v, memory_order_seq_cst))
#define atomic_compare_exchange_strong(p, e, v)                                                                        \
    (sim_point(), sim_touch(p),                                                                                        \
     atomic_compare_exchange_strong_explicit(p, e, v, memory_order_seq_cst, memory_order_seq_cst))
#define atomic_compare_exchange_weak(p, e, v)                                                                          \
    (sim_one_in(32) ? (*(e) = atomic_load(p), false) : atomic_compare_exchange_strong(p, e, v))

#define eventfd(n, flags) sim_eventfd()
#define fm_vital_wake(fd) sim_eventfd_write(fd)
#define fm_vital_check_wake(fd) ((void)(fd))
#define timerfd_create(clock, flags) sim_eventfd()
#define timerfd_settime(fd, flags, to, was) sim_timer_set(fd, (uint64_t)(to)->it_value.tv_nsec)
#define syscall(number) ((long)sim.current + 1) /* gettid */
#define fm_tid_used(tid) sim_thread_used(tid)
#define fm_tid_delayed(tid) sim_thread_delayed(tid)
#define fm_tid_state(tid) sim_thread_state(tid)
#define fm_fds_own(fd) ((void)(fd))
#define fm_fds_close(fd) ((void)(fd))
#define eventfd_read(fd, n) sim_eventfd_read(fd, n)
#define sched_yield() sim_yield()
#define fm_now() sim_clock()

/* ---- running ---- */

static void sim_start(const char *name, void (*body)(void *), void *arg)
{
    SIM_CHECK(sim.count < SIM_FIBERS);
    struct sim_fiber *f = &sim.fiber[sim.count++];
    f->name = name;
    f->body = body;
    f->arg = arg;
    f->priority = (int64_t)sim_random(1000);
}

/* Fibers are used again for the next schedule: they never return. */
static void sim_fiber_main(void)
{
    for (;;) {
        struct sim_fiber *f = &sim.fiber[sim.current];
        f->body(f->arg);
        f->ended = true;
        sim_switch();
    }
}

/* The next schedule: no fibers yet. */
static void sim_begin(uint64_t schedule)
{
    sim.schedule = schedule;
    sim.random = (sim.seed + schedule) * 0x9e3779b97f4a7c15u | 1;
    for (int i = 0; i < 4; i++)
        sim_random(2);
    static const unsigned walks[] = {0, 0, 2, 4, 16};
    sim.switch_in = walks[sim_random(sizeof walks / sizeof *walks)];
    for (unsigned i = 0; i < sizeof sim.change_at / sizeof *sim.change_at; i++)
        sim.change_at[i] = 1 + (unsigned)sim_random(sim_one_in(2) ? 60 : 600);
    sim.count = sim.current = 0;
    sim.eventfds = 0;
    while (sim.nfreed > 0)
        free(sim.freed[--sim.nfreed].at);
    sim.steps = 0;
    sim.lowest = 0;
    sim.now = FM_SEC;
    memset(sim.eventfd, 0, sizeof sim.eventfd);
    memset(sim.timer, 0, sizeof sim.timer);
}

/* Runs the fibers that were started until all have ended. */
static void sim_run(void)
{
    for (struct sim_fiber *f = sim.fiber; f < sim.fiber + sim.count; f++) {
        f->ended = false;
        f->waits_for = NULL;
        f->until = NULL;
        f->wakes_at = f->used = f->delayed = 0;
        f->spends = SIM_SLEEPS;
        f->own[0] = f->own[1] = NULL;
        f->on_loop = 0;
        if (!f->stack) {
            f->stack = malloc(SIM_STACK);
            sim_prepare(&f->context, f->stack, SIM_STACK, sim_fiber_main);
        }
    }
    sim.current = (unsigned)sim_choose();
    sim_load(&sim.fiber[sim.current]);
    sim_jump(&sim.home, &sim.fiber[sim.current].context);
    sim.total_steps += sim.steps;
}

#endif

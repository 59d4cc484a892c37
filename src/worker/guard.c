/* The guard; see worker/guard.h. */
#include "fermata/worker/guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "fermata/server/access.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/worker/drain.h"
#include "fermata/worker/notify.h"
#include "fermata/worker/signals.h"
#include "fermata/wsgi/stacks.h"

#define STACK (256 * 1024)
#define START_TIME (2 * FM_SEC) /* for the import of an application to be interrupted */
#define LOOK (100 * FM_MS)      /* between looks at whose the signals are, while it is STARTING */
#define AFTER (50 * FM_MS)      /* the main thread comes first */

enum stage { STARTING, SERVING, ENDING, OVER };

static struct {
    pthread_t thread;
    bool started; /* the main thread's */
    struct fm_worker *worker;
    struct fm_mutex lock; /* guards what follows; held while signals are taken, for which nothing waits */
    enum stage stage;
    unsigned told; /* signals that have told it to end while it was STARTING */
    uint64_t deadline;
    enum fm_left what;
    int code;
} guard = {.lock = FM_MUTEX_INIT, .deadline = UINT64_MAX};

/* ---- signals ---- */

static void take_end(int number)
{
    if (guard.stage == SERVING) {
        uint64_t end = fm_drain_ask(guard.worker, number == SIGQUIT  ? FM_DRAIN_QUICKLY
                                                  : number == SIGINT ? FM_DRAIN_NOW
                                                                     : FM_DRAIN_POLITELY);
        guard.deadline = end - FM_END_LEAVE + AFTER;
        guard.what = FM_LEFT_LOOP;
        guard.code = FM_EXIT_OTHER;
    } else if (guard.stage == STARTING && guard.told == 0) {
        fm_info("%s: told to end while starting", number == SIGTERM  ? "SIGTERM"
                                                  : number == SIGINT ? "SIGINT"
                                                                     : "SIGQUIT");
        guard.deadline = fm_now() + START_TIME - FM_END_LEAVE;
        guard.what = FM_LEFT_IMPORT;
        guard.code = FM_EXIT_OK;
        fm_notify_stopping(START_TIME + FM_END_PYTHON);
    }
    guard.told |= FM_SIGNAL(number);
}

static void take_reopen(int number)
{
    (void)number;
    fm_log_reopen();
    if (guard.worker->service.access && guard.stage != ENDING)
        fm_access_log_reopen(guard.worker->service.access);
    fm_info("SIGUSR1: the log files are opened anew");
}

static void take_nothing(int number)
{
    static struct fm_ratelimit places[32];
    static const struct {
        int number;
        const char *name;
    } names[] = {
        {SIGHUP, "SIGHUP"}, {SIGUSR2, "SIGUSR2"}, {SIGTTIN, "SIGTTIN"}, {SIGTTOU, "SIGTTOU"}, {SIGWINCH, "SIGWINCH"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number)
            fm_log_ratelimited(&places[i], FM_LOG_INFO, "%s: there is nothing to do for it", names[i].name);
}

/* The loop cannot say it, which is what is asked about, and no thread of Python need be able to. */
static void take_stacks(int number)
{
    (void)number;
    if (guard.stage == SERVING)
        fm_stacks_log("The event loop does not turn");
}

static const struct {
    int number;
    void (*take)(int number);
} actions[] = {
    {SIGTERM, take_end},      {SIGINT, take_end},
    {SIGQUIT, take_end},      {SIGUSR1, take_reopen},
    {SIGHUP, take_nothing},   {SIGUSR2, take_nothing},
    {SIGTTIN, take_nothing},  {SIGTTOU, take_nothing},
    {SIGWINCH, take_nothing}, {FM_SIGNAL_STACKS, take_stacks},
};

/* ---- the thread ---- */

/* True: the deadline has passed, for want of *what. */
static bool take(unsigned noted, enum fm_left *what, int *code)
{
    fm_mutex_lock(&guard.lock);
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (noted & FM_SIGNAL(actions[i].number))
            actions[i].take(actions[i].number);
    bool late = guard.stage != OVER && fm_now() >= guard.deadline;
    *what = guard.what;
    *code = guard.code;
    fm_mutex_unlock(&guard.lock);
    return late;
}

static bool look(uint64_t *until)
{
    fm_mutex_lock(&guard.lock);
    bool over = guard.stage == OVER;
    *until = guard.deadline;
    if (guard.stage == STARTING) {
        uint64_t next = fm_now() + LOOK;
        *until = next < *until ? next : *until;
        fm_signals_take_back();
    }
    fm_mutex_unlock(&guard.lock);
    return !over;
}

static void *guard_main(void *arg)
{
    uint64_t until;
    enum fm_left what;
    int code;
    pthread_setname_np(pthread_self(), "fermata-guard");
    fm_signals_take_here();
    while (look(&until))
        if (take(fm_signals_wait(until), &what, &code))
            fm_end_leave(guard.worker, what, code);
    return arg;
}

int fm_guard_start(struct fm_worker *w)
{
    pthread_attr_t attr;
    guard.worker = w;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK);
    int err = pthread_create(&guard.thread, &attr, guard_main, NULL);
    pthread_attr_destroy(&attr);
    guard.started = err == 0;
    if (guard.started)
        fm_signals_hold();
    if (guard.started && w->handed.any)
        fm_signals_stacks();
    return -err;
}

/* ---- from the main thread ---- */

void fm_guard_serve(void)
{
    fm_mutex_lock(&guard.lock);
    guard.stage = SERVING;
    guard.deadline = UINT64_MAX;
    fm_signals_again(
        true); /* this thread does not take them back from now on: they do not interrupt system calls any more */
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (guard.told & FM_SIGNAL(actions[i].number))
            take_end(actions[i].number);
    fm_mutex_unlock(&guard.lock);
    fm_signals_poke();
}

uint64_t fm_guard_end(void)
{
    uint64_t now = fm_now(), end = now + FM_END_TIME - FM_END_LEAVE;
    enum fm_left what;
    int code;
    take(fm_signals_taken(), &what, &code); /* the thread may not have come to it */
    fm_mutex_lock(&guard.lock);
    if (guard.stage == SERVING && guard.deadline - AFTER < end)
        end = guard.deadline - AFTER;
    guard.stage = ENDING;
    fm_mutex_unlock(&guard.lock);
    fm_guard_deadline(end + AFTER, FM_LEFT_STEPS, FM_EXIT_OTHER);
    return end;
}

void fm_guard_deadline(uint64_t until, enum fm_left what, int code)
{
    fm_mutex_lock(&guard.lock);
    guard.deadline = until;
    guard.what = what;
    guard.code = code;
    fm_mutex_unlock(&guard.lock);
    fm_signals_poke();
}

void fm_guard_stop(void)
{
    if (!guard.started)
        return;
    guard.started = false;
    fm_mutex_lock(&guard.lock);
    guard.stage = OVER;
    fm_mutex_unlock(&guard.lock);
    fm_signals_poke();
    pthread_join(guard.thread, NULL);
}

/* Stacks of the steps that run; see wsgi/steps.h.
 *
 * Two threads at most: one that waits, bounded, and asks by signals; and one that waits for the GIL, which may take for
 * ever, and of which there is never a second one.  What they have in common is guarded by the lock.
 *
 * faulthandler's handler is registered, and called by one of our own: which tells the thread that is asked from one
 * that was asked before and answers late, and says when the answer is complete. */
#include "fermata/py/python.h"

#include "fermata/wsgi/steps.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fermata/util/bell.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/helper.h"
#include "fermata/wsgi/frames.h"
#include "fermata/wsgi/report.h"

#define NUMBER (SIGRTMAX - 2) /* those behind it are wsgi/stacks.h's and the arbiter's */
#define PATIENCE FM_SEC       /* with Python */
#define A_THREAD (FM_SEC / 2) /* for the answer of one */
#define ALL (2 * FM_SEC)      /* for those of all */
#define MOST 65536            /* bytes of an answer */

static struct fm_mutex lock = FM_MUTEX_INIT; /* guards what follows */
static pthread_cond_t changed;               /* by the monotonic clock */
static struct {
    bool under_way, stopped;
    unsigned telling;     /* threads that are calling done */
    bool python_is_asked; /* and has not answered */
    uint64_t asked_at;    /* when that was */
    struct fm_sched *sched;
    void (*done)(void *ctx, struct fm_stacks *stacks);
    void *ctx;
    struct fm_stacks *answer; /* Python's */
} asking;

/* Set before there are threads, and not changed until there are none. */
static int memory_fd = -1;
static void (*dump)(int number); /* faulthandler's handler */

/* ---- the threads, one by one ---- */

static atomic_int wanted;    /* the kernel's id of the thread that is to answer; 0: none; -1: it is at it */
static struct fm_bell heard; /* rung when it has answered */
static bool in_vain;         /* a signal may be pending for a thread; the asking thread's */

/* In a thread that was asked now, or, if it had blocked the signal, some time ago. */
static void on_asked(int number)
{
    int saved = errno, tid = (int)syscall(SYS_gettid);
    if (atomic_compare_exchange_strong(&wanted, &tid, -1)) {
        dump(number);
        atomic_store(&wanted, 0);
        fm_bell_ring(&heard);
    }
    errno = saved;
}

/* Has the application taken the signal? */
static bool is_ours(void)
{
    struct sigaction action;
    return dump && sigaction(NUMBER, NULL, &action) == 0 && action.sa_handler == on_asked;
}

static bool is_stopped(void)
{
    fm_mutex_lock(&lock);
    bool is = asking.stopped;
    fm_mutex_unlock(&lock);
    return is;
}

/* Until the thread has answered: true, or `until`; after that one that has begun to answer is waited for. */
static bool wait_for(int tid, uint64_t until)
{
    for (int state; (state = atomic_load(&wanted)) != 0;) {
        bool late = fm_now() >= until || is_stopped();
        if (state == tid && late && atomic_compare_exchange_strong(&wanted, &state, 0))
            return false;
        if (late && fm_now() >= until + FM_SEC)
            return false; /* and wanted stays -1: no other is asked, for it may write at any moment */
        fm_bell_wait(&heard, late ? fm_now() + 10 * FM_MS : until);
    }
    return true;
}

static void ask_thread(struct fm_stack *to, int tid, uint64_t until)
{
    static char text[MOST]; /* one at a time */
    uint64_t soon = fm_now() + A_THREAD;
    if (atomic_load(&wanted) != 0) {
        to->why = "not asked, as another thread has not ended its answer";
        return;
    }
    if (ftruncate(memory_fd, 0) != 0 || lseek(memory_fd, 0, SEEK_SET) != 0) {
        to->why = "there is no file for it any more";
        return;
    }
    atomic_store(&wanted, tid);
    if (syscall(SYS_tgkill, getpid(), tid, NUMBER) != 0) {
        atomic_store(&wanted, 0);
        to->why = "the thread has ended";
        return;
    }
    if (!wait_for(tid, soon < until ? soon : until)) {
        in_vain = true;
        to->why = "the thread has not answered: it blocks the signal, or the kernel does not let it go on";
        return;
    }
    ssize_t n = pread(memory_fd, text, sizeof text, 0);
    fm_stack_take(to, text, n > 0 ? (size_t)n : 0);
}

static void add(struct fm_stacks *s, const struct fm_sched_step *step)
{
    s->all[s->n++] = (struct fm_stack){.thread = step->thread, .since = step->since, .text = FM_BUF_INIT};
}

static struct fm_stacks *ask_threads(struct fm_sched *sched)
{
    struct fm_sched_step steps[FM_STACKS_MOST];
    unsigned n = fm_sched_steps(sched, steps, FM_STACKS_MOST);
    struct fm_stacks *s = fm_stacks_new();
    if (!s)
        return NULL;
    s->alone = true;
    s->at = fm_now();
    for (unsigned i = 0; i < n; i++) {
        struct fm_stack *to = &s->all[i];
        add(s, &steps[i]);
        if (!is_ours())
            to->why = "Python does not answer, and the signal by which the thread would be asked is used by others";
        else if (!fm_sched_is_in(sched, &steps[i]))
            to->why = "its step is over";
        else
            ask_thread(to, steps[i].tid, s->at + ALL);
        if (!to->why && !fm_sched_is_in(sched, &steps[i]))
            to->why = "its step is over";
        if (!to->why && fm_buf_size(&to->text) == 0)
            to->why = "no Python code runs there";
    }
    return s;
}

/* ---- Python ---- */

#ifndef Py_GIL_DISABLED

/* While the GIL is held no step goes on in Python, so that steps and frames are of one moment. */
static struct fm_stacks *look(struct fm_sched *sched) FM_NEEDS_GIL
{
    struct fm_sched_step steps[FM_STACKS_MOST];
    unsigned n = fm_sched_steps(sched, steps, FM_STACKS_MOST);
    struct fm_stacks *s = fm_stacks_new();
    if (!s)
        return NULL;
    s->at = fm_now();
    for (unsigned i = 0; i < n; i++) {
        add(s, &steps[i]);
        fm_frames_put(&s->all[i], steps[i].ident);
        if (!fm_sched_is_in(sched, &steps[i]))
            s->all[i].why = "its step is over";
        else if (fm_buf_size(&s->all[i].text) == 0)
            s->all[i].why = "no Python code runs there";
    }
    return s;
}

static void *python_main(void *arg) FM_UNCHECKED
{
    pthread_setname_np(pthread_self(), "fermata-stacks");
    PyGILState_STATE state = PyGILState_Ensure();
    fm_mutex_lock(&lock);
    struct fm_sched *sched = asking.sched;
    fm_mutex_unlock(&lock);
    struct fm_stacks *answer = look(sched);
    PyGILState_Release(state);
    fm_mutex_lock(&lock);
    fm_stacks_free(asking.answer);
    asking.answer = answer;
    asking.python_is_asked = false;
    pthread_cond_broadcast(&changed);
    fm_mutex_unlock(&lock);
    fm_report_leave();
    return arg;
}

/* Has it asked, unless it is being asked still. */
static void have_python_asked(void)
{
    bool may = fm_report_enter();
    fm_mutex_lock(&lock);
    bool begin = may && !asking.python_is_asked;
    if (begin) {
        asking.python_is_asked = true;
        asking.asked_at = fm_now();
    }
    fm_mutex_unlock(&lock);
    if (begin && fm_helper_start(python_main, NULL, 0) == 0)
        return;
    if (may)
        fm_report_leave();
    if (begin) {
        fm_mutex_lock(&lock);
        asking.python_is_asked = false;
        fm_mutex_unlock(&lock);
    }
}

/* NULL if it has not answered in time.  One that was asked before, and then gave no answer, has had its time. */
static struct fm_stacks *ask_python(void)
{
    fm_mutex_lock(&lock);
    fm_stacks_free(asking.answer); /* one that came late, and is of another time */
    asking.answer = NULL;
    fm_mutex_unlock(&lock);
    have_python_asked();
    fm_mutex_lock(&lock);
    uint64_t end = asking.asked_at + PATIENCE;
    struct timespec until = {(time_t)(end / FM_SEC), (long)(end % FM_SEC)};
    while (!asking.answer && asking.python_is_asked && !asking.stopped &&
           pthread_cond_timedwait(&changed, &lock.m, &until) != ETIMEDOUT)
        ;
    struct fm_stacks *answer = asking.answer;
    asking.answer = NULL;
    fm_mutex_unlock(&lock);
    return answer;
}

#else

/* No GIL would keep the threads from going on while their frames are looked at. */
static struct fm_stacks *ask_python(void) { return NULL; }

#endif

/* ---- asking ---- */

static void *asking_main(void *arg) FM_UNCHECKED
{
    pthread_setname_np(pthread_self(), "fermata-asks");
    struct fm_stacks *s = ask_python();
    if (!s)
        s = ask_threads(asking.sched);
    fm_mutex_lock(&lock);
    void (*done)(void *ctx, struct fm_stacks *stacks) = asking.done;
    void *ctx = asking.ctx;
    asking.under_way = false; /* first: who is told may ask again at once */
    asking.telling++;
    fm_mutex_unlock(&lock);
    done(ctx, s);
    fm_mutex_lock(&lock);
    asking.telling--;
    pthread_cond_broadcast(&changed);
    fm_mutex_unlock(&lock);
    return arg;
}

int fm_steps_ask(struct fm_sched *sched, void (*done)(void *ctx, struct fm_stacks *stacks), void *ctx)
{
    fm_mutex_lock(&lock);
    bool busy = asking.under_way || asking.stopped;
    if (!busy) {
        asking.under_way = true;
        asking.sched = sched;
        asking.done = done;
        asking.ctx = ctx;
    }
    fm_mutex_unlock(&lock);
    int err = busy ? FM_EBUSY : fm_helper_start(asking_main, NULL, 0);
    if (!busy && err != 0) {
        fm_mutex_lock(&lock);
        asking.under_way = false;
        fm_mutex_unlock(&lock);
    }
    return err;
}

void fm_steps_stop(void)
{
    fm_mutex_lock(&lock);
    asking.stopped = true;
    pthread_cond_broadcast(&changed);
    fm_bell_ring(&heard);
    while (asking.under_way || asking.telling > 0)
        pthread_cond_wait(&changed, &lock.m);
    fm_mutex_unlock(&lock);
}

/* ---- the signal ---- */

static int call(const char *method, int fd) FM_NEEDS_GIL
{
    PyObject *module = PyImport_ImportModule("faulthandler");
    PyObject *result = !module  ? NULL
                       : fd < 0 ? PyObject_CallMethod(module, method, "i", NUMBER)
                                : PyObject_CallMethod(module, method, "iiii", NUMBER, fd, 0, 0);
    Py_XDECREF(module);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

int fm_steps_prepare(void)
{
    struct sigaction action;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attr);
    pthread_condattr_destroy(&attr);
    if (sigaction(NUMBER, NULL, &action) != 0 || action.sa_handler != SIG_DFL)
        return 0;
    memory_fd = memfd_create("fermata-steps", MFD_CLOEXEC);
    if (memory_fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    fm_fds_own(memory_fd);
    if (call("register", memory_fd) != 0)
        return -1;
    sigaction(NUMBER, NULL, &action); /* is faulthandler's now */
    dump = action.sa_handler;
    action = (struct sigaction){.sa_handler = on_asked, .sa_flags = SA_RESTART};
    sigaction(NUMBER, &action, NULL);
    return 0;
}

void fm_steps_fini(void)
{
    bool ours = is_ours();
    if (memory_fd < 0)
        return;
    call("unregister", -1);
    PyErr_Clear();
    if (ours)
        signal(NUMBER, in_vain ? SIG_IGN : SIG_DFL); /* one that is pending would end the process */
    dump = NULL;
    fm_fds_close(memory_fd);
    memory_fd = -1;
}

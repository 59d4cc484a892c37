/* Stack reports.  The leader asks for them and must not wait, so each gets a thread that waits in its place: they are
 * rare (a request over its deadline with a step still running), and at most MAX at a time.  What else is asked of
 * Python so (wsgi/inquiries.h) bounds itself. */
#include "fermata/py/python.h"

#include "fermata/wsgi/report.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/http/request.h"
#include "fermata/py/error.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"

#define MAX 4
#define ALL ULONG_MAX /* no thread has that */

static struct fm_mutex lock = FM_MUTEX_INIT;
static pthread_cond_t none_left = PTHREAD_COND_INITIALIZER;
static unsigned under_way, reports; /* guarded by lock: all, and those of stacks */

struct report {
    unsigned long ident;
    char what[FM_REQUEST_TEXT];
};

struct call {
    void (*fn)(void *arg);
    void *arg;
};

bool fm_report_enter(void)
{
    fm_mutex_lock(&lock);
    bool go = reports < MAX;
    under_way += go;
    reports += go;
    fm_mutex_unlock(&lock);
    return go;
}

static void leave(unsigned is_report)
{
    fm_mutex_lock(&lock);
    reports -= is_report;
    if (--under_way == 0)
        pthread_cond_broadcast(&none_left);
    fm_mutex_unlock(&lock);
}

void fm_report_leave(void) { leave(1); }

/* 0 or a negated errno; `under_way` has it already. */
static int start(void *(*body)(void *), void *arg)
{
    pthread_t thread;
    int err = arg ? pthread_create(&thread, NULL, body, arg) : ENOMEM;
    if (err == 0)
        pthread_detach(thread);
    return -err;
}

/* ---- whatever is to be called ---- */

static void *call_main(void *arg) FM_UNCHECKED
{
    struct call *c = arg;
    PyGILState_STATE state = PyGILState_Ensure();
    c->fn(c->arg);
    PyGILState_Release(state);
    free(c);
    leave(0);
    return NULL;
}

int fm_report_call(void (*fn)(void *arg), void *arg)
{
    struct call *c = malloc(sizeof *c);
    if (c)
        *c = (struct call){fn, arg};
    fm_mutex_lock(&lock);
    under_way++;
    fm_mutex_unlock(&lock);
    int err = start(call_main, c);
    if (err != 0) {
        free(c);
        leave(0);
    }
    return err;
}

/* ---- stacks ---- */

static void *report_main(void *arg) FM_UNCHECKED
{
    struct report *r = arg;
    PyGILState_STATE state = PyGILState_Ensure();
    if (r->ident == ALL)
        fm_py_log_stacks(r->what);
    else
        fm_py_log_stack(r->ident, "%s: this is where its step is:", r->what);
    PyGILState_Release(state);
    free(r);
    fm_report_leave();
    return NULL;
}

void fm_report_stack(unsigned long ident, const char *what)
{
    if (ident == 0 || !fm_report_enter())
        return;
    struct report *r = calloc(1, sizeof *r);
    if (r) {
        r->ident = ident;
        strncpy(r->what, what, sizeof r->what - 1);
    }
    int err = start(report_main, r);
    if (err == 0)
        return;
    fm_error_ratelimited("stack report: %s", fm_strerror(err));
    free(r);
    fm_report_leave();
}

void fm_report_stacks(const char *what) { fm_report_stack(ALL, what); }

void fm_report_wait(int seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;
    fm_mutex_lock(&lock);
    while (under_way > 0 && pthread_cond_timedwait(&none_left, &lock.m, &until) != ETIMEDOUT)
        ;
    fm_mutex_unlock(&lock);
}

/* Stack reports.  The leader asks for them and must not wait, so each gets a thread that waits in its place: they are
 * rare (a request over its deadline with a step still running), and at most MAX at a time. */
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
static unsigned under_way; /* guarded by lock */

struct report {
    unsigned long ident;
    char what[FM_REQUEST_TEXT];
};

bool fm_report_enter(void)
{
    fm_mutex_lock(&lock);
    bool go = under_way < MAX;
    under_way += go;
    fm_mutex_unlock(&lock);
    return go;
}

void fm_report_leave(void)
{
    fm_mutex_lock(&lock);
    if (--under_way == 0)
        pthread_cond_broadcast(&none_left);
    fm_mutex_unlock(&lock);
}

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
    pthread_t thread;
    if (ident == 0 || !fm_report_enter())
        return;
    struct report *r = calloc(1, sizeof *r);
    if (r) {
        r->ident = ident;
        strncpy(r->what, what, sizeof r->what - 1);
    }
    int err = r ? pthread_create(&thread, NULL, report_main, r) : ENOMEM;
    if (err == 0) {
        pthread_detach(thread);
        return;
    }
    fm_error_ratelimited("stack report: %s", fm_strerror(-err));
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

/* Asks py/fermata/inquiries.py, which is compiled into the binary; see wsgi/inquiries.h. */
#include "internal.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "fermata/py/error.h"
#include "fermata/py/interp.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/util/places.h"
#include "fermata/wsgi/inquiries.h"
#include "fermata/wsgi/report.h"
#include "parked.h"
#include "inquiries.inc" /* fm_inquiries_source: py/fermata/inquiries.py, made by the Makefile */

static atomic_bool open_now; /* there is Python, and it does not end yet */

void fm_inquiries_open(bool open) { atomic_store(&open_now, open); }

static PyObject *find_module(void) { return fm_own_module("inquiries", fm_inquiries_source); }

/* ---- the application's metrics ---- */

static void find_metrics(void *arg) FM_UNCHECKED
{
    struct fm_buf text = FM_BUF_INIT;
    PyObject *module = find_module();
    PyObject *found = module ? PyObject_CallMethod(module, "metrics", NULL) : NULL;
    fm_child_check(); /* a collector may do anything */
    enum fm_answered how = FM_ANSWER_FAILED;
    if (found == Py_None) {
        how = FM_ANSWER_ABSENT;
    } else if (found && PyBytes_Check(found)) {
        fm_buf_append(&text, PyBytes_AS_STRING(found), (size_t)PyBytes_GET_SIZE(found));
        how = text.failed ? FM_ANSWER_FAILED : FM_ANSWER_TEXT;
        if (text.failed)
            fm_error("/metrics/app: %s", fm_strerror(-ENOMEM));
    } else {
        fm_py_log_exception(FM_LOG_ERROR, "/metrics/app: the application's metrics cannot be collected");
        fm_child_check();
    }
    Py_XDECREF(found);
    Py_XDECREF(module);
    fm_inquiry_answer(arg, how, &text);
}

static int start_metrics(struct fm_inquiry *q)
{
    return atomic_load(&open_now) ? fm_report_call(find_metrics, q) : -EAGAIN;
}

struct fm_inquiry *fm_inquiry_of_metrics(void)
{
    static struct fm_inquiry inquiry = FM_INQUIRY_INIT(start_metrics);
    return &inquiry;
}

/* ---- what requests wait for ---- */

#define PART 500   /* runs between which others may have the GIL */
#define SAMPLE 20  /* futures of a place that are looked at */
#define GROUPS 256 /* places */
#define BUDGET (200 * FM_MS)

struct group {
    uint16_t place;
    unsigned n, kept;
    PyObject *future[SAMPLE]; /* references */
};

struct sample {
    uint16_t group_of[FM_PLACES]; /* 0: none, else one more than its index */
    struct group groups[GROUPS];
    unsigned ngroups;
    uint64_t until, random;
    struct fm_parked part[PART]; /* of the walk */
};

/* Each that comes is as likely to be kept as any that came before. */
static void keep_some(struct sample *s, struct fm_parked *one) FM_NEEDS_GIL
{
    uint16_t *number = &s->group_of[one->place % FM_PLACES];
    if (*number == 0 && s->ngroups < GROUPS) {
        s->groups[s->ngroups] = (struct group){.place = one->place};
        *number = (uint16_t)++s->ngroups;
    }
    struct group *g = *number ? &s->groups[*number - 1] : NULL;
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    unsigned at = !g ? SAMPLE : g->n < SAMPLE ? g->n : (unsigned)((s->random >> 33) % (g->n + 1));
    if (g)
        g->n++;
    if (at >= SAMPLE) {
        Py_DECREF(one->future);
        return;
    }
    PyObject *before = at < g->kept ? g->future[at] : NULL;
    g->kept += before == NULL;
    g->future[at] = one->future;
    Py_XDECREF(before);
}

/* Others go on; false: it has taken long enough. */
static bool let_others(const struct sample *s)
{
    Py_BEGIN_ALLOW_THREADS
    sched_yield();
    Py_END_ALLOW_THREADS
    return fm_now() < s->until;
}

static void gather(struct sample *s) FM_NEEDS_GIL
{
    struct fm_parked_walk walk;
    unsigned n;
    fm_parked_begin(&walk);
    do {
        n = fm_parked_next(&walk, s->part, PART);
        for (unsigned i = 0; i < n; i++)
            keep_some(s, &s->part[i]);
        fm_child_check(); /* the last reference may have been ours */
    } while (n > 0 && let_others(s));
    fm_parked_end(&walk);
}

/* The lines of one place; steals the references. */
static int describe(PyObject *module, PyObject *pools, struct group *g, struct fm_buf *text) FM_NEEDS_GIL
{
    PyObject *list = PyList_New(g->kept);
    for (unsigned i = 0; i < g->kept; i++) {
        if (list)
            PyList_SET_ITEM(list, i, g->future[i]);
        else
            Py_DECREF(g->future[i]);
    }
    g->kept = 0;
    PyObject *lines =
        list ? PyObject_CallMethod(module, "kinds", "iOOi", g->place, list, pools, fm_interp_stops_others()) : NULL;
    int err = lines && PyBytes_Check(lines) ? 0 : -1;
    if (err == 0)
        fm_buf_append(text, PyBytes_AS_STRING(lines), (size_t)PyBytes_GET_SIZE(lines));
    Py_XDECREF(lines);
    Py_XDECREF(list);
    fm_child_check();
    return err;
}

/* 0 with the text, or -1 with an exception set. */
static int tell_kinds(PyObject *module, struct sample *s, struct fm_buf *text) FM_NEEDS_GIL
{
    s->random = fm_now();
    s->until = s->random + BUDGET;
    gather(s);
    PyObject *pools = PyObject_CallMethod(module, "pools", "i", fm_interp_stops_others());
    int err = pools ? 0 : -1;
    for (unsigned i = 0; i < s->ngroups && err == 0 && let_others(s); i++)
        err = describe(module, pools, &s->groups[i], text);
    Py_XDECREF(pools);
    return err;
}

static void drop_sample(struct sample *s) FM_NEEDS_GIL
{
    for (unsigned i = 0; s && i < s->ngroups; i++)
        for (unsigned k = 0; k < s->groups[i].kept; k++)
            Py_DECREF(s->groups[i].future[k]);
    free(s);
    fm_child_check();
}

static void find_futures(void *arg) FM_UNCHECKED
{
    struct fm_buf text = FM_BUF_INIT;
    struct sample *s = calloc(1, sizeof *s);
    PyObject *module = s ? find_module() : PyErr_NoMemory();
    int err = s && module ? tell_kinds(module, s, &text) : -1;
    if (err != 0)
        fm_py_log_exception(FM_LOG_ERROR, "status: what requests wait for cannot be told");
    drop_sample(s);
    Py_XDECREF(module);
    fm_inquiry_answer(arg, err == 0 && !text.failed ? FM_ANSWER_TEXT : FM_ANSWER_FAILED, &text);
}

static int start_futures(struct fm_inquiry *q)
{
    return atomic_load(&open_now) && fm_wsgi.config.futures ? fm_report_call(find_futures, q) : -EAGAIN;
}

struct fm_inquiry *fm_inquiry_of_futures(void)
{
    static struct fm_inquiry inquiry = FM_INQUIRY_INIT(start_futures);
    return &inquiry;
}

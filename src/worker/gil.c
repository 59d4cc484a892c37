/* The GIL, off or on; see worker/gil.h. */
#include "fermata/worker/gil.h"

#include "fermata/config/processors.h"
#include "fermata/py/interp.h"
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/log.h"
#include "fermata/wsgi/gateway.h"

#define PAUSE (FM_SEC / 10)

/* Said once: it is not turned off again. */
static void say_who(void) FM_NEEDS_GIL
{
    char name[200];
    if (fm_wsgi_gil_is_back(name, sizeof name))
        fm_warn(
            "a library has turned the GIL on, which this Python runs without: %s%s%s; from now on one thread computes "
            "at a time (PYTHON_GIL=0 keeps it off, for what can do without though it does not say so)",
            *name ? "'" : "", *name ? name : "which one, Python has not told", *name ? "'" : "");
}

void fm_gil_begin(struct fm_worker *w)
{
    bool on = fm_interp_has_gil();
    atomic_store(&w->gil_is_off, !on);
    fm_sched_set_parallel(&w->sched, on ? 0 : fm_processors_usable());
    if (!on)
        return;
    fm_count(FM_C_GIL);
    say_who();
}

void fm_gil_watch_now(struct fm_worker *w)
{
    uint64_t now = fm_now(), last = atomic_load_explicit(&w->gil_looked, memory_order_relaxed);
    if (now - last < PAUSE || !atomic_compare_exchange_strong(&w->gil_looked, &last, now))
        return; /* or another thread looks */
    if (!fm_interp_has_gil() || !atomic_exchange(&w->gil_is_off, false))
        return;
    fm_sched_set_parallel(&w->sched, 0);
    fm_count(FM_C_GIL);
    say_who();
}

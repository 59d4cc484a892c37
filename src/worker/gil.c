/* The GIL, off or on; see worker/gil.h. */
#include "fermata/worker/gil.h"

#include "fermata/config/processors.h"
#include "fermata/py/interp.h"
#include "fermata/util/clock.h"
#include "fermata/util/counter.h"
#include "fermata/util/log.h"
#include "fermata/wsgi/gateway.h"

#define PAUSE (FM_SEC / 10)
#define STAYS FM_SEC /* on for so long: no import that will be over at once */

/* What requests find from now on. */
static void set(struct fm_worker *w, bool on, uint64_t now)
{
    w->gil_is_on = on;
    w->gil_since = now;
    fm_sched_set_parallel(&w->sched, on ? 0 : fm_processors_usable());
}

static void keep(struct fm_worker *w)
{
    fm_interp_gil_stays();
    atomic_store(&w->gil_may_change, false);
}

/* It stays on where CPython has named a library in its warning; of any other that is believed after a while.  False:
 * Python has had a GIL from the beginning. */
static bool tell(struct fm_worker *w, bool stays) FM_NEEDS_GIL
{
    char name[200];
    bool was_off = fm_wsgi_gil_was_off(name, sizeof name);
    if (*name)
        keep(w);
    if (!was_off || w->gil_is_told || (!*name && !stays))
        return was_off;
    w->gil_is_told = true;
    fm_warn("a library has turned the GIL on, which this Python runs without: %s%s%s; from now on one thread computes "
            "at a time (PYTHON_GIL=0 keeps it off, for what can do without though it does not say so)",
            *name ? "'" : "", *name ? name : "which one, Python has not told", *name ? "'" : "");
    return true;
}

/* Nothing is left to be told. */
static void take_back(struct fm_worker *w)
{
    if (w->gil_is_told)
        fm_warn("the GIL is off again: it was on while a library was imported");
    w->gil_is_told = false;
}

void fm_gil_begin(struct fm_worker *w)
{
    bool on = fm_interp_has_gil();
    (void)atomic_flag_test_and_set(&w->gil_is_looked_at);
    atomic_store(&w->gil_may_change, true);
    set(w, on, fm_now());
    if (on)
        fm_count(FM_C_GIL);
    if (on && !tell(w, true))
        keep(w);
    atomic_flag_clear(&w->gil_is_looked_at);
}

/* Who looks is the only one. */
static void look(struct fm_worker *w, uint64_t now) FM_NEEDS_GIL
{
    bool on = fm_interp_has_gil();
    if (on != w->gil_is_on) {
        set(w, on, now);
        fm_count_add(FM_C_GIL, on ? 1 : (uint64_t)-1);
    }
    if (on)
        tell(w, now - w->gil_since >= STAYS);
    else
        take_back(w);
}

void fm_gil_watch_now(struct fm_worker *w)
{
    uint64_t now = fm_now();
    if (now - atomic_load_explicit(&w->gil_looked, memory_order_relaxed) < PAUSE ||
        atomic_flag_test_and_set(&w->gil_is_looked_at))
        return; /* or another thread looks */
    atomic_store_explicit(&w->gil_looked, now, memory_order_relaxed);
    look(w, now);
    atomic_flag_clear(&w->gil_is_looked_at);
}

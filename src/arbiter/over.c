/* Handing clients over to workers; see arbiter/over.h. */
#include "fermata/arbiter/over.h"

#include <errno.h>

#include "fermata/util/err.h"

#define PLACES (2 * FM_WORKERS_MAX)

/* What is shown rather: the greater. */
static unsigned rank(const struct fm_roster_worker *w)
{
    static const uint8_t ranks[FM_WORKER_STATE_COUNT] = {
        [FM_WORKER_KILLED] = 1, [FM_WORKER_LOADING] = 2, [FM_WORKER_DRAINING] = 3, [FM_WORKER_READY] = 4};
    return w ? ranks[w->state] : 0;
}

const struct fm_roster_worker *fm_over_find(const struct fm_roster *r, unsigned slot)
{
    const struct fm_roster_worker *found = NULL;
    for (size_t i = 0; i < PLACES; i++) {
        const struct fm_roster_worker *w = &r->workers[i];
        if (w->pid > 0 && w->slot == slot &&
            (!found || rank(w) > rank(found) || (rank(w) == rank(found) && w->since > found->since)))
            found = w;
    }
    return found;
}

void fm_over_slots(const struct fm_roster *r, struct fm_buf *to)
{
    const char *comma = "";
    for (unsigned slot = 0; slot < FM_WORKERS_MAX; slot++) {
        if (!fm_over_find(r, slot))
            continue;
        fm_buf_printf(to, "%s%u", comma, slot);
        comma = ", ";
    }
}

/* Why there is nobody to give the client to.  The status. */
static int say_none(const struct fm_roster *r, unsigned slot, struct fm_buf *to)
{
    if (slot < r->wanted) {
        fm_buf_printf(to, "worker %u has ended, and is about to be started again: /workers says more\n", slot);
        return 503;
    }
    fm_buf_printf(to, "there is no worker %u, but there are ", slot);
    fm_over_slots(r, to);
    fm_buf_puts(to, "\n");
    return 404;
}

static void say_error(int err, struct fm_buf *to)
{
    switch (err) {
    case FM_EINVAL:
        fm_buf_puts(to, "has no pages: it was started by another version of fermata, or without --admin-bind");
        break;
    case FM_EBUSY: fm_buf_puts(to, "does not answer: its event loop has not turned for a second or more"); break;
    case -EAGAIN: fm_buf_puts(to, "is asked by too many at once"); break;
    case -EPIPE:
    case -ECONNRESET: fm_buf_puts(to, "is about to end"); break;
    default: fm_buf_puts(to, fm_strerror(err));
    }
}

int fm_over_give(const struct fm_roster *r, struct fm_children *c, unsigned slot, int fd, const char *head, size_t len,
                 struct fm_buf *to)
{
    const struct fm_roster_worker *w = fm_over_find(r, slot);
    if (!w)
        return say_none(r, slot, to);
    bool takes = w->state == FM_WORKER_READY || w->state == FM_WORKER_DRAINING;
    int err = takes ? fm_children_give(c, w->pid, fd, head, len) : 0;
    if (takes && err == 0)
        return 0;
    fm_buf_printf(to, "worker %u (pid %ld) ", slot, (long)w->pid);
    if (takes)
        say_error(err, to);
    else
        fm_buf_puts(to, w->state == FM_WORKER_LOADING ? "is being started" : "is being killed");
    fm_buf_puts(to, "\n");
    return 503;
}

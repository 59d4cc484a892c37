/* The worker's end of the control socket; see worker/control.h. */
#include "fermata/worker/control.h"

#include <signal.h>
#include <unistd.h>

#include "fermata/util/fds.h"
#include "fermata/util/log.h"

static void forget(struct fm_worker *w) FM_ON_LOOP
{
    if (w->control_event)
        event_free(w->control_event);
    w->control_event = NULL;
}

/* PR_SET_PDEATHSIG tells it as well, where the kernel has that. */
static void on_said(evutil_socket_t fd, short what, void *arg)
{
    struct fm_worker *w = arg;
    (void)fd, (void)what;
    fm_assert_on_loop();
    if (fm_handed_hear(&w->handed))
        return; /* the turn of the loop is the answer */
    forget(w);
    kill(getpid(), SIGTERM);
}

void fm_control_start(struct fm_worker *w)
{
    if (w->handed.control_fd < 0)
        return;
    w->control_event = event_new(w->loop.base, w->handed.control_fd, EV_READ | EV_PERSIST, on_said, w);
    if (!w->control_event || event_add(w->control_event, NULL) != 0)
        fm_error("cannot watch the socket to the arbiter");
}

bool fm_control_lost(struct fm_worker *w, int fd)
{
    if (fd != w->handed.control_fd || fd < 0)
        return false;
    fm_error("the application closed descriptor %d, the socket to the arbiter, which will replace this worker", fd);
    forget(w);
    w->handed.control_fd = -1;
    return true;
}

void fm_control_stop(struct fm_worker *w)
{
    forget(w);
    if (w->handed.control_fd >= 0)
        fm_fds_close(w->handed.control_fd);
    w->handed.control_fd = -1;
}

/* The worker's end of the control socket; see worker/control.h. */
#include "fermata/worker/control.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "fermata/admin/admin.h"
#include "fermata/net/listener.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/log.h"

static void forget(struct fm_worker *w) FM_ON_LOOP
{
    if (w->control_event)
        event_free(w->control_event);
    w->control_event = NULL;
}

static void take_client(struct fm_worker *w, int fd, const char *head, size_t len) FM_ON_LOOP
{
    int client = fm_listener_number(&w->loop, fd);
    if (client < 0)
        fm_error_ratelimited("admin: %s; the connection is closed", fm_strerror(-errno));
    else if (w->admin)
        fm_admin_take(w->admin, client, head, len);
    else
        close(client);
}

/* PR_SET_PDEATHSIG tells it as well, where the kernel has that. */
static void on_said(evutil_socket_t fd, short what, void *arg)
{
    struct fm_worker *w = arg;
    char *text = w->loop.scratch;
    int n, client;
    (void)fd, (void)what;
    fm_assert_on_loop();
    while ((n = fm_handed_hear(&w->handed, text, FM_SCRATCH, &client)) > 0)
        if (client >= 0)
            take_client(w, client, text, (size_t)n);
        else if (n > 1) /* to one byte the turn of the loop is the answer */
            fm_error_ratelimited("admin: no descriptor is left for a client; the connection is closed");
    if (n == 0)
        return;
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

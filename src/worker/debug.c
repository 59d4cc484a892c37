/* A debugger's script on the main thread; see worker/debug.h. */
#include "fermata/worker/debug.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/log.h"
#include "fermata/wsgi/gateway.h"

struct stand_in {
    pthread_t thread;
    struct fm_monitor *monitor; /* this thread's until it has ended */
    int over_fd;                /* becomes readable when the main thread is back */
};

static void *monitor_main(void *arg)
{
    struct stand_in *s = arg;
    struct pollfd fds[2] = {{s->monitor->sched->monitor_fd, POLLIN, 0}, {s->over_fd, POLLIN, 0}};
    pthread_setname_np(pthread_self(), "fermata-watch");
    for (;;) {
        uint64_t pause = fm_monitor_tick(s->monitor);
        struct timespec until = {(time_t)(pause / FM_SEC), (long)(pause % FM_SEC)};
        int n = ppoll(fds, 2, pause == UINT64_MAX ? NULL : &until, NULL);
        if (n > 0 && fds[1].revents) /* or it has been closed, and there is no other way to hear of the end */
            return NULL;
        if (n > 0 && fds[0].revents)
            fm_monitor_woken(s->monitor);
    }
}

static int begin(struct stand_in *s)
{
    s->over_fd = eventfd(0, EFD_CLOEXEC);
    if (s->over_fd < 0)
        return -errno;
    fm_fds_own(s->over_fd);
    int err = pthread_create(&s->thread, NULL, monitor_main, s);
    if (err != 0)
        fm_fds_close(s->over_fd);
    return -err;
}

static void end(struct stand_in *s)
{
    (void)!eventfd_write(s->over_fd, 1);
    pthread_join(s->thread, NULL);
    fm_fds_close(s->over_fd);
}

void fm_debug_run(struct fm_monitor *monitor)
{
    struct stand_in s = {.monitor = monitor};
    int err = begin(&s);
    fm_info("A debugger of another process has the main thread");
    if (err != 0)
        fm_warn("no thread watches the others meanwhile: %s", fm_strerror(err));
    fm_wsgi_run_debugger(); /* it waits for the GIL, perhaps for ever */
    fm_info("The debugger has left the main thread");
    if (err == 0)
        end(&s);
}

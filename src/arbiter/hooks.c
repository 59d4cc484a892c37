/* Telling the hook process; see arbiter/hooks.h. */
#include "fermata/arbiter/hooks.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/worker/hooks.h"

static const char *const names[] = {
#define X(name) #name,
    FM_ARBITER_HOOKS(X) FM_WORKER_HOOKS(X)
#undef X
};

static void close_all(struct fm_hook_process *h) FM_ON_LOOP
{
    if (h->event)
        event_free(h->event);
    if (h->timer)
        event_free(h->timer);
    if (h->fd >= 0)
        close(h->fd);
    h->event = h->timer = NULL;
    h->fd = -1;
    h->waiting = 0;
    fm_again_end(&h->process);
}

void fm_hook_process_init(struct fm_hook_process *h)
{
    h->event = h->timer = NULL;
    h->fd = -1;
    h->waiting = 0;
    h->process = h->leaving = FM_AGAIN_NONE;
    h->leave_timer = NULL;
}

/* Where it has ended this does nothing to another process: it is known by its descriptor. */
static void end_leaving(struct fm_hook_process *h)
{
    if (h->leave_timer)
        event_free(h->leave_timer);
    h->leave_timer = NULL;
    fm_again_kill(&h->leaving);
    fm_again_end(&h->leaving);
}

static void on_leave_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    end_leaving(arg);
}

void fm_hook_process_renew(struct fm_hook_process *h, unsigned hooks)
{
    struct timeval tv = {.tv_sec = (time_t)(FM_HOOK_TIME / FM_SEC)};
    h->hooks = hooks;
    if (h->fd < 0)
        return;
    end_leaving(h);
    h->leaving = h->process;
    h->process = FM_AGAIN_NONE;
    close_all(h); /* it reads to the end of what it was told */
    h->leave_timer = evtimer_new(h->loop->base, on_leave_timer, h);
    if (!h->leave_timer || evtimer_add(h->leave_timer, &tv) != 0)
        end_leaving(h);
}

static void give_up(struct fm_hook_process *h, const char *why) FM_ON_LOOP
{
    fm_error("The hook process %s; hooks are called by another one from now on", why);
    fm_again_kill(&h->process);
    close_all(h);
}

static void start_clock(struct fm_hook_process *h)
{
    struct timeval tv = {.tv_sec = (time_t)(FM_HOOK_TIME / FM_SEC)};
    if (h->waiting > 0)
        evtimer_add(h->timer, &tv);
    else
        evtimer_del(h->timer);
}

/* Each byte is a hook that has returned.  False: the process has ended. */
static bool take_answers(struct fm_hook_process *h)
{
    char bytes[256];
    ssize_t n = recv(h->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    h->waiting -= (unsigned)n < h->waiting ? (unsigned)n : h->waiting;
    start_clock(h);
    return n > 0;
}

static void on_answer(evutil_socket_t fd, short what, void *arg)
{
    struct fm_hook_process *h = arg;
    (void)fd, (void)what;
    fm_assert_on_loop();
    if (!take_answers(h))
        give_up(h, "has ended");
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    fm_assert_on_loop();
    give_up(arg, "has been in a hook for ten seconds; it is killed");
}

static int start(struct fm_hook_process *h) FM_ON_LOOP
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return -errno;
    int err = fm_again_start(&h->process, h->argv, h->directory, FM_HOOKS_VARIABLE, ends[1]);
    close(ends[1]);
    h->fd = ends[0];
    h->event = event_new(h->loop->base, h->fd, EV_READ | EV_PERSIST, on_answer, h);
    h->timer = evtimer_new(h->loop->base, on_timer, h);
    if (err == 0 && (!h->event || !h->timer || event_add(h->event, NULL) != 0))
        err = -ENOMEM;
    if (err != 0) {
        fm_error("Cannot start the hook process: %s", fm_strerror(err));
        close_all(h);
    }
    return err;
}

void fm_hook_process_tell(struct fm_hook_process *h, enum fm_hook hook, long a, long b)
{
    char line[64];
    bool numbers = hook == FM_HOOK_child_exit || hook == FM_HOOK_pre_fork || hook == FM_HOOK_nworkers_changed;
    if (!(h->hooks & FM_HOOK_BIT(hook)) || (h->fd < 0 && start(h) != 0))
        return;
    int n = numbers ? snprintf(line, sizeof line, "%s %ld %ld\n", names[hook], a, b)
                    : snprintf(line, sizeof line, "%s\n", names[hook]);
    if (send(h->fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n) {
        give_up(h, errno == EAGAIN ? "does not keep up; it is killed" : "has ended");
        return;
    }
    if (h->waiting++ == 0)
        start_clock(h);
}

void fm_hook_process_wait(struct fm_hook_process *h, int stop_fd)
{
    uint64_t until = fm_now() + FM_HOOK_TIME;
    while (h->fd >= 0 && h->waiting > 0) {
        uint64_t now = fm_now();
        struct pollfd fds[2] = {{h->fd, POLLIN, 0}, {stop_fd, POLLIN, 0}};
        int n = now < until ? poll(fds, 2, (int)((until - now) / FM_MS) + 1) : 0;
        if (n == 0) {
            give_up(h, "has been in a hook for ten seconds; it is killed");
            return;
        }
        if (n > 0 && fds[1].revents)
            return;
        if (n > 0 && fds[0].revents && !take_answers(h))
            give_up(h, "has ended");
    }
}

void fm_hook_process_fini(struct fm_hook_process *h)
{
    pid_t pid = h->process.pid;
    end_leaving(h);
    if (h->fd < 0)
        return;
    shutdown(h->fd, SHUT_WR); /* it ends when it has read that */
    struct pollfd ended = {h->process.pidfd, POLLIN, 0};
    if (h->process.pidfd < 0 || poll(&ended, 1, (int)(FM_HOOK_TIME / FM_MS)) == 0)
        fm_again_kill(&h->process);
    close_all(h);
    if (ended.fd >= 0)
        waitpid(pid, NULL, 0);
}

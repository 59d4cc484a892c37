/* The arbiter's zygotes; see arbiter/zygotes.h. */
#include "fermata/arbiter/zygotes.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/worker/zygote.h"

#define PAUSE 1000000L /* ns between looks at whether those that were killed are gone */

void fm_zygotes_init(struct fm_zygotes *zs)
{
    memset(zs->all, 0, sizeof zs->all);
    for (size_t i = 0; i < FM_ZYGOTES_MAX; i++)
        zs->all[i].fd = -1;
    zs->impossible = prctl(PR_SET_CHILD_SUBREAPER, 1) != 0;
    if (zs->impossible)
        fm_error("--preload: workers that are forked would get lost, so each loads the application by itself: %s",
                 fm_strerror(-errno));
}

static struct fm_zygote_generation *generation(struct fm_zygotes *zs)
{
    return zs->reloading ? &zs->tried : &zs->serving;
}

static const struct fm_zygote_generation *generation_of(const struct fm_zygotes *zs)
{
    return zs->reloading ? &zs->tried : &zs->serving;
}

bool fm_zygotes_alone(const struct fm_zygotes *zs) { return zs->impossible || generation_of(zs)->alone; }

bool fm_zygotes_can(const struct fm_zygotes *zs)
{
    const struct fm_zygote *z = generation_of(zs)->zygote;
    if (z)
        return !z->under_way;
    for (size_t i = 0; i < FM_ZYGOTES_MAX; i++)
        if (zs->all[i].pid == 0)
            return true;
    return false; /* when one of those that were killed is gone */
}

/* ---- ends ---- */

static void close_socket(struct fm_zygote *z) FM_ON_LOOP
{
    if (z->event)
        event_free(z->event);
    z->event = NULL;
    if (z->fd >= 0)
        close(z->fd);
    z->fd = -1;
}

static void kill_it(const struct fm_zygote *z)
{
    if (z->pid > 0) /* not reaped: the number is its own */
        kill(z->pid, SIGKILL);
}

/* It is no generation's zygote any more; a worker that is being forked comes still. */
static void retire(struct fm_zygotes *zs, struct fm_zygote *z)
{
    if (!z)
        return;
    if (zs->serving.zygote == z)
        zs->serving.zygote = NULL;
    if (zs->tried.zygote == z)
        zs->tried.zygote = NULL;
    z->retired = true;
    if (!z->under_way || !z->loaded)
        kill_it(z);
}

void fm_zygotes_interrupt(struct fm_zygote *z, bool by_force)
{
    if (!z->loaded || by_force)
        kill_it(z);
}

/* ---- what they say ---- */

/* The worker that was under way is not any more. */
static void *delivered(struct fm_zygote *z)
{
    void *worker = z->under_way;
    z->under_way = NULL;
    if (z->retired)
        kill_it(z);
    return worker;
}

static void be_alone(struct fm_zygotes *zs, struct fm_zygote *z)
{
    if (zs->serving.zygote == z)
        zs->serving.alone = true;
    if (zs->tried.zygote == z)
        zs->tried.alone = true;
    retire(zs, z);
}

static void hear(struct fm_zygotes *zs, struct fm_zygote *z, const struct fm_zygote_says *says) FM_ON_LOOP
{
    void *worker = NULL;
    switch ((enum fm_zygote_word)says->word) {
    case FM_ZYGOTE_LOADED: z->loaded = true; return;
    case FM_ZYGOTE_ALONE:
        be_alone(zs, z);
        worker = delivered(z);
        if (worker)
            zs->ops->alone(zs->ctx, worker);
        return;
    case FM_ZYGOTE_BORN:
        worker = delivered(z);
        if (worker)
            zs->ops->born(zs->ctx, worker, says->value);
        return;
    case FM_ZYGOTE_BARREN:
        worker = delivered(z);
        if (worker)
            zs->ops->failed(zs->ctx, worker, 1 << 8); /* as if it had exited with 1 */
        return;
    }
}

/* All that there is.  ECONNRESET says, once, that it has ended without reading what was sent to it; what it has said
 * comes behind that.  One that has closed its end ends: we wait for that. */
static void listen_to(struct fm_zygotes *zs, struct fm_zygote *z) FM_ON_LOOP
{
    struct fm_zygote_says says;
    ssize_t n = 0;
    if (z->fd < 0)
        return;
    do {
        n = recv(z->fd, &says, sizeof says, MSG_DONTWAIT);
        if (n == (ssize_t)sizeof says)
            hear(zs, z, &says);
    } while (n > 0 || (n < 0 && (errno == ECONNRESET || errno == EINTR)));
    if (n == 0 || errno != EAGAIN)
        close_socket(z);
}

static void on_message(evutil_socket_t fd, short what, void *arg)
{
    struct fm_zygote *z = arg;
    (void)fd, (void)what;
    fm_assert_on_loop();
    listen_to(z->of, z);
}

static struct fm_zygote *find(struct fm_zygotes *zs, pid_t pid)
{
    for (size_t i = 0; i < FM_ZYGOTES_MAX; i++)
        if (zs->all[i].pid == pid)
            return &zs->all[i];
    return NULL;
}

/* What was said comes before what has happened. */
bool fm_zygotes_reaped(struct fm_zygotes *zs, pid_t pid, int status)
{
    struct fm_zygote *found = find(zs, pid);
    if (found)
        found->pid = 0;
    for (size_t i = 0; i < FM_ZYGOTES_MAX; i++)
        listen_to(zs, &zs->all[i]);
    if (!found)
        return false;
    void *worker = found->under_way;
    bool retired = found->retired;
    retire(zs, found);
    close_socket(found);
    *found = (struct fm_zygote){.fd = -1};
    if (worker)
        zs->ops->failed(zs->ctx, worker, status);
    else if (!retired)
        fm_warn("The process that had loaded the application (pid %ld) has ended; it is started again when a worker is "
                "needed",
                (long)pid);
    return true;
}

/* ---- starting ---- */

/* 0, or a negated errno. */
static int start(struct fm_zygotes *zs, struct fm_zygote *z) FM_ON_LOOP
{
    struct fm_handed h = {.any = true, .control_fd = -1, .counters_fd = -1, .report_fd = -1};
    int ends[2];
    *z = (struct fm_zygote){.fd = -1, .of = zs};
    clock_gettime(CLOCK_REALTIME, &z->since);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return -errno;
    z->fd = ends[0];
    h.zygote_fd = ends[1];
    z->event = event_new(zs->loop->base, z->fd, EV_READ | EV_PERSIST, on_message, z);
    pid_t pid = z->event && event_add(z->event, NULL) == 0 ? fm_launch(&zs->launch, &h) : -ENOMEM;
    close(ends[1]);
    if (pid > 0)
        z->pid = pid;
    else
        close_socket(z);
    return pid > 0 ? 0 : (int)pid;
}

int fm_zygotes_ask(struct fm_zygotes *zs, const struct fm_handed *h, void *worker, struct fm_zygote **of)
{
    struct fm_zygote_generation *g = generation(zs);
    int err = 0;
    *of = NULL;
    if (!g->zygote) {
        struct fm_zygote *z = find(zs, 0);
        err = z ? start(zs, z) : -EAGAIN;
        g->zygote = err == 0 ? z : NULL;
    }
    if (err == 0)
        err = fm_handed_send(g->zygote->fd, h);
    if (err == 0) {
        *of = g->zygote;
        (*of)->under_way = worker;
        return 0;
    }
    bool gone = err == -EPIPE || err == -ECONNRESET || err == -EBADF;
    retire(zs, g->zygote);
    return gone ? -EAGAIN : err;
}

/* ---- reload ---- */

void fm_zygotes_reload(struct fm_zygotes *zs)
{
    if (zs->reloading)
        retire(zs, zs->tried.zygote);
    zs->tried = (struct fm_zygote_generation){NULL, false};
    zs->reloading = true;
}

void fm_zygotes_keep(struct fm_zygotes *zs)
{
    if (!zs->reloading)
        return;
    retire(zs, zs->serving.zygote);
    zs->serving = zs->tried;
    zs->tried = (struct fm_zygote_generation){NULL, false};
    zs->reloading = false;
}

void fm_zygotes_drop(struct fm_zygotes *zs)
{
    if (!zs->reloading)
        return;
    retire(zs, zs->tried.zygote);
    zs->tried = (struct fm_zygote_generation){NULL, false};
    zs->reloading = false;
}

/* ---- the end ---- */

void fm_zygotes_end(struct fm_zygotes *zs)
{
    uint64_t until = fm_now() + FM_SEC;
    for (size_t i = 0; i < FM_ZYGOTES_MAX; i++) {
        struct fm_zygote *z = &zs->all[i];
        if (z->pid > 0)
            kill(z->pid, SIGKILL);
        while (z->pid > 0 && waitpid(z->pid, NULL, WNOHANG) == 0 && fm_now() < until)
            nanosleep(&(struct timespec){0, PAUSE}, NULL);
        close_socket(z);
        z->pid = 0;
    }
}

/* Loads the application and forks workers; see worker/zygote.h. */
#include "fermata/worker/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fermata/py/interp.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/log.h"
#include "fermata/util/owner.h"
#include "fermata/worker/end.h"
#include "fermata/worker/load.h"
#include "fermata/worker/logs.h"
#include "fermata/worker/privileges.h"
#include "fermata/worker/signals.h"
#include "fermata/worker/title.h"
#include "fermata/wsgi/preload.h"

#define PAUSE 100000L /* ns between two looks at whether the process in between is gone */

static bool own_fork; /* the child is a worker, or on the way to one, and keeps what is the server's */

static void in_child(void)
{
    if (!own_fork)
        fm_fds_in_child();
}

/* True: the arbiter is there. */
static bool say(const struct fm_handed *h, enum fm_zygote_word word, int value)
{
    struct fm_zygote_says says = {(int)word, value};
    return send(h->zygote_fd, &says, sizeof says, MSG_NOSIGNAL) == (ssize_t)sizeof says;
}

/* ---- forking ---- */

/* In the process in between: its child gets another parent when it ends.  Returns in that child. */
static void deliver(const struct fm_handed *zygote)
{
    pid_t worker = fork();
    if (worker < 0)
        fm_error("cannot fork a worker: %s", fm_strerror(-errno));
    if (worker == 0)
        return;
    if (!say(zygote, worker < 0 ? FM_ZYGOTE_BARREN : FM_ZYGOTE_BORN, (int)worker) && worker > 0)
        kill(worker, SIGKILL); /* the arbiter will never know of it */
    _exit(0);
}

/* In the worker: it is told to end if the arbiter is not there any more. */
static void find_parent(const struct fm_handed *h, pid_t between)
{
    while (getppid() == between)
        nanosleep(&(struct timespec){0, PAUSE}, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != h->arbiter)
        _exit(1);
}

/* In the worker, from here to its end. */
static void become_worker(const struct fm_handed *zygote, const struct fm_handed *h, pid_t between,
                          const sigset_t *mask) FM_NEEDS_GIL
{
    own_fork = false;
    fm_fds_close(zygote->zygote_fd);
    if (getpgrp() != getpgid(h->arbiter)) /* as for the zygote, which with --reload has stayed in that group */
        setpgid(0, 0);
    find_parent(h, between);
    prctl(PR_SET_NAME, FM_HANDED_NAME);
    fm_signals_forked();
    sigprocmask(SIG_SETMASK, mask, NULL);
    fm_interp_forked(true);
    fm_wsgi_preload_born();
}

/* What was printed is printed once. */
static void flush(void) FM_NEEDS_GIL
{
    fm_interp_flush();
    fflush(NULL);
}

/* True in the worker.  Signals are blocked from before the fork until the worker has handlers that know its pid. */
static bool fork_worker(const struct fm_handed *zygote, struct fm_handed *h) FM_NEEDS_GIL
{
    sigset_t all, before;
    fm_log_reopen(); /* the file may have been moved away: the worker begins with what is there now */
    fm_wsgi_preload_slot(h->slot);
    flush();
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    fm_interp_before_fork();
    own_fork = true;
    pid_t between = fork();
    if (between == 0) {
        between = getpid();
        deliver(zygote);
        become_worker(zygote, h, between, &before);
        return true;
    }
    int err = -errno;
    own_fork = false;
    fm_interp_forked(false);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (between < 0) {
        fm_error("cannot fork a worker: %s", fm_strerror(err));
        say(zygote, FM_ZYGOTE_BARREN, 0);
    }
    while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR)
        ;
    fm_handed_close(h);
    return false;
}

/* ---- life ---- */

/* False: it cannot be forked, or the arbiter is gone. */
static bool prepare(const struct fm_handed *h) FM_NEEDS_GIL
{
    bool can = fm_wsgi_preload_end() == 0;
    fm_handed_check(h, h->zygote_fd, "the socket to the arbiter");
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* the import may have changed the user, which takes it away */
    if (getppid() != h->arbiter || !say(h, can ? FM_ZYGOTE_LOADED : FM_ZYGOTE_ALONE, 0))
        return false;
    if (can)
        fm_info("The application is loaded; workers are forked from this process");
    return can;
}

/* atexit handlers are for the workers: what they put away may be in use there. */
static _Noreturn void leave(int code) FM_NEEDS_GIL
{
    flush();
    fm_logs_flush(fm_now() + FM_SEC);
    _exit(code);
}

/* Before the application is loaded.  Its workers open the access log as the user: it has to be there for that. */
static bool give_up_rights(const struct fm_options *o)
{
    bool is_path = o->access_logfile && *o->access_logfile == '/';
    int fd = is_path ? fm_owner_open(o->access_logfile, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY) : -1;
    if (fd >= 0)
        close(fd);
    return fm_privileges_drop(&o->identity) == 0;
}

int fm_zygote_run(const struct fm_options *o, const char *program, struct fm_handed *h) FM_UNCHECKED
{
    struct fm_handed zygote = *h;
    pthread_atfork(NULL, NULL, in_child);
    fm_title_set("zygote", o->name);
    prctl(PR_SET_NAME, "fermata-zygote");
    if (!give_up_rights(o))
        return FM_EXIT_OTHER;
    int code = fm_load_start(o, program);
    if (code != FM_EXIT_OK)
        return code;
    fm_wsgi_preload_begin();
    code =
        fm_load_prepare() ? fm_load_logging(o, o->capture_output && strcmp(o->error_logfile, "-") != 0) : FM_EXIT_APP;
    if (code == FM_EXIT_OK)
        code = fm_load_app(o);
    if (code != FM_EXIT_OK) {
        fm_interp_abandon();
        leave(code);
    }
    fm_signals_again(false); /* the import may have set handlers of its own */
    if (!prepare(&zygote))
        leave(FM_EXIT_OK);
    while (fm_handed_receive(&zygote, h) > 0)
        if (fork_worker(&zygote, h))
            return -1;
    leave(FM_EXIT_OK);
}

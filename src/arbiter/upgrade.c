/* Another program in the arbiter's place; see arbiter/upgrade.h. */
#include "fermata/arbiter/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fermata/admin/admin.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/worker/configure.h"
#include "fermata/worker/logs.h"
#include "fermata/worker/notify.h"

#define CHECK_TIME (20 * FM_SEC)
#define ADMIN_TIME FM_SEC /* a client that is slower loses its connection */
#define SAID "fermata can\n"

/* ---- the environment ---- */

struct environment {
    char variable[64];
    char **all; /* freed; its other texts are this process's */
};

/* Ours, with the variable, and what the service manager has set.  The settings that a file has made are a child's of
 * this process, which the check is: it is to read the file, as the program in our place will. */
static void make_environment(struct environment *e, bool check, int state_fd, int pipe_fd)
{
    static const char settings[] = FM_SETTINGS_VARIABLE "=";
    size_t n = 0;
    snprintf(e->variable, sizeof e->variable, FM_UPGRADE_VARIABLE "=%s:%d:%d", check ? "check" : "go", state_fd,
             pipe_fd);
    while (environ[n])
        n++;
    e->all = fm_calloc(n + 2 + FM_NOTIFY_VARIABLES, sizeof *e->all);
    n = 0;
    for (char **v = environ; *v; v++)
        if (!check || strncmp(*v, settings, sizeof settings - 1) != 0)
            e->all[n++] = *v;
    e->all[n++] = e->variable;
    fm_notify_variables(e->all + n);
}

/* In a child, or in this process: where the command was given, by the name by which it was. */
static void execute(const struct fm_upgrade *u, char **environment)
{
    if (fchdir(u->directory) == 0)
        execvpe(u->argv[0], u->argv, environment);
}

/* ---- the check ---- */

static _Noreturn void become_check(const struct fm_upgrade *u, char **environment, int state_fd, int pipe_fd)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fm_state_keep_open(u->state, true);
    fcntl(state_fd, F_SETFD, 0);
    fcntl(pipe_fd, F_SETFD, 0);
    execute(u, environment);
    static const char failed[] = "fermata: SIGUSR2: the program cannot be executed\n";
    (void)!write(STDERR_FILENO, failed, sizeof failed - 1);
    _exit(1);
}

static int start_check(struct fm_upgrade *u, int state_fd)
{
    int ends[2];
    struct environment e;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return -errno;
    make_environment(&e, true, state_fd, ends[1]);
    pid_t pid = fork();
    int err = -errno;
    if (pid == 0)
        become_check(u, e.all, state_fd, ends[1]);
    free(e.all);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return err;
    }
    u->checking = pid;
    u->pipe_fd = ends[0];
    return 0;
}

bool fm_upgrade_begin(struct fm_upgrade *u, uint64_t now)
{
    if (u->checking > 0 || u->checked) {
        fm_info("SIGUSR2: %s is being tried already", u->argv[0]);
        return false;
    }
    int fd = fm_state_write(u->state), err = fd < 0 ? fd : start_check(u, fd);
    if (fd >= 0)
        close(fd);
    if (err != 0) {
        fm_error("SIGUSR2: %s cannot be tried: %s; nothing is changed", u->argv[0], fm_strerror(err));
        return false;
    }
    u->until = now + CHECK_TIME;
    fm_info("SIGUSR2: trying %s, which is to take over", u->argv[0]);
    return true;
}

/* ---- taking over ---- */

/* Comes back only if it cannot; then all is as it was. */
static void take_over(struct fm_upgrade *u) FM_ON_LOOP
{
    struct environment e;
    int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = fm_state_write(u->state), err = fd;
    if (fd >= 0) {
        fm_info("SIGUSR2: %s takes over", u->argv[0]);
        fm_logs_flush(fm_now() + FM_SEC);
        make_environment(&e, false, fd, -1);
        fm_state_keep_open(u->state, true);
        fcntl(fd, F_SETFD, 0);
        execute(u, e.all);
        err = -errno;
        fm_state_keep_open(u->state, false);
        free(e.all);
        close(fd);
    }
    if (here >= 0 && fchdir(here) != 0)
        fm_warn("the current directory is gone");
    if (here >= 0)
        close(here);
    fm_error("SIGUSR2: %s cannot be executed: %s; the old program goes on", u->argv[0], fm_strerror(err));
}

/* Whoever has connected to the admin port is answered before. */
static void prepare(struct fm_upgrade *u, uint64_t now) FM_ON_LOOP
{
    u->checked = true;
    u->until = now + ADMIN_TIME;
    if (u->admin)
        fm_admin_pause(u->admin);
}

static uint64_t take_over_soon(struct fm_upgrade *u, uint64_t now) FM_ON_LOOP
{
    bool stopping = u->state->roster->stopping;
    if (!stopping && now < u->until && u->admin && fm_admin_is_busy(u->admin))
        return u->until;
    u->checked = false;
    if (!stopping)
        take_over(u);
    if (u->admin)
        fm_admin_resume(u->admin);
    return UINT64_MAX;
}

uint64_t fm_upgrade_tick(struct fm_upgrade *u, uint64_t now)
{
    if (u->checked)
        return take_over_soon(u, now);
    if (u->checking <= 0)
        return UINT64_MAX;
    if (now < u->until)
        return u->until;
    fm_error("SIGUSR2: %s does not come to an end", u->argv[0]);
    u->until = UINT64_MAX;
    kill(u->checking, SIGKILL);
    return UINT64_MAX;
}

void fm_upgrade_reaped(struct fm_upgrade *u, pid_t pid, int status)
{
    char said[sizeof SAID] = "", how[64];
    if (u->checking <= 0 || pid != u->checking)
        return;
    bool good = read(u->pipe_fd, said, sizeof said) == (ssize_t)strlen(SAID) && strcmp(said, SAID) == 0;
    close(u->pipe_fd);
    u->checking = 0;
    if (u->state->roster->stopping)
        return;
    if (good && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        prepare(u, fm_now());
        return;
    }
    if (WIFSIGNALED(status))
        snprintf(how, sizeof how, "was ended by signal %d", WTERMSIG(status));
    else
        snprintf(how, sizeof how, "has exited with %d", WEXITSTATUS(status));
    fm_error("SIGUSR2: %s %s instead of saying that it can take over; the old program goes on", u->argv[0], how);
}

/* ---- in the program that is started ---- */

bool fm_resumed_take(struct fm_resumed *r)
{
    const char *text = getenv(FM_UPGRADE_VARIABLE);
    char how[8] = "";
    *r = (struct fm_resumed){.state_fd = -1, .pipe_fd = -1};
    if (!text)
        return true;
    bool good = sscanf(text, "%7[a-z]:%d:%d", how, &r->state_fd, &r->pipe_fd) == 3 && r->state_fd > STDERR_FILENO;
    r->check = strcmp(how, "check") == 0;
    good = good && (r->check ? r->pipe_fd > STDERR_FILENO : strcmp(how, "go") == 0) &&
           fcntl(r->state_fd, F_SETFD, FD_CLOEXEC) == 0;
    if (!good)
        fprintf(stderr, "fermata: the environment's %s is %s, which is not what an arbiter writes\n",
                FM_UPGRADE_VARIABLE, text);
    unsetenv(FM_UPGRADE_VARIABLE);
    r->any = true;
    return good;
}

void fm_resumed_say_good(const struct fm_resumed *r)
{
    bool said = write(r->pipe_fd, SAID, strlen(SAID)) == (ssize_t)strlen(SAID);
    fm_logs_flush(fm_now() + FM_SEC);
    _exit(said ? 0 : 1);
}

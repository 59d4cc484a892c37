/* The command, executed again; see arbiter/launch.h. */
#include "fermata/arbiter/launch.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

/* In the child: becomes a worker.  It has a process group of its own, so that a key on the terminal is the arbiter's,
 * and is told to end if the arbiter is not there any more.  Signals stay blocked, as they are here, until it has
 * handlers for them (fm_handed_take): one that came before would kill it. */
static _Noreturn void become(const struct fm_launch *l, const struct fm_handed *h, char **environment, pid_t arbiter)
{
    static const char failed[] = "fermata: cannot start a worker\n";
    if (!l->terminal)
        setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != arbiter)
        _exit(1);
    fm_handed_give(h);
    if (fchdir(l->directory) == 0) {
        execve("/proc/self/exe", l->argv, environment);
        execve(l->argv[0], l->argv, environment); /* there is no /proc */
    }
    (void)!write(STDERR_FILENO, failed, sizeof failed - 1);
    _exit(1);
}

pid_t fm_launch(const struct fm_launch *l, const struct fm_handed *h)
{
    struct fm_handed_environment environment;
    pid_t arbiter = getpid();
    fm_handed_write(h, &environment);
    pid_t pid = fork();
    int err = -errno;
    if (pid == 0)
        become(l, h, environment.all, arbiter);
    free(environment.all);
    return pid < 0 ? err : pid;
}

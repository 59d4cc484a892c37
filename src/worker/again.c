/* This command, started again; see worker/again.h. */
#include "fermata/worker/again.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fermata/util/err.h"
#include "fermata/worker/handed.h"

/* This process's environment with the variable and without what is a worker's. */
static char **environment_with(char *variable)
{
    static const char *const others[] = {FM_HANDED_VARIABLE "=", FM_SLOT_VARIABLE "="};
    size_t n = 0, k = 0;
    while (environ[n])
        n++;
    char **all = fm_calloc(n + 2, sizeof *all);
    for (size_t i = 0; i < n; i++) {
        bool ours = false;
        for (size_t j = 0; j < sizeof others / sizeof *others; j++)
            ours = ours || strncmp(environ[i], others[j], strlen(others[j])) == 0;
        if (!ours)
            all[k++] = environ[i];
    }
    all[k] = variable;
    return all;
}

/* In the child.  Only what is async-signal-safe: an arbiter has threads. */
static _Noreturn void become(char **argv, char **environment, int directory, int fd, pid_t parent)
{
    static const char failed[] = "fermata: cannot be started again\n";
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent && fcntl(fd, F_SETFD, 0) == 0 && fchdir(directory) == 0) {
        execve("/proc/self/exe", argv, environment);
        execve(argv[0], argv, environment); /* there is no /proc */
    }
    (void)!write(STDERR_FILENO, failed, sizeof failed - 1);
    _exit(1);
}

int fm_again_start(struct fm_again *a, char **argv, int directory, const char *variable, int fd)
{
    char text[64];
    snprintf(text, sizeof text, "%s=%d", variable, fd);
    char **environment = environment_with(text);
    pid_t parent = getpid(), pid = fork();
    int err = pid < 0 ? -errno : 0;
    if (pid == 0)
        become(argv, environment, directory, fd, parent);
    free(environment);
    a->pid = pid;
    a->pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1; /* close-on-exec as it is */
    return err;
}

void fm_again_kill(const struct fm_again *a)
{
    if (a->pidfd >= 0) /* the number alone may be another process's by now */
        syscall(SYS_pidfd_send_signal, a->pidfd, SIGKILL, NULL, 0);
}

void fm_again_end(struct fm_again *a)
{
    if (a->pidfd >= 0)
        close(a->pidfd);
    *a = FM_AGAIN_NONE;
}

int fm_again_taken(const char *variable)
{
    const char *text = getenv(variable);
    struct stat st;
    char *end;
    long fd = text ? strtol(text, &end, 10) : -1;
    bool good = fd > STDERR_FILENO && fd < 1 << 20 && !*end && fstat((int)fd, &st) == 0 &&
                (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
    unsetenv(variable);
    return good ? (int)fd : -1;
}

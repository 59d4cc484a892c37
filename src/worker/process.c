/* Standard streams, and the init of a container; see worker/process.h. */
#include "fermata/worker/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void fm_process_streams(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO); /* the lowest number that is free each time */
    if (fd >= 0)
        close(fd);
}

static bool gets_orphans(void)
{
    int subreaper = 0;
    return getpid() == 1 || (prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper);
}

static _Noreturn void exit_as(int status)
{
    if (WIFEXITED(status))
        _exit(WEXITSTATUS(status));
    fprintf(stderr, "fermata: the server was ended by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
    _exit(128 + WTERMSIG(status));
}

/* Reaps whatever has ended until that is the server.  Nothing here allocates: of the two this one is not the one that
 * the kernel ends for want of memory. */
static _Noreturn void be_init(pid_t server, const sigset_t *all)
{
    prctl(PR_SET_NAME, "fermata-init");
    for (;;) {
        int number = sigwaitinfo(all, NULL), status;
        if (number > 0 && number != SIGCHLD)
            kill(server, number);
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
            if (pid == server)
                exit_as(status);
    }
}

/* What was meant for the process that was started is for the server. */
static void hand_on(const char *variable, pid_t init)
{
    const char *pid = getenv(variable);
    char own[16];
    snprintf(own, sizeof own, "%ld", (long)getpid());
    if (pid && strtol(pid, NULL, 10) == (long)init)
        setenv(variable, own, 1);
}

/* The server has a process group of its own, so that a key on the terminal is not sent to both, and handed on. */
static void become_server(pid_t init, bool foreground)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != init)
        _exit(1); /* it was killed already */
    hand_on("LISTEN_PID", init);
    hand_on("WATCHDOG_PID", init);
    setpgid(0, 0);
    if (foreground)
        tcsetpgrp(STDIN_FILENO, getpgrp());
}

void fm_process_orphans(void (*begin)(void))
{
    sigset_t all, before;
    /* Where another program ran in this process before, it has an init, or needs none. */
    if (getenv(FM_UPGRADE_VARIABLE) || !gets_orphans()) {
        begin();
        return;
    }
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    signal(SIGCHLD, SIG_DFL); /* who starts a process may have it ignored, and then there is nothing to wait for */
    bool foreground = isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp();
    pid_t init = getpid(), server = fork();
    if (server < 0)
        fprintf(stderr, "fermata: cannot fork: %s; orphans of the application are not reaped\n", strerror(errno));
    else if (server > 0)
        be_init(server, &all);
    else
        become_server(init, foreground);
    begin();
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* Signal handlers; see worker/signals.h. */
#include "fermata/worker/signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "fermata/py/interp.h"
#include "fermata/util/bell.h"

static const int caught[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGWINCH};
#define NCAUGHT (sizeof caught / sizeof *caught)
#define ENDING (FM_SIGNAL(SIGTERM) | FM_SIGNAL(SIGINT) | FM_SIGNAL(SIGQUIT))

static pid_t server_pid;
static struct sigaction before[NCAUGHT], before_pipe; /* what was set when we came */
static struct fm_bell wanted;
static atomic_uint noted; /* these are lock-free, so a handler may use them */
static atomic_uint interrupts;
static atomic_bool held, interrupting, end_noted;
static atomic_bool deaf; /* Python has no handler for SIGINT: see look_at_sigint */

static void say(const char *text, size_t len) { (void)!write(STDERR_FILENO, text, len); }

static void on_signal(int number);

/* An import that has set SIGINT to its default, or to be ignored, cannot be interrupted: PyErr_SetInterrupt would do
 * nothing, or crash, because it then compares Python's objects in a thread that may have none of Python's state.  What
 * was set is to be seen until it is taken back. */
static void look_at_sigint(void)
{
    struct sigaction action;
    if (sigaction(SIGINT, NULL, &action) == 0 && action.sa_handler != on_signal)
        atomic_store(&deaf, action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN);
}

static void on_signal(int number)
{
    static const char early[] = "fermata: told to end before it had begun\n";
    int saved = errno;
    if (getpid() != server_pid) { /* a child that the application has forked: it ends as any process does */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    if (number == SIGINT && atomic_fetch_add(&interrupts, 1) > 0)
        _exit(1); /* the second one: at once */
    if (FM_SIGNAL(number) & ENDING) {
        atomic_store(&end_noted, true);
        if (!atomic_load(&held)) {
            say(early, sizeof early - 1);
            _exit(0);
        }
        look_at_sigint();
        if (atomic_load(&interrupting) && !atomic_load(&deaf))
            fm_interp_interrupt();
    }
    atomic_fetch_or(&noted, FM_SIGNAL(number));
    fm_bell_ring(&wanted);
    errno = saved;
}

static void on_stacks(int number)
{
    int saved = errno;
    (void)number;
    if (getpid() == server_pid) {
        atomic_fetch_or(&noted, FM_SIGNAL(FM_SIGNAL_STACKS));
        fm_bell_ring(&wanted);
    }
    errno = saved;
}

void fm_signals_stacks(void)
{
    struct sigaction action = {.sa_handler = on_stacks, .sa_flags = SA_RESTART};
    sigaction(FM_STACKS_NUMBER, &action, NULL);
}

static void catch (int number, int flags)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    sigaction(number, &action, NULL);
}

void fm_signals_first(void)
{
    server_pid = getpid();
    sigaction(SIGPIPE, NULL, &before_pipe);
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < NCAUGHT; i++) {
        sigaction(caught[i], NULL, &before[i]);
        bool nohup = caught[i] == SIGHUP && before[i].sa_handler == SIG_IGN;
        if (!nohup)
            catch (caught[i], 0); /* what is being imported shall be interrupted */
    }
}

void fm_signals_forked(void)
{
    server_pid = getpid();
    atomic_store(&noted, 0);
    atomic_store(&interrupts, 0);
}

void fm_signals_last(void)
{
    struct sigaction action;
    for (size_t i = 0; i < NCAUGHT; i++)
        if (sigaction(caught[i], NULL, &action) == 0 && action.sa_handler == on_signal)
            sigaction(caught[i], &before[i], NULL);
    sigaction(SIGPIPE, &before_pipe, NULL);
}

void fm_signals_hold(void) { atomic_store(&held, true); }

void fm_signals_again(bool loaded)
{
    int flags = loaded ? SA_RESTART : 0; /* requests are not interrupted by what is none of their business */
    struct sigaction action;
    for (size_t i = 0; i < NCAUGHT; i++) {
        bool ours = sigaction(caught[i], NULL, &action) == 0 && action.sa_handler == on_signal;
        if (ours || caught[i] == SIGTERM || caught[i] == SIGINT)
            catch (caught[i], flags);
    }
    /* Command line programs like to set it back to the default, which is to end: sendfile, and a log that is a pipe,
     * have no MSG_NOSIGNAL. */
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

void fm_signals_take_back(void)
{
    static const int ends[] = {SIGTERM, SIGINT};
    struct sigaction action;
    look_at_sigint();
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (sigaction(ends[i], NULL, &action) == 0 && action.sa_handler != on_signal)
            catch (ends[i], 0);
}

void fm_signals_interrupt(bool on) { atomic_store(&interrupting, on); }

bool fm_signals_end_noted(void) { return atomic_load(&end_noted); }

unsigned fm_signals_wait(uint64_t until)
{
    fm_bell_wait(&wanted, until);
    return fm_signals_taken();
}

unsigned fm_signals_taken(void) { return atomic_exchange(&noted, 0); }

void fm_signals_poke(void) { fm_bell_ring(&wanted); }

void fm_signals_take_here(void)
{
    sigset_t set;
    sigfillset(&set);
    for (size_t i = 0; i < NCAUGHT; i++)
        sigdelset(&set, caught[i]);
    sigdelset(&set, FM_STACKS_NUMBER);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}

/* The screen of `fermata top`; see command/top.h.
 *
 * Signals are taken from a descriptor (signalfd(2)), so that one poll waits for all there is: the next look, keys, a
 * screen of another size, the end.  The terminal cuts lines that are too long for it, because where it would begin a
 * new line is switched off. */
#include "fermata/command/top.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "fermata/command/show.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"

#define PAUSE (2 * FM_SEC)

/* Another screen, from which the shell's comes back; no cursor; no new line where one is too long. */
#define ENTER "\033[?1049h\033[?25l\033[?7l"
#define LEAVE "\033[?7h\033[?25h\033[?1049l"
#define BEGIN "\033[H"
#define END_OF_LINE "\033[K\n"
#define REST "\033[J"

struct top {
    const struct fm_target *target;
    struct fm_wanted wanted;
    bool screen, keys; /* standard output is a terminal; and standard input, too */
    int signals;       /* a descriptor */
    struct termios before;
    struct fm_buf text; /* the last answer, or what is said in its place */
};

/* ---- the terminal ---- */

static void enter(struct top *top)
{
    if (top->keys) {
        struct termios raw = top->before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    }
    if (top->screen)
        fputs(ENTER, stdout);
}

static void leave(struct top *top)
{
    if (top->screen)
        fputs(LEAVE, stdout);
    fflush(stdout);
    if (top->keys)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &top->before);
}

static unsigned rows(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : 24;
}

/* The first of the lines, as many as there is room for; the last row says how many there are more. */
static void draw(const struct fm_buf *text)
{
    unsigned room = rows() - 1, n = 0, more = 0;
    size_t size = fm_buf_size(text);
    const char *line = size > 0 ? fm_buf_head(text) : "", *end = line + size;
    fputs(BEGIN, stdout);
    while (line < end) {
        const char *feed = memchr(line, '\n', (size_t)(end - line));
        if (n++ < room)
            printf("%.*s" END_OF_LINE, (int)((feed ? feed : end) - line), line);
        else
            more++;
        line = feed ? feed + 1 : end;
    }
    if (more > 0)
        printf("(%u lines more)\033[K", more);
    fputs(REST, stdout);
}

/* ---- the server ---- */

/* False if there is no good answer at all; text is what is to be shown, in either case: what it was, if there is a
 * signal or a key first. */
static bool look(struct top *top)
{
    char why[FM_SENTENCE];
    struct fm_buf text = FM_BUF_INIT;
    top->wanted.ends[0] = top->signals;
    top->wanted.ends[1] = top->keys ? STDIN_FILENO : -1;
    bool good = fm_collect(top->target, &top->wanted, &text, why), any = good || fm_buf_size(&text) > 0;
    if (!good && !*why) {
        fm_buf_fini(&text);
        return true;
    }
    fm_buf_fini(&top->text);
    if (!any)
        fm_buf_printf(&text, "%s\n", why);
    top->text = fm_show_safe(&text);
    fm_buf_fini(&text);
    return any;
}

static bool show(struct top *top)
{
    if (top->screen)
        draw(&top->text);
    else
        printf("%.*s\n", (int)fm_buf_size(&top->text), fm_buf_size(&top->text) ? fm_buf_head(&top->text) : "");
    return fflush(stdout) == 0;
}

/* ---- what happens meanwhile ---- */

/* True if it is the end. */
static bool take_signal(struct top *top)
{
    struct signalfd_siginfo info;
    if (read(top->signals, &info, sizeof info) != sizeof info)
        return false;
    if (info.ssi_signo == SIGTSTP) {
        leave(top);
        kill(getpid(), SIGSTOP);
        enter(top);
    }
    if (info.ssi_signo == SIGTSTP || info.ssi_signo == SIGWINCH)
        return top->screen && !show(top);
    return true;
}

static bool take_keys(struct top *top)
{
    char keys[64];
    ssize_t n = read(STDIN_FILENO, keys, sizeof keys);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
        top->keys = false; /* the terminal is gone */
    return n > 0 && (memchr(keys, 'q', (size_t)n) || memchr(keys, 'Q', (size_t)n));
}

/* False if it is the end. */
static bool wait_until(struct top *top, uint64_t until)
{
    for (uint64_t now; (now = fm_now()) < until;) {
        struct pollfd fds[] = {{top->signals, POLLIN, 0}, {top->keys ? STDIN_FILENO : -1, POLLIN, 0}};
        if (poll(fds, 2, (int)((until - now) / FM_MS) + 1) < 0)
            continue;
        if ((fds[0].revents && take_signal(top)) || (fds[1].revents && take_keys(top)))
            return false;
    }
    return true;
}

int fm_top(const struct fm_target *t, const struct fm_wanted *wanted)
{
    static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP};
    struct top top = {
        .target = t, .wanted = *wanted, .text = FM_BUF_INIT, .screen = isatty(STDOUT_FILENO), .signals = -1};
    sigset_t set, before;
    if (!look(&top)) {
        fm_buf_append(&top.text, "", 1);
        fm_show_complaint(top.text.failed ? "no memory" : fm_buf_head(&top.text));
        fm_buf_fini(&top.text);
        return 1;
    }
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        sigaddset(&set, taken[i]);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    top.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    top.keys = top.screen && tcgetattr(STDIN_FILENO, &top.before) == 0;
    enter(&top);
    bool good = show(&top);
    while (good && wait_until(&top, fm_now() + PAUSE)) {
        look(&top);
        good = show(&top);
    }
    leave(&top);
    fm_buf_fini(&top.text);
    if (top.signals >= 0)
        close(top.signals);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return good ? 0 : 1;
}

/* The commands beside serving; see command/command.h. */
#include "fermata/command/command.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/command/collect.h"
#include "fermata/command/show.h"
#include "fermata/command/target.h"
#include "fermata/command/top.h"
#include "fermata/config/commands.h"
#include "fermata/util/err.h"

#define EXIT_ANSWER 1
#define EXIT_USAGE 2

struct given {
    enum fm_command command;
    const char *address; /* or NULL */
    long pid;            /* or 0 */
    int worker;          /* or -1 */
    bool json, help;
};

/* FM_COMMAND_COUNT: none. */
static enum fm_command find(int argc, char *const *argv)
{
    unsigned i = 0;
    while (i < FM_COMMAND_COUNT && (argc < 2 || strcmp(argv[1], fm_commands[i].word) != 0))
        i++;
    return (enum fm_command)i;
}

bool fm_command_is_one(int argc, char *const *argv) { return find(argc, argv) != FM_COMMAND_COUNT; }

/* ---- what it is given ---- */

static int help(const struct given *g)
{
    const char *word = fm_commands[g->command].word;
    printf(
        "usage: fermata %s %s\n\nShows %s.\n\n"
        "ADDRESS is that of --admin-bind: HOST:PORT, http://HOST:PORT or unix:PATH.  --pid N is the process of the\n"
        "server, or its arbiter.  Without either it is the only server with an admin port that this user runs here.\n"
        "Of a server with workers each is shown, or with --worker N that in slot N.\n",
        word, fm_commands[g->command].arguments, fm_commands[g->command].help);
    if (g->command == FM_COMMAND_STATUS)
        puts("With --json it is /status.json, of several workers an object of these by slot; else /status.txt.");
    printf("\nA module that is called %s is served by fermata %s:CALLABLE, or fermata -- %s.\n", word, word, word);
    return fflush(stdout) == 0 ? 0 : EXIT_ANSWER;
}

static void show_usage(const struct given *g)
{
    const char *word = fm_commands[g->command].word;
    fprintf(stderr, "usage: fermata %s %s\n       (a module that is called %s is served by fermata %s:CALLABLE)\n",
            word, fm_commands[g->command].arguments, word, word);
}

static bool complain(const struct given *g, const char *what, const char *problem)
{
    char text[FM_SENTENCE];
    snprintf(text, sizeof text, "%s: %.200s: %s", fm_commands[g->command].word, what, problem);
    fm_show_complaint(text);
    show_usage(g);
    return false;
}

static bool take_pid(struct given *g, const char *text)
{
    char *end;
    g->pid = text && *text >= '1' && *text <= '9' ? strtol(text, &end, 10) : 0;
    return (g->pid > 0 && g->pid <= 1 << 30 && *end == '\0') ||
           complain(g, "--pid", "it takes the number of a process");
}

static bool take_worker(struct given *g, const char *text)
{
    char *end;
    long n = text && *text >= '0' && *text <= '9' ? strtol(text, &end, 10) : -1;
    g->worker = n >= 0 && n <= 65535 && *end == '\0' ? (int)n : -1;
    return g->worker >= 0 || complain(g, "--worker", "it takes the number of a worker, its slot");
}

static bool take(struct given *g, int argc, char *const *argv)
{
    for (int i = 2; i < argc; i++) {
        const char *word = argv[i];
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
            g->help = true;
        else if (strcmp(word, "--json") == 0 && g->command == FM_COMMAND_STATUS)
            g->json = true;
        else if (strcmp(word, "--pid") == 0) {
            if (!take_pid(g, i + 1 < argc ? argv[++i] : NULL))
                return false;
        } else if (strncmp(word, "--pid=", 6) == 0) {
            if (!take_pid(g, word + 6))
                return false;
        } else if (strcmp(word, "--worker") == 0) {
            if (!take_worker(g, i + 1 < argc ? argv[++i] : NULL))
                return false;
        } else if (strncmp(word, "--worker=", 9) == 0) {
            if (!take_worker(g, word + 9))
                return false;
        } else if (*word == '-')
            return complain(g, word, "there is no such option");
        else if (g->address)
            return complain(g, word, "there is an address already");
        else
            g->address = word;
    }
    return g->help || !g->address || g->pid == 0 || complain(g, g->address, "an address, or --pid, but not both");
}

/* ---- doing it ---- */

/* The exit code; 0: *t is who to ask. */
static int find_target(const struct given *g, struct fm_target *t)
{
    char why[FM_SENTENCE];
    bool found = g->address ? fm_target_parse(t, g->address, why)
                 : g->pid   ? fm_target_of_process(t, g->pid, why)
                            : fm_target_find(t, why);
    if (!found)
        fm_show_complaint(why);
    if (!found && g->address) {
        fputs("ADDRESS is HOST:PORT, http://HOST:PORT or unix:PATH\n", stderr);
        show_usage(g);
    }
    return found ? 0 : g->address ? EXIT_USAGE : EXIT_ANSWER;
}

static int print(const struct fm_buf *text)
{
    struct fm_buf safe = fm_show_safe(text);
    const char *problem = safe.failed ? fm_strerror(-ENOMEM) : NULL;
    errno = 0;
    if (!problem && fm_buf_size(&safe) > 0)
        fwrite(fm_buf_head(&safe), fm_buf_size(&safe), 1, stdout);
    if (!problem && (fflush(stdout) != 0 || ferror(stdout)))
        problem = fm_strerror(errno ? -errno : -EIO);
    if (problem) {
        char why[FM_SENTENCE];
        snprintf(why, sizeof why, "standard output: %s", problem);
        fm_show_complaint(why);
    }
    fm_buf_fini(&safe);
    return problem ? EXIT_ANSWER : 0;
}

static int ask(const struct fm_target *t, const struct fm_wanted *wanted)
{
    char why[FM_SENTENCE];
    struct fm_buf text = FM_BUF_INIT;
    bool good = fm_collect(t, wanted, &text, why);
    int code = good || fm_buf_size(&text) > 0 ? print(&text) : EXIT_ANSWER;
    if (!good)
        fm_show_complaint(why);
    fm_buf_fini(&text);
    return good ? code : EXIT_ANSWER;
}

int fm_command_run(int argc, char *const *argv)
{
    struct given g = {.command = find(argc, argv), .worker = -1};
    struct fm_target target;
    signal(SIGINT, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    if (!take(&g, argc, argv))
        return EXIT_USAGE;
    if (g.help)
        return help(&g);
    int code = find_target(&g, &target);
    if (code != 0)
        return code;
    struct fm_wanted wanted = {"GET", g.json ? "/status.json" : "/status.txt", true, g.json, g.worker, {-1, -1}};
    if (g.command == FM_COMMAND_STACKS)
        wanted = (struct fm_wanted){"POST", "/stacks", false, false, g.worker, {-1, -1}};
    return g.command == FM_COMMAND_TOP ? fm_top(&target, &wanted) : ask(&target, &wanted);
}

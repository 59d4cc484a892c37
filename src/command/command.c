/* The commands beside serving; see command/command.h. */
#include "fermata/command/command.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/command/ask.h"
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
        "server, or its arbiter.  Without either it is the only server with an admin port that this user runs here.\n",
        word, fm_commands[g->command].arguments, fm_commands[g->command].help);
    if (g->command == FM_COMMAND_STATUS)
        puts("With --json it is /status.json, else /status.txt.");
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

static int ask(const struct fm_target *t, const char *method, const char *path)
{
    char why[FM_SENTENCE];
    struct fm_told told;
    int code = EXIT_ANSWER;
    if (!fm_ask(t, method, path, &told, why)) {
        fm_show_complaint(why);
    } else if (told.status == 200) {
        code = print(&told.body);
    } else {
        snprintf(why, sizeof why, "%.500s: %d: %.*s", t->text, told.status,
                 (int)(fm_buf_size(&told.body) < 400 ? fm_buf_size(&told.body) : 400),
                 fm_buf_size(&told.body) ? fm_buf_head(&told.body) : "");
        fm_show_complaint(why);
    }
    fm_buf_fini(&told.body);
    return code;
}

int fm_command_run(int argc, char *const *argv)
{
    struct given g = {.command = find(argc, argv)};
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
    switch (g.command) {
    case FM_COMMAND_TOP: return fm_top(&target);
    case FM_COMMAND_STACKS: return ask(&target, "POST", "/stacks");
    default: return ask(&target, "GET", g.json ? "/status.json" : "/status.txt");
    }
}

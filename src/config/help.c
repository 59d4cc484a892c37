/* --help in its three forms; see help.h. */
#include "help.h"

#include <stdio.h>
#include <string.h>

#include "fermata/config/commands.h"
#include "fermata/util/version.h"

#define USAGE "[options] MODULE[:CALLABLE] [-- ARGUMENTS]"

const struct fm_command_text fm_commands[] = {
#define X(id, word, arguments, help) {word, arguments, help},
    FM_COMMANDS(X)
#undef X
};

static void put_commands(FILE *to)
{
    fputs("\ncommands, where the first argument is one (fermata COMMAND --help says more):\n", to);
    for (size_t i = 0; i < FM_COMMAND_COUNT; i++)
        fprintf(to, "  %-8s %-42s %s\n", fm_commands[i].word, fm_commands[i].arguments, fm_commands[i].help);
}

void fm_options_help(FILE *to)
{
    fprintf(to,
            "usage: fermata " USAGE "\n\n"
            "Serves a WSGI or WSGI+ application.  CALLABLE may be dotted, or a call such as create_app(\"prod\");\n"
            "without it `application`, then `app`, is looked for.  ARGUMENTS are the application's: sys.argv[1:].\n");
    put_commands(to);
    fputs("\noptions:\n", to);
    for (size_t i = 0; i < fm_option_count; i++) {
        const struct fm_option *o = &fm_option_table[i];
        char left[64], letter[5] = "    ";
        if (o->letter)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "  %s--%s %s", letter, o->name, o->arg ? o->arg : "");
        fprintf(to, "%-40s %s", left, o->help);
        if (o->fallback)
            fprintf(to, " [%s]", o->fallback);
        fputc('\n', to);
    }
}

/* ---- the man page ---- */

/* Text of a man page: no line of it is taken for a request, and dashes are those of a keyboard. */
static void put_man(FILE *to, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", to);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", to);
        else if (*text == '-')
            fputs("\\-", to);
        else
            fputc(*text, to);
    }
}

static void put_man_option(FILE *to, const struct fm_option *o)
{
    char aliases[256];
    fputs(".TP\n.B ", to);
    if (o->letter)
        fprintf(to, "\\-%c, ", o->letter);
    fputs("\\-\\-", to);
    put_man(to, o->name);
    if (o->arg)
        fprintf(to, " \\fI%s\\fP", o->arg);
    fputc('\n', to);
    put_man(to, o->help);
    if (o->fallback) {
        fputs(" [", to);
        put_man(to, o->fallback);
        fputc(']', to);
    }
    if (*fm_option_aliases(o, "--", aliases, sizeof aliases)) {
        fputs("\n.br\nAlso: ", to);
        put_man(to, aliases);
    }
    fputc('\n', to);
}

static const struct {
    const char *head, *text;
} sections[] = {
    {"FILES",
     "With \\fB\\-c\\fP \\fIFILE\\fP options are read from a file: Python with gunicorn's names and hooks if its name "
     "does not end in .toml, else TOML; of pyproject.toml it is the table tool.fermata.  Names are those of the "
     "options "
     "with underscores, or gunicorn's.  No file is read that was not named."},
    {"ENVIRONMENT",
     "\\fBFERMATA_CMD_ARGS\\fP, or \\fBGUNICORN_CMD_ARGS\\fP if that is not set: options, which those of the command "
     "line "
     "replace.  \\fBPORT\\fP, \\fBWEB_CONCURRENCY\\fP, \\fBFORWARDED_ALLOW_IPS\\fP, \\fBSCRIPT_NAME\\fP and "
     "\\fBVIRTUAL_ENV\\fP are what \\-\\-bind, \\-\\-workers, \\-\\-forwarded\\-allow\\-ips, \\-\\-root\\-path and "
     "\\-\\-venv are where they are not given."},
    {"EXIT STATUS", "0: it has served, and drained.  2: an option is wrong, or the file.  3: the application could not "
                    "be loaded.  4: it "
                    "has drained, and something had to be killed.  1: anything else."},
};

static void put_man_commands(FILE *to)
{
    fputs(".SH COMMANDS\nWhere the first argument is one of these words, as it stands, a server that runs is asked, by "
          "its\n"
          "admin port (\\-\\-admin\\-bind), and none is started.  A module that is called so is served by\n"
          "\\fBfermata\\fP \\fImodule\\fP:\\fIcallable\\fP, or behind \\-\\-.  ADDRESS is HOST:PORT, http://HOST:PORT "
          "or\n"
          "unix:PATH; without it and \\-\\-pid it is the only server that this user runs.  Of a server with workers "
          "each is\n"
          "shown, or the one in slot N by \\-\\-worker N.  Exit status 1: there was no\n"
          "answer, or no good one.\n",
          to);
    for (size_t i = 0; i < FM_COMMAND_COUNT; i++) {
        fprintf(to, ".TP\n.B fermata %s \\fR", fm_commands[i].word);
        put_man(to, fm_commands[i].arguments);
        fprintf(to, "\n%s\n", fm_commands[i].help);
    }
}

static void put_man_page(FILE *to)
{
    fputs(".TH FERMATA 1 \"\" \"fermata " FM_VERSION "\"\n"
          ".SH NAME\nfermata \\- a server for WSGI and WSGI+ applications\n"
          ".SH SYNOPSIS\n.B fermata\n" USAGE "\n"
          ".SH DESCRIPTION\nServes a WSGI or WSGI+ application.  CALLABLE may be dotted, or a call such as\n"
          "create_app(\"prod\"); without it `application`, then `app`, is looked for.  ARGUMENTS are the\n"
          "application's: sys.argv[1:].\n"
          ".SH OPTIONS\n",
          to);
    for (size_t i = 0; i < fm_option_count; i++)
        put_man_option(to, &fm_option_table[i]);
    put_man_commands(to);
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        fprintf(to, ".SH %s\n%s\n", sections[i].head, sections[i].text);
}

/* ---- the manual's table ---- */

static void put_settings(FILE *to)
{
    char setting[FM_SETTING_SIZE], aliases[256];
    fputs("| option | in a file | also | default |\n| --- | --- | --- | --- |\n", to);
    for (size_t i = 0; i < fm_option_count; i++) {
        const struct fm_option *o = &fm_option_table[i];
        if (o->kind == KIND_HELP || o->kind == KIND_VERSION)
            continue;
        fm_option_aliases(o, "--", aliases, sizeof aliases);
        fprintf(to, "| `--%s` | `%s` | %s%s%s | %s%s%s |\n", o->name, fm_option_setting_name(o, setting),
                *aliases ? "`" : "", aliases, *aliases ? "`" : "", o->fallback ? "`" : "",
                o->fallback ? o->fallback : "", o->fallback ? "`" : "");
    }
}

bool fm_options_show(const struct fm_shown *what, const char *python)
{
    if (what->kind == KIND_VERSION)
        printf("fermata %s (Python %s)\n", FM_VERSION, python);
    else if (!what->value)
        fm_options_help(stdout);
    else if (strcmp(what->value, "man") == 0)
        put_man_page(stdout);
    else if (strcmp(what->value, "settings") == 0)
        put_settings(stdout);
    else
        return false;
    return fflush(stdout) == 0;
}

/* The words that are commands where the first argument is one of them, and not the name of a module to serve. */
#ifndef FERMATA_CONFIG_COMMANDS_H
#define FERMATA_CONFIG_COMMANDS_H

/* X(ID, "word", "arguments", "what it does") */
#define FM_COMMANDS(X)                                                                                                 \
    X(STATUS, "status", "[ADDRESS | --pid N] [--worker N] [--json]",                                                   \
      "what a server is doing, and where its requests wait")                                                           \
    X(TOP, "top", "[ADDRESS | --pid N] [--worker N]", "that status, again every two seconds until q")                  \
    X(STACKS, "stacks", "[ADDRESS | --pid N] [--worker N]", "where the threads are that run the application")

enum fm_command {
#define X(id, word, arguments, help) FM_COMMAND_##id,
    FM_COMMANDS(X)
#undef X
        FM_COMMAND_COUNT,
};

extern const struct fm_command_text {
    const char *word, *arguments, *help;
} fm_commands[FM_COMMAND_COUNT];

#endif

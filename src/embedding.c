/* The binary: a program that embeds Python. */
#include "fermata/command/command.h"
#include "fermata/main.h"
#include "fermata/worker/process.h"
#include "fermata/worker/signals.h"
#include "fermata/worker/title.h"

int main(int argc, char **argv)
{
    argv = fm_title_take(argc, argv);
    fm_process_streams();
    if (fm_command_is_one(argc, argv))
        return fm_command_run(argc, argv);
    fm_process_orphans(fm_signals_first);
    return fm_main(argc, argv, false);
}

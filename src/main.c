/* The command, from its options to its exit code; see main.h. */
#include "fermata/main.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/arbiter/arbiter.h"
#include "fermata/config/options.h"
#include "fermata/py/interp.h"
#include "fermata/util/annotate.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/worker/logs.h"
#include "fermata/worker/worker.h"

int fm_main(int argc, char **argv, bool alone) FM_UNCHECKED
{
    static struct fm_options options; /* used by threads to the very end */
    struct fm_handed handed;
    switch (fm_options_parse(&options, argc, argv, fm_interp_version())) {
    case FM_OPTIONS_SHOWN: return 0;
    case FM_OPTIONS_WRONG: return 2;
    case FM_OPTIONS_RUN: break;
    }
    if (!fm_handed_take(&handed))
        return 1;
    if (options.umask >= 0)
        umask((mode_t)options.umask);
    if (alone)
        options.workers = 0;
    bool arbiter = options.workers > 0 && !handed.any;
    int code = fm_logs_open(&options, arbiter);
    if (code != 0)
        return code;
    int directory = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC); /* workers begin where this has */
    if (options.chdir && chdir(options.chdir) != 0) {
        fprintf(stderr, "fermata: --chdir %s: %s\n", options.chdir, fm_strerror(-errno));
        return 2;
    }
    if (arbiter) {
        char **again = fm_interp_again(argc, argv);
        return again ? fm_arbiter_run(&options, again, directory) : 1;
    }
    if (directory >= 0)
        close(directory);
    code = fm_worker_run(&options, argv[0], &handed);
    fm_logs_flush(fm_now() + FM_SEC);
    return code;
}

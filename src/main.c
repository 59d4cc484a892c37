/* fermata: the command. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/arbiter/arbiter.h"
#include "fermata/config/options.h"
#include "fermata/py/interp.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/worker/logs.h"
#include "fermata/worker/process.h"
#include "fermata/worker/signals.h"
#include "fermata/worker/worker.h"
#include "fermata/worker/zygote.h"

int main(int argc, char **argv)
{
    struct fm_options options;
    struct fm_handed handed;
    fm_process_streams();
    fm_process_orphans(fm_signals_first);
    switch (fm_options_parse(&options, argc, argv, fm_interp_version())) {
    case FM_OPTIONS_SHOWN: return 0;
    case FM_OPTIONS_WRONG: return 2;
    case FM_OPTIONS_RUN: break;
    }
    if (!fm_handed_take(&handed))
        return 1;
    if (options.umask >= 0)
        umask((mode_t)options.umask);
    bool arbiter = options.workers > 0 && !handed.any;
    int code = fm_logs_open(&options, arbiter);
    if (code != 0)
        return code;
    if (handed.zygote_fd < 0)
        fm_logs_gather(&options);
    int directory = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC); /* workers begin where this has */
    if (options.chdir && chdir(options.chdir) != 0) {
        fprintf(stderr, "fermata: --chdir %s: %s\n", options.chdir, fm_strerror(-errno));
        return 2;
    }
    if (arbiter)
        return fm_arbiter_run(&options, argv, directory);
    if (directory >= 0)
        close(directory);
    if (handed.zygote_fd >= 0) {
        code = fm_zygote_run(&options, argv[0], &handed);
        if (code >= 0)
            return code;
        fm_logs_gather(&options); /* in a worker from here on */
    }
    code = fm_worker_run(&options, argv[0], &handed);
    fm_logs_flush(fm_now() + FM_SEC);
    return code;
}

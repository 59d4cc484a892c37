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
#include "fermata/util/log.h"
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
    fm_log_set_level(options.log_level);
    int err = fm_log_open(options.error_logfile);
    if (err != 0) {
        fprintf(stderr, "fermata: --error-logfile %s: %s\n", options.error_logfile, fm_strerror(err));
        return 1;
    }
    int directory = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC); /* workers begin where this has */
    if (options.chdir && chdir(options.chdir) != 0) {
        fprintf(stderr, "fermata: --chdir %s: %s\n", options.chdir, fm_strerror(-errno));
        return 2;
    }
    if (options.workers > 0 && !handed.any)
        return fm_arbiter_run(&options, argv, directory);
    if (directory >= 0)
        close(directory);
    int code = handed.zygote_fd >= 0 ? fm_zygote_run(&options, argv[0], &handed) : -1;
    if (code < 0) /* a worker: executed, or forked just now */
        code = fm_worker_run(&options, argv[0], &handed);
    fm_log_flush(fm_now() + FM_SEC);
    return code;
}

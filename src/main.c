/* fermata: the command. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/arbiter/arbiter.h"
#include "fermata/config/options.h"
#include "fermata/py/interp.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/worker/activation.h"
#include "fermata/worker/logs.h"
#include "fermata/worker/notify.h"
#include "fermata/worker/privileges.h"
#include "fermata/worker/process.h"
#include "fermata/worker/signals.h"
#include "fermata/worker/title.h"
#include "fermata/worker/worker.h"

int main(int argc, char **argv)
{
    struct fm_options options;
    struct fm_handed handed;
    struct fm_resumed resumed;
    argv = fm_title_take(argc, argv);
    fm_process_streams();
    if (getenv(FM_UPGRADE_VARIABLE)) /* this process has an init, or needs none, since another program ran in it */
        fm_signals_first();
    else
        fm_process_orphans(fm_signals_first);
    switch (fm_options_parse(&options, argc, argv, fm_interp_version())) {
    case FM_OPTIONS_SHOWN: return 0;
    case FM_OPTIONS_WRONG: return 2;
    case FM_OPTIONS_RUN: break;
    }
    if (!fm_handed_take(&handed) || !fm_resumed_take(&resumed))
        return 1;
    if (!fm_privileges_prepare(&options.identity)) {
        fputs("fermata: --user, --group: only root can become another user or group\n", stderr);
        return 2;
    }
    if (options.umask >= 0)
        umask((mode_t)options.umask);
    bool arbiter = options.workers > 0 && !handed.any;
    int code = fm_logs_open(&options, arbiter);
    if (code != 0)
        return code;
    fm_notify_take();
    if (resumed.any && options.workers == 0) {
        fputs("fermata: without --workers there is nothing to take over\n", stderr);
        return 2;
    }
    if (!handed.any && !fm_activation_take(&options))
        return 1;
    int directory = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC); /* workers begin where this has */
    if (options.chdir && chdir(options.chdir) != 0) {
        fprintf(stderr, "fermata: --chdir %s: %s\n", options.chdir, fm_strerror(-errno));
        return 2;
    }
    if (arbiter)
        return fm_arbiter_run(&options, argv, directory, &resumed);
    if (directory >= 0)
        close(directory);
    code = fm_worker_run(&options, argv[0], &handed);
    fm_logs_flush(fm_now() + FM_SEC);
    return code;
}

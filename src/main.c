/* The command, from its options to its exit code; see main.h. */
#include "fermata/main.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/arbiter/arbiter.h"
#include "fermata/config/options.h"
#include "fermata/py/interp.h"
#include "fermata/util/annotate.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/worker/activation.h"
#include "fermata/worker/configure.h"
#include "fermata/worker/logs.h"
#include "fermata/worker/notify.h"
#include "fermata/worker/privileges.h"
#include "fermata/worker/worker.h"
#include "fermata/worker/zygote.h"

/* A check leaves alone what may be in use. */
static void only_check(struct fm_options *o)
{
    o->error_logfile = "-";
    o->capture_output = o->log_syslog = o->has_statsd = false;
}

static int run_arbiter(const struct fm_options *options, char **argv, int directory,
                       const struct fm_resumed *resumed) FM_UNCHECKED
{
    char **again = fm_interp_again(argv);
    if (!again)
        return 1;
    int err = fm_configure_share(options);
    if (err == 0)
        return fm_arbiter_run(options, again, directory, resumed);
    fprintf(stderr, "fermata: --config %s: %s\n", options->config, fm_strerror(err));
    return 1;
}

int fm_main(int argc, char **argv, bool alone) FM_UNCHECKED
{
    static struct fm_options options; /* used by threads to the very end */
    struct fm_handed handed;
    struct fm_resumed resumed;
    switch (fm_configure(&options, argc, argv)) {
    case FM_OPTIONS_SHOWN: return 0;
    case FM_OPTIONS_WRONG: return 2;
    case FM_OPTIONS_RUN: break;
    }
    if (!fm_handed_take(&handed) || !fm_resumed_take(&resumed))
        return 1;
    if (options.print_config)
        fm_options_print(&options, stdout);
    if (options.print_config && !options.check_config)
        return fflush(stdout) == 0 ? 0 : 1;
    if (!fm_privileges_prepare(&options.identity)) {
        fputs("fermata: --user, --group: only root can become another user or group\n", stderr);
        return 2;
    }
    if (options.umask >= 0)
        umask((mode_t)options.umask);
    if (alone)
        options.workers = 0;
    bool arbiter = options.workers > 0 && !handed.any && !options.check_config;
    if (options.check_config)
        only_check(&options);
    int code = fm_logs_open(&options, arbiter);
    if (code != 0)
        return code;
    if (!handed.any)
        fm_notify_take();
    if (resumed.any && options.workers == 0) {
        fputs("fermata: without --workers there is nothing to take over\n", stderr);
        return 2;
    }
    if (!handed.any && !fm_activation_take(&options))
        return 1;
    if (handed.zygote_fd < 0)
        fm_logs_gather(&options);
    if (!handed.any)
        fm_configure_warn(&options);
    int directory = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC); /* workers begin where this has */
    if (options.chdir && chdir(options.chdir) != 0) {
        fprintf(stderr, "fermata: --chdir %s: %s\n", options.chdir, fm_strerror(-errno));
        return 2;
    }
    if (arbiter)
        return run_arbiter(&options, argv, directory, &resumed);
    fm_options_environment(&options);
    if (options.check_config)
        return fm_worker_check(&options, argv[0]);
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

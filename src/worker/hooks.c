/* Which hooks a process calls, and when; see worker/hooks.h. */
#include "fermata/worker/hooks.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/config/hooks.h"
#include "fermata/py/hooks.h"
#include "fermata/py/interp.h"
#include "fermata/util/log.h"
#include "fermata/util/logfile.h"
#include "fermata/worker/handed.h"

static int load(const struct fm_options *o, pid_t server, unsigned slot) FM_NEEDS_GIL
{
    char *shown = NULL;
    size_t size;
    FILE *to = open_memstream(&shown, &size);
    if (!to)
        return -1;
    fm_options_print(o, to);
    fclose(to);
    struct fm_hooks hooks = {o->config, shown, server, slot};
    int err = fm_hooks_load(&hooks);
    free(shown);
    return err;
}

/* Hooks that are called in this process: those of the arbiter's side have a process of their own where there is one. */
static unsigned called_here(const struct fm_worker *w)
{
    return w->options->hooks & (w->handed.any ? ~FM_HOOKS_OF_ARBITER : ~0u);
}

bool fm_hooks_begin(const struct fm_worker *w)
{
    if (called_here(w) == 0)
        return true;
    if (load(w->options, w->handed.any ? w->handed.arbiter : getpid(), w->handed.slot) != 0)
        return false;
    if (w->handed.any)
        return fm_hooks_call("post_fork");
    return fm_hooks_call("on_starting") && fm_hooks_call("when_ready") && fm_hooks_call("pre_fork") &&
           fm_hooks_call("post_fork");
}

bool fm_hooks_loaded(const struct fm_worker *w) { return called_here(w) == 0 || fm_hooks_call("post_worker_init"); }

void fm_hooks_end(const struct fm_worker *w)
{
    if (called_here(w) == 0)
        return;
    if (w->quick)
        fm_hooks_call("worker_int");
    fm_hooks_call("worker_exit");
    if (w->handed.any)
        return;
    fm_hooks_call("child_exit");
    fm_hooks_call("on_exit");
}

int fm_hooks_be(const struct fm_options *o, const char *program, int fd) FM_UNCHECKED
{
    struct fm_interp_config config = {o->venv, o->venv_is_active, o->pythonpath, program, o->args, o->nargs};
    if (o->umask >= 0)
        umask((mode_t)o->umask);
    fm_log_set_level(o->log_level);
    fm_logfile_share();
    if (fm_log_open(o->error_logfile) != 0 || (o->chdir && chdir(o->chdir) != 0))
        return 1;
    fm_options_environment(o);
    if (fm_interp_start(&config) != 0 || load(o, getppid(), 0) != 0)
        return 1;
    int code = fm_hooks_serve(fd);
    fm_interp_abandon(); /* threads that hooks have started are not waited for */
    fflush(NULL);
    return code;
}

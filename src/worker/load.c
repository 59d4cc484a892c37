/* Python and the application; see worker/load.h. */
#include "fermata/worker/load.h"

#include <unistd.h>

#include "fermata/py/interp.h"
#include "fermata/worker/end.h"
#include "fermata/worker/signals.h"
#include "fermata/wsgi/gateway.h"
#include "fermata/wsgi/reload.h"

int fm_load_start(const struct fm_options *o, const char *program) FM_UNCHECKED
{
    struct fm_interp_config config = {o->venv, o->venv_is_active, o->pythonpath, program, o->args, o->nargs};
    bool shown = o->has_admin && !o->no_places;
    struct fm_wsgi_config wsgi = {o->threads > 1, o->workers > 1, !o->no_places, shown, o->root_path, _exit};
    if (fm_interp_start(&config) != 0)
        return o->venv ? FM_EXIT_USAGE : FM_EXIT_OTHER;
    if (fm_wsgi_init(&wsgi) == 0)
        return FM_EXIT_OK;
    fm_interp_print_error();
    return FM_EXIT_OTHER;
}

bool fm_load_prepare(void)
{
    bool ready = fm_wsgi_prepare() == 0;
    if (!ready)
        fm_interp_print_error();
    fm_signals_again(false); /* Python has taken SIGINT */
    return ready;
}

int fm_load_logging(const struct fm_options *o, bool by_lines)
{
    struct fm_wsgi_logging logging = {o->log_config, o->log_config_json, o->log_config_dict, by_lines};
    return fm_wsgi_set_up_logging(&logging) == 0 ? FM_EXIT_OK : FM_EXIT_USAGE;
}

int fm_load_app(const struct fm_options *o)
{
    if (o->reload)
        fm_wsgi_reload_begin();
    if (fm_wsgi_load(o->app) == 0 || (o->reload && !fm_signals_end_noted() && fm_wsgi_explain() == 0))
        return FM_EXIT_OK;
    return FM_EXIT_APP;
}

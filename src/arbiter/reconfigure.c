/* Reading the configuration file again; see arbiter/reconfigure.h. */
#include "fermata/arbiter/reconfigure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/worker/configure.h"

void fm_reconfigure_init(struct fm_reconfigure *r)
{
    r->options = r->first;
    r->before = NULL;
    r->event = NULL;
    r->reader = FM_READER_NONE;
    r->settings_before = -1;
}

static void stop(struct fm_reconfigure *r) FM_ON_LOOP
{
    if (!r->event)
        return;
    event_free(r->event);
    r->event = NULL;
    fm_again_kill(&r->reader.process);
    fm_reader_end(&r->reader);
}

static void drop(const struct fm_reconfigure *r, const struct fm_options *o)
{
    struct fm_options *owned = o != r->first ? (struct fm_options *)(uintptr_t)o : NULL;
    if (owned)
        fm_options_free(owned);
    free(owned);
}

void fm_reconfigure_keep(struct fm_reconfigure *r)
{
    if (!r->before)
        return;
    drop(r, r->before);
    r->before = NULL;
    close(r->settings_before);
    r->settings_before = -1;
}

void fm_reconfigure_back(struct fm_reconfigure *r)
{
    const struct fm_options *failed = r->options;
    if (!r->before)
        return;
    r->options = r->before;
    r->before = NULL;
    fm_configure_back(r->settings_before);
    r->settings_before = -1;
    r->on_options(r->ctx, r->options);
    drop(r, failed);
}

/* ---- what takes effect when the command is started again ---- */

static bool other_address(const struct fm_addr *a, const struct fm_addr *b)
{
    char one[FM_ADDR_TEXT], other[FM_ADDR_TEXT];
    fm_addr_url(a, one);
    fm_addr_url(b, other);
    return strcmp(one, other) != 0;
}

static bool other_addresses(const struct fm_options *a, const struct fm_options *b)
{
    bool differs = a->nbinds != b->nbinds;
    for (unsigned i = 0; !differs && i < a->nbinds; i++)
        differs = other_address(&a->bind[i], &b->bind[i]);
    return differs;
}

static bool other_text(const char *a, const char *b) { return a && b ? strcmp(a, b) != 0 : a != b; }

static bool other_hosts(const struct fm_options *a, const struct fm_options *b)
{
    bool differs = a->nadmin_hosts != b->nadmin_hosts;
    for (unsigned i = 0; !differs && i < a->nadmin_hosts; i++)
        differs = other_text(a->admin_hosts[i], b->admin_hosts[i]);
    return differs;
}

static void warn_of_changes(const struct fm_options *was, const struct fm_options *is)
{
    const struct {
        const char *name;
        bool changed;
    } all[] = {
        {"bind", other_addresses(was, is)},
        {"backlog", was->backlog != is->backlog},
        {"socket-mode", was->socket_mode != is->socket_mode},
        {"admin-bind", was->has_admin != is->has_admin || (is->has_admin && other_address(&was->admin, &is->admin))},
        {"admin-host", other_hosts(was, is)},
        {"admin-status", was->admin_status != is->admin_status},
        {"workers", is->workers == 0},
        {"preload", was->preload != is->preload},
        {"reload", was->reload != is->reload},
        {"error-logfile", other_text(was->error_logfile, is->error_logfile)},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].changed)
            fm_warn("%s: --%s is another one now, which takes a restart", is->config, all[i].name);
}

/* In the directory in which the command was given: paths are relative to it, and --chdir has been there. */
static bool apply(const struct fm_reconfigure *r, struct fm_options *o, char *settings, size_t size)
{
    int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool there = fchdir(r->directory) == 0;
    bool good = fm_options_configure(o, settings, size, true) == FM_OPTIONS_RUN;
    if (here >= 0) {
        if (there && fchdir(here) != 0)
            fm_error("cannot go back to the directory of --chdir: %s", fm_strerror(-errno));
        close(here);
    }
    return good;
}

/* All of it is there. */
static void take(struct fm_reconfigure *r) FM_ON_LOOP
{
    size_t size = fm_buf_size(&r->reader.text);
    char *settings = fm_malloc(size);
    struct fm_options *o = fm_calloc(1, sizeof *o);
    memcpy(settings, fm_buf_head(&r->reader.text), size);
    fm_options_again(o, r->options);
    bool good = apply(r, o, settings, size);
    int settings_before = good ? fm_configure_share_again(o) : -1;
    if (!good || settings_before < 0) {
        r->on_failed(r->ctx, good ? fm_strerror(settings_before) : o->wrong);
        drop(r, o);
        return;
    }
    const struct fm_options *old = r->options;
    r->options = o;
    fm_configure_warn(o);
    warn_of_changes(r->first, o);
    r->on_options(r->ctx, o);
    if (r->before) { /* the reload before this one is not through: what was before both is what to go back to */
        close(settings_before);
        drop(r, old);
    } else {
        r->before = old;
        r->settings_before = settings_before;
    }
    r->on_read(r->ctx);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct fm_reconfigure *r = arg;
    (void)fd, (void)what;
    fm_assert_on_loop();
    int done = fm_reader_read(&r->reader);
    if (done == 0)
        return;
    event_free(r->event);
    r->event = NULL;
    if (done == 1)
        take(r);
    else
        r->on_failed(r->ctx,
                     done == -EPIPE ? "what reads the file has ended without having read it" : fm_strerror(done));
    fm_reader_end(&r->reader); /* the process ends by itself */
}

void fm_reconfigure_start(struct fm_reconfigure *r)
{
    stop(r);
    int err = fm_reader_start(&r->reader, r->argv, r->directory);
    if (err == 0 && fcntl(r->reader.fd, F_SETFL, O_NONBLOCK) == 0)
        r->event = event_new(r->loop->base, r->reader.fd, EV_READ | EV_PERSIST, on_readable, r);
    if (r->event && event_add(r->event, NULL) == 0)
        return;
    r->on_failed(r->ctx, err != 0 ? fm_strerror(err) : "no memory");
    if (err == 0)
        fm_reader_end(&r->reader);
}

void fm_reconfigure_fini(struct fm_reconfigure *r)
{
    stop(r);
    fm_reconfigure_keep(r);
    drop(r, r->options);
    r->options = r->first;
}

/* Options that people bring along from gunicorn, and what to do instead. */
#include "fermata/config/options.h"

#include <stdio.h>
#include <string.h>

#define TLS "Fermata speaks no TLS; a proxy in front does that"
#define SUPERVISOR "the supervisor does that (systemd, the container's runtime)"
#define DAEMON "it stays in the foreground: use systemd, or what else keeps servers running (spec/manual/deployment.md)"
#define FORWARDED                                                                                                      \
    "see --proxy-headers and --forwarded-header; X-Forwarded-Ssl and X-Forwarded-Protocol are looked at as well"
#define ERROR_LOG                                                                                                      \
    "the logs are the server's own; see --error-logfile, --access-logformat, --log-syslog and --log-config"
#define STRICT "malformed requests are refused, always"
#define HTTP2 "a proxy in front speaks HTTP/2"
#define ASGI "WSGI and WSGI+ applications are what is served"
#define DIRTY "there are no dirty workers; futures are what waits for work of other processes"
#define PASTE "name the application as MODULE[:CALLABLE]"

static const struct {
    const char *name; /* without dashes; one letter for a short one */
    const char *hint;
} hints[] = {
    {"preload-app", "it is --preload"},
    {"spew", "a debugger or `python -m trace` does that"},
    {"D", DAEMON},
    {"daemon", DAEMON},
    {"forwarder-headers", FORWARDED},
    {"secure-scheme-headers", FORWARDED},
    {"header-map", "header fields with an underscore are left out, always"},
    {"logger-class", ERROR_LOG},
    {"log-config-dict", "such a dictionary is for a file: --log-config-json FILE, or logconfig_dict of --config"},
    {"keyfile", TLS},
    {"certfile", TLS},
    {"ca-certs", TLS},
    {"cert-reqs", TLS},
    {"ciphers", TLS},
    {"ssl-version", TLS},
    {"paste", PASTE},
    {"paster", PASTE},
    {"paste-global", PASTE},
    {"permit-obsolete-folding", STRICT},
    {"permit-unconventional-http-method", STRICT},
    {"permit-unconventional-http-version", STRICT},
    {"strip-header-spaces", STRICT},
    {"casefold-http-method", STRICT},
    {"keepalive", "it is --keep-alive"},
    {"host", "it is --bind HOST:PORT"},
    {"port", "it is --bind HOST:PORT"},
    {"tmp-upload-dir", "bodies of requests go to $TMPDIR"},
    {"enable-backlog-metric", "what --statsd-host sends is all that there is"},
    {"protocol", "HTTP is what is spoken; --proxy-protocol is for the PROXY protocol"},
    {"uwsgi-allow-from", "HTTP is what is spoken"},
    {"uwsgi-allow-ips", "HTTP is what is spoken"},
    {"ssl-context", TLS},
    {"http-protocols", "HTTP/1.1 is what is spoken; a proxy in front speaks others"},
    {"http2-cleartext", HTTP2},
    {"http2-max-concurrent-streams", HTTP2},
    {"http2-initial-window-size", HTTP2},
    {"http2-max-frame-size", HTTP2},
    {"http2-max-header-list-size", HTTP2},
    {"asgi-loop", ASGI},
    {"asgi-lifespan", ASGI},
    {"asgi-disconnect-grace-period", ASGI},
    {"websocket-max-message-size", ASGI},
    {"dirty-app", DIRTY},
    {"dirty-apps", DIRTY},
    {"dirty-workers", DIRTY},
    {"dirty-timeout", DIRTY},
    {"dirty-threads", DIRTY},
    {"dirty-graceful-timeout", DIRTY},
    {"on-dirty-starting", DIRTY},
    {"dirty-post-fork", DIRTY},
    {"dirty-worker-init", DIRTY},
    {"dirty-worker-exit", DIRTY},
    {"pre-exec", "a reload executes workers alone"},
    {"factory", "name the factory as MODULE:create_app()"},
};

/* What gunicorn calls them in a file, where that is not the option's name. */
static const struct {
    const char *setting, *name;
} settings[] = {
    {"raw_paste_global_conf", "paste-global"},   {"preload_app", "preload"}, {"pidfile", "pid"}, {"proc_name", "name"},
    {"reload_extra_files", "reload-extra-file"},
};

static const char *look_up(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (strlen(hints[i].name) == len && memcmp(hints[i].name, name, len) == 0)
            return hints[i].hint;
    return NULL;
}

const char *fm_options_hint(const char *text)
{
    bool is_long = text[1] == '-';
    const char *name = text + 1 + is_long;
    size_t len = is_long ? strcspn(name, "=") : 1;
    return len > 1 || !is_long ? look_up(name, len) : NULL;
}

const char *fm_setting_hint(const char *name, bool *fatal)
{
    char option[64];
    snprintf(option, sizeof option, "%s", name);
    for (char *p = option; *p; p++)
        *p = *p == '_' ? '-' : *p;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (strcmp(settings[i].setting, name) == 0)
            snprintf(option, sizeof option, "%s", settings[i].name);
    const char *hint = strlen(option) > 1 ? look_up(option, strlen(option)) : NULL;
    *fatal = hint && (strcmp(hint, TLS) == 0 || strcmp(hint, DAEMON) == 0 || strcmp(hint, PASTE) == 0);
    return hint;
}

/* Options that people bring along from gunicorn, and what to do instead. */
#include "fermata/config/options.h"

#include <string.h>

#define PRELOAD "each worker imports the application by itself"
#define TLS "Fermata speaks no TLS; a proxy in front does that"
#define SUPERVISOR "the supervisor does that (systemd, the container's runtime)"
#define FORWARDED                                                                                                      \
    "see --proxy-headers and --forwarded-header; X-Forwarded-Ssl and X-Forwarded-Protocol are looked at as well"
#define ERROR_LOG                                                                                                      \
    "the logs are the server's own; see --error-logfile, --access-logformat, --log-syslog and --log-config"
#define STRICT "malformed requests are refused, always"
#define RELOAD "start it again when files change (with entr or watchexec, for example)"
#define PASTE "name the application as MODULE[:CALLABLE]"
#define RECYCLE "workers are not recycled; find the leak, or send SIGHUP to have them replaced"

static const struct {
    const char *name; /* without dashes; one letter for a short one */
    const char *hint;
} hints[] = {
    {"preload", PRELOAD},
    {"preload-app", PRELOAD},
    {"reuse-port", "workers share the sockets of --bind, so that none that ends takes connections with it"},
    {"k", "there is one kind of worker: --threads for code that blocks, futures for what waits"},
    {"worker-class", "there is one kind of worker: --threads for code that blocks, futures for what waits"},
    {"t", "no worker has to prove that it is alive; --request-timeout is about requests"},
    {"timeout", "no worker has to prove that it is alive; --request-timeout is about requests"},
    {"worker-tmp-dir", "no worker has to prove that it is alive; bodies of requests go to $TMPDIR"},
    {"max-requests", RECYCLE},
    {"max-requests-jitter", RECYCLE},
    {"c", "there is no configuration file; options and --env say it all"},
    {"config", "there is no configuration file; options and --env say it all"},
    {"check-config", "there is no configuration file; options and --env say it all"},
    {"print-config", "there is no configuration file; options and --env say it all"},
    {"reload", RELOAD},
    {"reload-engine", RELOAD},
    {"reload-extra-file", RELOAD},
    {"spew", "a debugger or `python -m trace` does that"},
    {"no-sendfile", "wsgi.file_wrapper is only sent by sendfile where that is the same"},
    {"D", SUPERVISOR},
    {"daemon", SUPERVISOR},
    {"forwarder-headers", FORWARDED},
    {"secure-scheme-headers", FORWARDED},
    {"header-map", "header fields with an underscore are left out, always"},
    {"log-file", "it is --error-logfile"},
    {"R", "what is printed goes where standard output and standard error go"},
    {"enable-stdio-inheritance", "what is printed goes where standard output and standard error go"},
    {"logger-class", ERROR_LOG},
    {"log-config-dict", "--log-config-json FILE takes such a dictionary"},
    {"keyfile", TLS},
    {"certfile", TLS},
    {"ca-certs", TLS},
    {"cert-reqs", TLS},
    {"ciphers", TLS},
    {"ssl-version", TLS},
    {"suppress-ragged-eofs", TLS},
    {"do-handshake-on-connect", TLS},
    {"paste", PASTE},
    {"paster", PASTE},
    {"paste-global", PASTE},
    {"permit-obsolete-folding", STRICT},
    {"permit-unconventional-http-method", STRICT},
    {"permit-unconventional-http-version", STRICT},
    {"strip-header-spaces", STRICT},
    {"casefold-http-method", STRICT},
    {"limit-request-field-size", "it is --limit-request-field_size, as gunicorn has it"},
    {"keepalive", "it is --keep-alive"},
    {"host", "it is --bind HOST:PORT"},
    {"port", "it is --bind HOST:PORT"},
    {"factory", "name the factory as MODULE:create_app()"},
};

const char *fm_options_hint(const char *text)
{
    bool is_long = text[1] == '-';
    const char *name = text + 1 + is_long;
    size_t len = is_long ? strcspn(name, "=") : 1;
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (strlen(hints[i].name) == len && memcmp(hints[i].name, name, len) == 0 && (len > 1 || !is_long))
            return hints[i].hint;
    return NULL;
}

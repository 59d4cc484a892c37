/* What options take; see kinds.h. */
#include "kinds.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "fermata/config/processors.h"
#include "fermata/http/host.h"
#include "fermata/http/logformat.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"

/* Each returns NULL, or what the option takes. */

static const char *parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end || errno || n < min || n > max)
        return "";
    *out = n;
    return NULL;
}

const char *fm_option_whole(unsigned *to, const char *text, unsigned min, unsigned max)
{
    static char takes[64];
    uint64_t n;
    if (parse_number(text, min, max, &n)) {
        snprintf(takes, sizeof takes, "takes a whole number from %u to %u", min, max);
        return takes;
    }
    *to = (unsigned)n;
    return NULL;
}

/* 0 is as much as there can be, as with gunicorn. */
static const char *parse_limit(unsigned *to, const char *text)
{
    const char *takes = fm_option_whole(to, text, 0, 1 << 24);
    if (!takes && *to == 0)
        *to = 1 << 24;
    return takes;
}

static const char *parse_size(uint64_t *to, const char *text)
{
    return parse_number(text, 0, INT64_MAX, to) ? "takes a number of bytes" : NULL;
}

static const char *parse_buffer(uint64_t *to, const char *text)
{
    return parse_number(text, 64 << 10, 1 << 30, to) ? "takes a number of bytes from 65536 to 1073741824" : NULL;
}

static const char *parse_seconds(uint64_t *to, const char *text)
{
    char *end;
    double s = strtod(text, &end);
    if (!(isdigit((unsigned char)text[0]) || text[0] == '.') || *end || !(s >= 0 && s <= 1e8) ||
        strpbrk(text, "xXnNiIeE"))
        return "takes a number of seconds, such as 30 or 0.5";
    *to = (uint64_t)(s * 1e9);
    return NULL;
}

/* What the kernel takes (TCP_KEEPIDLE). */
static const char *parse_tcp_seconds(uint64_t *to, const char *text)
{
    uint64_t n;
    if (parse_seconds(&n, text) || n > 32767 * FM_SEC)
        return "takes a number of seconds up to 32767, such as 15 or 0.5";
    *to = n;
    return NULL;
}

static const char *parse_for(struct fm_addr *to, const char *text, const char *takes)
{
    static char why[200];
    const char *reason = "";
    if (fm_addr_parse(text, to, &reason) == 0)
        return NULL;
    snprintf(why, sizeof why, "%s: %s", takes, reason);
    return why;
}

const char *fm_option_address(struct fm_addr *to, const char *text)
{
    return parse_for(to, text, "takes HOST:PORT, [IPv6]:PORT, unix:PATH, unix:@NAME or fd://N");
}

static const char *parse_admin(struct fm_addr *to, const char *text)
{
    static const char takes[] = "takes HOST:PORT, [IPv6]:PORT or unix:PATH";
    bool no_path = strncmp(text, "unix:@", 6) == 0; /* any user could connect to it */
    return no_path || strncmp(text, "fd:", 3) == 0 ? takes : parse_for(to, text, takes);
}

static const char *parse_paths(bool *none, const char *text)
{
    *none = strcmp(text, "none") == 0;
    return *none || strcmp(text, "path") == 0 ? NULL : "takes path or none";
}

static const char *parse_host(struct fm_options *o, const char *text)
{
    if (!fm_is_host(text, strlen(text)) || strchr(text, ':'))
        return "takes a name of a host, without a port";
    if (o->nadmin_hosts == FM_MAX_ADMIN_HOSTS)
        return "may be given 16 times";
    o->admin_hosts[o->nadmin_hosts++] = text;
    return NULL;
}

static const char *parse_level(enum fm_log_level *to, const char *text)
{
    static const struct {
        const char *name;
        enum fm_log_level level;
    } names[] = {{"debug", FM_LOG_DEBUG},  {"info", FM_LOG_INFO},   {"warning", FM_LOG_WARNING},
                 {"warn", FM_LOG_WARNING}, {"error", FM_LOG_ERROR}, {"critical", FM_LOG_CRITICAL}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(text, names[i].name) == 0) {
            *to = names[i].level;
            return NULL;
        }
    return "takes debug, info, warning, error or critical";
}

/* As chmod and umask take it; 0o in front is Python's way to say that it is octal. */
static bool is_octal(const char *text, unsigned *out)
{
    unsigned n = 0;
    text += strncmp(text, "0o", 2) == 0 ? 2 : 0;
    if (!*text || strlen(text) > 5)
        return false;
    for (; *text >= '0' && *text <= '7'; text++)
        n = n * 8 + (unsigned)(*text - '0');
    *out = n;
    return !*text && n <= 0777;
}

static const char *parse_mode(unsigned *to, const char *text)
{
    return is_octal(text, to) && *to > 0 ? NULL : "takes an octal number from 1 to 777";
}

static const char *parse_mask(int *to, const char *text)
{
    unsigned n;
    if (!is_octal(text, &n))
        return "takes an octal number from 0 to 777";
    *to = (int)n;
    return NULL;
}

static const char *parse_engine(enum fm_reload_engine *to, const char *text)
{
    static const char *const names[] = {"auto", "inotify", "poll"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            *to = (enum fm_reload_engine)i;
            return NULL;
        }
    return "takes auto, inotify or poll";
}

static const char *parse_pattern(struct fm_options *o, const char *text)
{
    if (!*text)
        return "takes a value that is not empty";
    if (o->nreload_extra == FM_MAX_RELOAD_EXTRA)
        return "may be given 64 times";
    o->reload_extra[o->nreload_extra++] = text;
    return NULL;
}

static const char *parse_fields(bool *rfc7239, const char *text)
{
    *rfc7239 = strcmp(text, "forwarded") == 0;
    return *rfc7239 || strcmp(text, "x-forwarded") == 0 ? NULL : "takes x-forwarded or forwarded";
}

static const char *parse_versions(unsigned *to, const char *text)
{
    static const char *const names[] = {"off", "v1", "v2", "auto"}; /* a bit for each version */
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            *to = i;
            return NULL;
        }
    return "takes off, v1, v2 or auto";
}

/* Slashes at its end are left out; of "/" nothing is left. */
const char *fm_option_root(struct fm_options *o, const char *text)
{
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '/')
        len--;
    if ((*text && *text != '/') || len >= sizeof o->root_text || strchr(text, '%'))
        return "takes a path that begins with a slash, as it is without %-escapes, of 1023 bytes at most";
    memcpy(o->root_text, text, len);
    o->root_text[len] = '\0';
    o->root_path = len > 0 ? o->root_text : NULL;
    return NULL;
}

static const char *parse_logformat(const char **to, const char *text)
{
    const char *why = NULL;
    fm_logformat_free(fm_logformat_new(text, &why));
    *to = text;
    return why;
}

static const char *parse_excluded(struct fm_options *o, const char *text)
{
    if (*text != '/' || strpbrk(text, "?# "))
        return "takes a path as requests have it, which begins with a slash and has no query";
    if (o->nexcluded == FM_MAX_EXCLUDED)
        return "may be given 32 times";
    o->access_log_exclude[o->nexcluded++] = text;
    return NULL;
}

static const char *parse_path(const char **to, const char *text)
{
    *to = text;
    return access(text, R_OK) == 0 ? NULL : "takes a file that can be read";
}

/* What is about logs. */
static const char *apply_logs(struct fm_options *o, enum fm_option_kind kind, void *field, const char *text)
{
    switch (kind) {
    case KIND_LEVEL: return parse_level(field, text);
    case KIND_LOGFORMAT: return parse_logformat(field, text);
    case KIND_EXCLUDED: return parse_excluded(o, text);
    case KIND_IDS: return fm_id_rule_parse(field, text);
    case KIND_BUFFER: return parse_buffer(field, text);
    case KIND_SYSLOG: return fm_syslog_parse_to(field, text);
    case KIND_SYSLOG_NAME: return fm_syslog_parse_name(field, text);
    case KIND_FACILITY: return fm_syslog_parse_facility(field, text);
    case KIND_STATSD: o->has_statsd = true; return fm_statsd_parse_to(field, text);
    case KIND_STATSD_TEXT: return fm_statsd_parse_text(field, text);
    default: return NULL;
    }
}

static const char *check_env(const char *text)
{
    const char *equals = strchr(text, '=');
    return !equals || equals == text ? "takes NAME=VALUE" : NULL;
}

void fm_option_set_env(const char *text)
{
    size_t n = strcspn(text, "=");
    char *name = fm_strndup(text, n);
    setenv(name, text + n + 1, 1);
    free(name);
}

static const char *parse_flag(bool *to, const char *text)
{
    *to = !text || strcasecmp(text, "true") == 0 || strcmp(text, "1") == 0;
    return *to || strcasecmp(text, "false") == 0 || strcmp(text, "0") == 0 ? NULL : "takes true or false";
}

/* "auto", or how many. */
static const char *parse_workers(unsigned *to, const char *text)
{
    if (strcmp(text, "auto") != 0)
        return fm_option_whole(to, text, 1, FM_MAX_WORKERS) ? "takes a whole number from 1 to 256, or auto" : NULL;
    *to = fm_processors(FM_MAX_WORKERS);
    return NULL;
}

/* The names of classes for asyncio applications; any other one of gunicorn's is for what is served here. */
static const char *check_class(const char *text)
{
    static const char *const others[] = {"uvicorn", "asgi", "hypercorn", "aiohttp"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcasestr(text, others[i]))
            return "takes a class for WSGI, and does nothing with it; ASGI and other asyncio applications are not "
                   "served "
                   "here: keep them on uvicorn, or wrap them (a2wsgi.ASGIMiddleware)";
    return NULL;
}

bool fm_option_is_text(enum fm_option_kind kind)
{
    static const enum fm_option_kind kinds[] = {
        KIND_BIND,     KIND_TEXT,   KIND_ENV,         KIND_ROOT,     KIND_LOGFORMAT, KIND_APP,         KIND_CLASS,
        KIND_ADMIN,    KIND_SYSLOG, KIND_SYSLOG_NAME, KIND_FACILITY, KIND_STATSD,    KIND_STATSD_TEXT, KIND_PATTERN,
        KIND_EXCLUDED, KIND_IDS,    KIND_PATH,        KIND_JSON,     KIND_HOST,      KIND_PATHS,
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i] == kind)
            return true;
    return false;
}

enum fm_option_lists fm_option_lists(enum fm_option_kind kind)
{
    switch (kind) {
    case KIND_BIND:
    case KIND_HOST:
    case KIND_EXCLUDED:
    case KIND_PATTERN:
    case KIND_ENV: return FM_LIST_REPEATED;
    case KIND_PEERS:
    case KIND_SENDERS:
    case KIND_PARTS: return FM_LIST_JOINED;
    default: return FM_LIST_REFUSED;
    }
}

const char *fm_option_apply(struct fm_options *o, enum fm_option_kind kind, size_t offset, const char *text)
{
    void *field = (char *)o + offset;
    switch (kind) {
    case KIND_BIND:
        if (o->nbinds == FM_MAX_BINDS)
            return "may be given 16 times";
        const char *why = fm_option_address(&o->bind[o->nbinds], text);
        o->nbinds += !why;
        return why;
    case KIND_ADMIN: o->has_admin = true; return parse_admin(field, text);
    case KIND_HOST: return parse_host(o, text);
    case KIND_PATHS: return parse_paths(field, text);
    case KIND_WORKERS: return parse_workers(field, text);
    case KIND_COUNT: return fm_option_whole(field, text, 1, 1000000);
    case KIND_MAYBE: return fm_option_whole(field, text, 0, 1000000);
    case KIND_LIMIT: return parse_limit(field, text);
    case KIND_SIZE: return parse_size(field, text);
    case KIND_SECONDS: return parse_seconds(field, text);
    case KIND_TCP_SECONDS: return parse_tcp_seconds(field, text);
    case KIND_PATH: return parse_path(field, text);
    case KIND_ENV: return check_env(text);
    case KIND_MODE: return parse_mode(field, text);
    case KIND_MASK: return parse_mask(field, text);
    case KIND_USER: return fm_identity_user(field, text);
    case KIND_GROUP: return fm_identity_group(field, text);
    case KIND_FLAG: return parse_flag(field, text);
    case KIND_CLASS: return check_class(text);
    case KIND_PEERS: return fm_peers_parse(field, text);
    case KIND_PARTS: return fm_forwarded_parse_parts(field, text);
    case KIND_FIELDS: return parse_fields(field, text);
    case KIND_VERSIONS: return parse_versions(field, text);
    case KIND_SENDERS: o->has_proxy_allow_from = true; return fm_peers_parse(field, text);
    case KIND_ROOT: return fm_option_root(o, text);
    case KIND_PATTERN: return parse_pattern(o, text);
    case KIND_ENGINE: return parse_engine(field, text);
    case KIND_TEXT:
        if (!*text)
            return "takes a value that is not empty";
        *(const char **)field = text;
        return NULL;
    case KIND_APP:
    case KIND_JSON: *(const char **)field = text; return NULL;
    case KIND_IGNORED:
    case KIND_HELP:
    case KIND_VERSION: return NULL;
    default: return apply_logs(o, kind, field, text);
    }
}

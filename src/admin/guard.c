/* Host, the site a request comes from, and where the port is; see admin/guard.h. */
#include "fermata/admin/guard.h"

#include <string.h>
#include <strings.h>

#include "fermata/http/request.h"
#include "fermata/util/ip.h"

static bool is_text(const char *p, size_t len, const char *text)
{
    return len == strlen(text) && strncasecmp(p, text, len) == 0;
}

const char *fm_admin_field(const struct fm_request *r, const char *name, unsigned *len)
{
    for (unsigned i = 0; i < r->nfields; i++) {
        const struct fm_field *f = &r->fields[i];
        if (!is_text(r->head + f->name_off, f->name_len, name))
            continue;
        *len = f->value_len;
        return r->head + f->value_off;
    }
    return NULL;
}

/* Without a port.  An address cannot be made to mean another machine; a name of a domain of its owner can. */
static bool is_known(const struct fm_admin_rules *rules, const char *p, size_t len)
{
    static const char local[] = ".localhost";
    struct fm_ip ip;
    if (len > 2 && p[0] == '[' && p[len - 1] == ']')
        return fm_ip_parse(p + 1, len - 2, &ip);
    if (len > 1 && p[len - 1] == '.') /* the root */
        len--;
    if (fm_ip_parse(p, len, &ip) || is_text(p, len, local + 1))
        return true;
    if (len >= sizeof local && is_text(p + len - (sizeof local - 1), sizeof local - 1, local))
        return true;
    for (unsigned i = 0; i < rules->nhosts; i++)
        if (is_text(p, len, rules->hosts[i]))
            return true;
    return false;
}

static bool is_host_known(const struct fm_admin_rules *rules, const struct fm_request *r)
{
    const char *host = fm_request_text(r, r->host);
    size_t len = r->host.len;
    const char *close = len > 0 && host[0] == '[' ? memchr(host, ']', len) : NULL;
    size_t from = close ? (size_t)(close - host) : 0;
    const char *colon = len > 0 ? memchr(host + from, ':', len - from) : NULL;
    return is_known(rules, host, colon ? (size_t)(colon - host) : len);
}

/* Fetch Metadata: what a browser sends with each request to a local address. */
static bool is_of_another_site(const struct fm_request *r)
{
    unsigned len;
    const char *site = fm_admin_field(r, "Sec-Fetch-Site", &len);
    return site && !is_text(site, len, "same-origin") && !is_text(site, len, "none");
}

int fm_admin_refuses(const struct fm_admin_rules *rules, bool is_local, const struct fm_request *r, const char **why)
{
    if (!is_local && !rules->show) {
        *why = "only health and metrics are shown to other machines, without --admin-status";
        return 403;
    }
    if (!is_host_known(rules, r)) {
        *why = "Host is neither an IP address nor localhost nor one of --admin-host";
        return 421;
    }
    if (is_of_another_site(r)) {
        *why = "a page of another site asks";
        return 403;
    }
    return 0;
}

/* A host as Host, an absolute target and a proxy name it; see http/host.h. */
#include "fermata/http/host.h"

#include <string.h>

#include "fermata/util/ip.h"
#include "fermata/util/text.h"

/* unreserved and sub-delims of RFC 3986, 2; a percent sign is looked at apart. */
static const bool reg_name[256] = {
    ['!'] = true, ['$'] = true,         ['&' ... '.'] = true, ['0' ... '9'] = true, [';'] = true,
    ['='] = true, ['A' ... 'Z'] = true, ['_'] = true,         ['a' ... 'z'] = true, ['~'] = true,
};

/* Length of the reg-name (an IPv4 address is one, too) at the beginning. */
static size_t reg_name_run(const char *p, size_t len)
{
    for (size_t n = 0;; n += 3) {
        while (n < len && reg_name[(unsigned char)p[n]])
            n++;
        if (n + 3 > len || p[n] != '%' || fm_hex_value(p[n + 1]) < 0 || fm_hex_value(p[n + 2]) < 0)
            return n;
    }
}

/* Length of "[IPv6 address]" at the beginning, or 0. */
static size_t ip_literal_run(const char *p, size_t len)
{
    struct fm_ip ip;
    const char *close = memchr(p, ']', len);
    size_t n = close ? (size_t)(close - p) - 1 : 0;
    return n > 0 && memchr(p + 1, ':', n) && fm_ip_parse(p + 1, n, &ip) ? n + 2 : 0;
}

bool fm_is_host(const char *p, size_t len)
{
    if (len == 0)
        return false;
    size_t n = *p == '[' ? ip_literal_run(p, len) : reg_name_run(p, len);
    if (n == 0 || n == len)
        return n == len;
    if (p[n] != ':')
        return false;
    unsigned port = 0;
    for (n++; n < len && fm_is_digit(p[n]) && port <= 65535; n++)
        port = port * 10 + (unsigned)(p[n] - '0');
    return n == len && port <= 65535;
}

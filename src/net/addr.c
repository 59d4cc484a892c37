/* Address parsing and printing. */
#include "fermata/net/addr.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "fermata/util/err.h"

/* An abstract name (unix(7)) begins with NUL where it is written with @, and is as long as its length says. */
static int parse_unix(const char *path, struct fm_addr *out, const char **why)
{
    bool abstract = *path == '@';
    if (!path[abstract]) {
        *why = abstract ? "the name is empty" : "the path is empty";
        return FM_EINVAL;
    }
    if (strlen(path) >= sizeof out->u.un.sun_path) {
        *why = "the path is too long for a unix socket (107 bytes)";
        return FM_EINVAL;
    }
    out->u.un.sun_family = AF_UNIX;
    memcpy(out->u.un.sun_path, path, strlen(path) + 1);
    out->len = sizeof out->u.un;
    if (abstract) {
        out->u.un.sun_path[0] = '\0';
        out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    }
    return 0;
}

/* Digits only, 0 to 65535. */
static int parse_port(const char *text, unsigned *port)
{
    unsigned value = 0;
    if (!*text || strlen(text) > 5)
        return FM_EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return FM_EINVAL;
        value = value * 10 + (unsigned)(*text - '0');
    }
    *port = value;
    return value > 65535 ? FM_EINVAL : 0;
}

/* RFC 6761, 6.3: localhost, and a name that ends in .localhost, is the loopback interface; no resolver needs to be
 * asked, and where there is no /etc/hosts none would know. */
static bool is_localhost(const char *host)
{
    static const char name[] = "localhost";
    size_t n = strlen(host), own = sizeof name - 1;
    if (n > 0 && host[n - 1] == '.') /* the root */
        n--;
    return n >= own && strncasecmp(host + n - own, name, own) == 0 && (n == own || host[n - own - 1] == '.');
}

static int resolve(const char *host, unsigned port, struct fm_addr *out)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    if (getaddrinfo(is_localhost(host) ? "127.0.0.1" : host, service, &hints, &found) != 0 || !found)
        return FM_EINVAL;
    memcpy(&out->u, found->ai_addr, found->ai_addrlen);
    out->len = found->ai_addrlen;
    freeaddrinfo(found);
    out->is_localhost = is_localhost(host);
    return 0;
}

void fm_addr_other_localhost(const struct fm_addr *a, unsigned port, struct fm_addr *other)
{
    memset(other, 0, sizeof *other);
    other->is_localhost = true;
    if (a->u.sa.sa_family == AF_INET) {
        other->u.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        other->u.in6.sin6_port = htons((uint16_t)port);
        other->len = sizeof other->u.in6;
    } else {
        other->u.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        other->u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        other->len = sizeof other->u.in;
    }
}

bool fm_addr_is_local(const struct fm_addr *a)
{
    if (a->u.sa.sa_family == AF_INET)
        return ntohl(a->u.in.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    if (a->u.sa.sa_family != AF_INET6)
        return a->u.sa.sa_family == AF_UNIX;
    const uint8_t *ip = a->u.in6.sin6_addr.s6_addr;
    return IN6_IS_ADDR_LOOPBACK(&a->u.in6.sin6_addr) ||
           (IN6_IS_ADDR_V4MAPPED(&a->u.in6.sin6_addr) && ip[12] == IN_LOOPBACKNET);
}

#define MOST_FD (1 << 20)

/* Which socket it is shows when it is taken (fm_listener_take). */
static int parse_fd(const char *text, struct fm_addr *out, const char **why)
{
    long n = 0;
    for (const char *c = text; *c; c++)
        n = *c >= '0' && *c <= '9' && n <= MOST_FD ? n * 10 + (*c - '0') : MOST_FD + 1L;
    if (!*text || n > MOST_FD) {
        *why = "behind fd:// comes the number of a descriptor";
        return FM_EINVAL;
    }
    out->is_fd = true;
    out->fd = (int)n;
    return 0;
}

int fm_addr_parse(const char *text, struct fm_addr *out, const char **why)
{
    char host[256];
    unsigned port = 0;
    memset(out, 0, sizeof *out);
    if (strncmp(text, "fd://", 5) == 0)
        return parse_fd(text + 5, out, why);
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, out, why);

    const char *colon = strrchr(text, ':'), *end = colon ? colon : text + strlen(text);
    bool bracketed = text[0] == '[';
    if (bracketed) {
        const char *bracket = strchr(text, ']');
        if (!bracket || (bracket[1] != '\0' && bracket[1] != ':')) {
            *why = "an IPv6 address is written [ADDRESS]:PORT";
            return FM_EINVAL;
        }
        text++;
        end = bracket;
        colon = bracket[1] == ':' ? bracket + 1 : NULL;
    } else if (colon && memchr(text, ':', (size_t)(colon - text))) {
        *why = "an IPv6 address is written [ADDRESS]:PORT";
        return FM_EINVAL;
    }
    if (!colon || parse_port(colon + 1, &port) != 0) {
        *why = "the port is a number from 0 to 65535";
        return FM_EINVAL;
    }
    size_t n = (size_t)(end - text);
    if (n >= sizeof host) {
        *why = "the host name is too long";
        return FM_EINVAL;
    }
    memcpy(host, text, n);
    host[n] = '\0';
    struct in6_addr literal;
    if (bracketed && inet_pton(AF_INET6, host, &literal) != 1) {
        *why = "there is no IPv6 address between the brackets";
        return FM_EINVAL;
    }
    if (resolve(n ? host : "0.0.0.0", port, out) != 0) {
        *why = "the host name cannot be resolved";
        return FM_EINVAL;
    }
    return 0;
}

/* What inet_ntop makes of four bytes, for a tenth of its 1,700 instructions, which each connection would pay. */
static void ipv4_text(const unsigned char *bytes, char *to)
{
    for (int i = 0; i < 4; i++) {
        unsigned n = bytes[i];
        if (n >= 100)
            *to++ = (char)('0' + n / 100);
        if (n >= 10)
            *to++ = (char)('0' + n / 10 % 10);
        *to++ = (char)('0' + n % 10);
        *to++ = i < 3 ? '.' : '\0';
    }
}

unsigned fm_addr_host(const union fm_sockaddr *u, char *host)
{
    host[0] = '\0';
    if (u->sa.sa_family == AF_INET) {
        ipv4_text((const unsigned char *)&u->in.sin_addr, host);
        return ntohs(u->in.sin_port);
    }
    if (u->sa.sa_family == AF_INET6) {
        if (IN6_IS_ADDR_V4MAPPED(&u->in6.sin6_addr))
            ipv4_text(&u->in6.sin6_addr.s6_addr[12], host);
        else
            inet_ntop(AF_INET6, &u->in6.sin6_addr, host, FM_ADDR_TEXT);
        return ntohs(u->in6.sin6_port);
    }
    return 0;
}

unsigned fm_addr_port(const struct fm_addr *a)
{
    char host[FM_ADDR_TEXT];
    return fm_addr_host(&a->u, host);
}

bool fm_addr_is_path(const struct fm_addr *a) { return a->u.sa.sa_family == AF_UNIX && a->u.un.sun_path[0]; }

void fm_addr_url(const struct fm_addr *a, char *text)
{
    char host[FM_ADDR_TEXT];
    if (a->is_fd) {
        snprintf(text, FM_ADDR_TEXT, "fd://%d", a->fd);
        return;
    }
    if (a->u.sa.sa_family == AF_UNIX) {
        bool path = fm_addr_is_path(a);
        snprintf(text, FM_ADDR_TEXT, path ? "unix:%s" : "unix:@%s", a->u.un.sun_path + !path);
        return;
    }
    unsigned port = fm_addr_host(&a->u, host);
    snprintf(text, FM_ADDR_TEXT, strchr(host, ':') ? "http://[%.64s]:%u" : "http://%.64s:%u", host, port);
}

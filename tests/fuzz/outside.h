/* What options would do outside of the process, for targets that are linked with --wrap=getaddrinfo and --wrap=setenv:
 * names are not looked up, only numbers are known; no environment is changed. */
#ifndef FERMATA_TESTS_OUTSIDE_H
#define FERMATA_TESTS_OUTSIDE_H

#include <netdb.h>
#include <string.h>

#include "compare.h"

int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found);
int __real_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found);
int __wrap_setenv(const char *name, const char *value, int overwrite);

int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    struct addrinfo numeric = *hints;
    numeric.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
    return __real_getaddrinfo(host, service, &numeric, found);
}

int __wrap_setenv(const char *name, const char *value, int overwrite)
{
    if (!*name || strchr(name, '=') || !value || !overwrite)
        fuzz_fail("setenv(%s, %s, %d)", name, value, overwrite);
    return 0;
}

#endif

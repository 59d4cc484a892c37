/* The syntax of a host with its port. */
#ifndef FERMATA_HTTP_HOST_H
#define FERMATA_HTTP_HOST_H

#include <stdbool.h>
#include <stddef.h>

/* uri-host [ ":" port ] with a host that is not empty (RFC 9110, 7.2; RFC 3986, 3.2.2; neither IPvFuture nor zones).
 * Any thread. */
bool fm_is_host(const char *p, size_t len);

#endif

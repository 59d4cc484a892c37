/* Who may see what on the admin port, beside health and metrics, which are numbers and are told to all.
 *
 * A page of another site that is open in an operator's browser must not read the rest: it could by a name of its own
 * that is resolved to this machine, which shows in Host, or by a request across sites, which browsers mark. */
#ifndef FERMATA_ADMIN_GUARD_H
#define FERMATA_ADMIN_GUARD_H

#include <stdbool.h>

struct fm_request;

struct fm_admin_rules {
    const char *const *hosts; /* names that Host may have, beside localhost and IP addresses */
    unsigned nhosts;
    bool show; /* also to others than this machine */
};

/* 0, or the status of the answer, with *why.  is_local: only processes of this machine can connect. */
int fm_admin_refuses(const struct fm_admin_rules *rules, bool is_local, const struct fm_request *r, const char **why);

/* The value of a field, or NULL; *len is its length. */
const char *fm_admin_field(const struct fm_request *r, const char *name, unsigned *len);

#endif

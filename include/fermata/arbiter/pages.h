/* What the arbiter's admin port says: sums of all workers, and what each is doing. */
#ifndef FERMATA_ARBITER_PAGES_H
#define FERMATA_ARBITER_PAGES_H

#include "fermata/admin/admin.h"
#include "fermata/arbiter/children.h"
#include "fermata/arbiter/roster.h"
#include "fermata/config/options.h"

struct fm_pages { /* what they are made of; lives as long as the admin port */
    const struct fm_options *options;
    const struct fm_roster *roster;
    struct fm_children *children;
    uint64_t started; /* fm_now */
};

/* What the admin port is to ask.  All of it is called on the loop. */
void fm_pages_source(struct fm_pages *p, struct fm_admin_source *source);

#endif

/* Who the server is to be once everything is open: --user, --group, --initgroups. */
#ifndef FERMATA_CONFIG_IDENTITY_H
#define FERMATA_CONFIG_IDENTITY_H

#include <stdbool.h>
#include <sys/types.h>

struct fm_identity {
    bool has_user, has_group;
    bool initgroups;  /* all groups that the user is in; else the one alone */
    bool has_primary; /* the user has an entry in the user database, and gid is from there unless it was given */
    uid_t uid;
    gid_t gid, primary;
    char name[64]; /* the user's, if it has one */
};

/* Each takes a name or a number.  NULL, or what the option takes. */
const char *fm_identity_user(struct fm_identity *i, const char *text);
const char *fm_identity_group(struct fm_identity *i, const char *text);

/* When all options have been read: the group of a user that was named without one.  NULL, or what is missing. */
const char *fm_identity_complete(struct fm_identity *i);

#endif

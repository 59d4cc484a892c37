/* Names of users and groups; see config/identity.h. */
#include "fermata/config/identity.h"

#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/util/text.h"

/* (uid_t)-1 is no user: to system calls it means "as it is". */
static bool read_id(const char *text, unsigned *id)
{
    unsigned long long n = 0;
    if (!*text || strlen(text) > 10)
        return false;
    for (; *text; text++) {
        if (!fm_is_digit(*text))
            return false;
        n = n * 10 + (unsigned)(*text - '0');
    }
    *id = (unsigned)n;
    return n < UINT32_MAX;
}

const char *fm_identity_user(struct fm_identity *i, const char *text)
{
    unsigned id;
    const struct passwd *entry = getpwnam(text);
    bool number = !entry && read_id(text, &id);
    if (number)
        entry = getpwuid(id);
    if (!entry && !number)
        return "takes the name of a user that there is, or a number";
    i->has_user = true;
    i->uid = entry ? entry->pw_uid : id;
    i->has_primary = entry != NULL;
    i->primary = entry ? entry->pw_gid : 0;
    bool fits = entry && strlen(entry->pw_name) < sizeof i->name;
    snprintf(i->name, sizeof i->name, "%s", fits ? entry->pw_name : "");
    return NULL;
}

const char *fm_identity_group(struct fm_identity *i, const char *text)
{
    unsigned id;
    const struct group *entry = getgrnam(text);
    if (!entry && !read_id(text, &id))
        return "takes the name of a group that there is, or a number";
    i->has_group = true;
    i->gid = entry ? entry->gr_gid : id;
    return NULL;
}

const char *fm_identity_complete(struct fm_identity *i)
{
    if (i->has_group || !i->has_user)
        return NULL;
    if (!i->has_primary)
        return "--user is a number that the user database does not have: name the group as well, by --group";
    i->gid = i->primary;
    i->has_group = true;
    return NULL;
}

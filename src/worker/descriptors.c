/* How the process's open files are shared: what connections and bodies in files may take is what is left when the
 * application, the admin port and the server itself have theirs.  Connections that take every descriptor would leave
 * the application with EMFILE and health checks without an answer. */
#include "fermata/worker/descriptors.h"

#include <sys/resource.h>

#include "fermata/util/log.h"

#define MOST (1 << 20)   /* more is of no use, and some libraries walk through all numbers */
#define APPLICATION 1024 /* for the application and its libraries; a quarter where there are few */
#define OWN 48           /* logs, eventfds, listening sockets, files being opened */
#define ADMIN 16
#define BODIES_SHARE 8 /* bodies in files may take an eighth of all at most */

static unsigned least(rlim_t a, rlim_t b) { return (unsigned)(a < b ? a : b); }

/* Raises the soft limit to the hard one, and both where that is allowed and less than `need`; what it is then. */
static rlim_t raise_limit(rlim_t need)
{
    struct rlimit limit, more;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return need;
    if (limit.rlim_max < need) {
        more = (struct rlimit){need, need};
        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            return need;
    }
    more = (struct rlimit){limit.rlim_max < MOST ? limit.rlim_max : MOST, limit.rlim_max};
    if (more.rlim_cur <= limit.rlim_cur || setrlimit(RLIMIT_NOFILE, &more) != 0)
        return limit.rlim_cur;
    return more.rlim_cur;
}

void fm_descriptors_share(const struct fm_options *o, unsigned *conns, unsigned *body_files)
{
    unsigned own = OWN + ADMIN;
    rlim_t all = raise_limit((rlim_t)o->worker_connections + o->limit_body_files + APPLICATION + own);
    unsigned application = least(all / 4, APPLICATION);
    *body_files = least(o->limit_body_files, all / BODIES_SHARE);
    rlim_t taken = (rlim_t)application + own + *body_files;
    *conns = all > taken ? least(o->worker_connections, all - taken) : 1;
    if (*conns < o->worker_connections)
        fm_warn(
            "--worker-connections %u: only %u connections are served at once, because the process may open %llu files "
            "(ulimit -n); %u of them are kept back for the application, and %u for request bodies",
            o->worker_connections, *conns, (unsigned long long)all, application, *body_files);
}

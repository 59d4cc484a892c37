/* The arbiter's admin port; see arbiter/port.h. */
#include "fermata/arbiter/port.h"

#include <string.h>
#include <sys/socket.h>

#include "fermata/server/timeouts.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/log.h"
#include "fermata/worker/listen.h"

/* A port that the kernel chose is none that was asked for, and localhost is two addresses: of these nothing is said. */
static void warn_of_another(const struct fm_admin *admin, const struct fm_addr *asked)
{
    char is[FM_ADDR_TEXT], wanted[FM_ADDR_TEXT];
    fm_admin_url(admin, is);
    fm_addr_url(asked, wanted);
    bool any = asked->u.sa.sa_family == AF_UNIX || asked->is_localhost || fm_addr_port(asked) == 0;
    if (!any && strcmp(is, wanted) != 0)
        fm_warn("--admin-bind %s is not open: the socket stays as it is, and another one takes a restart", wanted);
}

static struct fm_admin *take_over(const struct fm_state *before, const struct fm_options *o,
                                  const struct fm_admin_source *source)
{
    struct fm_admin *admin = fm_admin_adopt(before->admin_fd, source);
    if (admin) {
        fm_admin_take_path(admin, &before->admin_before);
        warn_of_another(admin, &o->admin);
    }
    return admin;
}

static void close_unwanted(struct fm_state *before)
{
    if (before->admin_fd >= 0)
        fm_fds_close(before->admin_fd);
    before->admin_fd = -1;
    fm_listener_unlink(&before->admin_before);
}

int fm_port_start(struct fm_admin **made, struct fm_pages *p, struct fm_loop *loop, struct fm_state *before)
{
    const struct fm_options *o = p->options;
    struct fm_admin_source source;
    char url[FM_ADDR_TEXT];
    *made = NULL;
    if (!o->has_admin) {
        close_unwanted(before);
        return 0;
    }
    fm_pages_source(p, &source);
    fm_timers_define(&loop->timers, FM_T_ACCEPT, FM_SEC / 4, fm_listener_retry);
    fm_timers_define(&loop->timers, FM_T_ADMIN, o->keep_alive ? o->keep_alive : 5 * FM_SEC, fm_admin_timeout);
    struct fm_admin *admin = before->admin_fd >= 0
                                 ? take_over(before, o, &source)
                                 : fm_admin_new(&o->admin, fm_listen_only_ipv6(o, &o->admin), &source);
    if (!admin)
        return FM_EINVAL;
    int err = fm_admin_start(admin, loop, FM_T_ADMIN, FM_T_ACCEPT);
    if (err != 0) {
        fm_log(FM_LOG_CRITICAL, "--admin-bind: %s", fm_strerror(err));
        fm_admin_free(admin);
        return err;
    }
    fm_admin_url(admin, url);
    fm_info("Admin at: %s", url);
    *made = admin;
    return 0;
}

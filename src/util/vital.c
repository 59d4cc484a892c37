/* What the server cannot do without; see util/vital.h. */
#include "fermata/util/vital.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fermata/util/clock.h"
#include "fermata/util/log.h"

void fm_vital_wake(int fd)
{
    if (eventfd_write(fd, 1) != 0 && errno != EAGAIN)
        fm_vital_lost("an eventfd");
}

/* An eventfd is a file of no type; so are a few others that an application seldom opens. */
void FM_COLD fm_vital_check_wake(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || (st.st_mode & S_IFMT) != 0)
        fm_vital_lost("an eventfd");
}

void fm_vital_lost(const char *what)
{
    static atomic_bool said;
    if (!atomic_exchange(&said, true)) {
        fm_log(FM_LOG_CRITICAL, "the application closed %s, which was ours; the server cannot go on", what);
        fm_log_flush(fm_now() + FM_SEC);
        _exit(1);
    }
    for (;;)
        pause(); /* another thread is about to exit */
}

/* Memory of workers; see arbiter/usage.h. */
#include "fermata/arbiter/usage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "fermata/util/clock.h"

#define RECENT (2 * FM_SEC) /* between the kernel's count and the end of what it has killed */

/* Up to size - 1 bytes of a file; false if there is nothing to be read. */
static bool read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, size - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* The number behind a name at the beginning of a line; false if there is none. */
static bool number_of(const char *text, const char *name, uint64_t *number)
{
    size_t len = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, len) != 0)
            continue;
        char *end;
        *number = strtoull(line + len, &end, 10);
        return end != line + len;
    }
    return false;
}

/* "Private_Clean:     12 kB" */
uint64_t fm_usage_parse(const char *text)
{
    uint64_t clean, dirty;
    if (!number_of(text, "Private_Clean:", &clean) || !number_of(text, "Private_Dirty:", &dirty))
        return FM_USAGE_UNKNOWN;
    return (clean + dirty) * 1024;
}

uint64_t fm_usage_private(pid_t pid)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%ld/smaps_rollup", (long)pid);
    return read_text(path, text, sizeof text) ? fm_usage_parse(text) : FM_USAGE_UNKNOWN;
}

/* "oom_kill 3" */
static bool count_kills(const struct fm_oom *o, uint64_t *killed)
{
    char text[1024];
    return *o->path && read_text(o->path, text, sizeof text) && number_of(text, "oom_kill ", killed);
}

void fm_oom_init(struct fm_oom *o)
{
    char text[4096];
    *o = (struct fm_oom){.path = ""};
    if (!read_text("/proc/self/cgroup", text, sizeof text))
        return;
    const char *own = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::"); /* of version 2, beside others */
    if (!own)
        return;
    own = strstr(own, "0::") + 3;
    snprintf(o->path, sizeof o->path, "/sys/fs/cgroup%.*s/memory.events", (int)strcspn(own, "\n"), own);
    if (!count_kills(o, &o->killed))
        *o->path = '\0';
}

int fm_oom_watch(const struct fm_oom *o)
{
    int fd = *o->path ? inotify_init1(IN_NONBLOCK | IN_CLOEXEC) : -1;
    if (fd >= 0 && inotify_add_watch(fd, o->path, IN_MODIFY) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void look(struct fm_oom *o, uint64_t now)
{
    uint64_t killed;
    if (!count_kills(o, &killed) || killed <= o->killed)
        return;
    if (now - o->seen_at > RECENT)
        o->unclaimed = 0;
    o->unclaimed += killed - o->killed;
    o->killed = killed;
    o->seen_at = now;
}

void fm_oom_changed(struct fm_oom *o, int fd, uint64_t now)
{
    char events[1024];
    while (read(fd, events, sizeof events) > 0)
        ;
    look(o, now);
}

bool fm_oom_has_killed(struct fm_oom *o, uint64_t now)
{
    look(o, now);
    if (o->unclaimed == 0 || now - o->seen_at > RECENT)
        return false;
    o->unclaimed--;
    return true;
}

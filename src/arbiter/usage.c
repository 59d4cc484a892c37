/* Memory of workers; see arbiter/usage.h. */
#include "fermata/arbiter/usage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
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

/* The cgroup of this process in a hierarchy: what stands behind `key` in a line of /proc/self/cgroup,
 * "NUMBER:NAMES:PATH". False if it is in none of that name. */
static bool own_cgroup(const char *text, const char *key, char *path, size_t size)
{
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        const char *found = strstr(line, key);
        if (!found || found > line + strcspn(line, "\n") || (size_t)(found - line) != strspn(line, "0123456789"))
            continue;
        found += strlen(key);
        snprintf(path, size, "%.*s", (int)strcspn(found, "\n"), found);
        return true;
    }
    return false;
}

static bool take_file(struct fm_oom *o, const char *root, const char *directory, const char *file)
{
    snprintf(o->path, sizeof o->path, "%s%s/%s", root, directory, file);
    return count_kills(o, &o->killed);
}

void fm_oom_find(struct fm_oom *o, const char *root, const char *text)
{
    char own[4096], root1[256];
    *o = (struct fm_oom){.path = "", .fd = -1};
    if (own_cgroup(text, "::", own, sizeof own) && take_file(o, root, own, "memory.events"))
        return;
    o->version1 = true;
    snprintf(root1, sizeof root1, "%s/memory", root);
    /* In a container its own cgroup may be all that it sees. */
    if (own_cgroup(text, ":memory:", own, sizeof own) &&
        (take_file(o, root1, own, "memory.oom_control") || take_file(o, root1, "", "memory.oom_control")))
        return;
    *o->path = '\0';
}

void fm_oom_init(struct fm_oom *o)
{
    char text[4096];
    read_text("/proc/self/cgroup", text, sizeof text);
    fm_oom_find(o, "/sys/fs/cgroup", text);
}

/* Version 1: an eventfd that is told before the kernel kills.  The kernel keeps no reference to the other descriptor.
 */
static int watch_version_1(const struct fm_oom *o)
{
    char path[sizeof o->path + 32], line[64];
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), file = open(o->path, O_RDONLY | O_CLOEXEC);
    const char *name = strrchr(o->path, '/');
    snprintf(path, sizeof path, "%.*s/cgroup.event_control", (int)(name - o->path), o->path);
    int control = open(path, O_WRONLY | O_CLOEXEC), n = snprintf(line, sizeof line, "%d %d", fd, file);
    bool good = fd >= 0 && file >= 0 && control >= 0 && write(control, line, (size_t)n) == n;
    if (file >= 0)
        close(file);
    if (control >= 0)
        close(control);
    if (!good && fd >= 0)
        close(fd);
    return good ? fd : -1;
}

static int watch_version_2(const struct fm_oom *o)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd >= 0 && inotify_add_watch(fd, o->path, IN_MODIFY) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int fm_oom_watch(struct fm_oom *o)
{
    o->fd = !*o->path ? -1 : o->version1 ? watch_version_1(o) : watch_version_2(o);
    return o->fd;
}

static void take_events(struct fm_oom *o, uint64_t now)
{
    char events[1024];
    while (o->fd >= 0 && read(o->fd, events, sizeof events) > 0)
        o->told_at = now;
}

/* In version 1 the kernel tells before it has counted, so that the kill may be seen only when the next worker ends: it
 * is of the time at which it was told. */
static void look(struct fm_oom *o, uint64_t now)
{
    uint64_t killed;
    take_events(o, now);
    if (!count_kills(o, &killed) || killed <= o->killed)
        return;
    uint64_t when = o->version1 && o->fd >= 0 ? o->told_at : now;
    if (when - o->seen_at > RECENT)
        o->unclaimed = 0;
    o->unclaimed += killed - o->killed;
    o->killed = killed;
    o->seen_at = when;
}

void fm_oom_changed(struct fm_oom *o, uint64_t now) { look(o, now); }

bool fm_oom_has_killed(struct fm_oom *o, uint64_t now)
{
    look(o, now);
    if (o->unclaimed == 0 || now - o->seen_at > RECENT)
        return false;
    o->unclaimed--;
    return true;
}

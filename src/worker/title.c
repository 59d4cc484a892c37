/* Titles of processes; see worker/title.h. */
#include "fermata/worker/title.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "fermata/util/err.h"

static struct {
    char *area; /* what the kernel shows */
    size_t size;
    size_t args; /* how much of it is the command's: beyond that it is shown only if there is no NUL at its end */
    char **argv, **environ_; /* the copies, which others point to */
} title;

static struct fm_mutex lock = FM_MUTEX_INIT; /* guards the area once threads run, and what follows */
static char base[160];
static size_t base_len;
static _Atomic uint64_t shown; /* written under the lock */

/* How far the texts reach, which lie one behind the other. */
static char *end_of(char **texts, char *end)
{
    for (; *texts; texts++)
        if (*texts == end)
            end += strlen(*texts) + 1;
    return end;
}

/* One piece of memory, which stays to the end: pointers to the environment's texts are handed out. */
static char **copy_of(char **texts)
{
    size_t n = 0, size = 0;
    for (; texts[n]; n++)
        size += strlen(texts[n]) + 1;
    char **copy = fm_malloc((n + 1) * sizeof *copy + size), *to = (char *)(copy + n + 1);
    for (size_t i = 0; i < n; i++) {
        copy[i] = to;
        to = stpcpy(to, texts[i]) + 1;
    }
    copy[n] = NULL;
    return copy;
}

char **fm_title_take(int argc, char **argv)
{
    if (argc == 0)
        return argv;
    char **args = copy_of(argv), **variables = copy_of(environ);
    char *end = end_of(argv, argv[0]);
    title.area = argv[0];
    title.args = (size_t)(end - argv[0]);
    title.size = (size_t)(end_of(environ, end) - argv[0]);
    title.argv = args;
    title.environ_ = variables;
    environ = variables;
    return args;
}

/* The numbers of /proc/self/stat from one to another; the second field is a name, which may have any character in it.
 */
static bool read_stat(unsigned from, unsigned to, unsigned long *numbers)
{
    char text[2048], *at;
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    at = strrchr(text, ')');
    for (unsigned field = 3; at && field <= to; field++) {
        at = strchr(at + 1, ' ');
        if (at && field >= from)
            numbers[field - from] = strtoul(at + 1, NULL, 10);
    }
    return at != NULL;
}

/* Where it lies in the area, the environment is copied.  What was set since the process began lies elsewhere. */
static void copy_environment(const char *begin, const char *end)
{
    size_t n = 0, size = 0;
    for (; environ[n]; n++)
        if (environ[n] >= begin && environ[n] < end)
            size += strlen(environ[n]) + 1;
    char **copy = fm_malloc((n + 1) * sizeof *copy + size), *to = (char *)(copy + n + 1);
    for (size_t i = 0; i < n; i++) {
        bool inside = environ[i] >= begin && environ[i] < end;
        copy[i] = inside ? to : environ[i];
        to = inside ? stpcpy(to, environ[i]) + 1 : to;
    }
    copy[n] = NULL;
    title.environ_ = environ = copy;
}

void fm_title_find(void)
{
    unsigned long at[4]; /* arg_start, arg_end, env_start, env_end */
    if (!read_stat(48, 51, at) || at[0] == 0 || at[1] <= at[0])
        return;
    if (at[2] == at[1] && at[3] > at[2])
        copy_environment((const char *)at[2], (const char *)at[3]);
    else
        at[3] = at[1];
    title.area = (char *)at[0];
    title.args = at[1] - at[0];
    title.size = at[3] - at[0];
}

/* A title that is longer than the command was goes on where the environment was: the kernel shows that if the last byte
 * of the command is not NUL. */
static void write_title(const char *text, size_t len)
{
    if (len >= title.size)
        len = title.size - 1;
    memcpy(title.area, text, len);
    memset(title.area + len, 0, len < title.args ? title.args - len : 1);
}

void fm_title_set(const char *what, const char *name)
{
    prctl(PR_SET_NAME, "fermata"); /* a worker was executed as /proc/self/exe */
    if (title.size < 2)
        return;
    int n = snprintf(base, sizeof base, name ? "fermata: %s [%s]" : "fermata: %s", what, name);
    base_len = n < (int)sizeof base ? (size_t)n : sizeof base - 1;
    write_title(base, base_len);
}

bool fm_title_is_set(void) { return base_len > 0; }

/* By hand, because it may be done a thousand times a second. */
static size_t put_parked(char *to, uint64_t n)
{
    static const char before[] = " (", behind[] = " parked)";
    char digits[20];
    size_t len = sizeof before - 1, k = sizeof digits;
    memcpy(to, before, len);
    do
        digits[--k] = (char)('0' + n % 10);
    while (n /= 10);
    memcpy(to + len, digits + k, sizeof digits - k);
    len += sizeof digits - k;
    memcpy(to + len, behind, sizeof behind - 1);
    return len + sizeof behind - 1;
}

void fm_title_parked(uint64_t n)
{
    char text[sizeof base + 40];
    if (base_len == 0 || atomic_load_explicit(&shown, memory_order_relaxed) == n)
        return;
    fm_mutex_lock(&lock);
    memcpy(text, base, base_len);
    write_title(text, base_len + (n > 0 ? put_parked(text + base_len, n) : 0));
    atomic_store_explicit(&shown, n, memory_order_relaxed);
    fm_mutex_unlock(&lock);
}

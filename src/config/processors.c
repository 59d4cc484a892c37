/* The limits of a cgroup; see config/processors.h. */
#include "fermata/config/processors.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE 4096

struct limits {
    double processors;
    double memory; /* bytes */
};

static bool read_line(const char *directory, const char *name, char *line, size_t size)
{
    char path[PATH_SIZE + 64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *f = fopen(path, "re");
    bool read = f && fgets(line, (int)size, f);
    if (f)
        fclose(f);
    return read;
}

/* cpu.max is "QUOTA PERIOD", in microseconds, or "max PERIOD"; memory.max is bytes, or "max". */
static void look_at(const char *directory, struct limits *limits)
{
    char line[128];
    double quota, period, bytes;
    if (read_line(directory, "cpu.max", line, sizeof line) && sscanf(line, "%lf %lf", &quota, &period) == 2 &&
        quota > 0 && period > 0 && quota / period < limits->processors)
        limits->processors = quota / period;
    if (read_line(directory, "memory.max", line, sizeof line) && sscanf(line, "%lf", &bytes) == 1 && bytes > 0 &&
        bytes < limits->memory)
        limits->memory = bytes;
}

/* The path of this process's cgroup, of version 2: the line "0::/path".  False: there is none. */
static bool own_path(const char *cgroup, char *path, size_t size)
{
    char line[PATH_SIZE];
    bool found = false;
    FILE *f = fopen(cgroup, "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        found = strncmp(line, "0::/", 4) == 0 && snprintf(path, size, "%s", line + 3) < (int)size;
    }
    if (f)
        fclose(f);
    return found;
}

static void find_limits(const char *cgroup, const char *root, struct limits *limits)
{
    char path[PATH_SIZE], directory[2 * PATH_SIZE];
    if (!own_path(cgroup, path, sizeof path))
        path[0] = '\0';
    /* Each cgroup on the way up may have a limit; in a container the own one is often mounted as the root. */
    for (char *slash = path + strlen(path); slash; slash = strrchr(path, '/')) {
        *slash = '\0';
        snprintf(directory, sizeof directory, "%s%s", root, path);
        look_at(directory, limits);
    }
}

/* Half a processor is worth a worker. */
static unsigned whole(double processors)
{
    unsigned n = (unsigned)processors;
    n += processors > n;
    return n < 1 ? 1 : n;
}

unsigned fm_processors_of(const char *cgroup, const char *root, unsigned processors, unsigned most)
{
    struct limits limits = {processors, (double)most * (double)FM_MEMORY_OF_A_WORKER};
    find_limits(cgroup, root, &limits);
    unsigned by_time = whole(limits.processors), by_memory = (unsigned)(limits.memory / (double)FM_MEMORY_OF_A_WORKER);
    unsigned n = by_time < by_memory ? by_time : by_memory;
    return n < 1 ? 1 : n > most ? most : n;
}

unsigned fm_processors_usable_of(const char *cgroup, const char *root, unsigned processors)
{
    struct limits limits = {processors, 0};
    find_limits(cgroup, root, &limits);
    return whole(limits.processors);
}

static unsigned here(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

unsigned fm_processors(unsigned most) { return fm_processors_of("/proc/self/cgroup", "/sys/fs/cgroup", here(), most); }

unsigned fm_processors_usable(void) { return fm_processors_usable_of("/proc/self/cgroup", "/sys/fs/cgroup", here()); }

/* Latencies in a histogram; the memory of a server. */
#include "load.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* 128 buckets for each power of two: below 256 every value has its own. */
static unsigned bucket_of(uint64_t value)
{
    if (value < 256)
        return (unsigned)value;
    unsigned shift = 56 - (unsigned)__builtin_clzll(value);
    return shift * 128 + (unsigned)(value >> shift);
}

static uint64_t middle_of(unsigned bucket)
{
    if (bucket < 256)
        return bucket;
    unsigned shift = bucket / 128 - 1;
    return ((uint64_t)(bucket % 128 + 128) << shift) + ((UINT64_C(1) << shift) >> 1);
}

void histogram_add(struct histogram *h, uint64_t value)
{
    h->bucket[bucket_of(value)]++;
    h->total++;
    if (value > h->max)
        h->max = value;
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
    uint64_t seen = 0, wanted = (uint64_t)(q * (double)h->total);
    for (unsigned b = 0; b < sizeof h->bucket / sizeof h->bucket[0]; b++)
        if ((seen += h->bucket[b]) > wanted)
            return middle_of(b) < h->max ? middle_of(b) : h->max;
    return h->max;
}

void histogram_print(const struct histogram *h, const char *name)
{
    static const struct {
        const char *name;
        double q;
    } points[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
    printf("\"%s\": {", name);
    for (unsigned i = 0; i < sizeof points / sizeof points[0]; i++)
        printf("\"%s\": %.1f, ", points[i].name, (double)histogram_quantile(h, points[i].q) / 1000);
    printf("\"max\": %.1f}", (double)h->max / 1000);
}

/* ---- memory ---- */

static long field_of(unsigned pid, const char *file, const char *name)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%u/%s", pid, file);
    FILE *f = fopen(path, "re");
    long value = -1;
    while (f && value < 0 && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtol(line + strlen(name), NULL, 10);
    if (f)
        fclose(f);
    return value;
}

static void add_memory(struct memory *sum, struct memory more)
{
    sum->rss_kb = sum->rss_kb < 0 || more.rss_kb < 0 ? -1 : sum->rss_kb + more.rss_kb;
    sum->pss_kb = sum->pss_kb < 0 || more.pss_kb < 0 ? -1 : sum->pss_kb + more.pss_kb;
}

static void add_children(struct memory *sum, unsigned pid, const char *thread)
{
    char path[320];
    unsigned child;
    snprintf(path, sizeof path, "/proc/%u/task/%s/children", pid, thread);
    FILE *f = fopen(path, "re");
    while (f && fscanf(f, "%u", &child) == 1)
        add_memory(sum, memory_of(child));
    if (f)
        fclose(f);
}

struct memory memory_of(unsigned pid)
{
    char path[64];
    struct memory sum = {field_of(pid, "status", "VmRSS:"), field_of(pid, "smaps_rollup", "Pss:")};
    snprintf(path, sizeof path, "/proc/%u/task", pid);
    DIR *threads = opendir(path);
    struct dirent *e;
    while (threads && (e = readdir(threads)))
        if (e->d_name[0] != '.')
            add_children(&sum, pid, e->d_name);
    if (threads)
        closedir(threads);
    return sum;
}

double own_cpu(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* Parked requests by place, for the metrics; see admin/metrics.h. */
#include "fermata/admin/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "fermata/util/places.h"

#define MOST 20 /* a label for each line of an application would be too many series */

struct entry {
    const char *file; /* its name, without directories */
    unsigned line, n;
};

static int by_name(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = strcmp(x->file, y->file);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

static int larger_first(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return x->n != y->n ? (x->n < y->n) - (x->n > y->n) : by_name(a, b);
}

static const char *name_of(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
}

/* Those at which requests are parked; *others: those that are at none that is known. */
static unsigned gather(struct entry *all, unsigned *others)
{
    unsigned n = 0;
    *others = fm_places_parked(0);
    for (unsigned i = 1, count = fm_places_count(); i < count; i++) {
        const struct fm_place *p = fm_places_get((uint16_t)i);
        unsigned parked = fm_places_parked((uint16_t)i);
        if (parked > 0)
            all[n++] = (struct entry){name_of(p->file), p->line, parked};
    }
    return n;
}

/* What has the same name is one series: files of that name in other directories, and a line that was found and guessed.
 */
static unsigned merge(struct entry *all, unsigned n)
{
    unsigned kept = 0;
    qsort(all, n, sizeof *all, by_name);
    for (unsigned i = 0; i < n; i++) {
        if (kept > 0 && by_name(&all[kept - 1], &all[i]) == 0)
            all[kept - 1].n += all[i].n;
        else
            all[kept++] = all[i];
    }
    qsort(all, kept, sizeof *all, larger_first);
    return kept;
}

/* Within the quotes of a label. */
static void put_escaped(struct fm_buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\' || *text == '"')
            fm_buf_append(out, "\\", 1);
        fm_buf_append(out, *text == '\n' ? "\\n" : text, *text == '\n' ? 2 : 1);
    }
}

void fm_metrics_places(struct fm_buf *out)
{
    static const char family[] = "fermata_parked_requests";
    struct entry *all = calloc(FM_PLACES, sizeof *all);
    unsigned others;
    if (!all) {
        out->failed = true;
        return;
    }
    unsigned n = gather(all, &others);
    n = n > 0 ? merge(all, n) : 0;
    fm_buf_printf(out, "# HELP %s Requests parked on futures, by place (--metrics-places).\n# TYPE %s gauge\n", family,
                  family);
    for (unsigned i = 0; i < n; i++) {
        if (i >= MOST) {
            others += all[i].n;
            continue;
        }
        fm_buf_printf(out, "%s{place=\"", family);
        put_escaped(out, all[i].file);
        fm_buf_printf(out, ":%u\"} %u\n", all[i].line, all[i].n);
    }
    fm_buf_printf(out, "%s{place=\"other\"} %u\n", family, others);
    free(all);
}

/* The access log: lines are gathered, and given to the file's thread. */
#include "fermata/server/access.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fermata/http/logformat.h"
#include "fermata/util/buf.h"
#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/util/logfile.h"

#define GATHER (FM_SEC / 1000) /* under load a line is no reason to wake a thread each time */

struct fm_access_log {
    struct fm_logfile *file; /* or NULL */
    void (*also)(const char *line, size_t n);
    struct fm_logformat *format;
    struct fm_buf lines; /* of this turn of the loop */
    const char *const *excluded;
    unsigned nexcluded;
};

/* The access log has no place for it. */
static size_t tell_dropped(char *line, size_t size, uint64_t dropped)
{
    (void)line, (void)size;
    fm_warn("%llu lines of the access log were dropped while it could not be written", (unsigned long long)dropped);
    return 0;
}

static const struct fm_logfile_kind kind = {"access log", STDOUT_FILENO, FM_C_LOST_ACCESS,
                                            GATHER,       tell_dropped,  fm_log_not_reopened};

struct fm_access_log *fm_access_log_open(const struct fm_access_config *config, int *err)
{
    struct fm_logfile *file = config->path ? fm_logfile_open(&kind, config->path, err) : NULL;
    if (config->path && !file)
        return NULL;
    *err = file ? fm_logfile_start(file, config->ring) : 0;
    if (*err != 0) { /* the loop writes nothing itself */
        fm_logfile_close(file, fm_now());
        return NULL;
    }
    struct fm_access_log *a = fm_calloc(1, sizeof *a);
    a->file = file;
    a->also = config->also;
    a->format = config->format;
    a->excluded = config->excluded;
    a->nexcluded = config->nexcluded;
    return a;
}

void fm_access_log_close(struct fm_access_log *a, uint64_t until)
{
    if (!a)
        return;
    fm_access_log_flush(a);
    fm_logfile_close(a->file, until);
    fm_buf_fini(&a->lines);
    fm_logformat_free(a->format);
    free(a);
}

void fm_access_log_leave(struct fm_access_log *a, bool gathered, uint64_t until) FM_UNCHECKED
{
    if (gathered)
        fm_access_log_flush(a);
    if (a->file)
        fm_logfile_flush(a->file, until);
}

void fm_access_log_reopen(struct fm_access_log *a)
{
    if (a->file)
        fm_logfile_reopen(a->file);
}

void fm_access_log_flush(struct fm_access_log *a)
{
    if (fm_buf_size(&a->lines) == 0)
        return;
    if (a->file)
        fm_logfile_put(a->file, fm_buf_head(&a->lines), fm_buf_size(&a->lines));
    fm_buf_clear(&a->lines);
}

static bool is_excluded(const struct fm_access_log *a, const struct fm_request *r)
{
    const char *path = r ? fm_request_text(r, r->path) : NULL;
    for (unsigned i = 0; path && i < a->nexcluded; i++)
        if (strlen(a->excluded[i]) == r->path.len && memcmp(a->excluded[i], path, r->path.len) == 0)
            return true;
    return false;
}

void fm_access_log_add(struct fm_access_log *a, const struct fm_access_entry *e)
{
    struct fm_buf *b = &a->lines;
    if (is_excluded(a, e->request))
        return;
    size_t before = fm_buf_size(b); /* what is consumed may be dropped on the way */
    fm_logformat_line(a->format, b, e, a->file ? fm_logfile_longest(a->file) : SIZE_MAX);
    if (b->failed) {
        fm_error_ratelimited("access log: %s; lines are left out", fm_strerror(-ENOMEM));
        fm_count(FM_C_LOST_ACCESS);
        b->len = b->off + before;
        b->failed = false;
    } else if (a->also) {
        a->also(fm_buf_head(b) + before, fm_buf_size(b) - before - 1);
    }
    if (fm_buf_size(b) > 16 * 1024)
        fm_access_log_flush(a);
}

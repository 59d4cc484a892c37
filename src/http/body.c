/* Request bodies: memory first, then an unlinked temporary file.
 *
 * Of data, spool and fd at most one holds the bytes: when memory is not granted any more, what was there moves to a
 * spool, and when the spool has written all of it the file is the body's own.  Positions are explicit (pread, pwrite),
 * so any number of readers share the file. */
#include "fermata/http/body.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "fermata/http/quota.h"
#include "fermata/util/err.h"
#include "spool.h"

#define FIRST_CAP 1024

/* n more bytes will be in a file, which is a new one if the body has none.  0 or -EDQUOT, with nothing changed. */
static int charge(struct fm_body *b, uint64_t n)
{
    int err = fm_quota_add_file(!b->in_file, n);
    b->in_file = b->in_file || err == 0;
    return err;
}

void fm_body_init(struct fm_body *b) { *b = (struct fm_body){.fd = -1}; }

void fm_body_fini(struct fm_body *b)
{
    if (b->data) {
        fm_quota_move(FM_QUOTA_BODIES, b->cap, 0);
        free(b->data);
    }
    if (b->fd >= 0)
        fm_files_close(b->fd);
    if (b->spool)
        fm_spool_drop(b->spool, b->in_file, b->size); /* it may outlive the body, and what it takes with it */
    else if (b->in_file)
        fm_quota_drop_file(true, b->size);
    fm_body_init(b);
}

/* Moves the content from memory to a spool, which n more bytes are to follow into. */
static int spill(struct fm_body *b, size_t n)
{
    int err = charge(b, b->size + n);
    if (err != 0)
        return err;
    b->spool = fm_spool_new(b->data, (size_t)b->size, b->cap);
    if (b->spool) {
        b->data = NULL;
        b->cap = 0;
        return 0;
    }
    fm_quota_drop_file(false, n); /* the rest goes with the body */
    return -ENOMEM;
}

/* Makes room for `need` bytes; false if they are too many for memory, or there is none. */
static bool grow(struct fm_body *b, uint64_t need)
{
    if (need <= b->cap)
        return true;
    if (need > FM_BODY_MEMORY)
        return false;
    uint32_t cap = b->cap ? b->cap : FIRST_CAP;
    while (cap < need)
        cap *= 2;
    if (need > FM_QUOTA_FREE && need > b->hint / 8 && cap < b->hint)
        cap = b->hint; /* it is really coming: one allocation for all of it */
    if (!fm_quota_move(FM_QUOTA_BODIES, b->cap, cap)) {
        if (need > FM_QUOTA_FREE)
            return false;
        cap = FM_QUOTA_FREE; /* of its own */
    }
    char *data = realloc(b->data, cap);
    if (!data) {
        fm_quota_move(FM_QUOTA_BODIES, cap, b->cap);
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void fm_body_expect(struct fm_body *b, uint64_t n)
{
    if (b->data || b->spool || n == 0)
        return;
    b->hint = n <= FM_BODY_MEMORY ? (uint32_t)n : 0;
    uint32_t cap = (uint32_t)(n < FM_QUOTA_FREE ? n : FM_QUOTA_FREE);
    b->data = malloc(cap);
    b->cap = b->data ? cap : 0;
}

int fm_body_append(struct fm_body *b, const char *p, size_t n)
{
    if (n == 0)
        return 0;
    if (!b->spool && grow(b, b->size + n)) {
        if (p != b->data + b->size) /* else they were received in place */
            memcpy(b->data + b->size, p, n);
        b->size += n;
        return 0;
    }
    int err = b->spool ? charge(b, n) : spill(b, n);
    if (err != 0)
        return err;
    b->size += n; /* charged, whether they can be stored or not */
    return fm_spool_append(b->spool, p, n);
}

int fm_body_end(struct fm_body *b)
{
    int err = b->spool ? fm_spool_end(b->spool) : 0;
    if (err != 0 || !b->spool)
        return err;
    b->fd = b->spool->fd;
    b->spool->fd = -1;
    fm_spool_drop(b->spool, false, 0);
    b->spool = NULL;
    return 0;
}

long fm_body_read(const struct fm_body *b, uint64_t pos, char *p, size_t n)
{
    if (pos >= b->size || n == 0)
        return 0;
    if (n > b->size - pos)
        n = (size_t)(b->size - pos);
    if (b->fd < 0) {
        memcpy(p, b->data + pos, n);
        return (long)n;
    }
    size_t got = 0;
    while (got < n) {
        ssize_t now = pread(b->fd, p + got, n - got, (off_t)(pos + got));
        if (now < 0 && errno == EINTR)
            continue;
        if (now < 0)
            return -errno;
        if (now == 0)
            return -EIO; /* the file was cut short */
        got += (size_t)now;
    }
    return (long)got;
}

void fm_body_move(struct fm_body *to, struct fm_body *from)
{
    *to = *from;
    fm_body_init(from);
}

/* Request bodies: memory first, then an unlinked temporary file.
 *
 * Either data or fd holds the bytes, never both: when memory is not granted any more, what was there moves to the file
 * and the memory is freed.  Positions are explicit (pread, pwrite), so any number of readers share the file. */
#include "fermata/http/body.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "fermata/http/budget.h"

#define FIRST_CAP 1024

#define PATH_SIZE 4096
static char dir[PATH_SIZE]; /* or "", if it is too long */
static pthread_once_t dir_once = PTHREAD_ONCE_INIT;

static void find_dir(void)
{
    const char *env = getenv("TMPDIR");
    if (snprintf(dir, sizeof dir, "%s", env && *env ? env : "/tmp") >= (int)sizeof dir)
        dir[0] = '\0';
}

void fm_body_init(struct fm_body *b) { *b = (struct fm_body){.fd = -1}; }

static void drop_memory(struct fm_body *b)
{
    fm_budget_move(b->cap, 0);
    free(b->data);
    b->data = NULL;
    b->cap = 0;
}

void fm_body_fini(struct fm_body *b)
{
    if (b->data)
        drop_memory(b);
    if (b->fd >= 0)
        close(b->fd);
    fm_body_init(b);
}

/* A nameless file that only its owner could have opened.  The descriptor, or a negated errno. */
static int open_file(void)
{
    pthread_once(&dir_once, find_dir);
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
    if (fd >= 0)
        return fd;
    char path[PATH_SIZE + 16]; /* not every file system knows O_TMPFILE */
    if (!*dir || snprintf(path, sizeof path, "%s/fermata-XXXXXX", dir) >= (int)sizeof path)
        return -ENAMETOOLONG;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    unlink(path);
    return fd;
}

static int write_all(int fd, const char *p, size_t n, uint64_t pos)
{
    while (n > 0) {
        ssize_t done = pwrite(fd, p, n, (off_t)pos);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? -errno : -EIO;
        p += done;
        n -= (size_t)done;
        pos += (uint64_t)done;
    }
    return 0;
}

/* Moves the content from memory to a new file. */
static int spill(struct fm_body *b)
{
    int fd = open_file();
    if (fd < 0)
        return fd;
    int rc = write_all(fd, b->data, (size_t)b->size, 0);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    drop_memory(b);
    b->fd = fd;
    return 0;
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
    if (need > FM_BUDGET_FREE && need > b->hint / 8 && cap < b->hint)
        cap = b->hint; /* it is really coming: one allocation for all of it */
    if (!fm_budget_move(b->cap, cap)) {
        if (need > FM_BUDGET_FREE)
            return false;
        cap = FM_BUDGET_FREE; /* of its own */
    }
    char *data = realloc(b->data, cap);
    if (!data) {
        fm_budget_move(cap, b->cap);
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void fm_body_expect(struct fm_body *b, uint64_t n)
{
    if (b->data || b->fd >= 0 || n == 0)
        return;
    b->hint = n <= FM_BODY_MEMORY ? (uint32_t)n : 0;
    uint32_t cap = (uint32_t)(n < FM_BUDGET_FREE ? n : FM_BUDGET_FREE);
    b->data = malloc(cap);
    b->cap = b->data ? cap : 0;
}

int fm_body_append(struct fm_body *b, const char *p, size_t n)
{
    if (n == 0)
        return 0;
    int rc = 0;
    bool in_memory = b->fd < 0 && grow(b, b->size + n);
    if (!in_memory && b->fd < 0)
        rc = spill(b);
    if (!in_memory && rc == 0)
        rc = write_all(b->fd, p, n, b->size);
    else if (in_memory && p != b->data + b->size) /* else they were received in place */
        memcpy(b->data + b->size, p, n);
    if (rc < 0)
        return rc;
    b->size += n;
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
            return -EIO; /* somebody cut the file short */
        got += (size_t)now;
    }
    return (long)got;
}

void fm_body_move(struct fm_body *to, struct fm_body *from)
{
    *to = *from;
    fm_body_init(from);
}

/* Writing a body to a file without waiting for the disk; see spool.h. */
#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fermata/http/quota.h"
#include "fermata/util/err.h"

#define PIECE (64 * 1024) /* bytes that are worth a write while more is to come */
#define FULL (128 * 1024) /* bytes that may be gathered while one is under way */

static void (*listener)(struct fm_spool *s);

void fm_body_listen(void (*over)(struct fm_spool *s)) { listener = over; }

/* ---- on a file thread ---- */

#define PATH_SIZE 4096
static char dir[PATH_SIZE]; /* or "", if it is too long */
static pthread_once_t dir_once = PTHREAD_ONCE_INIT;

/* The application may go to another directory later. */
static void find_dir(void)
{
    const char *env = getenv("TMPDIR"), *name = env && *env ? env : "/tmp";
    char *whole = *name == '/' ? NULL : realpath(name, NULL);
    if (snprintf(dir, sizeof dir, "%s", whole ? whole : name) >= (int)sizeof dir)
        dir[0] = '\0';
    free(whole);
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

const char *fm_body_dir(void)
{
    pthread_once(&dir_once, find_dir);
    return dir;
}

int fm_body_try_dir(void)
{
    int fd = open_file();
    if (fd < 0)
        return fd;
    close(fd);
    return 0;
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

static void write_piece(struct fm_spool *s)
{
    if (s->fd < 0)
        s->fd = open_file();
    s->err = s->fd < 0 ? s->fd : write_all(s->fd, fm_buf_head(&s->flying), fm_buf_size(&s->flying), s->written);
    s->written += fm_buf_size(&s->flying);
    fm_buf_fini(&s->flying);
    fm_quota_move(FM_QUOTA_BODIES, s->charged, 0);
    s->charged = 0;
}

static void run(struct fm_file_job *job)
{
    struct fm_spool *s = FM_LIST_ENTRY(job, struct fm_spool, job);
    write_piece(s);
    listener(s); /* from here on it is the loop's */
}

/* ---- on the loop ---- */

/* What is wrong, as far as the loop may know: 0 or a negated errno. */
static int trouble(const struct fm_spool *s) { return s->lost ? -ENOMEM : s->busy ? 0 : s->err; }

/* Has what is gathered written. */
static void start(struct fm_spool *s)
{
    s->flying = s->gathered;
    s->gathered = (struct fm_buf)FM_BUF_INIT;
    if (!listener) {
        write_piece(s);
        return;
    }
    s->busy = true;
    int err = fm_files_submit(FM_FILES_STORE, &s->job);
    if (err == 0)
        return;
    s->busy = false;
    s->err = err;
}

static void start_if_worth_it(struct fm_spool *s)
{
    size_t n = fm_buf_size(&s->gathered);
    if (!s->busy && trouble(s) == 0 && (n >= PIECE || (s->ending && n > 0)))
        start(s);
}

struct fm_spool *fm_spool_new(char *data, size_t n, uint32_t cap)
{
    struct fm_spool *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    fm_file_job_init(&s->job, run);
    fm_list_init(&s->node);
    s->fd = -1;
    s->gathered = (struct fm_buf){.data = data, .len = n, .cap = cap};
    s->charged = cap;
    return s;
}

int fm_spool_append(struct fm_spool *s, const char *p, size_t n)
{
    start_if_worth_it(s); /* before memory that is large already has to grow */
    fm_buf_append(&s->gathered, p, n);
    s->lost |= s->gathered.failed;
    start_if_worth_it(s);
    return trouble(s);
}

int fm_spool_end(struct fm_spool *s)
{
    s->ending = true;
    start_if_worth_it(s);
    int err = trouble(s);
    return err == 0 && s->busy ? FM_EBUSY : err;
}

bool fm_spool_is_full(const struct fm_spool *s) { return s->busy && fm_buf_size(&s->gathered) >= FULL; }

void fm_spool_own(struct fm_spool *s, void *owner) { s->owner = owner; }

static void free_spool(struct fm_spool *s)
{
    if (s->fd >= 0)
        fm_files_close(s->fd);
    fm_quota_move(FM_QUOTA_BODIES, s->charged, 0);
    fm_buf_fini(&s->flying);
    fm_buf_fini(&s->gathered);
    if (s->owes)
        fm_quota_drop_file(true, s->owed);
    free(s);
}

void fm_spool_drop(struct fm_spool *s, bool owes, uint64_t bytes)
{
    s->owner = NULL;
    s->dropped = true;
    s->owes = owes;
    s->owed = bytes;
    if (!s->busy || fm_files_withdraw(FM_FILES_STORE, &s->job))
        free_spool(s);
}

void *fm_spool_over(struct fm_spool *s)
{
    s->busy = false;
    if (s->dropped) {
        free_spool(s);
        return NULL;
    }
    start_if_worth_it(s);
    return s->owner;
}

struct fm_list *fm_spool_node(struct fm_spool *s) { return &s->node; }

struct fm_spool *fm_spool_of_node(struct fm_list *node) { return FM_LIST_ENTRY(node, struct fm_spool, node); }

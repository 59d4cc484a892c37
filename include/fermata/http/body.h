/* A request body: memory up to FM_BODY_MEMORY bytes as long as all requests together have little (http/quota.h), then
 * an unlinked temporary file in $TMPDIR (or /tmp; looked up once).  In memory an upload of a megabyte costs half as
 * much.  Files have a quota of their own, in number and in bytes (fm_quota_limit_files).
 *
 * Filled by the loop while it arrives: into memory at once, into a file by a file thread (src/http/spool.h), so that
 * the loop never waits for a disk.  When all of it is stored it is handed over with the request; readers use positions
 * of their own (fm_body_read), so reading needs no lock.  Embedded: init/fini. */
#ifndef FERMATA_HTTP_BODY_H
#define FERMATA_HTTP_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/util/list.h"

#define FM_BODY_MEMORY (8 * 1024 * 1024)

struct fm_spool; /* private to src/http */

struct fm_body {
    char *data;    /* the bytes while they fit into memory, else NULL */
    uint64_t size; /* bytes in all */
    uint32_t cap;
    uint32_t hint;          /* what fm_body_expect was told, at most FM_BODY_MEMORY */
    int fd;                 /* temporary file with all of it, or -1 */
    bool in_file;           /* it counts in the quota of files */
    struct fm_spool *spool; /* on its way into the file, else NULL */
};

void fm_body_init(struct fm_body *b);
void fm_body_fini(struct fm_body *b);

/* Appends n bytes, which may lie in the body's own memory behind its end (data + size, up to cap) already.  0, -EDQUOT
 * if there are too many files or too much in them, or a negated errno if the temporary file fails (nothing more may be
 * appended then).  Where there is no memory it is a file at once. */
int fm_body_append(struct fm_body *b, const char *p, size_t n);

/* Nothing more comes.  0: it may be read; FM_EBUSY: not yet, the listener will hear of it, then ask again; or a negated
 * errno: it could not be stored. */
int fm_body_end(struct fm_body *b);

/* Announces that n bytes are to come (from Content-Length), to size the memory once; only a hint. */
void fm_body_expect(struct fm_body *b, uint64_t n);

/* Copies up to n bytes from position pos to p; the count, 0 at the end, or a negated errno.  May block on the disk
 * when b->fd >= 0. */
long fm_body_read(const struct fm_body *b, uint64_t pos, char *p, size_t n);

/* Moves the content of from to the uninitialised to; from is empty afterwards. */
void fm_body_move(struct fm_body *to, struct fm_body *from);

/* ---- bodies on their way into files: the loop, but for the listener ---- */

/* `over` is called on a file thread when a write is over; it hands the spool to the loop (its node is free for that),
 * which calls fm_spool_over.  Before any thread starts.  NULL, as at first: writes wait for the disk. */
void fm_body_listen(void (*over)(struct fm_spool *s));
struct fm_list *fm_spool_node(struct fm_spool *s);
struct fm_spool *fm_spool_of_node(struct fm_list *node);

/* Who shall be told (fm_spool_over's answer), until the body is freed or all of it is stored. */
void fm_spool_own(struct fm_spool *s, void *owner);

/* A write is over, and the next one has begun if there is one.  The owner, or NULL: the body is not wanted any more,
 * and the spool is gone. */
void *fm_spool_over(struct fm_spool *s);

/* Does so much wait for the disk that nothing more should be read from the client until a write is over? */
bool fm_spool_is_full(const struct fm_spool *s);

/* The directory of the files ("" if its name is too long), and whether one can be made there: 0 or a negated errno.
 * The latter waits for the disk. */
const char *fm_body_dir(void);
int fm_body_try_dir(void);

#endif

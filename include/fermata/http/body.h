/* A request body: memory up to FM_BODY_MEMORY bytes as long as all requests together have little (http/budget.h), then
 * an unlinked temporary file in $TMPDIR (or /tmp; looked up once, when the first file is needed).  In memory an upload
 * of a megabyte costs half as much.
 *
 * Written by the loop while it arrives, then handed over with the request; readers use positions of their own
 * (fm_body_read), so reading needs no lock.  Embedded: init/fini. */
#ifndef FERMATA_HTTP_BODY_H
#define FERMATA_HTTP_BODY_H

#include <stddef.h>
#include <stdint.h>

#define FM_BODY_MEMORY (8 * 1024 * 1024)

struct fm_body {
    char *data;    /* the bytes while they fit into memory, else NULL */
    uint64_t size; /* bytes in all */
    uint32_t cap;
    uint32_t hint; /* what fm_body_expect was told, at most FM_BODY_MEMORY */
    int fd;        /* temporary file, or -1 */
};

void fm_body_init(struct fm_body *b);
void fm_body_fini(struct fm_body *b);

/* Appends n bytes, which may lie in the body's own memory behind its end (data + size, up to cap) already.  0, or a
 * negated errno if the temporary file fails (nothing more may be appended then).  Where there is no memory it is a file
 * at once. */
int fm_body_append(struct fm_body *b, const char *p, size_t n);

/* Announces that n bytes are to come (from Content-Length), to size the memory once; only a hint. */
void fm_body_expect(struct fm_body *b, uint64_t n);

/* Copies up to n bytes from position pos to p; the count, 0 at the end, or a negated errno.  May block on the disk
 * when b->fd >= 0. */
long fm_body_read(const struct fm_body *b, uint64_t pos, char *p, size_t n);

/* Moves the content of from to the uninitialised to; from is empty afterwards. */
void fm_body_move(struct fm_body *to, struct fm_body *from);

#endif

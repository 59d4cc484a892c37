/* What a socket has not taken yet: one queue of pieces, sent strictly in the order in which they were put in.
 *
 * A piece is copied bytes, bytes borrowed from the writer (who keeps them alive until they are sent or the queue is
 * cleared), or a region of a file.  Copied bytes of all pieces lie one behind the other in `bytes`, in the pieces'
 * order; the pieces say how many of them come before the next borrowed block or file.  Neighbours that are both copied
 * are one piece, and at most one block is borrowed and one file is queued at a time, so that there are never more than
 * FM_OUTQ_PIECES.  Not thread-safe: a stream's lock guards it.
 *
 * What always holds (checked after each change in debug builds): no piece is empty; no two copied ones are neighbours;
 * the copied ones add up to fm_buf_size(&bytes), and all of them to `size`. */
#ifndef FERMATA_NET_OUTQ_H
#define FERMATA_NET_OUTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "fermata/util/buf.h"

enum fm_piece_kind { FM_PIECE_COPIED, FM_PIECE_BORROWED, FM_PIECE_FILE };

struct fm_piece {
    enum fm_piece_kind kind;
    uint64_t len; /* bytes of it that are still to be sent; more than 0 */
};

#define FM_OUTQ_PIECES 5 /* copied, borrowed, copied, file, copied: or the two the other way round */

struct fm_outq {
    struct fm_piece pieces[FM_OUTQ_PIECES]; /* the first leaves first */
    unsigned n;
    uint64_t size;        /* bytes in all */
    struct fm_buf bytes;  /* those that are copied */
    const char *borrowed; /* where the borrowed block goes on; NULL: none is queued */
    int file;             /* descriptor of the queued file, which is not the queue's own; -1: none is queued */
    int64_t file_pos;     /* where it goes on */
};

void fm_outq_init(struct fm_outq *q);

/* Drops all that is queued, and frees the memory. */
void fm_outq_clear(struct fm_outq *q);

/* Queues what lies behind the first `skip` bytes of n pieces.  A rest of one that has at least `borrow` bytes is
 * borrowed, if none is yet; everything else is copied.  0, or -ENOMEM with the queue as it was before or shorter at its
 * end: what is queued is no good any more, clear it. */
int fm_outq_add(struct fm_outq *q, const struct iovec *pieces, int n, size_t skip, size_t borrow);

/* Queues len bytes of the file fd from pos; none may be queued yet.  len may be 0: nothing is queued then. */
void fm_outq_add_file(struct fm_outq *q, int fd, int64_t pos, int64_t len);

/* Fills iov (FM_OUTQ_PIECES of them) with the bytes in memory in front of a queued file, or of the end; how many. */
int fm_outq_front(const struct fm_outq *q, struct iovec *iov);

/* The bytes of the file that leave next, or 0 if it is not its turn. */
static inline uint64_t fm_outq_file_front(const struct fm_outq *q)
{
    return q->n > 0 && q->pieces[0].kind == FM_PIECE_FILE ? q->pieces[0].len : 0;
}

/* Does it still use what belongs to the writer: a borrowed block or a file? */
static inline bool fm_outq_borrows(const struct fm_outq *q) { return q->borrowed || q->file >= 0; }

/* The first n bytes have left; n <= size. */
void fm_outq_sent(struct fm_outq *q, uint64_t n);

#endif

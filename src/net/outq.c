/* The ordered queue of what a socket has not taken; see net/outq.h. */
#include "fermata/net/outq.h"

#include <assert.h>
#include <errno.h>

#ifdef FM_DEBUG
static void check(const struct fm_outq *q)
{
    uint64_t all = 0, copied = 0;
    unsigned borrowed = 0, files = 0;
    assert(q->n <= FM_OUTQ_PIECES);
    for (unsigned i = 0; i < q->n; i++) {
        const struct fm_piece *p = &q->pieces[i];
        assert(p->len > 0);
        assert(i == 0 || p->kind != FM_PIECE_COPIED || q->pieces[i - 1].kind != FM_PIECE_COPIED);
        all += p->len;
        copied += p->kind == FM_PIECE_COPIED ? p->len : 0;
        borrowed += p->kind == FM_PIECE_BORROWED;
        files += p->kind == FM_PIECE_FILE;
    }
    assert(all == q->size && copied == fm_buf_size(&q->bytes));
    assert(borrowed == (q->borrowed != NULL) && files == (q->file >= 0));
}
#else
static void check(const struct fm_outq *q) { (void)q; }
#endif

void fm_outq_init(struct fm_outq *q) { *q = (struct fm_outq){.file = -1}; }

void fm_outq_clear(struct fm_outq *q)
{
    fm_buf_fini(&q->bytes);
    fm_outq_init(q);
}

/* At the end, where the same kind of bytes joins what is there. */
static void push(struct fm_outq *q, enum fm_piece_kind kind, uint64_t len)
{
    if (q->n > 0 && kind == FM_PIECE_COPIED && q->pieces[q->n - 1].kind == FM_PIECE_COPIED) {
        q->pieces[q->n - 1].len += len;
    } else {
        assert(q->n < FM_OUTQ_PIECES);
        q->pieces[q->n++] = (struct fm_piece){kind, len};
    }
    q->size += len;
}

int fm_outq_add(struct fm_outq *q, const struct iovec *pieces, int n, size_t skip, size_t borrow)
{
    for (int i = 0; i < n; i++) {
        size_t gone = skip < pieces[i].iov_len ? skip : pieces[i].iov_len, len = pieces[i].iov_len - gone;
        skip -= gone;
        if (len == 0)
            continue;
        const char *rest = (const char *)pieces[i].iov_base + gone;
        if (len >= borrow && !q->borrowed) {
            q->borrowed = rest;
            push(q, FM_PIECE_BORROWED, len);
            continue;
        }
        fm_buf_append(&q->bytes, rest, len);
        if (q->bytes.failed)
            return -ENOMEM;
        push(q, FM_PIECE_COPIED, len);
    }
    check(q);
    return 0;
}

void fm_outq_add_file(struct fm_outq *q, int fd, int64_t pos, int64_t len)
{
    assert(q->file < 0);
    if (len <= 0)
        return;
    q->file = fd;
    q->file_pos = pos;
    push(q, FM_PIECE_FILE, (uint64_t)len);
    check(q);
}

int fm_outq_front(const struct fm_outq *q, struct iovec *iov)
{
    char *copied = fm_buf_head(&q->bytes);
    unsigned i;
    for (i = 0; i < q->n && q->pieces[i].kind != FM_PIECE_FILE; i++) {
        const struct fm_piece *p = &q->pieces[i];
        iov[i].iov_len = (size_t)p->len;
        if (p->kind == FM_PIECE_BORROWED) {
            iov[i].iov_base = (void *)(uintptr_t)q->borrowed;
        } else {
            iov[i].iov_base = copied;
            copied += p->len;
        }
    }
    return (int)i;
}

/* n bytes of the first piece have left. */
static void advance(struct fm_outq *q, uint64_t n)
{
    struct fm_piece *p = &q->pieces[0];
    bool all = n == p->len;
    switch (p->kind) {
    case FM_PIECE_COPIED: fm_buf_consume(&q->bytes, (size_t)n); break;
    case FM_PIECE_BORROWED: q->borrowed = all ? NULL : q->borrowed + n; break;
    case FM_PIECE_FILE:
        q->file_pos += (int64_t)n;
        q->file = all ? -1 : q->file;
        break;
    }
    p->len -= n;
    if (all) {
        q->n--;
        memmove(q->pieces, q->pieces + 1, q->n * sizeof *q->pieces);
    }
}

/* Only the first piece leaves, so that copied pieces with something between them never become neighbours. */
void fm_outq_sent(struct fm_outq *q, uint64_t n)
{
    assert(n <= q->size);
    q->size -= n;
    while (n > 0) {
        uint64_t of_first = n < q->pieces[0].len ? n : q->pieces[0].len;
        advance(q, of_first);
        n -= of_first;
    }
    if (q->size == 0 && q->bytes.cap > 0)
        fm_buf_fini(&q->bytes); /* an idle connection keeps no memory */
    check(q);
}

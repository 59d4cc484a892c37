/* One response on its way: blocks in, framed bytes out to a sink.  Which octets frame it is a framer's to say
 * (http/framer.h); what is corked and for how long, and how long the body may be, is said here.
 *
 * Two may touch it: the thread that runs the request's step, and (flush, claim) the monitor and the loop; `lock` keeps
 * them apart.  Locks are taken in the order writer, stream.
 *
 * Coalescing: small blocks are corked, so that head, block and end leave in one system call.  Nothing is corked for
 * long: the monitor flushes what the step does not follow up within a millisecond or so (PEP 3333 lets another thread
 * see to the transmission of a block), and a request is never parked with output corked.  If the response ends while
 * its first block is still corked, its length is known. */
#ifndef FERMATA_HTTP_WRITER_H
#define FERMATA_HTTP_WRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "fermata/http/framer.h"
#include "fermata/http/response.h"
#include "fermata/util/annotate.h"
#include "fermata/util/buf.h"
#include "fermata/util/sent.h"

#define FM_WRITER_CORK 8192 /* bytes that may be corked */

struct fm_sink_ops { /* what lies behind: the connection.  Any thread, never blocking. */
    /* Of the version of HTTP that the connection speaks. */
    const struct fm_framer_ops *framer;
    /* Sends or keeps the pieces.  borrow: a large rest may be kept by reference. */
    enum fm_sent (*send)(void *sink, const struct iovec *pieces, int n, bool borrow);
    enum fm_sent (*send_file)(void *sink, const struct iovec *head, int fd, int64_t pos, int64_t len);
    /* Can it send files? */
    bool (*takes_files)(void *sink);
    /* How many bytes it keeps. */
    uint64_t (*pending)(void *sink);
    /* May the connection serve another request after this one? */
    bool (*may_keep)(void *sink);
    /* The rest of the response cannot be sent, for want of memory: the connection is to be broken off. */
    void (*give_up)(void *sink);
};

/* X(STATE, "what it means"), in the order in which they come */
#define FM_WRITER_STATES(X)                                                                                            \
    X(OPEN, "no block has been given: the application may respond anew, and the server may claim the response")        \
    X(FIRST, "the first block is corked, and there is no head yet: if the body ends now, its length is known")         \
    X(MADE, "the head is made, and corked with what has been framed")                                                  \
    X(SENDING, "the sink has been given the head")                                                                     \
    X(ENDED, "the sink has been given all")                                                                            \
    X(CLAIMED, "the server answers by itself; what the application gives is dropped")                                  \
    X(BROKEN, "there was no memory; what the application gives is dropped")

/* X(FROM, TO, "when"): every move there is; debug builds check each one against it.  A reset leads to OPEN. */
#define FM_WRITER_MOVES(X)                                                                                             \
    X(OPEN, FIRST, "a first block is small enough to wait for what follows")                                           \
    X(OPEN, MADE, "the first block is large, the last or all that is missing; or the body ends without any")           \
    X(OPEN, CLAIMED, "the server wants to answer by itself")                                                           \
    X(FIRST, MADE, "another block comes, the body ends, or it is flushed")                                             \
    X(MADE, SENDING, "what is corked is sent")                                                                         \
    X(SENDING, ENDED, "the body has ended")                                                                            \
    X(OPEN, BROKEN, "no memory")                                                                                       \
    X(FIRST, BROKEN, "no memory")                                                                                      \
    X(MADE, BROKEN, "no memory")                                                                                       \
    X(SENDING, BROKEN, "no memory")

enum fm_writer_state {
#define X(state, meaning) FM_WRITER_##state,
    FM_WRITER_STATES(X)
#undef X
};

struct fm_writer {
    const struct fm_sink_ops *ops;
    void *sink;
    struct fm_mutex lock; /* guards what follows */
    struct fm_response resp;
    struct fm_buf first;   /* the first block, in FIRST */
    struct fm_buf corked;  /* framed bytes not yet given to the sink */
    uint64_t corked_since; /* when the oldest corked byte came; 0: nothing is */
    uint64_t body;         /* body bytes accepted */
    uint32_t head_len;     /* bytes of the head, once it is made, unless it will not leave */
    int64_t left;          /* of the body's length, where that is known from the beginning; else -1 */
    int64_t expected;      /* see fm_writer_expect; else -1 */
    uint8_t state;         /* enum fm_writer_state */
    bool cut;              /* the application gave more than its Content-Length */
    struct fm_framer framer;
};

void fm_writer_init(struct fm_writer *w, const struct fm_sink_ops *ops, void *sink);
void fm_writer_fini(struct fm_writer *w);

/* For the next request on the same connection. */
void fm_writer_reset(struct fm_writer *w, int minor, bool is_head, bool keep_alive);

/* The next block of the body; the head has been set.  What became of it: FM_SENT_ALL also while it is corked, and
 * FM_SENT_GONE when the client is gone or the server has answered.  borrow: where that answers FM_SENT_BORROWED, the
 * caller keeps p alive and sends nothing more until the connection keeps nothing. */
enum fm_sent fm_writer_block(struct fm_writer *w, const char *p, size_t n, bool borrow) FM_ANY_THREAD;

/* The same for a body of exactly this one block, without corking it: what ends the response too. */
enum fm_sent fm_writer_whole(struct fm_writer *w, const char *p, size_t n, bool borrow) FM_ANY_THREAD;

/* The caller knows that n bytes more make the body complete: they are its Content-Length, unless the application has
 * given one, or the head has left. */
void fm_writer_expect(struct fm_writer *w, int64_t n) FM_ANY_THREAD;

/* After fm_writer_whole, by the same thread: has the response nothing to add, so that fm_writer_end need not be called?
 */
static inline bool fm_writer_is_complete(const struct fm_writer *w)
{
    return w->framer.framing != FM_FRAME_BLOCKS && w->left <= 0;
}

/* May files be sent?  If not, their bytes come as blocks. */
static inline bool fm_writer_takes_files(const struct fm_writer *w) { return w->ops->takes_files(w->sink); }

/* The rest of the body is len bytes of a regular file from pos; the caller keeps fd open until nothing is kept. */
enum fm_sent fm_writer_file(struct fm_writer *w, int fd, int64_t pos, int64_t len) FM_ANY_THREAD;

/* The body is complete: completes the framing and sends what is corked. */
enum fm_sent fm_writer_end(struct fm_writer *w) FM_ANY_THREAD;

/* After fm_writer_end, by the same thread: did less than the Content-Length come?  Then the connection must be broken
 * off. */
static inline bool fm_writer_is_short(const struct fm_writer *w) { return w->state == FM_WRITER_ENDED && w->left > 0; }

/* Has the sink been given the head?  When no other thread uses the writer any more. */
static inline bool fm_writer_head_left(const struct fm_writer *w)
{
    return w->state >= FM_WRITER_SENDING && w->head_len > 0;
}

/* The bytes that the connection keeps: the caller parks above its high-water mark. */
static inline uint64_t fm_writer_pending(const struct fm_writer *w) { return w->ops->pending(w->sink); }

/* Sends what has been corked since before `before` (UINT64_MAX: whatever is).  True if something still is. */
bool fm_writer_flush(struct fm_writer *w, uint64_t before) FM_ANY_THREAD;

/* The server wants to answer itself (500, 503, 504): true if the application has given no block yet, and then none of
 * its will leave from now on.  A block that is corked counts as sent: what an application sees does not depend on
 * timing.
 */
bool fm_writer_claim(struct fm_writer *w) FM_ANY_THREAD;

/* Makes *resp (moved from, empty afterwards) the head of the response.  FM_ECLOSED if a block has been given before:
 * the head counts as sent then, even while it is corked (PEP 3333: start_response with exc_info raises). */
int fm_writer_set_response(struct fm_writer *w, struct fm_response *resp) FM_ANY_THREAD;

#endif

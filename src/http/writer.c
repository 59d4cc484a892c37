/* Coalescing and length of one response; see http/writer.h. */
#include "fermata/http/writer.h"

#include <string.h>

#include "fermata/util/clock.h"
#include "fermata/util/err.h"

/* ---- states ---- */

#ifdef FM_DEBUG
static const char *name_of(enum fm_writer_state s)
{
    static const char *const names[] = {
#define X(state, meaning) #state,
        FM_WRITER_STATES(X)
#undef X
    };
    return names[s];
}

static void check(enum fm_writer_state from, enum fm_writer_state to)
{
#define X(from_, to_, when)                                                                                            \
    if (from == FM_WRITER_##from_ && to == FM_WRITER_##to_)                                                            \
        return;
    FM_WRITER_MOVES(X)
#undef X
    fm_die("writer: no transition from %s to %s", name_of(from), name_of(to));
}
#else
static void check(enum fm_writer_state from, enum fm_writer_state to) { (void)from, (void)to; }
#endif

static void move(struct fm_writer *w, enum fm_writer_state to) FM_REQUIRES(w->lock)
{
    check((enum fm_writer_state)w->state, to);
    w->state = (uint8_t)to;
}

static bool has_no_head(const struct fm_writer *w) FM_REQUIRES(w->lock) { return w->state <= FM_WRITER_FIRST; }
static bool is_over(const struct fm_writer *w) FM_REQUIRES(w->lock) { return w->state >= FM_WRITER_ENDED; }

/* ---- life ---- */

void fm_writer_init(struct fm_writer *w, const struct fm_sink_ops *ops, void *sink)
{
    memset(w, 0, sizeof *w);
    w->ops = ops;
    w->sink = sink;
    fm_mutex_init(&w->lock);
}

static void drop_memory(struct fm_writer *w)
{
    fm_buf_fini(&w->first);
    fm_buf_fini(&w->corked);
    w->corked_since = 0;
}

void fm_writer_fini(struct fm_writer *w)
{
    fm_response_fini(&w->resp);
    drop_memory(w);
    fm_mutex_fini(&w->lock);
}

void fm_writer_reset(struct fm_writer *w, int minor, bool is_head, bool keep_alive)
{
    fm_response_fini(&w->resp);
    drop_memory(w);
    w->resp = (struct fm_response){.length = -1};
    w->body = 0;
    w->head_len = 0;
    w->left = w->expected = -1;
    w->state = FM_WRITER_OPEN;
    w->cut = false;
    w->framer = (struct fm_framer){FM_FRAME_NONE, (uint8_t)minor, is_head, keep_alive};
}

/* There is no memory for what is to be sent. */
static enum fm_sent give_up(struct fm_writer *w) FM_REQUIRES(w->lock)
{
    drop_memory(w);
    if (w->state < FM_WRITER_SENDING)
        w->head_len = 0;
    w->framer.keep = false;
    move(w, FM_WRITER_BROKEN);
    w->ops->give_up(w->sink);
    return FM_SENT_GONE;
}

/* ---- framing ---- */

/* Makes the head, in front of whatever else is sent.  total: the length of the whole body, or -1 if only
 * fm_writer_expect may have told it. */
static void make_head(struct fm_writer *w, int64_t total) FM_REQUIRES(w->lock)
{
    w->framer.keep = w->framer.keep && w->ops->may_keep(w->sink);
    w->ops->framer->head(&w->framer, &w->resp, total >= 0 ? total : w->expected, &w->corked);
    w->head_len = (uint32_t)fm_buf_size(&w->corked);
    move(w, FM_WRITER_MADE);
}

/* Corks a block behind the head, with what its framing has around it. */
static void cork_framed(struct fm_writer *w, const char *p, size_t n) FM_REQUIRES(w->lock)
{
    const struct fm_framer_ops *ops = w->ops->framer;
    bool in_blocks = w->framer.framing == FM_FRAME_BLOCKS;
    if (n == 0 || w->framer.framing == FM_FRAME_NONE)
        return;
    if (in_blocks)
        ops->before_block(&w->framer, n, &w->corked);
    fm_buf_append(&w->corked, p, n);
    if (in_blocks) {
        struct iovec behind = ops->after_block(&w->framer);
        fm_buf_append(&w->corked, behind.iov_base, behind.iov_len);
    }
}

/* Moves the raw first block behind the head. */
static void frame_first(struct fm_writer *w) FM_REQUIRES(w->lock)
{
    cork_framed(w, fm_buf_head(&w->first), fm_buf_size(&w->first));
    fm_buf_fini(&w->first);
}

/* ---- sending ---- */

/* The sink has been given what was corked. */
static void uncorked(struct fm_writer *w) FM_REQUIRES(w->lock)
{
    fm_buf_fini(&w->corked);
    w->corked_since = 0;
    if (w->state == FM_WRITER_MADE)
        move(w, FM_WRITER_SENDING);
}

#define COPIED 2048 /* a block up to here is put behind its head: one buffer costs the kernel less than three */

/* Sends what is corked, then the block as it is, then its framing. */
static enum fm_sent send_all(struct fm_writer *w, const char *p, size_t n, bool borrow) FM_REQUIRES(w->lock)
{
    struct iovec behind = {NULL, 0};
    if (n <= COPIED) {
        cork_framed(w, p, n);
        n = 0;
    }
    if (w->framer.framing == FM_FRAME_NONE)
        n = 0;
    if (n > 0 && w->framer.framing == FM_FRAME_BLOCKS) {
        w->ops->framer->before_block(&w->framer, n, &w->corked);
        behind = w->ops->framer->after_block(&w->framer);
    }
    if (w->corked.failed)
        return give_up(w);
    struct iovec pieces[3] = {
        {fm_buf_head(&w->corked), fm_buf_size(&w->corked)},
        {(void *)(uintptr_t)p, n},
        behind,
    };
    enum fm_sent sent = w->ops->send(w->sink, pieces, n > 0 ? 3 : 1, borrow);
    uncorked(w);
    return sent;
}

/* ---- how long the body may be ---- */

/* The length of a body that is sent, where it is known from the beginning. */
static int64_t known_length(const struct fm_writer *w) FM_REQUIRES(w->lock)
{
    if (w->framer.is_head || !fm_status_has_body(w->resp.status))
        return -1;
    return w->resp.length >= 0 ? w->resp.length : w->expected;
}

/* Holds the application to its Content-Length: how much of n may be sent. */
static size_t admit(struct fm_writer *w, size_t n) FM_REQUIRES(w->lock)
{
    if (w->state == FM_WRITER_OPEN)
        w->left = known_length(w);
    if (w->left >= 0 && n > (uint64_t)w->left) {
        n = (size_t)w->left;
        w->cut = true;
    }
    if (w->left >= 0)
        w->left -= (int64_t)n;
    w->body += n;
    return n;
}

void fm_writer_expect(struct fm_writer *w, int64_t n)
{
    fm_mutex_lock(&w->lock);
    if (has_no_head(w) && w->resp.length < 0 && n <= INT64_MAX - (int64_t)w->body) {
        w->expected = (int64_t)w->body + n;
        if (w->state == FM_WRITER_FIRST && known_length(w) >= 0)
            w->left = n;
    }
    fm_mutex_unlock(&w->lock);
}

/* ---- blocks ---- */

/* The first block waits for what follows: if nothing does, its length is the body's. */
static enum fm_sent cork_first(struct fm_writer *w, const char *p, size_t n) FM_REQUIRES(w->lock)
{
    fm_buf_append(&w->first, p, n);
    w->corked_since = fm_now();
    if (w->first.failed)
        return give_up(w);
    if (n > 0)
        move(w, FM_WRITER_FIRST);
    return FM_SENT_ALL;
}

static enum fm_sent add_block(struct fm_writer *w, const char *p, size_t n, bool borrow, bool last) FM_REQUIRES(w->lock)
{
    if (is_over(w))
        return FM_SENT_GONE;
    n = admit(w, n);
    bool complete = last || w->left == 0;
    if (has_no_head(w)) {
        if (w->state == FM_WRITER_OPEN && !complete && n <= FM_WRITER_CORK)
            return cork_first(w, p, n);
        make_head(w, last ? (int64_t)(fm_buf_size(&w->first) + n) : -1);
        frame_first(w);
    }
    if (!complete && fm_buf_size(&w->corked) + n <= FM_WRITER_CORK) {
        cork_framed(w, p, n);
        if (w->corked_since == 0)
            w->corked_since = fm_now();
        return w->corked.failed ? give_up(w) : FM_SENT_ALL;
    }
    return send_all(w, p, n, borrow);
}

enum fm_sent fm_writer_block(struct fm_writer *w, const char *p, size_t n, bool borrow)
{
    fm_mutex_lock(&w->lock);
    enum fm_sent sent = add_block(w, p, n, borrow, false);
    fm_mutex_unlock(&w->lock);
    return sent;
}

enum fm_sent fm_writer_whole(struct fm_writer *w, const char *p, size_t n, bool borrow)
{
    fm_mutex_lock(&w->lock);
    enum fm_sent sent = add_block(w, p, n, borrow, true);
    fm_mutex_unlock(&w->lock);
    return sent;
}

static enum fm_sent add_file(struct fm_writer *w, int fd, int64_t pos, int64_t len) FM_REQUIRES(w->lock)
{
    if (is_over(w))
        return FM_SENT_GONE;
    len = (int64_t)admit(w, (size_t)len);
    if (has_no_head(w)) {
        make_head(w, (int64_t)fm_buf_size(&w->first) + len);
        frame_first(w);
    }
    if (w->framer.framing == FM_FRAME_NONE || len == 0)
        return send_all(w, NULL, 0, false);
    bool in_blocks = w->framer.framing == FM_FRAME_BLOCKS;
    if (in_blocks)
        w->ops->framer->before_block(&w->framer, (uint64_t)len, &w->corked);
    if (w->corked.failed)
        return give_up(w);
    struct iovec head = {fm_buf_head(&w->corked), fm_buf_size(&w->corked)};
    enum fm_sent sent = w->ops->send_file(w->sink, &head, fd, pos, len);
    uncorked(w); /* also with the block's end corked: it leaves with the body's, when the file has gone */
    if (in_blocks) {
        struct iovec behind = w->ops->framer->after_block(&w->framer);
        fm_buf_append(&w->corked, behind.iov_base, behind.iov_len);
    }
    return sent;
}

enum fm_sent fm_writer_file(struct fm_writer *w, int fd, int64_t pos, int64_t len)
{
    fm_mutex_lock(&w->lock);
    enum fm_sent sent = add_file(w, fd, pos, len);
    fm_mutex_unlock(&w->lock);
    return sent;
}

/* ---- the end ---- */

/* Head and first block, which are all, as two pieces: no copy. */
static enum fm_sent send_first(struct fm_writer *w) FM_REQUIRES(w->lock)
{
    struct iovec pieces[2] = {
        {fm_buf_head(&w->corked), fm_buf_size(&w->corked)},
        {fm_buf_head(&w->first), fm_buf_size(&w->first)},
    };
    enum fm_sent sent = w->ops->send(w->sink, pieces, 2, false);
    fm_buf_fini(&w->first);
    uncorked(w);
    return sent;
}

static enum fm_sent end_body(struct fm_writer *w) FM_REQUIRES(w->lock)
{
    if (has_no_head(w)) {
        admit(w, 0);
        make_head(w, (int64_t)fm_buf_size(&w->first));
        if (w->corked.failed)
            return give_up(w);
        if (w->framer.framing == FM_FRAME_LENGTH)
            return send_first(w);
        frame_first(w);
    }
    if (w->framer.framing == FM_FRAME_BLOCKS)
        w->ops->framer->end(&w->framer, &w->corked);
    bool more = fm_buf_size(&w->corked) > 0 || w->corked.failed;
    return more ? send_all(w, NULL, 0, false) : FM_SENT_ALL;
}

enum fm_sent fm_writer_end(struct fm_writer *w)
{
    enum fm_sent sent = FM_SENT_GONE;
    fm_mutex_lock(&w->lock);
    if (!is_over(w)) {
        sent = end_body(w);
        if (w->state == FM_WRITER_SENDING)
            move(w, FM_WRITER_ENDED);
        if (w->left > 0)
            w->framer.keep = false;
    }
    fm_mutex_unlock(&w->lock);
    return sent;
}

bool fm_writer_flush(struct fm_writer *w, uint64_t before)
{
    fm_mutex_lock(&w->lock);
    bool corked = w->corked_since != 0 && !is_over(w);
    if (corked && w->corked_since <= before) {
        if (has_no_head(w)) {
            make_head(w, -1);
            frame_first(w);
        }
        send_all(w, NULL, 0, false);
        corked = false;
    }
    fm_mutex_unlock(&w->lock);
    return corked;
}

/* ---- who may still say something ---- */

bool fm_writer_claim(struct fm_writer *w)
{
    fm_mutex_lock(&w->lock);
    bool ok = w->state == FM_WRITER_OPEN;
    if (ok) {
        move(w, FM_WRITER_CLAIMED);
        w->framer.keep = false;
        w->corked_since = 0;
    }
    fm_mutex_unlock(&w->lock);
    return ok;
}

int fm_writer_set_response(struct fm_writer *w, struct fm_response *resp)
{
    int err = FM_ECLOSED;
    fm_mutex_lock(&w->lock);
    if (w->state == FM_WRITER_OPEN || w->state == FM_WRITER_CLAIMED) {
        fm_response_fini(&w->resp);
        w->resp = *resp;
        *resp = (struct fm_response){.length = -1};
        err = 0;
    }
    fm_mutex_unlock(&w->lock);
    return err;
}

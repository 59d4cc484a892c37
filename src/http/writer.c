/* Framing and coalescing of one response; see http/writer.h. */
#include "fermata/http/writer.h"

#include <string.h>

#include "fermata/util/clock.h"
#include "fermata/util/err.h"
#include "fermata/util/text.h"

void fm_writer_init(struct fm_writer *w, const struct fm_sink_ops *ops, void *sink)
{
    memset(w, 0, sizeof *w);
    w->ops = ops;
    w->sink = sink;
    fm_mutex_init(&w->lock);
}

void fm_writer_fini(struct fm_writer *w)
{
    fm_response_fini(&w->resp);
    fm_buf_fini(&w->first);
    fm_buf_fini(&w->corked);
    fm_mutex_fini(&w->lock);
}

void fm_writer_reset(struct fm_writer *w, int minor, bool is_head, bool keep_alive)
{
    fm_response_fini(&w->resp);
    fm_buf_fini(&w->first);
    fm_buf_fini(&w->corked);
    w->resp = (struct fm_response){.length = -1};
    w->corked_since = w->body = 0;
    w->head_len = 0;
    w->left = w->expected = -1;
    w->framing = FM_FRAME_NONE;
    w->minor = (uint8_t)minor;
    w->is_head = is_head;
    w->keep = keep_alive;
    w->head_made = w->head_left = w->claimed = w->cut = w->ended = false;
}

/* Decides the framing and makes the head, in front of whatever else is sent.  total: the length of the whole body, or
 * -1 if only fm_writer_expect may have told it. */
static void make_head(struct fm_writer *w, int64_t total) FM_REQUIRES(w->lock)
{
    struct fm_response *r = &w->resp;
    bool keep = w->keep && !r->close && w->ops->may_keep(w->sink);
    total = total >= 0 ? total : w->expected;
    int64_t length = r->length >= 0 ? r->length : total;
    if (!fm_status_has_body(r->status)) {
        w->framing = FM_FRAME_NONE;
        length = -1;
        if (r->status == 205) { /* it has to be said here (RFC 9110, 15.3.6) */
            r->length = -1;
            length = 0;
        }
    } else if (w->is_head) {
        w->framing = FM_FRAME_NONE;
        length = total > 0 ? total : -1; /* nothing yielded for HEAD says nothing about GET */
    } else if (length >= 0) {
        w->framing = FM_FRAME_LENGTH;
    } else if (w->minor >= 1) {
        w->framing = FM_FRAME_CHUNKED;
    } else {
        w->framing = FM_FRAME_CLOSE;
        keep = false;
    }
    fm_response_finish(r, (enum fm_framing)w->framing, length, keep, w->minor);
    w->keep = keep;
    w->head_made = true;
    w->corked = r->head; /* moves */
    w->head_len = (uint32_t)fm_buf_size(&w->corked);
    r->head = (struct fm_buf)FM_BUF_INIT;
}

static void put_chunk_size(struct fm_buf *b, size_t n)
{
    char text[18], *p = text + sizeof text;
    *--p = '\n';
    *--p = '\r';
    do
        *--p = FM_HEX_DIGITS[n & 15];
    while ((n >>= 4) > 0);
    fm_buf_append(b, p, (size_t)(text + sizeof text - p));
}

static void cork_framed(struct fm_writer *w, const char *p, size_t n) FM_REQUIRES(w->lock)
{
    if (n == 0 || w->framing == FM_FRAME_NONE)
        return;
    if (w->framing == FM_FRAME_CHUNKED)
        put_chunk_size(&w->corked, n);
    fm_buf_append(&w->corked, p, n);
    if (w->framing == FM_FRAME_CHUNKED)
        fm_buf_append(&w->corked, "\r\n", 2);
}

/* Moves the raw first block behind the head. */
static void frame_first(struct fm_writer *w) FM_REQUIRES(w->lock)
{
    cork_framed(w, fm_buf_head(&w->first), fm_buf_size(&w->first));
    fm_buf_fini(&w->first);
}

/* There is no memory for what is to be sent. */
static enum fm_sent give_up(struct fm_writer *w) FM_REQUIRES(w->lock)
{
    fm_buf_fini(&w->first);
    fm_buf_fini(&w->corked);
    w->corked_since = 0;
    w->keep = false;
    w->claimed = true;
    w->ops->give_up(w->sink);
    return FM_SENT_GONE;
}

#define COPIED 2048 /* a block up to here is put behind its head: one buffer costs the kernel less than three */

/* Sends what is corked, then the block as it is, then its framing. */
static enum fm_sent send_all(struct fm_writer *w, const char *p, size_t n, bool borrow) FM_REQUIRES(w->lock)
{
    if (n <= COPIED) {
        cork_framed(w, p, n);
        n = 0;
    }
    bool chunked = n > 0 && w->framing == FM_FRAME_CHUNKED;
    if (w->framing == FM_FRAME_NONE)
        n = 0;
    if (chunked)
        put_chunk_size(&w->corked, n);
    if (w->corked.failed)
        return give_up(w);
    struct iovec pieces[3] = {
        {fm_buf_head(&w->corked), fm_buf_size(&w->corked)},
        {(void *)(uintptr_t)p, n},
        {(void *)(uintptr_t) "\r\n", chunked ? 2 : 0},
    };
    enum fm_sent sent = w->ops->send(w->sink, pieces, n > 0 ? 3 : 1, borrow);
    fm_buf_fini(&w->corked);
    w->corked_since = 0;
    w->head_left = true;
    return sent;
}

/* Has no byte of the body come yet? */
static bool is_untouched(const struct fm_writer *w) FM_REQUIRES(w->lock)
{
    return w->body == 0 && !w->head_made && fm_buf_size(&w->first) == 0;
}

/* The length of a body that is sent, where it is known from the beginning. */
static int64_t known_length(const struct fm_writer *w) FM_REQUIRES(w->lock)
{
    if (w->is_head || !fm_status_has_body(w->resp.status))
        return -1;
    return w->resp.length >= 0 ? w->resp.length : w->expected;
}

/* Holds the application to its Content-Length: how much of n may be sent. */
static size_t admit(struct fm_writer *w, size_t n) FM_REQUIRES(w->lock)
{
    if (is_untouched(w))
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

static enum fm_sent add_block(struct fm_writer *w, const char *p, size_t n, bool borrow, bool last) FM_REQUIRES(w->lock)
{
    if (w->claimed)
        return FM_SENT_GONE;
    n = admit(w, n);
    bool complete = last || w->left == 0;
    if (!w->head_made) {
        if (fm_buf_size(&w->first) == 0 && !complete && n <= FM_WRITER_CORK) {
            fm_buf_append(&w->first, p, n);
            w->corked_since = fm_now();
            return w->first.failed ? give_up(w) : FM_SENT_ALL;
        }
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

void fm_writer_expect(struct fm_writer *w, int64_t n)
{
    fm_mutex_lock(&w->lock);
    if (!w->head_made && w->resp.length < 0 && n <= INT64_MAX - (int64_t)w->body) {
        w->expected = (int64_t)w->body + n;
        if (!is_untouched(w) && known_length(w) >= 0)
            w->left = n;
    }
    fm_mutex_unlock(&w->lock);
}

enum fm_sent fm_writer_whole(struct fm_writer *w, const char *p, size_t n, bool borrow)
{
    fm_mutex_lock(&w->lock);
    enum fm_sent sent = add_block(w, p, n, borrow, true);
    fm_mutex_unlock(&w->lock);
    return sent;
}

enum fm_sent fm_writer_file(struct fm_writer *w, int fd, int64_t pos, int64_t len)
{
    enum fm_sent sent = FM_SENT_GONE;
    fm_mutex_lock(&w->lock);
    if (w->claimed)
        goto out;
    len = (int64_t)admit(w, (size_t)len);
    if (!w->head_made) {
        make_head(w, (int64_t)fm_buf_size(&w->first) + len);
        frame_first(w);
    }
    if (w->framing == FM_FRAME_NONE || len == 0) {
        sent = send_all(w, NULL, 0, false);
        goto out;
    }
    if (w->framing == FM_FRAME_CHUNKED)
        put_chunk_size(&w->corked, (size_t)len);
    if (w->corked.failed) {
        sent = give_up(w);
        goto out;
    }
    struct iovec head = {fm_buf_head(&w->corked), fm_buf_size(&w->corked)};
    sent = w->ops->send_file(w->sink, &head, fd, pos, len);
    fm_buf_fini(&w->corked);
    w->corked_since = 0; /* 0 also with the chunk's end corked: it leaves with the body's end, when the file has gone */
    w->head_left = true;
    if (w->framing == FM_FRAME_CHUNKED)
        fm_buf_append(&w->corked, "\r\n", 2);
out:
    fm_mutex_unlock(&w->lock);
    return sent;
}

enum fm_sent fm_writer_end(struct fm_writer *w)
{
    enum fm_sent sent = FM_SENT_GONE;
    fm_mutex_lock(&w->lock);
    if (w->claimed || w->ended)
        goto out;
    w->ended = true;
    sent = FM_SENT_ALL;
    if (!w->head_made) {
        admit(w, 0);
        make_head(w, (int64_t)fm_buf_size(&w->first));
        if (w->corked.failed) {
            sent = give_up(w);
            goto out;
        }
        if (w->framing == FM_FRAME_LENGTH) { /* the head and the block as two pieces: no copy */
            struct iovec pieces[2] = {
                {fm_buf_head(&w->corked), fm_buf_size(&w->corked)},
                {fm_buf_head(&w->first), fm_buf_size(&w->first)},
            };
            sent = w->ops->send(w->sink, pieces, 2, false);
            fm_buf_fini(&w->corked);
            fm_buf_fini(&w->first);
            w->corked_since = 0;
            w->head_left = true;
        } else {
            frame_first(w);
        }
    }
    if (w->framing == FM_FRAME_CHUNKED)
        fm_buf_append(&w->corked, "0\r\n\r\n", 5);
    if (sent != FM_SENT_GONE && (fm_buf_size(&w->corked) > 0 || w->corked.failed))
        sent = send_all(w, NULL, 0, false);
    if (w->left > 0)
        w->keep = false;
out:
    fm_mutex_unlock(&w->lock);
    return sent;
}

bool fm_writer_flush(struct fm_writer *w, uint64_t before)
{
    fm_mutex_lock(&w->lock);
    bool corked = w->corked_since != 0 && !w->claimed;
    if (corked && w->corked_since <= before) {
        if (!w->head_made) {
            make_head(w, -1);
            frame_first(w);
        }
        send_all(w, NULL, 0, false);
        corked = false;
    }
    fm_mutex_unlock(&w->lock);
    return corked;
}

bool fm_writer_claim(struct fm_writer *w)
{
    fm_mutex_lock(&w->lock);
    bool ok = w->body == 0 && !w->head_made && !w->claimed;
    if (ok) {
        w->claimed = true;
        w->keep = false;
        w->corked_since = 0;
    }
    fm_mutex_unlock(&w->lock);
    return ok;
}

int fm_writer_set_response(struct fm_writer *w, struct fm_response *resp)
{
    int err = FM_ECLOSED;
    fm_mutex_lock(&w->lock);
    if (!w->head_made && fm_buf_size(&w->first) == 0) {
        fm_response_fini(&w->resp);
        w->resp = *resp;
        *resp = (struct fm_response){.length = -1};
        err = 0;
    }
    fm_mutex_unlock(&w->lock);
    return err;
}

/* Sockets: reading on the loop, writing by whoever holds the request.  See net/stream.h. */
#include "fermata/net/stream.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/log.h"

#define FILE_CHUNK (1 << 20) /* what one sendfile call may take, so that one connection cannot hold up the rest */

/* ---- reading ---- */

enum armed { ARMED_NOT, ARMED_READ, ARMED_WATCH };

static void on_readable(evutil_socket_t fd, short what, void *arg);

static void log_trouble(int err)
{
    if (err != 0)
        fm_error_seldom("connection: %s; it is broken off", fm_strerror(err));
}

/* Sets the read event to what reading, the peer's end and writing ask for. */
static void arm_read(struct fm_stream *s) FM_ON_LOOP
{
    enum armed want = s->broken                               ? ARMED_NOT
                      : !s->ended && s->reading == FM_READ_ON ? ARMED_READ
                      : s->write_armed                        ? ARMED_NOT
                                                              : ARMED_WATCH;
    if (want == s->armed)
        return;
    if (s->armed != ARMED_NOT)
        event_del(&s->read_event);
    s->armed = (uint8_t)want;
    if (want == ARMED_NOT)
        return;
    short what = want == ARMED_READ ? EV_READ | EV_PERSIST : EV_READ | EV_CLOSED | EV_ET | EV_PERSIST;
    event_assign(&s->read_event, s->loop->base, s->fd, what, on_readable, s);
    if (event_add(&s->read_event, NULL) != 0) { /* it would never be heard of again */
        int err = errno ? -errno : -ENOMEM;
        s->armed = ARMED_NOT;
        fm_stream_give_up(s, err);
    }
}

static void tell_end(struct fm_stream *s, int err) FM_ON_LOOP
{
    s->ended = true;
    s->broken = err != 0;
    arm_read(s);
    s->ops->on_end(s, -err);
}

static void read_some(struct fm_stream *s) FM_ON_LOOP
{
    size_t room = FM_SCRATCH;
    char *to = s->ops->room ? s->ops->room(s, &room) : NULL;
    if (!to)
        to = s->loop->scratch;
    ssize_t n = recv(s->fd, to, room, 0);
    if (n > 0) {
        if (!s->uncounted)
            fm_count_add(FM_C_BYTES_IN, (uint64_t)n);
        s->ops->on_data(s, to, (size_t)n);
    } else if (n == 0) {
        tell_end(s, 0);
    } else if (errno != EAGAIN && errno != EINTR) {
        int err = errno;
        if (err == ENOMEM || err == ENOBUFS)
            log_trouble(-err);
        tell_end(s, err);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct fm_stream *s = arg;
    fm_assert_on_loop();
    if (s->armed == ARMED_READ) {
        read_some(s);
        return;
    }
    int err = 0;
    socklen_t len = sizeof err;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
    if (err != 0 || ((what & EV_CLOSED) && !s->ended))
        tell_end(s, err);
}

void fm_stream_set_reading(struct fm_stream *s, enum fm_stream_reading mode)
{
    s->reading = (uint8_t)mode;
    arm_read(s);
}

/* ---- writing ---- */

int64_t fm_stream_pending_owned(const struct fm_stream *s)
{
    return (int64_t)(fm_buf_size(&s->out) + s->ref_len + s->tail_len) + (s->file_fd >= 0 ? s->file_len : 0);
}

static void drop_kept(struct fm_stream *s)
{
    fm_buf_fini(&s->out);
    s->ref = NULL;
    s->ref_len = 0;
    s->tail_len = 0;
    s->file_fd = -1;
    s->file_len = 0;
}

static int broken(struct fm_stream *s)
{
    s->dead = true;
    drop_kept(s);
    return FM_ECLOSED;
}

/* The same where nothing will tell the loop; s->lock is held, which keeps the stream alive (see ask_loop). */
static int give_up(struct fm_stream *s, int err) FM_REQUIRES(s->lock)
{
    if (s->dead)
        return FM_ECLOSED;
    broken(s);
    s->trouble = err;
    if (!s->posted)
        fm_loop_post(s->loop, &s->want_write, 0, NULL);
    s->posted = true;
    return FM_ECLOSED;
}

static void count_sent(struct fm_stream *s, ssize_t n)
{
    s->sent += (uint64_t)n;
    if (!s->uncounted)
        fm_count_add(FM_C_BYTES_OUT, (uint64_t)n);
}

/* One system call.  The bytes taken, FM_EAGAIN, or FM_ECLOSED with the stream dead. */
static ssize_t send_pieces(struct fm_stream *s, const struct iovec *pieces, int n, bool more)
{
    int flags = MSG_NOSIGNAL | (more ? MSG_MORE : 0);
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)pieces, .msg_iovlen = (size_t)n};
    for (;;) {
        ssize_t k = n == 1 ? send(s->fd, pieces->iov_base, pieces->iov_len, flags) : sendmsg(s->fd, &msg, flags);
        if (k >= 0) {
            count_sent(s, k);
            return k;
        }
        if (errno == EINTR)
            continue;
        return errno == EAGAIN || errno == ENOBUFS ? FM_EAGAIN : broken(s);
    }
}

static size_t take(size_t *sent, size_t have)
{
    size_t n = *sent < have ? *sent : have;
    *sent -= n;
    return n;
}

/* Sends what is kept until the socket takes no more: 0 if all is gone, FM_EAGAIN, or FM_ECLOSED. */
static int send_kept(struct fm_stream *s) FM_REQUIRES(s->lock)
{
    while (fm_buf_size(&s->out) + s->ref_len + s->tail_len > 0) {
        struct iovec pieces[3] = {
            {fm_buf_head(&s->out), fm_buf_size(&s->out)},
            {(void *)(uintptr_t)s->ref, s->ref_len},
            {s->tail, s->tail_len},
        };
        ssize_t k = send_pieces(s, pieces, 3, s->file_fd >= 0);
        if (k < 0)
            return (int)k;
        size_t sent = (size_t)k, n;
        fm_buf_consume(&s->out, take(&sent, pieces[0].iov_len));
        n = take(&sent, s->ref_len);
        s->ref = s->ref_len > n ? s->ref + n : NULL;
        s->ref_len -= n;
        n = take(&sent, s->tail_len);
        memmove(s->tail, s->tail + n, s->tail_len - n);
        s->tail_len = (uint8_t)(s->tail_len - n);
    }
    s->ref = NULL;
    if (s->out.cap > 0)
        fm_buf_fini(&s->out); /* a calm connection keeps no memory */
    for (int64_t budget = FILE_CHUNK; s->file_fd >= 0 && s->file_len > 0;) {
        if (budget <= 0)
            return FM_EAGAIN;
        off_t pos = s->file_pos;
        ssize_t k = sendfile(s->fd, s->file_fd, &pos, (size_t)(s->file_len < budget ? s->file_len : budget));
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno == EAGAIN)
            return FM_EAGAIN;
        if (k < 0 && (errno == EPIPE || errno == ECONNRESET))
            return broken(s);
        if (k <= 0)
            return give_up(s, k < 0 ? -errno : -ENODATA); /* the file cannot be read, or is shorter than promised */
        count_sent(s, k);
        s->file_pos += k;
        s->file_len -= k;
        budget -= k;
    }
    s->file_fd = -1;
    return 0;
}

static size_t total_size(const struct iovec *pieces, int n)
{
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += pieces[i].iov_len;
    return total;
}

/* Keeps what lies behind the first `skip` bytes of the pieces. */
static void keep(struct fm_stream *s, const struct iovec *pieces, int n, size_t skip, int flags)
{
    for (int i = 0; i < n; i++) {
        size_t len = pieces[i].iov_len - take(&skip, pieces[i].iov_len);
        if (len == 0)
            continue;
        const char *rest = (const char *)pieces[i].iov_base + pieces[i].iov_len - len;
        if ((flags & FM_SEND_BORROW) && len >= FM_STREAM_BORROW &&
            total_size(pieces + i + 1, n - i - 1) <= sizeof s->tail) {
            s->ref = rest;
            s->ref_len = len;
            while (++i < n) {
                memcpy(s->tail + s->tail_len, pieces[i].iov_base, pieces[i].iov_len);
                s->tail_len = (uint8_t)(s->tail_len + pieces[i].iov_len);
            }
            return;
        }
        fm_buf_append(&s->out, rest, len);
    }
}

/* Asks the loop to go on with what is kept; s->lock is held, which keeps the stream alive: its owner on the loop takes
 * the lock before it lets go of a request. */
static int64_t ask_loop(struct fm_stream *s) FM_REQUIRES(s->lock)
{
    int64_t pending = fm_stream_pending_owned(s);
    if (pending > 0 && !s->waiting) {
        s->waiting = s->posted = true;
        fm_loop_post(s->loop, &s->want_write, 0, NULL);
    }
    return pending;
}

int64_t fm_stream_send(struct fm_stream *s, const struct iovec *pieces, int n, int flags)
{
    fm_mutex_lock(&s->lock);
    int64_t result = FM_ECLOSED;
    if (s->dead)
        goto out;
    size_t total = total_size(pieces, n), sent = 0;
    if (total > 0 && !s->waiting && fm_stream_pending_owned(s) == 0) {
        ssize_t k = send_pieces(s, pieces, n, false);
        if (k == FM_ECLOSED)
            goto out;
        sent = k > 0 ? (size_t)k : 0;
    }
    if (sent < total)
        keep(s, pieces, n, sent, flags);
    result = s->out.failed ? give_up(s, -ENOMEM) : ask_loop(s);
out:
    fm_mutex_unlock(&s->lock);
    return result;
}

int64_t fm_stream_send_file(struct fm_stream *s, const struct iovec *head, int fd, int64_t pos, int64_t len)
{
    fm_mutex_lock(&s->lock);
    int64_t result = FM_ECLOSED;
    if (!s->dead) {
        fm_buf_append(&s->out, head->iov_base, head->iov_len);
        s->file_fd = fd;
        s->file_pos = pos;
        s->file_len = len;
        if (s->out.failed)
            give_up(s, -ENOMEM);
        else if (s->waiting || send_kept(s) != FM_ECLOSED)
            result = ask_loop(s);
    }
    fm_mutex_unlock(&s->lock);
    return result;
}

int64_t fm_stream_pending(struct fm_stream *s)
{
    fm_mutex_lock(&s->lock);
    int64_t pending = fm_stream_pending_owned(s);
    fm_mutex_unlock(&s->lock);
    return pending;
}

bool fm_stream_is_dead(struct fm_stream *s)
{
    fm_mutex_lock(&s->lock);
    bool dead = s->dead;
    fm_mutex_unlock(&s->lock);
    return dead;
}

uint64_t fm_stream_taken(struct fm_stream *s)
{
    int in_kernel = 0;
    fm_mutex_lock(&s->lock);
    uint64_t sent = s->sent;
    if (s->fd >= 0)
        ioctl(s->fd, SIOCOUTQ, &in_kernel);
    fm_mutex_unlock(&s->lock);
    return sent - (uint64_t)in_kernel;
}

void fm_stream_kill(struct fm_stream *s)
{
    fm_mutex_lock(&s->lock);
    broken(s);
    fm_mutex_unlock(&s->lock);
}

void fm_stream_give_up(struct fm_stream *s, int err)
{
    fm_mutex_lock(&s->lock);
    give_up(s, err);
    fm_mutex_unlock(&s->lock);
}

/* ---- writing on the loop ---- */

static void stop_writing(struct fm_stream *s) FM_ON_LOOP
{
    if (!s->write_armed)
        return;
    event_del(s->write_event);
    s->write_armed = false;
    arm_read(s);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct fm_stream *s = arg;
    (void)fd, (void)what;
    fm_assert_on_loop();
    fm_mutex_lock(&s->lock);
    int err = s->dead ? FM_ECLOSED : send_kept(s);
    if (err != FM_EAGAIN)
        s->waiting = false;
    fm_mutex_unlock(&s->lock);
    if (err != FM_EAGAIN)
        stop_writing(s);
    s->ops->on_output(s);
}

static void on_want_write(struct fm_note *note)
{
    struct fm_stream *s = FM_LIST_ENTRY(note, struct fm_stream, want_write);
    fm_assert_on_loop();
    fm_mutex_lock(&s->lock);
    s->posted = false;
    bool dead = s->dead;
    int trouble = s->trouble;
    s->trouble = 0;
    fm_mutex_unlock(&s->lock);
    if (dead) { /* given up, or found so by a writer */
        log_trouble(trouble);
        stop_writing(s);
        s->ops->on_output(s);
        return;
    }
    if (!s->write_event)
        s->write_event = event_new(s->loop->base, s->fd, EV_WRITE | EV_PERSIST, on_writable, s);
    s->write_armed = s->write_event != NULL;
    arm_read(s); /* a watch ends before the write event is added */
    if (!s->write_event || event_add(s->write_event, NULL) != 0) {
        log_trouble(errno ? -errno : -ENOMEM);
        s->write_armed = false;
        fm_stream_kill(s);
    }
    s->ops->on_output(s);
}

void fm_stream_shutdown(struct fm_stream *s) { shutdown(s->fd, SHUT_WR); }

/* Leaves the loop.  It is killed first: whoever is writing has left the lock then, and whoever comes later finds it
 * dead, so that nobody uses the descriptor or posts want_write any more when both are taken away. */
static void leave_loop(struct fm_stream *s) FM_ON_LOOP
{
    fm_stream_kill(s);
    log_trouble(s->trouble);
    s->trouble = 0;
    if (s->armed != ARMED_NOT)
        event_del(&s->read_event);
    s->armed = ARMED_NOT;
    s->broken = true;
    fm_loop_unpost(s->loop, &s->want_write);
    if (s->write_event)
        event_free(s->write_event); /* removes it first */
    s->write_event = NULL;
    s->write_armed = false;
}

static void close_socket(struct fm_stream *s) FM_ON_LOOP
{
    if (s->fd < 0)
        return;
    leave_loop(s);
    fm_fds_close(s->fd);
    s->fd = -1;
}

void fm_stream_lost(struct fm_stream *s)
{
    leave_loop(s);
    s->fd = -1; /* the number is somebody else's */
    s->ended = true;
    s->ops->on_end(s, -EBADF);
}

void fm_stream_reset(struct fm_stream *s)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    if (s->fd >= 0)
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close_socket(s);
}

/* ---- life ---- */

int fm_stream_init(struct fm_stream *s, struct fm_loop *loop, int fd, const struct fm_stream_ops *ops)
{
    *s = (struct fm_stream){.ops = ops, .loop = loop, .fd = fd, .reading = FM_READ_ON, .file_fd = -1};
    fm_mutex_init(&s->lock);
    fm_note_init(&s->want_write, on_want_write);
    s->armed = ARMED_READ;
    event_assign(&s->read_event, loop->base, fd, EV_READ | EV_PERSIST, on_readable, s);
    if (event_add(&s->read_event, NULL) != 0) {
        fm_mutex_fini(&s->lock);
        return errno ? -errno : -ENOMEM;
    }
    fm_fds_own(fd);
    return 0;
}

void fm_stream_fini(struct fm_stream *s)
{
    close_socket(s);
    fm_mutex_fini(&s->lock);
}

/* Reading on the loop, writing by the thread that holds the request.  See net/stream.h. */
#include "fermata/net/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/fds.h"
#include "fermata/util/files.h"
#include "fermata/util/log.h"

#define FILE_PART                                                                                                      \
    (1 << 20) /* bytes of a file that are sent at a time, so that one connection cannot hold up the rest */

/* ---- reading ---- */

static void on_readable(evutil_socket_t fd, short what, void *arg);
static void on_part_over(struct fm_event *event);

static void log_deferred(int err)
{
    if (err != 0)
        fm_error_ratelimited("connection: %s; it is broken off", fm_strerror(err));
}

/* Sets the read event to what reading, the peer's end and writing ask for. */
static void arm_read(struct fm_stream *s) FM_ON_LOOP
{
    enum fm_stream_armed want = FM_ARMED_WATCH;
    if (s->peer == FM_PEER_SENDS && s->reading == FM_READ_ON)
        want = FM_ARMED_READ;
    else if (s->peer == FM_PEER_GONE || s->write_armed || s->reading == FM_READ_OFF)
        want = FM_ARMED_NOT;
    if (want == s->armed)
        return;
    if (s->armed != FM_ARMED_NOT)
        event_del(&s->read_event);
    s->armed = (uint8_t)want;
    if (want == FM_ARMED_NOT)
        return;
    short what = want == FM_ARMED_READ ? EV_READ | EV_PERSIST : EV_READ | EV_CLOSED | EV_ET | EV_PERSIST;
    event_assign(&s->read_event, s->loop->base, s->transport.fd, what, on_readable, s);
    if (event_add(&s->read_event, NULL) != 0) { /* it would never be heard of again */
        int err = errno ? -errno : -ENOMEM;
        s->armed = FM_ARMED_NOT;
        fm_stream_give_up(s, err);
    }
}

static void tell_end(struct fm_stream *s, int err) FM_ON_LOOP
{
    s->peer = err != 0 ? FM_PEER_GONE : FM_PEER_ENDED;
    arm_read(s);
    s->ops->on_end(s, err);
}

static void read_some(struct fm_stream *s) FM_ON_LOOP
{
    size_t len = FM_SCRATCH;
    char *to = s->ops->buffer ? s->ops->buffer(s, &len) : NULL;
    if (!to)
        to = s->loop->scratch;
    ssize_t n = s->transport.ops->receive(&s->transport, to, len);
    if (n > 0) {
        if (!s->uncounted)
            fm_count_add(FM_C_BYTES_IN, (uint64_t)n);
        s->ops->on_data(s, to, (size_t)n);
    } else if (n != FM_EAGAIN) {
        if (n == -ENOMEM || n == -ENOBUFS)
            log_deferred((int)n);
        tell_end(s, (int)n);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct fm_stream *s = arg;
    (void)fd;
    fm_assert_on_loop();
    if (s->armed == FM_ARMED_READ) {
        read_some(s);
        return;
    }
    int err = s->transport.ops->error(&s->transport);
    if (err != 0 || ((what & EV_CLOSED) && s->peer == FM_PEER_SENDS))
        tell_end(s, err);
}

void fm_stream_set_reading(struct fm_stream *s, enum fm_stream_reading mode)
{
    s->reading = (uint8_t)mode;
    arm_read(s);
}

bool fm_stream_has_unread(const struct fm_stream *s) { return s->transport.ops->has_unread(&s->transport); }

/* ---- writing ---- */

uint64_t fm_stream_pending_owned(const struct fm_stream *s) { return s->q.size; }

/* Is something kept, which the loop has been asked to send, or sends? */
static bool is_the_loops(const struct fm_stream *s) FM_REQUIRES(s->lock)
{
    return s->writing == FM_WRITE_ASKED || s->writing == FM_WRITE_LOOP;
}

static int broken(struct fm_stream *s) FM_REQUIRES(s->lock)
{
    if (s->writing == FM_WRITE_ASKED)
        s->writing = FM_WRITE_DYING;
    else if (s->writing != FM_WRITE_DYING)
        s->writing = FM_WRITE_DEAD;
    fm_outq_clear(&s->q);
    return FM_ECLOSED;
}

/* The same where nothing will tell the loop; s->lock is held, which keeps the stream alive (see ask_loop). */
static int give_up(struct fm_stream *s, int err) FM_REQUIRES(s->lock)
{
    if (fm_stream_is_dead_owned(s))
        return FM_ECLOSED;
    broken(s);
    s->deferred_error = err;
    if (s->writing != FM_WRITE_DYING)
        fm_loop_post(s->loop, &s->want_write, 0, NULL);
    s->writing = FM_WRITE_DYING;
    return FM_ECLOSED;
}

static void count_sent(struct fm_stream *s, ssize_t n)
{
    s->sent += (uint64_t)n;
    if (!s->uncounted)
        fm_count_add(FM_C_BYTES_OUT, (uint64_t)n);
}

/* The bytes that the transport took, FM_EAGAIN, or FM_ECLOSED with the stream dead. */
static ssize_t send_pieces(struct fm_stream *s, const struct iovec *pieces, int n, bool more) FM_REQUIRES(s->lock)
{
    ssize_t k = s->transport.ops->send(&s->transport, pieces, n, more);
    if (k >= 0)
        count_sent(s, k);
    return k == FM_ECLOSED ? broken(s) : k;
}

/* ---- a file ---- */

struct fm_file_send { /* the sending of one file, a part at a time */
    struct fm_file_job job;
    struct fm_event over; /* a part is over; posted by the file thread */
    struct fm_loop *loop;
    struct fm_stream *stream; /* NULL: it is gone, and wants nothing but the descriptors closed; loop only */
    bool busy;                /* a part is under way; guarded by the stream's lock, or by `over` once it is gone */
    int fd;                 /* this and the transport's are duplicates of its own, so that it is still the same file */
    struct fm_transport to; /* and connection whatever becomes of the numbers that they were made of */
    off_t pos;              /* this and the rest are the file thread's while busy */
    size_t len;
    size_t sent;
    int err; /* why it stopped, as of the transport's send_file */
};

/* A part, on a file thread. */
static void send_part(struct fm_file_job *job)
{
    struct fm_file_send *f = FM_LIST_ENTRY(job, struct fm_file_send, job);
    f->err = f->to.ops->send_file(&f->to, f->fd, &f->pos, f->len, &f->sent);
    fm_loop_post(f->loop, &f->over, 0, NULL); /* from here on it is the loop's */
}

static void free_file(struct fm_file_send *f)
{
    if (f->fd >= 0)
        fm_files_close(f->fd);
    if (f->to.fd >= 0)
        fm_fds_close(f->to.fd);
    free(f);
}

/* The next part of the file whose turn it is. */
static int start_part(struct fm_stream *s) FM_REQUIRES(s->lock)
{
    struct fm_file_send *f = s->file;
    uint64_t left = fm_outq_file_front(&s->q);
    f->pos = s->q.file_pos;
    f->len = left < FILE_PART ? (size_t)left : FILE_PART;
    f->sent = 0;
    f->busy = true;
    int err = fm_files_submit(FM_FILES_SEND, &f->job);
    if (err == 0)
        return FM_EBUSY;
    f->busy = false;
    return give_up(s, err);
}

/* ---- the queue ---- */

/* Sends what is queued until the socket takes no more: 0 if all is gone, FM_EAGAIN, FM_ECLOSED, or FM_EBUSY while a
 * file thread sends. */
static int send_kept(struct fm_stream *s) FM_REQUIRES(s->lock)
{
    while (s->q.size > 0) {
        struct iovec pieces[FM_OUTQ_PIECES];
        if (fm_outq_file_front(&s->q) > 0)
            return s->file->busy ? FM_EBUSY : start_part(s);
        int n = fm_outq_front(&s->q, pieces);
        ssize_t k = send_pieces(s, pieces, n, s->q.file >= 0);
        if (k < 0)
            return (int)k;
        fm_outq_sent(&s->q, (uint64_t)k);
    }
    return 0;
}

static size_t total_size(const struct iovec *pieces, int n)
{
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += pieces[i].iov_len;
    return total;
}

/* Asks the loop to go on with what is kept; s->lock is held, which keeps the stream alive: its owner on the loop takes
 * the lock before it lets go of a request. */
static enum fm_sent ask_loop(struct fm_stream *s) FM_REQUIRES(s->lock)
{
    if (s->q.size == 0)
        return FM_SENT_ALL;
    if (s->writing == FM_WRITE_DIRECT) {
        s->writing = FM_WRITE_ASKED;
        fm_loop_post(s->loop, &s->want_write, 0, NULL);
    }
    return fm_outq_borrows(&s->q) ? FM_SENT_BORROWED : FM_SENT_KEPT;
}

enum fm_sent fm_stream_send(struct fm_stream *s, const struct iovec *pieces, int n, int flags)
{
    fm_mutex_lock(&s->lock);
    enum fm_sent result = FM_SENT_GONE;
    if (fm_stream_is_dead_owned(s))
        goto out;
    size_t total = total_size(pieces, n), sent = 0;
    if (total > 0 && s->writing == FM_WRITE_DIRECT) {
        ssize_t k = send_pieces(s, pieces, n, false);
        if (k == FM_ECLOSED)
            goto out;
        sent = k > 0 ? (size_t)k : 0;
    }
    int err = 0;
    if (sent < total)
        err = fm_outq_add(&s->q, pieces, n, sent, flags & FM_SEND_BORROW ? FM_STREAM_BORROW : SIZE_MAX);
    if (err != 0)
        give_up(s, err);
    else
        result = ask_loop(s);
out:
    fm_mutex_unlock(&s->lock);
    return result;
}

static int duplicate(int fd, int *to)
{
    *to = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (*to < 0)
        return -errno;
    fm_fds_own(*to);
    return 0;
}

/* What sends the file, with descriptors of its own.  0 or a negated errno. */
static int prepare_file(struct fm_stream *s, int fd) FM_REQUIRES(s->lock)
{
    struct fm_file_send *f = calloc(1, sizeof *f);
    if (!f)
        return -ENOMEM;
    *f = (struct fm_file_send){.loop = s->loop, .stream = s, .fd = -1, .to = s->transport};
    f->to.fd = -1;
    fm_file_job_init(&f->job, send_part);
    fm_event_init(&f->over, on_part_over);
    int err = duplicate(fd, &f->fd);
    if (err == 0)
        err = duplicate(s->transport.fd, &f->to.fd);
    if (err != 0)
        free_file(f);
    else
        s->file = f;
    return err;
}

enum fm_sent fm_stream_send_file(struct fm_stream *s, const struct iovec *head, int fd, int64_t pos, int64_t len)
{
    fm_mutex_lock(&s->lock);
    enum fm_sent result = FM_SENT_GONE;
    if (fm_stream_is_dead_owned(s))
        goto out;
    int err = prepare_file(s, fd);
    if (err == 0)
        err = fm_outq_add(&s->q, head, 1, 0, SIZE_MAX);
    if (err != 0) {
        give_up(s, err);
        goto out;
    }
    fm_outq_add_file(&s->q, s->file->fd, pos, len);
    err = is_the_loops(s) ? FM_EAGAIN : send_kept(s);
    if (err == FM_EBUSY)
        s->writing = FM_WRITE_LOOP; /* the end of the part goes there by itself */
    if (err != FM_ECLOSED)
        result = ask_loop(s);
out:
    fm_mutex_unlock(&s->lock);
    return result;
}

uint64_t fm_stream_pending(struct fm_stream *s)
{
    fm_mutex_lock(&s->lock);
    uint64_t pending = fm_stream_pending_owned(s);
    fm_mutex_unlock(&s->lock);
    return pending;
}

bool fm_stream_is_dead(struct fm_stream *s)
{
    fm_mutex_lock(&s->lock);
    bool dead = fm_stream_is_dead_owned(s);
    fm_mutex_unlock(&s->lock);
    return dead;
}

bool fm_stream_reads_file(struct fm_stream *s)
{
    fm_mutex_lock(&s->lock);
    bool busy = s->file && s->file->busy;
    fm_mutex_unlock(&s->lock);
    return busy;
}

uint64_t fm_stream_acknowledged(struct fm_stream *s)
{
    fm_mutex_lock(&s->lock);
    uint64_t sent = s->sent, under_way = s->transport.ops->unacknowledged(&s->transport);
    fm_mutex_unlock(&s->lock);
    return sent - under_way;
}

void fm_stream_be_patient(struct fm_stream *s, uint64_t ns) { s->transport.ops->be_patient(&s->transport, ns); }

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

static void on_writable(evutil_socket_t fd, short what, void *arg);

/* Has libevent tell when the socket takes more; the stream is dead if it cannot. */
static void start_writing(struct fm_stream *s) FM_ON_LOOP
{
    if (s->write_armed)
        return;
    if (!s->write_event)
        s->write_event = event_new(s->loop->base, s->transport.fd, EV_WRITE | EV_PERSIST, on_writable, s);
    s->write_armed = s->write_event != NULL;
    arm_read(s); /* a watch ends before the write event is added */
    if (!s->write_event || event_add(s->write_event, NULL) != 0) {
        log_deferred(errno ? -errno : -ENOMEM);
        s->write_armed = false;
        fm_stream_kill(s);
    }
}

/* Goes on with what is kept; the owner hears of it. */
static void go_on(struct fm_stream *s) FM_ON_LOOP
{
    fm_mutex_lock(&s->lock);
    int err = fm_stream_is_dead_owned(s) ? FM_ECLOSED : send_kept(s);
    if (err == 0)
        s->writing = FM_WRITE_DIRECT;
    fm_mutex_unlock(&s->lock);
    if (err == FM_EAGAIN)
        start_writing(s);
    else
        stop_writing(s);
    s->ops->on_output(s);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    fm_assert_on_loop();
    go_on(arg);
}

static void on_part_over(struct fm_event *event)
{
    struct fm_file_send *f = FM_LIST_ENTRY(event, struct fm_file_send, over);
    struct fm_stream *s = f->stream;
    fm_assert_on_loop();
    if (!s) {
        free_file(f);
        return;
    }
    fm_mutex_lock(&s->lock);
    f->busy = false;
    count_sent(s, (ssize_t)f->sent);
    bool full = f->err == FM_EAGAIN;
    if (!fm_stream_is_dead_owned(s)) {
        fm_outq_sent(&s->q, f->sent);
        if (f->err == FM_ECLOSED)
            broken(s);
        else if (f->err != 0 && !full)
            give_up(s, f->err); /* the file cannot be read, or is shorter than promised */
    }
    bool last = s->q.file < 0;
    if (last)
        s->file = NULL;
    fm_mutex_unlock(&s->lock);
    if (last)
        free_file(f);
    if (full && !fm_stream_is_dead(s)) {
        start_writing(s);
        s->ops->on_output(s);
    } else {
        go_on(s);
    }
}

static void on_want_write(struct fm_event *event)
{
    struct fm_stream *s = FM_LIST_ENTRY(event, struct fm_stream, want_write);
    fm_assert_on_loop();
    fm_mutex_lock(&s->lock);
    bool dead = fm_stream_is_dead_owned(s);
    s->writing = dead ? FM_WRITE_DEAD : FM_WRITE_LOOP;
    int deferred_error = s->deferred_error;
    s->deferred_error = 0;
    fm_mutex_unlock(&s->lock);
    if (dead) { /* given up, or found so by a writer */
        log_deferred(deferred_error);
        stop_writing(s);
    } else {
        start_writing(s);
    }
    s->ops->on_output(s);
}

void fm_stream_shutdown(struct fm_stream *s) { s->transport.ops->shutdown(&s->transport); }

/* Leaves the loop.  It is killed first: a thread that was writing has left the lock then, and one that comes later
 * finds it dead, so that none uses the descriptor or posts want_write any more when both are taken away. */
static void leave_loop(struct fm_stream *s) FM_ON_LOOP
{
    fm_stream_kill(s);
    log_deferred(s->deferred_error);
    s->deferred_error = 0;
    if (s->armed != FM_ARMED_NOT)
        event_del(&s->read_event);
    s->armed = FM_ARMED_NOT;
    s->peer = FM_PEER_GONE;
    fm_loop_cancel(s->loop, &s->want_write);
    if (s->write_event)
        event_free(s->write_event); /* removes it first */
    s->write_event = NULL;
    s->write_armed = false;
}

/* Lets go of the file: at once, unless a file thread is at it. */
static void leave_file(struct fm_stream *s) FM_ON_LOOP
{
    struct fm_file_send *f = s->file;
    s->file = NULL;
    if (!f)
        return;
    fm_mutex_lock(&s->lock);
    bool busy = f->busy; /* no other part of a dead stream is started */
    fm_mutex_unlock(&s->lock);
    f->stream = NULL;
    if (!busy || fm_files_withdraw(FM_FILES_SEND, &f->job))
        free_file(f);
}

static void close_transport(struct fm_stream *s, bool reset) FM_ON_LOOP
{
    if (s->transport.fd < 0)
        return;
    leave_loop(s);
    /* Where a file thread is at it, the connection ends when that has closed its own. */
    s->transport.ops->close(&s->transport, reset);
    leave_file(s);
}

void fm_stream_close(struct fm_stream *s) { close_transport(s, false); }

void fm_stream_lost(struct fm_stream *s)
{
    leave_loop(s);
    leave_file(s);
    s->transport.fd = -1; /* the number is another file's */
    s->ops->on_end(s, -EBADF);
}

void fm_stream_reset(struct fm_stream *s) { close_transport(s, true); }

/* ---- life ---- */

int fm_stream_init(struct fm_stream *s, struct fm_loop *loop, struct fm_transport transport,
                   const struct fm_stream_ops *ops)
{
    *s = (struct fm_stream){.ops = ops, .loop = loop, .transport = transport, .reading = FM_READ_ON};
    fm_outq_init(&s->q);
    fm_mutex_init(&s->lock);
    fm_event_init(&s->want_write, on_want_write);
    s->armed = FM_ARMED_READ;
    event_assign(&s->read_event, loop->base, transport.fd, EV_READ | EV_PERSIST, on_readable, s);
    if (event_add(&s->read_event, NULL) != 0) {
        fm_mutex_fini(&s->lock);
        return errno ? -errno : -ENOMEM;
    }
    fm_fds_own(transport.fd);
    return 0;
}

void fm_stream_fini(struct fm_stream *s)
{
    close_transport(s, false);
    fm_mutex_fini(&s->lock);
}

/* A connection's bytes in both directions, over a transport (net/transport.h).
 *
 * Reading is the loop's: a persistent read event, into the owner's memory or the loop's scratch, to on_data.  While a
 * reader cannot take more, reading is paused; then, and after the peer's end of file, only its going away is watched,
 * edge-triggered, because unread bytes and an end of file stay readable for ever.  libevent does not mix both kinds of
 * trigger on one descriptor, so while the loop is writing there is no watch: writing finds a reset by itself.
 *
 * Writing is the thread's that holds the request: under `lock`, straight to the transport; what that does not take is
 * queued (net/outq.h), and the loop goes on with it when the socket can take more.  A writer that left a borrowed block
 * or a file waits until it is gone, so that there is at most one of each.
 *
 * A file is sent by a file thread (util/files.h), because its storage may be slow: a part of it at a time.  Meanwhile
 * no other thread writes, and the loop does not poll for room.  It works with duplicates of both descriptors, so that
 * neither number can become another file's or another client's under it. */
#ifndef FERMATA_NET_STREAM_H
#define FERMATA_NET_STREAM_H

#include <event2/event_struct.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "fermata/net/loop.h"
#include "fermata/net/outq.h"
#include "fermata/net/transport.h"
#include "fermata/util/annotate.h"
#include "fermata/util/sent.h"

struct fm_stream;
struct fm_file_send;

struct fm_stream_ops { /* all called on the loop; each may close the stream, and free it at the end of the turn */
    /* Where the next bytes shall go, and how many at most; NULL, or no such function: to the loop's scratch memory. */
    char *(*buffer)(struct fm_stream *s, size_t *len);
    /* Bytes arrived: where `buffer` said, or in scratch memory that is good during the call. */
    void (*on_data)(struct fm_stream *s, const char *data, size_t len);
    /* The peer ended its direction (err 0), or the connection is broken (a negated errno, possibly after an end). */
    void (*on_end)(struct fm_stream *s, int err);
    /* The loop takes over what a writer could not send, has sent some of it, or found the stream dead.  Not called for
     * what writers send themselves. */
    void (*on_output)(struct fm_stream *s);
};

enum fm_stream_reading {
    FM_READ_ON,
    FM_READ_PAUSED, /* nothing is read, but the peer's going away is watched for, and told */
    FM_READ_OFF,    /* neither: for a while in which it does not matter, and what it has sent shall be read first */
};

/* What is known of the peer's direction, in the order in which it becomes known. */
enum fm_stream_peer {
    FM_PEER_SENDS,
    FM_PEER_ENDED, /* it has ended its direction, and on_end has been told */
    FM_PEER_GONE,  /* it has reset the connection, and on_end has been told; or the stream is closed */
};

/* What read_event is set to; it follows from the others (arm_read):
 *
 *            reading ON     PAUSED         OFF
 *   SENDS    READ           WATCH, or NOT  NOT
 *   ENDED    WATCH, or NOT  WATCH, or NOT  NOT     (NOT: while the write event is added)
 *   GONE     NOT            NOT            NOT */
enum fm_stream_armed {
    FM_ARMED_NOT,
    FM_ARMED_READ,
    FM_ARMED_WATCH, /* for the peer's going away alone */
};

/* Who writes.
 *
 *   DIRECT    nothing is kept: a writer sends by itself
 *   ASKED     something is kept, and want_write is on its way to the loop
 *   LOOP      something is kept, and the loop sends it: it waits until the socket takes more, or for a file thread
 *   DEAD      nothing is kept, and nothing will be sent
 *   DYING     the same, and want_write is on its way to the loop, which does not know
 *
 *   DIRECT -> ASKED -> LOOP -> DIRECT     a writer leaves a rest; the loop takes it over; all has been sent
 *   DIRECT -> LOOP                        a writer begins a file: the end of its first part is posted anyway
 *   DIRECT, LOOP -> DEAD, ASKED -> DYING  broken, killed
 *   DIRECT, ASKED, LOOP -> DYING          given up, which the loop is to log
 *   DYING -> DEAD                         the loop has been told; a stream that has left it stays */
enum fm_stream_writing { FM_WRITE_DIRECT, FM_WRITE_ASKED, FM_WRITE_LOOP, FM_WRITE_DEAD, FM_WRITE_DYING };

struct fm_stream {
    const struct fm_stream_ops *ops;
    struct fm_loop *loop;
    struct fm_transport transport;
    uint8_t reading;           /* enum fm_stream_reading, as asked for; loop only */
    uint8_t peer;              /* enum fm_stream_peer; loop only */
    uint8_t armed;             /* enum fm_stream_armed; loop only */
    bool write_armed;          /* the write event is added; loop only */
    bool uncounted;            /* its bytes are not in the metrics; set by the owner before any arrive */
    struct event read_event;   /* loop only */
    struct event *write_event; /* loop only; made when first needed */
    struct fm_event want_write;
    struct fm_mutex lock; /* guards what follows */
    uint8_t writing;      /* enum fm_stream_writing */
    int deferred_error;   /* why it was given up, which the loop will log: a negated errno */
    struct fm_outq q;
    struct fm_file_send *file; /* sends q's file; NULL: none was queued yet */
    uint64_t sent;             /* bytes the transport took, ever */
};

/* Takes over the socket of a transport, such as fm_plain(fd), and starts reading.  0 or a negated errno; the socket
 * stays the caller's on failure. */
int fm_stream_init(struct fm_stream *s, struct fm_loop *loop, struct fm_transport transport,
                   const struct fm_stream_ops *ops) FM_ON_LOOP;

/* Closes the socket now.  No function of ops is called any more; the stream lives on, dead, until fini. */
void fm_stream_close(struct fm_stream *s) FM_ON_LOOP;

/* The number of its socket, or -1 when it is closed. */
static inline int fm_stream_fd(const struct fm_stream *s) { return s->transport.fd; }

/* Closes the socket and frees what is kept.  No other thread may use the stream any more. */
void fm_stream_fini(struct fm_stream *s) FM_ON_LOOP;

void fm_stream_set_reading(struct fm_stream *s, enum fm_stream_reading mode) FM_ON_LOOP;

/* Has the peer sent something that has not been read? */
bool fm_stream_has_unread(const struct fm_stream *s) FM_ON_LOOP;

#define FM_STREAM_BORROW (128 * 1024) /* a rest of this many bytes is borrowed rather than copied */

enum fm_send_flags {
    FM_SEND_BORROW = 1, /* a large rest may be borrowed instead of copied */
};

/* Sends the pieces, after what is kept; what became of all that is kept now.  Never blocks. */
enum fm_sent fm_stream_send(struct fm_stream *s, const struct iovec *pieces, int n, int flags) FM_ANY_THREAD;

/* May files be sent?  Not every transport can. */
static inline bool fm_stream_takes_files(const struct fm_stream *s) { return s->transport.ops->send_file != NULL; }

/* Sends a head, then len bytes of the regular file fd from pos, without waiting for the file; fd is the caller's still.
 * One file at a time: the caller waits until nothing is kept.  Only where files may be sent; returns as fm_stream_send.
 */
enum fm_sent fm_stream_send_file(struct fm_stream *s, const struct iovec *head, int fd, int64_t pos,
                                 int64_t len) FM_ANY_THREAD;

/* Bytes kept, where s->lock is held or no other thread can be writing. */
uint64_t fm_stream_pending_owned(const struct fm_stream *s) FM_ANY_THREAD;
uint64_t fm_stream_pending(struct fm_stream *s) FM_ANY_THREAD;

/* Will nothing be sent any more, because the peer is gone or it was given up? */
static inline bool fm_stream_is_dead_owned(const struct fm_stream *s) { return s->writing >= FM_WRITE_DEAD; }
bool fm_stream_is_dead(struct fm_stream *s) FM_ANY_THREAD;

/* May a writer that waits go on?  Nothing of its is borrowed, and at most `low` bytes are kept, or nothing will be sent
 * any more.  s->lock is held. */
static inline bool fm_stream_has_room(const struct fm_stream *s, uint64_t low)
{
    return fm_stream_is_dead_owned(s) || (!fm_outq_borrows(&s->q) && s->q.size <= low);
}

/* Is a part of a file being read and sent?  Then it may be the storage that is waited for, and not the peer. */
bool fm_stream_reads_file(struct fm_stream *s) FM_ANY_THREAD;

/* Bytes that the peer has acknowledged, ever: does it take anything? */
uint64_t fm_stream_acknowledged(struct fm_stream *s) FM_ON_LOOP;

/* The peer may leave what it is sent unacknowledged, or its window closed, for so many ns: the connection must not end
 * by itself before, if it would sooner. */
void fm_stream_be_patient(struct fm_stream *s, uint64_t ns) FM_ON_LOOP;

/* Gives up writing: drops what is kept, borrowed pieces included.  on_output is not called. */
void fm_stream_kill(struct fm_stream *s) FM_ANY_THREAD;

/* The same for what is no fault of the peer: the loop logs err, a negated errno, and calls on_output. */
void fm_stream_give_up(struct fm_stream *s, int err) FM_ANY_THREAD;

/* Ends our direction (FIN) at once, so the caller waits until nothing is kept; reading goes on. */
void fm_stream_shutdown(struct fm_stream *s) FM_ON_LOOP;

/* Breaks the connection off now: kills it and closes the socket with a reset, so that the peer sees an error and not a
 * complete-looking end.  The stream lives on, dead, until fini: a thread that wants to write finds it so. */
void fm_stream_reset(struct fm_stream *s) FM_ON_LOOP;

/* The application has closed the descriptor, and its number is another's now: ends the stream without touching it, and
 * tells the owner as if the peer were gone. */
void fm_stream_lost(struct fm_stream *s) FM_ON_LOOP;

#endif

/* Streams: what is kept and in which order it leaves, ends of all kinds, and two threads on one stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "fermata/net/stream.h"
#include "fermata/util/counter.h"
#include "fermata/util/err.h"
#include "fermata/util/files.h"
#include "fermata/wsgi/call.h" /* only for the mark above which a writer waits */
#include "loopback.h"

struct end { /* a stream and what became known of it */
    struct fm_stream s;
    struct fm_buf got;
    unsigned ends, outputs;
    int err;
    bool free_in_callback, freed;
    bool dead_seen; /* by the last on_output */
    uint64_t pending_seen;
    char *buffer; /* where bytes shall go, if anywhere */
    size_t buffer_len;
};

static struct fm_loop l;
static struct end e;
static int peer;

static void stop_in_callback(struct end *x)
{
    fm_stream_fini(&x->s);
    memset(&x->s, 0xdd, sizeof x->s); /* code that looks at it now sees that */
    x->freed = true;
}

static char *buffer(struct fm_stream *s, size_t *len)
{
    struct end *x = FM_LIST_ENTRY(s, struct end, s);
    fm_assert_on_loop();
    if (x->buffer)
        *len = x->buffer_len;
    return x->buffer;
}

static void on_data(struct fm_stream *s, const char *data, size_t len)
{
    struct end *x = FM_LIST_ENTRY(s, struct end, s);
    fm_assert_on_loop();
    CHECK(len > 0 && data == (x->buffer ? x->buffer : s->loop->scratch));
    fm_buf_append(&x->got, data, len);
    if (x->free_in_callback)
        stop_in_callback(x);
}

static void on_end(struct fm_stream *s, int err)
{
    struct end *x = FM_LIST_ENTRY(s, struct end, s);
    fm_assert_on_loop();
    x->ends++;
    x->err = err;
    if (x->free_in_callback)
        stop_in_callback(x);
}

static void on_output(struct fm_stream *s)
{
    struct end *x = FM_LIST_ENTRY(s, struct end, s);
    fm_assert_on_loop();
    x->outputs++;
    x->dead_seen = fm_stream_is_dead(s);
    x->pending_seen = fm_stream_pending(s);
    if (x->free_in_callback)
        stop_in_callback(x);
}

static const struct fm_stream_ops ops = {buffer, on_data, on_end, on_output};

static int start(void **state)
{
    int fd[2];
    fm_files_start();
    fm_role_take_loop();
    if (fm_loop_init(&l) != 0)
        return -1;
    if (*state)
        tcp_pair(fd);
    else
        unix_pair(fd);
    e = (struct end){.ends = 0};
    peer = fd[1];
    return fm_stream_init(&e.s, &l, fm_plain(fd[0]), &ops);
}

static int start_unix(void **state)
{
    *state = NULL;
    return start(state);
}

static int start_tcp(void **state)
{
    *state = &l;
    return start(state);
}

static int finish(void **state)
{
    (void)state;
    if (!e.freed)
        fm_stream_fini(&e.s);
    fm_buf_fini(&e.got);
    if (peer >= 0)
        close(peer);
    fm_loop_fini(&l);
    fm_role_drop_loop();
    return 0;
}

/* ---- bytes that tell where they belong ---- */

static char at(uint64_t pos) { return (char)(pos * 131 + (pos >> 9) * 7 + (pos >> 17)); }

static char *bytes(uint64_t pos, size_t n)
{
    char *p = malloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = at(pos + i);
    return p;
}

/* Sends n bytes of the sequence that begin at pos; copied, so the memory goes at once. */
static enum fm_sent send_bytes(uint64_t pos, size_t n)
{
    char *p = bytes(pos, n);
    struct iovec piece = {p, n};
    enum fm_sent sent = fm_stream_send(&e.s, &piece, 1, 0);
    free(p);
    return sent;
}

/* The peer reads n bytes while the loop turns, and checks that they go on from pos. */
static void assert_arrives(uint64_t pos, size_t n)
{
    static char text[50000];
    uint64_t end = fm_now() + 30 * FM_SEC;
    for (size_t got = 0; got < n;) {
        size_t want = n - got < sizeof text ? n - got : sizeof text;
        ssize_t k = recv(peer, text, want, MSG_DONTWAIT);
        if (k < 0) {
            assert_int_equal(errno, EAGAIN);
            assert_true(fm_now() < end);
            fm_loop_turn(&l, false);
            continue;
        }
        assert_true(k > 0);
        for (ssize_t i = 0; i < k; i++)
            if (text[i] != at(pos + got + (size_t)i))
                fail_msg("byte %zu is not what was sent", got + (size_t)i);
        got += (size_t)k;
    }
}

static void assert_nothing_more_arrives(void)
{
    char c;
    turn_a_while(&l);
    assert_int_equal(recv(peer, &c, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

static uint64_t count_of(enum fm_counter id)
{
    struct fm_counters_sum sum;
    fm_counters_read(&sum);
    return sum.cell[id];
}

static bool keeps_no_memory(void)
{
    return fm_stream_pending(&e.s) == 0 && e.s.q.bytes.cap == 0 && !fm_outq_borrows(&e.s.q) && !e.s.file;
}

/* ---- writing ---- */

static void test_small_pieces_leave_at_once(void **state)
{
    (void)state;
    char *p = bytes(0, 300);
    struct iovec pieces[4] = {{p, 100}, {NULL, 0}, {p + 100, 1}, {p + 101, 199}};
    uint64_t out = count_of(FM_C_BYTES_OUT);
    assert_int_equal(fm_stream_send(&e.s, pieces, 4, 0), FM_SENT_ALL);
    assert_int_equal(fm_stream_send(&e.s, pieces, 0, 0), FM_SENT_ALL);
    assert_int_equal(fm_stream_send(&e.s, pieces + 1, 1, FM_SEND_BORROW), FM_SENT_ALL);
    assert_arrives(0, 300);
    assert_nothing_more_arrives();
    assert_int_equal(e.s.sent, 300);
    assert_int_equal(count_of(FM_C_BYTES_OUT) - out, 300);
    assert_int_equal(e.outputs, 0); /* the loop was not asked */
    assert_true(keeps_no_memory());
    free(p);
}

static void test_rest_is_kept_in_order(void **state)
{
    (void)state;
    enum { FIRST = 1000000, MORE = 777, TIMES = 20 };
    assert_int_equal(send_bytes(0, FIRST), FM_SENT_KEPT);
    uint64_t pos = FIRST, kept = fm_stream_pending(&e.s);
    assert_true(kept > 0 && kept < FIRST);
    assert_int_equal(kept, FIRST - e.s.sent);
    for (int i = 0; i < TIMES; i++) { /* behind what is kept, though the socket may have room */
        if (i == TIMES / 2)
            assert_arrives(0, 100000);
        uint64_t before = fm_stream_pending(&e.s);
        assert_int_equal(send_bytes(pos, MORE), FM_SENT_KEPT);
        assert_int_equal(fm_stream_pending(&e.s), before + MORE);
        pos += MORE;
    }
    assert_arrives(100000, FIRST + MORE * TIMES - 100000);
    TURN_UNTIL(&l, fm_stream_pending(&e.s) == 0);
    assert_true(keeps_no_memory());
    assert_int_equal(e.s.sent, FIRST + MORE * TIMES);
    TURN_UNTIL(&l, e.outputs > 2 && e.pending_seen == 0);
    unsigned outputs = e.outputs;
    assert_int_equal(send_bytes(pos, 10), FM_SENT_ALL); /* nothing is kept: straight to the socket */
    assert_arrives(pos, 10);
    turn_a_while(&l);
    assert_int_equal(e.outputs, outputs);
}

/* The loop says that it has taken over even before the socket takes anything more. */
static void test_taking_over_is_told(void **state)
{
    (void)state;
    assert_int_equal(send_bytes(0, 1000000), FM_SENT_KEPT);
    assert_int_equal(e.outputs, 0);
    TURN_UNTIL(&l, e.outputs > 0);
    assert_false(e.dead_seen);
    assert_true(e.pending_seen > 0);
}

static void test_random_pieces(void **state)
{
    (void)state;
    uint64_t seed = new_seed(), sent = 0, read = 0;
    for (unsigned round = 0; round < ROUNDS(3000); round++) {
        size_t n = (size_t)(rnd(&seed) % 4 ? rnd(&seed) % 3000 : rnd(&seed) % 60000), half = n / 3;
        if (sent - read < 500000) {
            char *p = bytes(sent, n);
            struct iovec pieces[3] = {{p, half}, {p + half, n - half}, {p, 0}};
            enum fm_sent answer = fm_stream_send(&e.s, pieces, 3, 0);
            assert_int_equal(answer, fm_stream_pending(&e.s) > 0 ? FM_SENT_KEPT : FM_SENT_ALL);
            free(p);
            sent += n;
        }
        if (rnd(&seed) % 2)
            fm_loop_turn(&l, false);
        n = (size_t)(rnd(&seed) % 40000);
        n = n < sent - read ? n : (size_t)(sent - read);
        if (rnd(&seed) % 3 == 0) {
            assert_arrives(read, n);
            read += n;
        }
        assert_int_equal(sent - e.s.sent, fm_stream_pending(&e.s));
    }
    assert_arrives(read, (size_t)(sent - read));
    assert_nothing_more_arrives();
    assert_true(keeps_no_memory());
}

static void test_borrow(void **state)
{
    (void)state;
    enum { HEAD = 200, BODY = 2000000, TAIL = 2 };
    char *p = bytes(0, HEAD + BODY + TAIL);
    struct iovec pieces[3] = {{p, HEAD}, {p + HEAD, BODY}, {p + HEAD + BODY, TAIL}};
    assert_int_equal(fm_stream_send(&e.s, pieces, 3, FM_SEND_BORROW), FM_SENT_BORROWED);
    uint64_t kept = fm_stream_pending(&e.s);
    assert_int_equal(kept, HEAD + BODY + TAIL - e.s.sent);
    assert_ptr_equal(e.s.q.borrowed, p + e.s.sent); /* not copied */
    assert_int_equal(e.s.q.pieces[0].len, kept - TAIL);
    assert_int_equal(fm_buf_size(&e.s.q.bytes), TAIL);
    memset(p + HEAD + BODY, 0, TAIL); /* the framing is copied */
    assert_arrives(0, HEAD + BODY + TAIL);
    assert_nothing_more_arrives();
    assert_true(keeps_no_memory());
    free(p);
}

/* Behind what was copied before. */
static void test_borrow_behind_copied(void **state)
{
    (void)state;
    enum { FIRST = 300000, HEAD = 10, BODY = 500000 };
    assert_int_equal(send_bytes(0, FIRST), FM_SENT_KEPT);
    char *p = bytes(FIRST, HEAD + BODY);
    struct iovec pieces[2] = {{p, HEAD}, {p + HEAD, BODY}};
    assert_int_equal(fm_stream_send(&e.s, pieces, 2, FM_SEND_BORROW), FM_SENT_BORROWED);
    assert_int_equal(fm_stream_pending(&e.s), FIRST + HEAD + BODY - e.s.sent);
    assert_ptr_equal(e.s.q.borrowed, p + HEAD);
    assert_int_equal(e.s.q.pieces[1].len, BODY);
    assert_int_equal(fm_buf_size(&e.s.q.bytes), FIRST + HEAD - e.s.sent);
    assert_arrives(0, FIRST + HEAD + BODY);
    assert_true(keeps_no_memory());
    free(p);
}

/* The tail byte by byte: each length of what the socket takes last. */
static void test_borrowed_tail_in_parts(void **state)
{
    (void)state;
    enum { BODY = 200000 };
    for (size_t tail = 0; tail <= 8; tail++) {
        char *p = bytes(0, BODY + tail);
        struct iovec pieces[3] = {{p, BODY}, {p + BODY, tail / 2}, {p + BODY + tail / 2, tail - tail / 2}};
        uint64_t sent = e.s.sent;
        e.s.writing = FM_WRITE_ASKED; /* as if the loop were at it: nothing leaves now */
        assert_int_equal(fm_stream_send(&e.s, pieces, 3, FM_SEND_BORROW), FM_SENT_BORROWED);
        assert_int_equal(fm_stream_pending(&e.s), BODY + tail);
        assert_ptr_equal(e.s.q.borrowed, p);
        assert_int_equal(fm_buf_size(&e.s.q.bytes), tail);
        fm_mutex_lock(&e.s.lock);
        fm_loop_post(&l, &e.s.want_write, 0, NULL);
        fm_mutex_unlock(&e.s.lock);
        assert_arrives(0, BODY + tail);
        TURN_UNTIL(&l, e.s.writing == FM_WRITE_DIRECT);
        assert_int_equal(e.s.sent - sent, BODY + tail);
        assert_true(keeps_no_memory());
        free(p);
    }
}

static void test_not_borrowed(void **state)
{
    (void)state;
    enum { BODY = 1000000 };
    const struct {
        size_t body, tail;
        int flags;
    } cases[] = {
        {BODY, 2, 0},                              /* not allowed */
        {FM_STREAM_BORROW - 1, 2, FM_SEND_BORROW}, /* too little */
        {BODY, BODY, FM_SEND_BORROW},              /* one at a time */
    };
    assert_int_equal(send_bytes(0, 200000), FM_SENT_KEPT); /* fills the socket */
    uint64_t pos = 200000;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = cases[i].body + cases[i].tail;
        char *p = bytes(pos, n);
        struct iovec pieces[2] = {{p, cases[i].body}, {p + cases[i].body, cases[i].tail}};
        fm_stream_send(&e.s, pieces, 2, cases[i].flags);
        assert_true(i == 2 ? e.s.q.borrowed >= p && e.s.q.borrowed < p + BODY : !e.s.q.borrowed);
        size_t borrowed = i == 2 ? cases[i].body : 0;
        memset(p + borrowed, 0, n - borrowed);
        assert_arrives(i == 0 ? 0 : pos, i == 0 ? pos + n : n);
        TURN_UNTIL(&l, fm_stream_pending(&e.s) == 0);
        free(p);
        pos += n;
        assert_int_equal(send_bytes(pos, 200000), FM_SENT_KEPT);
        assert_arrives(pos, 200000);
        pos += 200000;
        TURN_UNTIL(&l, fm_stream_pending(&e.s) == 0);
    }
}

/* A writer that is told that little is kept goes on, and its memory with it: then nothing may be borrowed. */
static void test_what_is_borrowed_is_above_the_high_water_mark(void **state)
{
    (void)state;
    for (size_t n = FM_OUTPUT_HIGH - 2; n <= FM_STREAM_BORROW + 2;
         n += n == FM_OUTPUT_HIGH + 2 ? FM_OUTPUT_HIGH - 4 : 1) {
        char *p = bytes(0, n);
        struct iovec piece = {p, n};
        e.s.writing = FM_WRITE_ASKED; /* the socket takes nothing now */
        enum fm_sent sent = fm_stream_send(&e.s, &piece, 1, FM_SEND_BORROW);
        assert_int_equal(fm_stream_pending(&e.s), n);
        assert_int_equal(sent, e.s.q.borrowed ? FM_SENT_BORROWED : FM_SENT_KEPT);
        if (e.s.q.borrowed && n <= FM_OUTPUT_HIGH)
            fail_msg("%zu bytes are kept, for which no request waits, but they are the writer's own", n);
        fm_mutex_lock(&e.s.lock);
        fm_loop_post(&l, &e.s.want_write, 0, NULL);
        fm_mutex_unlock(&e.s.lock);
        assert_arrives(0, n);
        TURN_UNTIL(&l, e.s.writing == FM_WRITE_DIRECT);
        free(p);
    }
}

/* ---- files ---- */

static int file_of(uint64_t pos, size_t n)
{
    char path[] = "/tmp/fermata-unit-stream-XXXXXX", *p = bytes(pos, n);
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, p, n) == (ssize_t)n);
    unlink(path);
    free(p);
    return fd;
}

static void test_file_region(void **state)
{
    (void)state;
    enum { HEAD = 100, SKIP = 5000, LEN = 3000000 }; /* more than one turn's worth */
    char *head = bytes(0, HEAD);
    struct iovec piece = {head, HEAD};
    int fd = file_of(HEAD - SKIP, SKIP + LEN + 1000);
    uint64_t out = count_of(FM_C_BYTES_OUT);
    assert_int_equal(fm_stream_send_file(&e.s, &piece, fd, SKIP, LEN), FM_SENT_BORROWED);
    free(head);
    assert_int_equal(fm_stream_pending(&e.s), HEAD + LEN - e.s.sent);
    assert_arrives(0, HEAD + LEN);
    assert_nothing_more_arrives();
    TURN_UNTIL(&l, fm_stream_pending(&e.s) == 0);
    assert_true(keeps_no_memory());
    assert_int_equal(e.s.sent, HEAD + LEN);
    assert_int_equal(count_of(FM_C_BYTES_OUT) - out, HEAD + LEN);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), SKIP + LEN + 1000); /* the descriptor's own position is left alone */
    assert_true(fcntl(fd, F_GETFD) >= 0);                        /* and it is not closed */
    close(fd);
}

static void test_small_file(void **state)
{
    (void)state;
    char *head = bytes(0, 50);
    struct iovec piece = {head, 50};
    int fd = file_of(50, 1000);
    assert_int_equal(fm_stream_send_file(&e.s, &piece, fd, 0, 1000), FM_SENT_BORROWED);
    assert_int_equal(fm_stream_pending(&e.s), 1000); /* the head is with the kernel */
    close(fd);                                       /* the stream has one of its own */
    free(head);
    assert_arrives(0, 1050);
    TURN_UNTIL(&l, fm_stream_pending(&e.s) == 0);
    assert_true(keeps_no_memory());
    assert_false(e.dead_seen);
}

static void test_file_behind_kept(void **state)
{
    (void)state;
    enum { FIRST = 500000, HEAD = 30, LEN = 200000 };
    assert_int_equal(send_bytes(0, FIRST), FM_SENT_KEPT);
    char *head = bytes(FIRST, HEAD);
    struct iovec piece = {head, HEAD};
    int fd = file_of(FIRST + HEAD, LEN);
    assert_int_equal(fm_stream_send_file(&e.s, &piece, fd, 0, LEN), FM_SENT_BORROWED);
    assert_int_equal(fm_stream_pending(&e.s), FIRST + HEAD + LEN - e.s.sent);
    free(head);
    assert_arrives(0, FIRST + HEAD + LEN);
    TURN_UNTIL(&l, fm_stream_pending(&e.s) == 0);
    assert_true(keeps_no_memory());
    close(fd);
}

/* What was promised cannot be kept: the stream is broken rather than wrong. */
static void test_file_too_short(void **state)
{
    (void)state;
    struct iovec piece = {"h", 1};
    int fd = file_of(0, 1000);
    assert_int_equal(fm_stream_send_file(&e.s, &piece, fd, 500, 501), FM_SENT_BORROWED);
    TURN_UNTIL(&l, e.dead_seen);
    assert_int_equal(fm_stream_pending(&e.s), 0);
    assert_int_equal(send_bytes(0, 1), FM_SENT_GONE);
    close(fd);
}

static void test_file_that_shrinks(void **state)
{
    (void)state;
    enum { LEN = 1000000 };
    struct iovec piece = {"h", 1};
    int fd = file_of(1, LEN);
    assert_int_equal(fm_stream_send_file(&e.s, &piece, fd, 0, LEN), FM_SENT_BORROWED);
    assert_int_equal(ftruncate(fd, 100), 0);
    char text[65536];
    TURN_UNTIL(&l, (recv(peer, text, sizeof text, MSG_DONTWAIT), e.dead_seen));
    assert_int_equal(fm_stream_pending(&e.s), 0);
    close(fd);
}

/* A file may have no end of sending: what is put behind it leaves behind it, and a second one comes after the first. */
static void test_file_between(void **state)
{
    (void)state;
    enum { LEN = 700000 };
    uint64_t pos = 0;
    for (int i = 0; i < 3; i++) {
        char *head = bytes(pos, 10);
        struct iovec piece = {head, 10};
        int fd = file_of(pos + 10, LEN);
        assert_int_equal(fm_stream_send_file(&e.s, &piece, fd, 0, LEN), FM_SENT_BORROWED);
        close(fd);
        free(head);
        assert_int_equal(send_bytes(pos + 10 + LEN, 7), FM_SENT_BORROWED); /* the file still is */
        assert_arrives(pos, 10 + LEN + 7);
        pos += 10 + LEN + 7;
        TURN_UNTIL(&l, fm_stream_pending(&e.s) == 0);
        assert_true(keeps_no_memory());
    }
}

/* ---- slow storage: sendfile(2) of a file thread waits until the test lets it go on ---- */

static atomic_bool storage_is_slow;
static atomic_uint waiting_for_storage;

ssize_t __real_sendfile(int to, int from, off_t *pos, size_t n);
ssize_t __wrap_sendfile(int to, int from, off_t *pos, size_t n)
{
    CHECK(!fm_thread_on_loop); /* the loop never waits for a file */
    atomic_fetch_add(&waiting_for_storage, 1);
    while (atomic_load(&storage_is_slow))
        usleep(500);
    atomic_fetch_sub(&waiting_for_storage, 1);
    return __real_sendfile(to, from, pos, n);
}

/* The file of `e` is being read, and that takes long. */
static int start_slow_file(void)
{
    char *head = bytes(0, 1);
    struct iovec piece = {head, 1};
    int fd = file_of(1, 100000);
    atomic_store(&storage_is_slow, true);
    assert_int_equal(fm_stream_send_file(&e.s, &piece, fd, 0, 100000), FM_SENT_BORROWED);
    free(head);
    TURN_UNTIL(&l, atomic_load(&waiting_for_storage) == 1);
    return fd;
}

static void storage_recovers(void)
{
    atomic_store(&storage_is_slow, false);
    TURN_UNTIL(&l, atomic_load(&waiting_for_storage) == 0);
    assert_true(fm_files_stop(fm_now() + 30 * FM_SEC));
    turn_a_while(&l);
}

static void test_slow_file_is_waited_for(void **state)
{
    (void)state;
    int fd = start_slow_file();
    turn_a_while(&l); /* it turns */
    assert_int_equal(fm_stream_pending(&e.s), 100000);
    assert_int_equal(e.outputs, 0);
    assert_int_equal(send_bytes(100001, 5), FM_SENT_BORROWED); /* behind it */
    storage_recovers();
    assert_arrives(0, 100006);
    close(fd);
}

static unsigned open_files(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 200; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* The peer leaves, or the owner resets or frees the stream: none of it waits, and what the reading still needs is
 * closed when it is over. */
static void test_end_while_a_file_is_read(void **state)
{
    (void)state;
    unsigned before = open_files();
    int fd = start_slow_file();
    close(fd);
    reset(peer);
    peer = -1;
    TURN_UNTIL(&l, e.ends == 1);
    fm_stream_reset(&e.s);
    stop_in_callback(&e);
    assert_int_equal(open_files(),
                     before); /* peer and stream are gone; the file's and the socket's duplicates are not */
    storage_recovers();
    assert_int_equal(open_files(), before - 2);
}

/* More files hang than there are threads: those that no thread has begun hold nothing when their connections end. */
static void test_end_before_a_file_is_read(void **state)
{
    (void)state;
    enum { MANY = FM_FILES_THREADS + 10 };
    static struct end many[MANY];
    int fds[MANY][2], file = file_of(0, 1000);
    struct iovec none = {NULL, 0};
    atomic_store(&storage_is_slow, true);
    unsigned before = open_files();
    for (int i = 0; i < MANY; i++) {
        tcp_pair(fds[i]);
        many[i] = (struct end){.ends = 0};
        assert_int_equal(fm_stream_init(&many[i].s, &l, fm_plain(fds[i][0]), &ops), 0);
        assert_int_equal(fm_stream_send_file(&many[i].s, &none, file, 0, 1000), FM_SENT_BORROWED);
    }
    TURN_UNTIL(&l, atomic_load(&waiting_for_storage) == FM_FILES_THREADS);
    for (int i = 0; i < MANY; i++) {
        fm_stream_reset(&many[i].s);
        fm_stream_fini(&many[i].s);
        close(fds[i][1]);
    }
    TURN_UNTIL(&l, open_files() == before + 2 * FM_FILES_THREADS);
    storage_recovers();
    assert_int_equal(open_files(), before);
    close(file);
}

/* The application closes our descriptor, and its number becomes another client's: the file does not go there. */
static void test_number_of_another_while_a_file_is_read(void **state)
{
    (void)state;
    int other[2], fd = start_slow_file();
    char c;
    tcp_pair(other);
    set_nonblocking(other[1]);
    assert_true(dup2(other[0], fm_stream_fd(&e.s)) >= 0);
    fm_stream_lost(&e.s);
    storage_recovers();
    assert_int_equal(recv(other[1], &c, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);
    close(other[0]);
    close(other[1]);
    close(fd);
}

static void test_kill_while_a_file_is_read(void **state)
{
    (void)state;
    int fd = start_slow_file();
    fm_stream_kill(&e.s);
    assert_int_equal(fm_stream_pending(&e.s), 0);
    storage_recovers();
    TURN_UNTIL(&l, !e.s.file);
    close(fd);
}

/* ---- ends ---- */

static void test_dead_peer(void **state)
{
    (void)state;
    struct iovec piece = {"h", 1};
    int fd = file_of(0, 10);
    close(peer);
    peer = -1;
    assert_int_equal(send_bytes(0, 100), FM_SENT_GONE); /* and no SIGPIPE */
    assert_true(fm_stream_is_dead(&e.s));
    assert_int_equal(fm_stream_pending(&e.s), 0);
    assert_int_equal(send_bytes(0, 100), FM_SENT_GONE);
    assert_int_equal(fm_stream_send(&e.s, &piece, 0, 0), FM_SENT_GONE);
    assert_int_equal(fm_stream_send_file(&e.s, &piece, fd, 0, 10), FM_SENT_GONE);
    close(fd);
    TURN_UNTIL(&l, e.ends > 0);
}

static void test_peer_dies_while_the_loop_writes(void **state)
{
    (void)state;
    char *p = bytes(0, 8000000);
    struct iovec piece = {p, 8000000};
    assert_int_equal(fm_stream_send(&e.s, &piece, 1, FM_SEND_BORROW), FM_SENT_BORROWED);
    TURN_UNTIL(&l, e.outputs > 0);
    reset(peer);
    peer = -1;
    TURN_UNTIL(&l, e.dead_seen);
    assert_int_equal(fm_stream_pending(&e.s), 0);
    assert_null(e.s.q.borrowed); /* the writer has its memory back */
    free(p);
    unsigned outputs = e.outputs;
    turn_a_while(&l);
    assert_int_equal(e.outputs, outputs);
}

static void test_kill(void **state)
{
    (void)state;
    char *p = bytes(0, 1000000);
    struct iovec piece = {p, 1000000};
    assert_int_equal(fm_stream_send(&e.s, &piece, 1, FM_SEND_BORROW), FM_SENT_BORROWED);
    uint64_t sent = e.s.sent;
    fm_stream_kill(&e.s);
    memset(p, 0, 1000000);
    free(p);
    assert_int_equal(e.outputs, 0);
    assert_true(fm_stream_is_dead(&e.s));
    assert_int_equal(fm_stream_pending(&e.s), 0);
    assert_int_equal(send_bytes(0, 1), FM_SENT_GONE);
    fm_stream_kill(&e.s);            /* again: harmless */
    assert_arrives(0, (size_t)sent); /* what the kernel has is on its way */
    assert_nothing_more_arrives();
    assert_int_equal(write(peer, "in", 2), 2); /* reading goes on */
    TURN_UNTIL(&l, fm_buf_size(&e.got) == 2);
}

static void test_kill_while_the_loop_writes(void **state)
{
    (void)state;
    assert_int_equal(send_bytes(0, 1000000), FM_SENT_KEPT);
    TURN_UNTIL(&l, e.outputs > 0);
    fm_stream_kill(&e.s);
    char text[65536];
    TURN_UNTIL(&l, (recv(peer, text, sizeof text, MSG_DONTWAIT), e.dead_seen)); /* noticed when there is room */
    unsigned outputs = e.outputs;
    turn_a_while(&l);
    assert_int_equal(e.outputs, outputs);
}

static void test_fini_with_output_kept(void **state)
{
    (void)state;
    char *p = bytes(0, 1000000), text[65536];
    struct iovec piece = {p, 1000000};
    fm_stream_send(&e.s, &piece, 1, FM_SEND_BORROW); /* the loop has been asked and has not looked */
    fm_stream_fini(&e.s);
    free(p);
    memset(&e.s, 0xdd, sizeof e.s);
    e.freed = true;
    turn_a_while(&l);
    assert_int_equal(e.outputs, 0);
    while (recv(peer, text, sizeof text, 0) > 0)
        ;
    assert_int_equal(recv(peer, text, 1, 0), 0);
}

static void test_shutdown(void **state)
{
    (void)state;
    char c;
    assert_int_equal(send_bytes(0, 10), FM_SENT_ALL);
    fm_stream_shutdown(&e.s);
    assert_arrives(0, 10);
    assert_int_equal(recv(peer, &c, 1, 0), 0);
    assert_int_equal(write(peer, "still", 5), 5);
    TURN_UNTIL(&l, fm_buf_size(&e.got) == 5);
    close(peer);
    peer = -1;
    TURN_UNTIL(&l, e.ends > 0);
}

static void test_close_is_an_end(void **state)
{
    (void)state;
    char c;
    fm_stream_fini(&e.s);
    e.freed = true;
    assert_int_equal(recv(peer, &c, 1, 0), 0);
}

/* The peer sees an error at once, and a thread that still holds the stream finds it dead. */
static void test_reset_from_here(void **state)
{
    (void)state;
    static char c[65536];
    char *p = bytes(0, 8000000);
    struct iovec piece = {p, 8000000};
    for (int kept = 0; kept < 3; kept++) { /* nothing kept, kept before the loop has looked, the loop writes */
        if (kept) {
            finish(state);
            start_tcp(state);
            assert_int_equal(fm_stream_send(&e.s, &piece, 1, FM_SEND_BORROW), FM_SENT_BORROWED);
        }
        if (kept == 2)
            TURN_UNTIL(&l, e.outputs > 0);
        unsigned outputs = e.outputs;
        fm_stream_reset(&e.s);
        assert_true(fm_stream_is_dead(&e.s));
        assert_int_equal(fm_stream_pending(&e.s), 0);
        assert_int_equal(send_bytes(0, 10), FM_SENT_GONE);
        ssize_t n;
        while ((n = recv(peer, c, sizeof c, 0)) > 0)
            ;
        assert_int_equal(n, -1);
        assert_int_equal(errno, ECONNRESET);
        fm_stream_reset(&e.s); /* again, and what else may still be called: harmless */
        fm_stream_kill(&e.s);
        fm_stream_shutdown(&e.s);
        fm_stream_set_reading(&e.s, FM_READ_PAUSED);
        fm_stream_set_reading(&e.s, FM_READ_ON);
        turn_a_while(&l);
        assert_int_equal(e.outputs, outputs);
        assert_int_equal(e.ends, 0);
    }
    free(p);
}

/* The application has closed the descriptor, and its number is another's: that one is left alone. */
static void test_lost(void **state)
{
    static char block[8000000];
    struct iovec piece = {block, sizeof block};
    for (int kept = 0; kept < 2; kept++) {
        if (kept) {
            finish(state);
            start_tcp(state);
            assert_int_equal(fm_stream_send(&e.s, &piece, 1, 0), FM_SENT_KEPT);
            TURN_UNTIL(&l, e.outputs > 0);
        }
        int fd = fm_stream_fd(&e.s), null = open("/dev/null", O_RDWR);
        assert_int_equal(dup2(null, fd), fd);
        fm_stream_lost(&e.s);
        assert_int_equal(e.ends, 1);
        assert_int_equal(e.err, -EBADF);
        assert_true(fm_stream_is_dead(&e.s));
        assert_int_equal(send_bytes(0, 10), FM_SENT_GONE);
        fm_stream_shutdown(&e.s);
        fm_stream_reset(&e.s);
        fm_stream_set_reading(&e.s, FM_READ_ON);
        turn_a_while(&l);
        assert_int_equal(e.ends, 1);
        assert_true(fcntl(fd, F_GETFD) >= 0);
        close(fd);
        close(null);
    }
}

static void test_uncounted(void **state)
{
    (void)state;
    uint64_t in = count_of(FM_C_BYTES_IN), out = count_of(FM_C_BYTES_OUT);
    e.s.uncounted = true;
    assert_int_equal(send_bytes(0, 10), FM_SENT_ALL);
    assert_int_equal(write(peer, "abc", 3), 3);
    TURN_UNTIL(&l, fm_buf_size(&e.got) == 3);
    assert_int_equal(count_of(FM_C_BYTES_IN), in);
    assert_int_equal(count_of(FM_C_BYTES_OUT), out);
    assert_int_equal(e.s.sent, 10);
}

/* ---- reading ---- */

static void test_reading_where_the_owner_wants_it(void **state)
{
    (void)state;
    char mine[4] = "";
    e.buffer = mine;
    e.buffer_len = 3;
    assert_int_equal(write(peer, "abcdefg", 7), 7);
    TURN_UNTIL(&l, fm_buf_size(&e.got) == 7);
    assert_memory_equal(fm_buf_head(&e.got), "abcdefg", 7);
    assert_int_equal(mine[0], 'g');
    e.buffer = NULL;
    assert_int_equal(write(peer, "hij", 3), 3);
    TURN_UNTIL(&l, fm_buf_size(&e.got) == 10);
}

static void test_data(void **state)
{
    (void)state;
    enum { N = 300000 };
    char *p = bytes(0, N);
    uint64_t in = count_of(FM_C_BYTES_IN);
    set_nonblocking(peer);
    for (size_t at_ = 0; at_ < N;) {
        ssize_t k = write(peer, p + at_, N - at_);
        at_ += k > 0 ? (size_t)k : 0;
        fm_loop_turn(&l, false);
    }
    TURN_UNTIL(&l, fm_buf_size(&e.got) == N);
    assert_memory_equal(fm_buf_head(&e.got), p, N);
    assert_int_equal(count_of(FM_C_BYTES_IN) - in, N);
    assert_int_equal(e.ends, 0);
    free(p);
}

static void test_end_of_file(void **state)
{
    (void)state;
    assert_int_equal(write(peer, "last", 4), 4);
    assert_int_equal(shutdown(peer, SHUT_WR), 0);
    TURN_UNTIL(&l, e.ends > 0);
    assert_int_equal(e.err, 0);
    assert_int_equal(fm_buf_size(&e.got), 4); /* first what came before */
    turn_a_while(&l);
    assert_int_equal(e.ends, 1);
    assert_int_equal(send_bytes(0, 100), FM_SENT_ALL); /* a half-closed peer still reads */
    assert_arrives(0, 100);
    for (int i = 0; i < 2; i++) {
        fm_stream_set_reading(&e.s, i ? FM_READ_ON : FM_READ_PAUSED);
        turn_a_while(&l);
        assert_int_equal(e.ends, 1);
    }
}

/* A loop that is woken again and again by what it does not want burns a processor. */
static unsigned turns_while_nothing_happens(void)
{
    unsigned turns = 0;
    for (uint64_t end = fm_now() + 50 * FM_MS; fm_now() < end; turns++) {
        struct timeval tv = {0, 20000};
        event_base_loopexit(l.base, &tv);
        event_base_loop(l.base, EVLOOP_ONCE);
    }
    return turns;
}

static void test_pause(void **state)
{
    (void)state;
    fm_stream_set_reading(&e.s, FM_READ_PAUSED);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(write(peer, "abc", 3), 3);
        turn_a_while(&l);
        assert_int_equal(fm_buf_size(&e.got), 0);
        assert_int_equal(e.ends, 0);
    }
    assert_true(turns_while_nothing_happens() < 20);
    fm_stream_set_reading(&e.s, FM_READ_ON);
    TURN_UNTIL(&l, fm_buf_size(&e.got) == 9);
    assert_memory_equal(fm_buf_head(&e.got), "abcabcabc", 9);
    fm_stream_set_reading(&e.s, FM_READ_ON); /* no change */
    fm_stream_set_reading(&e.s, FM_READ_PAUSED);
    assert_int_equal(write(peer, "def", 3), 3);
    turn_a_while(&l);
    assert_int_equal(fm_buf_size(&e.got), 9);
    fm_stream_set_reading(&e.s, FM_READ_ON);
    TURN_UNTIL(&l, fm_buf_size(&e.got) == 12);
}

static void test_end_of_file_while_paused(void **state)
{
    (void)state;
    fm_stream_set_reading(&e.s, FM_READ_PAUSED);
    assert_int_equal(write(peer, "unread", 6), 6); /* in front of the end */
    turn_a_while(&l);
    assert_int_equal(shutdown(peer, SHUT_WR), 0);
    TURN_UNTIL(&l, e.ends > 0);
    assert_int_equal(e.err, 0);
    turn_a_while(&l);
    assert_int_equal(e.ends, 1);
    assert_true(turns_while_nothing_happens() < 20);
}

static void test_end_before_the_pause(void **state)
{
    (void)state;
    assert_int_equal(write(peer, "unread", 6), 6);
    assert_int_equal(shutdown(peer, SHUT_WR), 0);
    fm_stream_set_reading(&e.s, FM_READ_PAUSED); /* nothing has been seen yet */
    TURN_UNTIL(&l, e.ends > 0);
    assert_int_equal(e.err, 0);
    assert_int_equal(fm_buf_size(&e.got), 0);
}

static void test_reset_by_peer(void **state)
{
    (void)state;
    reset(peer);
    peer = -1;
    TURN_UNTIL(&l, e.ends > 0);
    assert_int_equal(e.err, -ECONNRESET);
    turn_a_while(&l);
    assert_int_equal(e.ends, 1);
    assert_true(turns_while_nothing_happens() < 20);
}

static void test_reset_while_paused(void **state)
{
    (void)state;
    fm_stream_set_reading(&e.s, FM_READ_PAUSED);
    assert_int_equal(write(peer, "unread", 6), 6);
    turn_a_while(&l);
    reset(peer);
    peer = -1;
    TURN_UNTIL(&l, e.ends > 0);
    assert_int_equal(e.err, -ECONNRESET);
    turn_a_while(&l);
    assert_int_equal(e.ends, 1);
    assert_true(turns_while_nothing_happens() < 20);
}

/* First a half-close, which does not say that the client is gone; then it is. */
static void test_reset_after_end_of_file(void **state)
{
    (void)state;
    for (int paused = 0; paused < 2; paused++) {
        if (paused) {
            finish(state);
            start_tcp(state);
            fm_stream_set_reading(&e.s, FM_READ_PAUSED);
        }
        assert_int_equal(shutdown(peer, SHUT_WR), 0);
        TURN_UNTIL(&l, e.ends == 1);
        assert_int_equal(e.err, 0);
        assert_true(turns_while_nothing_happens() < 20);
        reset(peer);
        peer = -1;
        TURN_UNTIL(&l, e.ends == 2);
        assert_true(e.err < 0);
        turn_a_while(&l);
        assert_int_equal(e.ends, 2);
    }
}

/* The watch is off while the loop writes, and on again afterwards. */
static void test_paused_and_writing(void **state)
{
    (void)state;
    fm_stream_set_reading(&e.s, FM_READ_PAUSED);
    assert_int_equal(send_bytes(0, 8000000), FM_SENT_KEPT);
    TURN_UNTIL(&l, e.outputs > 0);
    assert_int_equal(write(peer, "abc", 3), 3);
    turn_a_while(&l);
    assert_int_equal(fm_buf_size(&e.got), 0);
    assert_arrives(0, 8000000);
    TURN_UNTIL(&l, !e.s.write_armed);
    assert_int_equal(shutdown(peer, SHUT_WR), 0);
    TURN_UNTIL(&l, e.ends == 1);
    assert_int_equal(e.err, 0);
    fm_stream_set_reading(&e.s, FM_READ_ON); /* what it had sent before is not wanted any more */
    turn_a_while(&l);
    assert_int_equal(e.ends, 1);
}

static void test_end_while_paused_and_writing(void **state)
{
    (void)state;
    fm_stream_set_reading(&e.s, FM_READ_PAUSED);
    assert_int_equal(send_bytes(0, 8000000), FM_SENT_KEPT);
    TURN_UNTIL(&l, e.outputs > 0);
    assert_int_equal(shutdown(peer, SHUT_WR), 0); /* goes on reading */
    turn_a_while(&l);
    assert_arrives(0, 8000000);
    TURN_UNTIL(&l, e.ends == 1); /* at the latest now */
    assert_int_equal(e.err, 0);
    assert_false(fm_stream_is_dead(&e.s));
}

/* Each callback may free the stream. */
static void test_free_in_on_data(void **state)
{
    (void)state;
    e.free_in_callback = true;
    assert_int_equal(write(peer, "abc", 3), 3);
    TURN_UNTIL(&l, e.freed);
    turn_a_while(&l);
    assert_int_equal(fm_buf_size(&e.got), 3);
}

static void test_free_in_on_end(void **state)
{
    (void)state;
    for (int paused = 0; paused < 2; paused++) {
        if (paused) {
            finish(state);
            start_tcp(state);
            fm_stream_set_reading(&e.s, FM_READ_PAUSED);
        }
        e.free_in_callback = true;
        reset(peer);
        peer = -1;
        TURN_UNTIL(&l, e.freed);
        turn_a_while(&l);
        assert_int_equal(e.ends, 1);
    }
}

static void test_free_in_on_output(void **state)
{
    (void)state;
    for (int later = 0; later < 2; later++) {
        if (later) {
            finish(state);
            start_tcp(state);
        }
        assert_int_equal(send_bytes(0, 8000000), FM_SENT_KEPT);
        if (later)
            TURN_UNTIL(&l, e.outputs > 0); /* then from on_writable, not from the event */
        e.free_in_callback = true;
        char text[65536];
        TURN_UNTIL(&l, (recv(peer, text, sizeof text, MSG_DONTWAIT), e.freed));
        turn_a_while(&l);
    }
}

/* ---- another transport: every byte is flipped on its way, and files are not for it ---- */

static ssize_t flipped_receive(struct fm_transport *t, char *to, size_t len)
{
    ssize_t n = fm_plain_ops.receive(t, to, len);
    for (ssize_t i = 0; i < n; i++)
        to[i] = (char)~to[i];
    return n;
}

static ssize_t flipped_send(struct fm_transport *t, const struct iovec *pieces, int n, bool more)
{
    char text[10000];
    size_t len = 0;
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < pieces[i].iov_len && len < sizeof text; k++)
            text[len++] = (char)~((const char *)pieces[i].iov_base)[k];
    struct iovec piece = {text, len};
    return fm_plain_ops.send(t, &piece, 1, more);
}

static void test_another_transport(void **state)
{
    (void)state;
    enum { N = 300000 };
    struct fm_transport_ops flipped = fm_plain_ops;
    flipped.receive = flipped_receive;
    flipped.send = flipped_send;
    flipped.send_file = NULL;
    assert_true(fm_stream_takes_files(&e.s));
    e.s.transport.ops = &flipped;
    assert_false(fm_stream_takes_files(&e.s));
    char *sent = bytes(0, N), *got = malloc(N);
    struct iovec pieces[2] = {{sent, 1000}, {sent + 1000, N - 1000}};
    assert_int_not_equal(fm_stream_send(&e.s, pieces, 2, 0), FM_SENT_GONE);
    for (size_t n = 0; n < N;) {
        ssize_t k = recv(peer, got + n, N - n, MSG_DONTWAIT);
        n += k > 0 ? (size_t)k : 0;
        fm_loop_turn(&l, false);
    }
    for (size_t i = 0; i < N; i++)
        if (got[i] != (char)~sent[i])
            fail_msg("byte %zu has not gone through the transport", i);
    assert_int_equal(write(peer, got, 100), 100);
    TURN_UNTIL(&l, fm_buf_size(&e.got) == 100);
    assert_memory_equal(fm_buf_head(&e.got), sent, 100);
    e.s.transport.ops = &fm_plain_ops; /* which outlives the test */
    free(sent);
    free(got);
}

/* ---- two threads: the loop drains while a writer writes ---- */

struct shared {
    struct loop_thread lt;
    struct fm_stream s;
    int peer;
    struct fm_event init, fini;
    int fd;
    atomic_bool ready, gone;
    pthread_mutex_t mutex;
    pthread_cond_t drained;
    uint64_t total;
};

static void shared_on_data(struct fm_stream *s, const char *data, size_t len) { (void)s, (void)data, (void)len; }
static void shared_on_end(struct fm_stream *s, int err) { (void)s, (void)err; }
static void shared_on_output(struct fm_stream *s)
{
    struct shared *sh = FM_LIST_ENTRY(s, struct shared, s);
    pthread_mutex_lock(&sh->mutex);
    pthread_cond_broadcast(&sh->drained);
    pthread_mutex_unlock(&sh->mutex);
}
static const struct fm_stream_ops shared_ops = {.on_data = shared_on_data,
                                                .on_end = shared_on_end,
                                                .on_output = shared_on_output};

static void shared_init(struct fm_event *n)
{
    struct shared *sh = FM_LIST_ENTRY(n, struct shared, init);
    CHECK(fm_stream_init(&sh->s, &sh->lt.loop, fm_plain(sh->fd), &shared_ops) == 0);
    atomic_store(&sh->ready, true);
}

static void shared_fini(struct fm_event *n)
{
    struct shared *sh = FM_LIST_ENTRY(n, struct shared, fini);
    fm_stream_fini(&sh->s);
    atomic_store(&sh->gone, true);
}

static void *read_all(void *arg)
{
    struct shared *sh = arg;
    static char text[100000];
    uint64_t seed = 99;
    for (uint64_t got = 0; got < sh->total;) {
        size_t want = 1 + (size_t)(rnd(&seed) % sizeof text);
        ssize_t k = recv(sh->peer, text, want, 0);
        CHECK(k > 0);
        for (ssize_t i = 0; i < k; i++)
            CHECK(text[i] == at(got + (uint64_t)i));
        got += (uint64_t)k;
    }
    return NULL;
}

static void wait_until_kept_at_most(struct shared *sh, uint64_t most)
{
    pthread_mutex_lock(&sh->mutex);
    while (fm_stream_pending(&sh->s) > most) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 30;
        CHECK(pthread_cond_timedwait(&sh->drained, &sh->mutex, &until) == 0);
    }
    pthread_mutex_unlock(&sh->mutex);
}

static void test_two_threads(void **state)
{
    (void)state;
    static struct shared sh;
    int fd[2];
    uint64_t seed = new_seed(), sent = 0;
    sh.total = ROUNDS(60000000);
    assert_int_equal(fm_loop_init(&sh.lt.loop), 0);
    pthread_mutex_init(&sh.mutex, NULL);
    pthread_cond_init(&sh.drained, NULL);
    unix_pair(fd);
    sh.fd = fd[0];
    sh.peer = fd[1];
    fm_event_init(&sh.init, shared_init);
    fm_event_init(&sh.fini, shared_fini);
    loop_thread_start(&sh.lt);
    fm_loop_post(&sh.lt.loop, &sh.init, 0, NULL);
    WAIT_FOR(atomic_load(&sh.ready));
    pthread_t reader = spawn(read_all, &sh);
    while (sent < sh.total) {
        size_t n = (size_t)(rnd(&seed) % 3 ? rnd(&seed) % 20000 : rnd(&seed) % 300000);
        n = n < sh.total - sent ? n : (size_t)(sh.total - sent);
        char *p = bytes(sent, n);
        size_t cut = n > 4 ? n - 4 : 0;
        struct iovec pieces[2] = {{p, cut}, {p + cut, n - cut}};
        bool borrow = rnd(&seed) % 2;
        enum fm_sent answer = fm_stream_send(&sh.s, pieces, 2, borrow ? FM_SEND_BORROW : 0);
        assert_int_not_equal(answer, FM_SENT_GONE);
        if (answer == FM_SENT_BORROWED)
            wait_until_kept_at_most(&sh, 0); /* as the protocol has it */
        else if (answer == FM_SENT_KEPT && fm_stream_pending(&sh.s) > 100000)
            wait_until_kept_at_most(&sh, 50000);
        free(p);
        sent += n;
    }
    join(reader);
    WAIT_FOR(fm_stream_pending(&sh.s) == 0);
    fm_loop_post(&sh.lt.loop, &sh.fini, 0, NULL);
    WAIT_FOR(atomic_load(&sh.gone));
    loop_thread_stop(&sh.lt);
    fm_loop_fini(&sh.lt.loop);
    close(sh.peer);
    pthread_cond_destroy(&sh.drained);
    pthread_mutex_destroy(&sh.mutex);
}

#define UNIX_TEST(name) cmocka_unit_test_setup_teardown(name, start_unix, finish)
#define TCP_TEST(name) cmocka_unit_test_setup_teardown(name, start_tcp, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIX_TEST(test_small_pieces_leave_at_once),
        TCP_TEST(test_small_pieces_leave_at_once),
        UNIX_TEST(test_rest_is_kept_in_order),
        UNIX_TEST(test_taking_over_is_told),
        UNIX_TEST(test_random_pieces),
        UNIX_TEST(test_borrow),
        UNIX_TEST(test_borrow_behind_copied),
        UNIX_TEST(test_borrowed_tail_in_parts),
        UNIX_TEST(test_not_borrowed),
        UNIX_TEST(test_what_is_borrowed_is_above_the_high_water_mark),
        UNIX_TEST(test_file_region),
        TCP_TEST(test_file_region),
        TCP_TEST(test_small_file),
        UNIX_TEST(test_file_behind_kept),
        TCP_TEST(test_file_too_short),
        UNIX_TEST(test_file_that_shrinks),
        TCP_TEST(test_file_between),
        TCP_TEST(test_slow_file_is_waited_for),
        TCP_TEST(test_end_while_a_file_is_read),
        TCP_TEST(test_end_before_a_file_is_read),
        TCP_TEST(test_number_of_another_while_a_file_is_read),
        TCP_TEST(test_kill_while_a_file_is_read),
        UNIX_TEST(test_dead_peer),
        TCP_TEST(test_peer_dies_while_the_loop_writes),
        UNIX_TEST(test_kill),
        UNIX_TEST(test_kill_while_the_loop_writes),
        UNIX_TEST(test_fini_with_output_kept),
        TCP_TEST(test_shutdown),
        TCP_TEST(test_close_is_an_end),
        TCP_TEST(test_reading_where_the_owner_wants_it),
        TCP_TEST(test_reset_from_here),
        TCP_TEST(test_lost),
        UNIX_TEST(test_uncounted),
        UNIX_TEST(test_data),
        TCP_TEST(test_data),
        UNIX_TEST(test_end_of_file),
        TCP_TEST(test_end_of_file),
        UNIX_TEST(test_pause),
        TCP_TEST(test_pause),
        TCP_TEST(test_end_of_file_while_paused),
        UNIX_TEST(test_end_of_file_while_paused),
        TCP_TEST(test_end_before_the_pause),
        TCP_TEST(test_reset_by_peer),
        TCP_TEST(test_reset_while_paused),
        TCP_TEST(test_reset_after_end_of_file),
        TCP_TEST(test_paused_and_writing),
        TCP_TEST(test_end_while_paused_and_writing),
        TCP_TEST(test_free_in_on_data),
        TCP_TEST(test_free_in_on_end),
        TCP_TEST(test_free_in_on_output),
        UNIX_TEST(test_another_transport),
        TCP_TEST(test_another_transport),
        cmocka_unit_test(test_two_threads),
    };
    no_longer_than(300);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Log files behind a thread: a thread that logs never waits, lines are whole, and what is lost is counted and told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "fermata/util/fds.h"
#include "fermata/util/logfile.h"
#include "threads.h"

static char path[64];
static struct fm_logfile *f;
static _Atomic uint64_t told;

static size_t tell(char *line, size_t size, uint64_t dropped)
{
    atomic_fetch_add(&told, dropped);
    return (size_t)snprintf(line, size, "dropped %llu\n", (unsigned long long)dropped);
}

static const struct fm_logfile_kind kind = {"test log", 1, FM_C_LOST_ERROR, 0, tell, NULL};

static uint64_t lost(void)
{
    struct fm_counters_sum sum;
    fm_counters_read(&sum);
    return sum.cell[FM_C_LOST_ERROR];
}

static uint64_t lost_before;

static int start(void **state)
{
    (void)state;
    strcpy(path, "/tmp/fermata-unit-logfile-XXXXXX");
    close(mkstemp(path));
    f = NULL;
    atomic_store(&told, 0);
    lost_before = lost();
    return 0;
}

static int finish(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static uint64_t soon(void) { return fm_now() + 30 * FM_SEC; }

static void open_it(const char *where, size_t ring)
{
    int err;
    f = fm_logfile_open(&kind, where, &err);
    assert_non_null(f);
    assert_int_equal(err, 0);
    if (ring)
        assert_int_equal(fm_logfile_start(f, ring), 0);
}

static void put(const char *line) { fm_logfile_put(f, line, strlen(line)); }

/* What is in the file of this name. */
static const char *content_of(const char *name)
{
    static char text[1 << 20];
    int fd = open(name, O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    assert_true(fd >= 0 && n >= 0);
    text[n] = '\0';
    close(fd);
    return text;
}

static void test_before_and_after_the_start(void **state)
{
    (void)state;
    open_it(path, 0);
    put("one\n"); /* at once */
    assert_string_equal(content_of(path), "one\n");
    assert_int_equal(fm_logfile_start(f, 4096), 0);
    put("two\n");
    put("");
    assert_true(fm_logfile_flush(f, soon()));
    assert_string_equal(content_of(path), "one\ntwo\n");
    put("three\n");
    fm_logfile_close(f, soon());
    assert_string_equal(content_of(path), "one\ntwo\nthree\n");
}

static void test_cannot_be_opened(void **state)
{
    (void)state;
    int err = 0;
    assert_null(fm_logfile_open(&kind, "/nonexistent/directory/log", &err));
    assert_int_equal(err, -ENOENT);
}

/* A pipe without a reader: threads that log do not wait; whole lines are dropped, counted, and told when it is read. */
static void test_full_pipe(void **state)
{
    (void)state;
    enum { RING = 10000, MANY = 100000 };
    int fd[2];
    char name[32], line[32];
    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    assert_int_equal(fcntl(fd[1], F_SETPIPE_SZ, 4096), 4096);
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd[1]);
    open_it(name, RING);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(line, sizeof line, "line %06u of many\n", i);
        put(line);
    }
    assert_false(fm_logfile_flush(f, fm_now() + FM_SEC / 10));
    uint64_t dropped = lost() - lost_before;
    assert_true(dropped > MANY / 2 && dropped < MANY);

    /* Now it is read: all lines that were not dropped, whole and in order, and how many were. */
    unsigned lines = 0;
    long last = -1;
    unsigned long long noticed = 0, n;
    FILE *reader = fdopen(fd[0], "r");
    close(fd[1]);
    while (noticed < dropped || lines < MANY - dropped) {
        assert_non_null(fgets(line, sizeof line, reader));
        if (sscanf(line, "dropped %llu\n", &n) == 1) {
            noticed += n;
            continue;
        }
        unsigned i;
        assert_int_equal(sscanf(line, "line %06u of many\n", &i), 1);
        assert_int_equal(strlen(line), 20);
        assert_true((long)i > last);
        last = i;
        lines++;
    }
    assert_int_equal(noticed, dropped);
    assert_int_equal(atomic_load(&told), dropped);
    assert_int_equal(lost() - lost_before, dropped);
    fm_logfile_close(f, soon());
    fclose(reader);
}

/* The end does not wait for a reader that does not come. */
static void test_close_while_full(void **state)
{
    (void)state;
    int fd[2];
    char name[32];
    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd[1]);
    open_it(name, 1 << 20);
    for (int i = 0; i < 40000; i++)
        put("this is not read\n");
    fm_logfile_close(f, fm_now() + FM_SEC / 10);
    close(fd[0]); /* SIGPIPE is ignored: the thread ends by itself */
    close(fd[1]);
}

/* Another process has made the descriptor non-blocking, as node and ssh do: nothing is lost. */
static void test_non_blocking(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    int fd[2];
    char name[32], text[4096];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    fflush(stdout);
    int out = dup(1), small = 4096;
    setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    dup2(fd[1], 1); /* "-", which is a socket: it could not be opened by name */
    snprintf(name, sizeof name, "%s", "/dev/stdout");
    open_it(name, 1 << 20);
    for (int i = 0; i < MANY; i++)
        put("a line of thirty bytes, always\n");
    size_t got = 0, size = MANY * strlen("a line of thirty bytes, always\n");
    while (got < size) {
        struct pollfd p = {fd[0], POLLIN, 0};
        assert_true(poll(&p, 1, 30000) > 0);
        ssize_t n = read(fd[0], text, sizeof text);
        assert_true(n > 0);
        got += (size_t)n;
    }
    assert_int_equal(got, size);
    assert_int_equal(lost(), lost_before);
    fm_logfile_close(f, soon());
    dup2(out, 1);
    close(out);
    close(fd[0]);
    close(fd[1]);
}

static void test_reopen(void **state)
{
    (void)state;
    char moved[80];
    snprintf(moved, sizeof moved, "%s.1", path);
    open_it(path, 4096);
    put("old\n");
    assert_true(fm_logfile_flush(f, soon()));
    assert_int_equal(rename(path, moved), 0);
    put("still old\n");
    assert_true(fm_logfile_flush(f, soon()));
    fm_logfile_reopen(f);
    put("new\n");
    assert_true(fm_logfile_flush(f, soon()));
    assert_string_equal(content_of(moved), "old\nstill old\n");
    assert_string_equal(content_of(path), "new\n");
    fm_logfile_close(f, soon());
    unlink(moved);
}

/* The application closes the log's descriptor, and the number becomes a client's: nothing goes there. */
static void test_number_of_another(void **state)
{
    (void)state;
    int fd[2], other, before = dup(0);
    char c;
    close(before); /* the lowest number that is free: the log's */
    open_it(path, 4096);
    put("one\n");
    assert_true(fm_logfile_flush(f, soon()));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    other = dup2(fd[0], before);
    assert_int_equal(other, before);
    put("two\n");
    assert_true(fm_logfile_flush(f, soon()));
    assert_int_equal(read(fd[1], &c, 1), -1);
    assert_int_equal(errno, EAGAIN);
    assert_string_equal(content_of(path), "one\ntwo\n");
    assert_true(fcntl(other, F_GETFD) >= 0); /* nor is it closed */
    fm_logfile_close(f, soon());
    close(other);
    close(fd[0]);
    close(fd[1]);
}

/* A disk that is full, for a while: the line that was torn gets an end, and what is missing is told. */
static void test_full_disk(void **state)
{
    (void)state;
    open_it("/dev/full", 4096);
    put("one\n");
    put("two\n");
    WAIT_FOR(lost() - lost_before == 2);
    fm_logfile_close(f, soon());
    assert_int_equal(atomic_load(&told), 0); /* it never took anything */
}

static void test_longer_than_a_batch(void **state)
{
    (void)state;
    enum { LONG = 100000 };
    char *line = malloc(LONG + 1);
    memset(line, 'x', LONG);
    line[LONG - 1] = '\n';
    line[LONG] = '\0';
    open_it(path, 3 * LONG);
    put("before\n");
    put(line);
    put("after\n");
    fm_logfile_close(f, soon());
    const char *text = content_of(path);
    assert_int_equal(strlen(text), LONG + 13);
    assert_memory_equal(text + 7, line, LONG);
    free(line);
}

/* Several threads, a small ring, a file: each line is whole, and those that are missing were counted. */
struct writer {
    char id;
    unsigned lines;
};

static void *write_lines(void *arg)
{
    struct writer *w = arg;
    char line[64];
    for (unsigned i = 0; i < w->lines; i++) {
        int n =
            snprintf(line, sizeof line, "%c %06u %.*s\n", w->id, i, (int)(i % 30), "abcdefghijklmnopqrstuvwxyzabcd");
        fm_logfile_put(f, line, (size_t)n);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    struct writer w[THREADS];
    pthread_t threads[THREADS];
    open_it(path, 8192);
    for (int i = 0; i < THREADS; i++) {
        w[i] = (struct writer){(char)('a' + i), ROUNDS(3000)};
        threads[i] = spawn(write_lines, &w[i]);
    }
    for (int i = 0; i < THREADS; i++)
        join(threads[i]);
    assert_true(fm_logfile_flush(f, soon()));
    uint64_t seen = 0, next[THREADS] = {0};
    char *text = strdup(content_of(path)), *save, *line;
    for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char id, rest[64] = "";
        unsigned i;
        if (strncmp(line, "dropped ", 8) == 0)
            continue;
        assert_true(sscanf(line, "%c %06u %63s", &id, &i, rest) >= 2);
        assert_true(id >= 'a' && id < 'a' + THREADS && i >= next[id - 'a']);
        assert_int_equal(strlen(rest), i % 30);
        next[id - 'a'] = i + 1;
        seen++;
    }
    assert_int_equal(seen + lost() - lost_before, THREADS * ROUNDS(3000));
    free(text);
    fm_logfile_close(f, soon());
}

/* Where others write to the same pipe, each write is one line or several, whole. */
static void write_to_shared_pipe(void *arg)
{
    int *fd = arg;
    char name[32], line[10000], text[20000];
    fm_logfile_share();
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd[1]);
    int err;
    f = fm_logfile_open(&kind, name, &err);
    CHECK(f && fm_logfile_longest(f) == 4096 && fm_logfile_start(f, 1 << 16) == 0);
    memset(line, 'x', sizeof line);
    memcpy(line + 4094, "\xe2\x82\xac", 3); /* a character, where it would be cut */
    line[sizeof line - 2] = '\n';
    line[sizeof line - 1] = '\0';
    put(line);
    put("next\n");
    fm_logfile_close(f, soon());
    size_t n = 0, all = strlen(line) + 2 + strlen("next\n"); /* nothing is lost, and there are two ends more */
    for (ssize_t k; n < all && (k = read(fd[0], text + n, sizeof text - 1 - n)) > 0;)
        n += (size_t)k;
    text[n] = '\0';
    CHECK(n == all);
    CHECK(text[4094] == '\n' && memcmp(text + 4095, "\xe2\x82\xac", 3) == 0 && text[4095 + 4095] == '\n');
    CHECK(strcmp(text + n - 7, "x\nnext\n") == 0);
}

static void test_shared_pipe(void **state)
{
    (void)state;
    int fd[2];
    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    open_it(path, 0);
    assert_true(fm_logfile_longest(f) == SIZE_MAX);
    fm_logfile_close(f, soon());
    assert_int_equal(status_of(write_to_shared_pipe, fd), 0);
    close(fd[0]);
    close(fd[1]);
}

/* What is printed goes into the file, also into the new one; what is opened as standard output is where that was. */
static void capture(void *arg)
{
    int err;
    char moved[80];
    const char *output = arg;
    snprintf(moved, sizeof moved, "%s.1", path);
    dup2(open(output, O_WRONLY | O_APPEND | O_CREAT, 0600), 1);
    f = fm_logfile_open(&kind, path, &err);
    CHECK(f && fm_logfile_capture(f) == 0 && fm_logfile_start(f, 4096) == 0);
    struct fm_logfile *access = fm_logfile_open(&kind, "-", &err);
    CHECK(access && fm_logfile_start(access, 4096) == 0);
    put("log\n");
    CHECK(fm_logfile_flush(f, soon()));
    CHECK(write(1, "out\n", 4) == 4 && write(2, "err\n", 4) == 4);
    fm_logfile_put(access, "access\n", 7);
    CHECK(rename(path, moved) == 0);
    fm_logfile_reopen(f);
    fm_logfile_reopen(access);
    CHECK(fm_logfile_flush(f, soon()) && fm_logfile_flush(access, soon()));
    CHECK(write(1, "new\n", 4) == 4);
    fm_logfile_put(access, "more\n", 5);
    fm_logfile_close(access, soon());
    CHECK(write(2, "end\n", 4) == 4);
    CHECK(strcmp(content_of(moved), "log\nout\nerr\n") == 0);
    CHECK(strcmp(content_of(path), "new\nend\n") == 0);
    CHECK(strcmp(content_of(output), "access\nmore\n") == 0);
    unlink(moved);
}

static void test_capture(void **state)
{
    (void)state;
    char output[80];
    snprintf(output, sizeof output, "%s.out", path);
    assert_int_equal(status_of(capture, output), 0);
    unlink(output);
}

/* A log that is standard error captures nothing. */
static void capture_nothing(void *arg)
{
    int err, fd = open(path, O_WRONLY | O_APPEND);
    (void)arg;
    dup2(fd, 1);
    f = fm_logfile_open(&kind, "/dev/stderr", &err);
    CHECK(f && fm_logfile_capture(f) == 0 && write(1, "out\n", 4) == 4);
    CHECK(strcmp(content_of(path), "out\n") == 0);
}

static void test_capture_of_standard_error(void **state)
{
    (void)state;
    assert_int_equal(status_of(capture_nothing, NULL), 0);
}

/* A child that the application has forked has no such thread: it writes by itself. */
static void test_in_a_child(void **state)
{
    (void)state;
    int status;
    open_it(path, 4096);
    pid_t pid = fork();
    if (pid == 0) {
        atomic_store(&fm_forked, true);
        put("of the child\n");
        _exit(fm_logfile_flush(f, soon()) ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_string_equal(content_of(path), "of the child\n");
    fm_logfile_close(f, soon());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_before_and_after_the_start, start, finish),
        cmocka_unit_test_setup_teardown(test_cannot_be_opened, start, finish),
        cmocka_unit_test_setup_teardown(test_full_pipe, start, finish),
        cmocka_unit_test_setup_teardown(test_non_blocking, start, finish),
        cmocka_unit_test_setup_teardown(test_reopen, start, finish),
        cmocka_unit_test_setup_teardown(test_number_of_another, start, finish),
        cmocka_unit_test_setup_teardown(test_full_disk, start, finish),
        cmocka_unit_test_setup_teardown(test_longer_than_a_batch, start, finish),
        cmocka_unit_test_setup_teardown(test_threads, start, finish),
        cmocka_unit_test_setup_teardown(test_shared_pipe, start, finish),
        cmocka_unit_test_setup_teardown(test_capture, start, finish),
        cmocka_unit_test_setup_teardown(test_capture_of_standard_error, start, finish),
        cmocka_unit_test_setup_teardown(test_in_a_child, start, finish),
        cmocka_unit_test_setup_teardown(test_close_while_full, start, finish), /* last: it leaves its thread behind */
    };
    signal(SIGPIPE, SIG_IGN);
    no_longer_than(300);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

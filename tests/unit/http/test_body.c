/* Bodies in memory and in files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fermata/http/body.h"
#include "fermata/http/quota.h"
#include "fermata/util/clock.h"
#include "fermata/util/files.h"

static char at(uint64_t pos) { return (char)(pos * 31 + (pos >> 8)); }

static void append(struct fm_body *b, uint64_t pos, size_t n)
{
    char *p = malloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = at(pos + i);
    assert_int_equal(fm_body_append(b, p, n), 0);
    free(p);
}

static void assert_content(struct fm_body *b, uint64_t size, size_t step)
{
    char *p = malloc(step);
    assert_int_equal(fm_body_end(b), 0);
    uint64_t pos = 0;
    for (long n; (n = fm_body_read(b, pos, p, step)) != 0; pos += (uint64_t)n) {
        assert_true(n > 0 && (size_t)n <= step);
        for (long i = 0; i < n; i++)
            assert_int_equal(p[i], at(pos + (uint64_t)i));
    }
    assert_int_equal(pos, size);
    assert_int_equal(b->size, size);
    free(p);
}

static void test_memory(void **state)
{
    (void)state;
    struct fm_body b;
    fm_body_init(&b);
    assert_content(&b, 0, 10);
    assert_int_equal(fm_body_append(&b, "", 0), 0);
    assert_null(b.data);
    for (uint64_t pos = 0; pos < 10000; pos += 100)
        append(&b, pos, 100);
    assert_content(&b, 10000, 77);
    char c;
    assert_int_equal(fm_body_read(&b, 10000, &c, 1), 0);
    assert_int_equal(fm_body_read(&b, UINT64_MAX, &c, 1), 0);
    assert_int_equal(fm_body_read(&b, 5, &c, 0), 0);
    assert_int_equal(b.fd, -1);
    fm_body_fini(&b);
    assert_int_equal(b.size, 0);
    fm_body_fini(&b); /* harmless */
}

static void test_exactly_full_memory(void **state)
{
    (void)state;
    struct fm_body b;
    fm_body_init(&b);
    append(&b, 0, FM_BODY_MEMORY);
    assert_int_equal(b.fd, -1);
    assert_non_null(b.data);
    assert_content(&b, FM_BODY_MEMORY, 4096);
    append(&b, FM_BODY_MEMORY, 1);
    assert_int_equal(fm_body_end(&b), 0);
    assert_true(b.fd >= 0);
    assert_null(b.data);
    assert_content(&b, FM_BODY_MEMORY + 1, 100000);
    fm_body_fini(&b);
}

/* Bodies share a quota; one beyond it goes to a file as soon as it is larger than any may be in memory. */
static void test_large_ones_share_memory(void **state)
{
    (void)state;
    enum { MANY = FM_QUOTA / FM_BODY_MEMORY };
    static struct fm_body b[MANY + 2];
    for (int i = 0; i < MANY + 2; i++) {
        fm_body_init(&b[i]);
        append(&b[i], 0, FM_QUOTA_FREE);
        append(&b[i], FM_QUOTA_FREE, FM_BODY_MEMORY - FM_QUOTA_FREE);
        assert_content(&b[i], FM_BODY_MEMORY, 1 << 20);
        assert_int_equal(b[i].fd >= 0, i >= MANY);
    }
    fm_body_fini(&b[0]); /* room for another one */
    append(&b[0], 0, FM_BODY_MEMORY);
    assert_int_equal(b[0].fd, -1);
    append(&b[0], FM_BODY_MEMORY, 1); /* and again, as it moves to a file */
    assert_int_equal(fm_body_end(&b[0]), 0);
    assert_true(b[0].fd >= 0);
    struct fm_body c;
    fm_body_init(&c);
    fm_body_expect(&c, FM_BODY_MEMORY);
    append(&c, 0, FM_BODY_MEMORY / 8);
    assert_true(c.cap < FM_BODY_MEMORY / 2); /* a mere announcement takes nothing from others */
    append(&c, FM_BODY_MEMORY / 8, 1);
    assert_int_equal(c.fd, -1);
    assert_int_equal(c.cap, FM_BODY_MEMORY); /* all of what was announced, once it is really coming */
    for (int i = 0; i < MANY + 2; i++)
        fm_body_fini(&b[i]);
    fm_body_fini(&c);
}

static void test_file(void **state)
{
    (void)state;
    struct fm_body b;
    fm_body_init(&b);
    append(&b, 0, 1000);
    append(&b, 1000, 2 * FM_BODY_MEMORY); /* far over it in one piece */
    append(&b, 1000 + 2 * FM_BODY_MEMORY, 5);
    assert_content(&b, 1005 + 2 * FM_BODY_MEMORY, 65536);
    struct stat st;
    assert_int_equal(fstat(b.fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true(fcntl(b.fd, F_GETFD) & FD_CLOEXEC);
    int fd = b.fd;
    fm_body_fini(&b);
    assert_true(fm_files_stop(fm_now() + 30 * FM_SEC)); /* a file thread closes it */
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void test_first_piece_to_file(void **state)
{
    (void)state;
    struct fm_body b;
    fm_body_init(&b);
    append(&b, 0, FM_BODY_MEMORY + 1);
    assert_int_equal(fm_body_end(&b), 0);
    assert_true(b.fd >= 0);
    assert_content(&b, FM_BODY_MEMORY + 1, 1 << 20);
    fm_body_fini(&b);
}

static void test_expect(void **state)
{
    (void)state;
    struct fm_body b;
    fm_body_init(&b);
    fm_body_expect(&b, 0);
    assert_null(b.data);
    fm_body_expect(&b, 300);
    assert_int_equal(b.cap, 300);
    char *data = b.data;
    append(&b, 0, 100);
    fm_body_expect(&b, 1 << 20); /* too late to matter */
    append(&b, 100, 200);
    assert_ptr_equal(b.data, data);
    append(&b, 300, 50); /* more than was announced */
    assert_content(&b, 350, 64);
    fm_body_fini(&b);
    fm_body_expect(&b, UINT64_MAX); /* an announcement alone does not take much */
    assert_true(b.cap <= 64 * 1024);
    append(&b, 0, FM_BODY_MEMORY);
    assert_content(&b, FM_BODY_MEMORY, 4096);
    fm_body_fini(&b);
}

static void test_move(void **state)
{
    (void)state;
    struct fm_body a, b;
    fm_body_init(&a);
    append(&a, 0, FM_BODY_MEMORY + 10);
    assert_int_equal(fm_body_end(&a), 0);
    fm_body_move(&b, &a);
    assert_int_equal(a.fd, -1);
    assert_int_equal(a.size, 0);
    fm_body_fini(&a);
    assert_content(&b, FM_BODY_MEMORY + 10, 4096);
    fm_body_fini(&b);
}

/* ---- a system that is difficult: these take the place of libc's ---- */

static struct {
    bool no_tmpfile;    /* a file system without O_TMPFILE */
    unsigned interrupt; /* the next so many reads and writes are interrupted */
    size_t at_most;     /* bytes per read or write, 0: any */
} faults;

int open(const char *path, int flags, ...)
{
    if (faults.no_tmpfile && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return openat(AT_FDCWD, path, flags, 0600);
}

static bool fault(size_t *n)
{
    if (faults.at_most > 0 && *n > faults.at_most)
        *n = faults.at_most;
    if (faults.interrupt == 0)
        return false;
    faults.interrupt--;
    errno = EINTR;
    return true;
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t pos)
{
    return fault(&n) ? -1 : (ssize_t)syscall(SYS_pwrite64, fd, p, n, pos);
}

ssize_t pread(int fd, void *p, size_t n, off_t pos)
{
    return fault(&n) ? -1 : (ssize_t)syscall(SYS_pread64, fd, p, n, pos);
}

static void test_short_and_interrupted(void **state)
{
    (void)state;
    struct fm_body b;
    fm_body_init(&b);
    faults.interrupt = 3;
    faults.at_most = 10001;
    append(&b, 0, FM_BODY_MEMORY - 5);
    append(&b, FM_BODY_MEMORY - 5, 60000);
    faults.interrupt = 3;
    assert_content(&b, FM_BODY_MEMORY - 5 + 60000, 50000);
    assert_int_equal(faults.interrupt, 0);
    faults.at_most = 0;
    fm_body_fini(&b);
}

static void test_cut_short(void **state)
{
    (void)state;
    struct fm_body b;
    char c;
    fm_body_init(&b);
    append(&b, 0, FM_BODY_MEMORY + 1);
    assert_int_equal(fm_body_end(&b), 0);
    assert_int_equal(ftruncate(b.fd, 10), 0);
    assert_int_equal(fm_body_read(&b, 10, &c, 1), -EIO);
    close(b.fd);
    assert_int_equal(fm_body_read(&b, 0, &c, 1), -EBADF);
    b.fd = -1;
    fm_body_fini(&b);
}

static void test_without_o_tmpfile(void **state)
{
    (void)state;
    faults.no_tmpfile = true;
    test_file(state); /* looks for the name, too */
    faults.no_tmpfile = false;
}

/* Runs in a process of its own: TMPDIR is read once. */
static int in_child(int (*run)(void))
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(run());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int append_too_much(void)
{
    struct fm_body b;
    char *p = calloc(1, FM_BODY_MEMORY);
    fm_body_init(&b);
    int rc = fm_body_append(&b, p, FM_BODY_MEMORY);
    if (rc == 0)
        rc = fm_body_append(&b, p, FM_BODY_MEMORY);
    free(p);
    if (rc == 0)
        rc = fm_body_end(&b);
    fm_body_fini(&b);
    return -rc;
}

static int with_bad_tmpdir(void)
{
    setenv("TMPDIR", "/nonexistent/directory", 1);
    return append_too_much();
}

static int with_empty_tmpdir(void)
{
    setenv("TMPDIR", "", 1);
    return append_too_much();
}

/* Files end at RLIMIT_FSIZE with EFBIG: a stand-in for a full disk, with a short write before it. */
static int with_small_files(void)
{
    struct rlimit small = {FM_BODY_MEMORY + 1000, FM_BODY_MEMORY + 1000};
    unsetenv("TMPDIR");
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    return append_too_much();
}

static void test_files_that_fail(void **state)
{
    (void)state;
    assert_int_equal(in_child(with_bad_tmpdir), ENOENT);
    assert_int_equal(in_child(with_empty_tmpdir), 0);
    assert_int_equal(in_child(with_small_files), EFBIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_that_fail), /* first: before this process has read TMPDIR */
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_exactly_full_memory),
        cmocka_unit_test(test_large_ones_share_memory),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_first_piece_to_file),
        cmocka_unit_test(test_expect),
        cmocka_unit_test(test_move),
        cmocka_unit_test(test_short_and_interrupted),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_without_o_tmpfile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

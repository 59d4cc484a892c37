/* Bodies on their way into files while the disk is slow: only a file thread waits for it, what arrives meanwhile
 * is gathered, and all of it arrives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>

#include "../util/threads.h"
#include "fermata/http/body.h"
#include "fermata/http/quota.h"
#include "fermata/util/err.h"
#include "fermata/util/files.h"

/* ---- a disk that is slow, or full, in the place of libc's pwrite ---- */

static pthread_t loop;
static atomic_bool slow;
static atomic_int fails_with;
static atomic_uint writes, writing;

ssize_t pwrite(int fd, const void *p, size_t n, off_t pos)
{
    CHECK(!pthread_equal(pthread_self(), loop));
    atomic_fetch_add(&writes, 1);
    atomic_fetch_add(&writing, 1);
    while (atomic_load(&slow))
        usleep(500);
    atomic_fetch_sub(&writing, 1);
    errno = atomic_load(&fails_with);
    return errno ? -1 : (ssize_t)syscall(SYS_pwrite64, fd, p, n, pos);
}

/* ---- the loop, as far as it is needed: hears of writes that are over ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fm_list over = {&over, &over};
static unsigned told; /* times that an owner was */

static void hear(struct fm_spool *s)
{
    CHECK(!pthread_equal(pthread_self(), loop));
    pthread_mutex_lock(&lock);
    fm_list_push(&over, fm_spool_node(s));
    pthread_mutex_unlock(&lock);
}

/* A turn: takes what is over; true if there was any. */
static bool turn(void *owner)
{
    pthread_mutex_lock(&lock);
    struct fm_list *node = fm_list_pop(&over);
    pthread_mutex_unlock(&lock);
    if (!node)
        return false;
    void *who = fm_spool_over(fm_spool_of_node(node));
    CHECK(who == owner || !who);
    told += who != NULL;
    return true;
}

static struct fm_body b;

static int start(void **state)
{
    (void)state;
    loop = pthread_self();
    atomic_store(&slow, false);
    atomic_store(&fails_with, 0);
    atomic_store(&writes, 0);
    told = 0;
    fm_files_start();
    fm_body_listen(hear);
    fm_quota_limit_files(UINT32_MAX, UINT64_MAX);
    fm_body_init(&b);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    atomic_store(&slow, false);
    fm_body_fini(&b);
    CHECK(fm_files_stop(fm_now() + 30 * FM_SEC));
    while (turn(&b))
        ;
    return 0;
}

static char at(uint64_t pos) { return (char)(pos * 31 + (pos >> 8)); }

static int append(uint64_t n)
{
    char *p = malloc(n);
    for (uint64_t i = 0; i < n; i++)
        p[i] = at(b.size + i);
    int err = fm_body_append(&b, p, n);
    if (b.spool)
        fm_spool_own(b.spool, &b);
    free(p);
    return err;
}

static void assert_stored(uint64_t size)
{
    static char p[65536];
    int err;
    WAIT_FOR((turn(&b), (err = fm_body_end(&b)) != FM_EBUSY));
    assert_int_equal(err, 0);
    assert_null(b.spool);
    assert_true(b.fd >= 0);
    uint64_t pos = 0;
    for (long n; (n = fm_body_read(&b, pos, p, sizeof p)) != 0; pos += (uint64_t)n)
        for (long i = 0; i < n; i++)
            assert_int_equal(p[i], at(pos + (uint64_t)i));
    assert_int_equal(pos, size);
}

static void test_all_of_it_arrives(void **state)
{
    (void)state;
    assert_int_equal(append(FM_BODY_MEMORY), 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(append(50000), 0);
        turn(&b);
    }
    assert_stored(FM_BODY_MEMORY + 100 * 50000);
    assert_true(told > 0);
}

/* The client sends byte by byte: a write for many of them. */
static void test_small_pieces_are_gathered(void **state)
{
    (void)state;
    enum { MANY = 300000 };
    assert_int_equal(append(FM_BODY_MEMORY), 0);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(append(1), 0);
        turn(&b);
    }
    assert_stored(FM_BODY_MEMORY + MANY);
    assert_true(atomic_load(&writes) < 20);
}

static void test_slow_disk(void **state)
{
    (void)state;
    atomic_store(&slow, true);
    assert_int_equal(append(FM_BODY_MEMORY), 0);
    assert_int_equal(append(1), 0);
    WAIT_FOR(atomic_load(&writing) == 1);
    assert_false(fm_spool_is_full(b.spool));
    uint64_t before = b.size;
    while (!fm_spool_is_full(b.spool))
        assert_int_equal(append(10000), 0);
    assert_true(b.size - before < 300000); /* what may wait is bounded */
    assert_int_equal(fm_body_end(&b), FM_EBUSY);
    atomic_store(&slow, false);
    assert_stored(b.size);
}

/* The client leaves while its body is written: nothing waits, and all is freed afterwards. */
static void test_gone_meanwhile(void **state)
{
    (void)state;
    atomic_store(&slow, true);
    assert_int_equal(append(FM_BODY_MEMORY + 1), 0);
    WAIT_FOR(atomic_load(&writing) == 1);
    fm_body_fini(&b);
    assert_null(b.spool);
    atomic_store(&slow, false);
    WAIT_FOR(turn(&b));
    assert_int_equal(told, 0);
}

/* While the disk hangs, what clients that leave have sent does not pile up: what no thread has begun goes at once, what
 * is being written keeps its place in both quotas until it is. */
static void test_many_gone_meanwhile(void **state)
{
    (void)state;
    enum { MANY = FM_FILES_THREADS + 5 };
    static struct fm_body many[MANY];
    char *p = calloc(1, FM_BODY_MEMORY);
    atomic_store(&slow, true);
    fm_quota_limit_files(MANY, UINT64_MAX);
    for (int i = 0; i < MANY; i++) {
        fm_body_init(&many[i]);
        assert_int_equal(fm_body_append(&many[i], p, 1 << 20), 0); /* in memory */
        assert_int_equal(fm_body_append(&many[i], p, FM_BODY_MEMORY), 0);
    }
    WAIT_FOR(atomic_load(&writing) == FM_FILES_THREADS);
    assert_false(fm_quota_move(FM_QUOTA_BODIES, 0, FM_QUOTA_FREE + FM_QUOTA - MANY * ((1 << 20) - FM_QUOTA_FREE) + 1));
    for (int i = 0; i < MANY; i++)
        fm_body_fini(&many[i]);
    assert_false(fm_quota_move(FM_QUOTA_BODIES, 0, FM_QUOTA_FREE + FM_QUOTA));
    fm_quota_limit_files(FM_FILES_THREADS, UINT64_MAX);
    assert_int_equal(fm_body_append(&b, p, FM_BODY_MEMORY + 0), 0);
    assert_int_equal(fm_body_append(&b, p, 1), -EDQUOT); /* all files there may be are still being written */
    fm_body_fini(&b);
    atomic_store(&slow, false);
    for (int i = 0; i < FM_FILES_THREADS; i++)
        WAIT_FOR(turn(&b));
    assert_false(turn(&b));
    assert_true(fm_quota_move(FM_QUOTA_BODIES, 0, FM_QUOTA_FREE + FM_QUOTA));
    assert_true(fm_quota_move(FM_QUOTA_BODIES, FM_QUOTA_FREE + FM_QUOTA, 0));
    assert_int_equal(append(FM_BODY_MEMORY + 1), 0);
    free(p);
}

static void test_disk_full(void **state)
{
    (void)state;
    int err;
    atomic_store(&fails_with, ENOSPC);
    assert_int_equal(append(FM_BODY_MEMORY + 1), 0); /* not known yet */
    WAIT_FOR(turn(&b));
    assert_int_equal(told, 1);
    assert_int_equal(fm_body_end(&b), -ENOSPC);
    atomic_store(&fails_with, 0); /* once failed it stays so: bytes are missing */
    err = append(100000);
    assert_int_equal(err, -ENOSPC);
    assert_int_equal(fm_body_end(&b), -ENOSPC);
}

/* There is no memory for what arrives while a piece is being written: that is an error for good, also when the write is
 * over and went well. */
static bool no_memory;

void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n)
{
    return no_memory && pthread_equal(pthread_self(), loop) ? NULL : __real_realloc(p, n);
}

static void test_no_memory_meanwhile(void **state)
{
    (void)state;
    atomic_store(&slow, true);
    assert_int_equal(append(FM_BODY_MEMORY + 1), 0);
    WAIT_FOR(atomic_load(&writing) == 1);
    no_memory = true;
    assert_int_equal(append(100), -ENOMEM);
    no_memory = false;
    assert_int_equal(append(100), -ENOMEM);
    assert_int_equal(fm_body_end(&b), -ENOMEM);
    atomic_store(&slow, false);
    WAIT_FOR(turn(&b));
    assert_int_equal(fm_body_end(&b), -ENOMEM);
}

static void test_quota(void **state)
{
    (void)state;
    struct fm_body other;
    char *p = calloc(1, FM_BODY_MEMORY + 100);
    fm_body_init(&other);
    fm_quota_limit_files(1, UINT64_MAX);
    assert_int_equal(append(FM_BODY_MEMORY + 1), 0);
    assert_int_equal(fm_body_append(&other, p, FM_BODY_MEMORY + 1), -EDQUOT);
    assert_int_equal(other.size, 0);
    fm_quota_limit_files(2, 2 * FM_BODY_MEMORY + 50);
    assert_int_equal(fm_body_append(&other, p, FM_BODY_MEMORY + 1), 0);
    assert_int_equal(fm_body_append(&other, p, 48), 0);
    assert_int_equal(fm_body_append(&other, p, 1), -EDQUOT);
    fm_body_fini(&other); /* gives back what it had, when a write that is under way is over */
    WAIT_FOR((turn(&b), append(FM_BODY_MEMORY) == 0));
    assert_int_equal(append(50), -EDQUOT);
    assert_int_equal(append(49), 0);
    assert_stored(2 * FM_BODY_MEMORY + 50);
    fm_body_fini(&b);
    assert_int_equal(append(FM_BODY_MEMORY + 1), 0);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_of_it_arrives, start, finish),
        cmocka_unit_test_setup_teardown(test_small_pieces_are_gathered, start, finish),
        cmocka_unit_test_setup_teardown(test_slow_disk, start, finish),
        cmocka_unit_test_setup_teardown(test_gone_meanwhile, start, finish),
        cmocka_unit_test_setup_teardown(test_many_gone_meanwhile, start, finish),
        cmocka_unit_test_setup_teardown(test_disk_full, start, finish),
        cmocka_unit_test_setup_teardown(test_no_memory_meanwhile, start, finish),
        cmocka_unit_test_setup_teardown(test_quota, start, finish),
    };
    no_longer_than(300);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

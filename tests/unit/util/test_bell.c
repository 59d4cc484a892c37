/* A bell that is rung before, while and after a thread waits, by threads and by handlers of signals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "fermata/util/bell.h"
#include "fermata/util/clock.h"
#include "threads.h"

static struct fm_bell bell;
static atomic_uint heard, noted, stop;

static void test_rung_before(void **state)
{
    (void)state;
    fm_bell_ring(&bell);
    fm_bell_ring(&bell);
    fm_bell_wait(&bell, UINT64_MAX); /* or it would be for ever */
    assert_int_equal(atomic_load(&bell.rung), 0);
}

static void test_until(void **state)
{
    (void)state;
    uint64_t until = fm_now() + 20 * FM_MS;
    fm_bell_wait(&bell, until);
    assert_true(fm_now() >= until);
    fm_bell_wait(&bell, 1); /* is over long ago */
    fm_bell_wait(&bell, 0);
}

static void *listen(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        fm_bell_wait(&bell, UINT64_MAX);
        atomic_fetch_add(&heard, atomic_exchange(&noted, 0));
    }
    return NULL;
}

/* Each of these is heard, without the next one, however ring and wait come together. */
static void test_by_threads(void **state)
{
    (void)state;
    pthread_t thread;
    atomic_store(&stop, 0);
    atomic_store(&heard, 0);
    assert_int_equal(pthread_create(&thread, NULL, listen, NULL), 0);
    for (unsigned i = 1; i <= ROUNDS(2000); i++) {
        atomic_fetch_add(&noted, 1);
        fm_bell_ring(&bell);
        if (i % 3 != 0)
            WAIT_FOR(atomic_load(&heard) == i);
    }
    WAIT_FOR(atomic_load(&heard) == ROUNDS(2000));
    atomic_store(&stop, 1);
    fm_bell_ring(&bell);
    pthread_join(thread, NULL);
}

static void ring(int number)
{
    (void)number;
    atomic_fetch_add(&noted, 1);
    fm_bell_ring(&bell);
}

/* As the guard hears of a signal: the handler runs in the thread that waits, before or while it does. */
static void test_by_a_handler(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = ring}, restarted = {.sa_handler = ring, .sa_flags = SA_RESTART};
    pthread_t thread;
    atomic_store(&stop, 0);
    atomic_store(&heard, 0);
    assert_int_equal(pthread_create(&thread, NULL, listen, NULL), 0);
    for (unsigned i = 1; i <= ROUNDS(300); i++) {
        sigaction(SIGUSR1, i % 2 ? &action : &restarted, NULL);
        pthread_kill(thread, SIGUSR1);
        WAIT_FOR(atomic_load(&heard) == i);
    }
    atomic_store(&stop, 1);
    fm_bell_ring(&bell);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rung_before),
        cmocka_unit_test(test_until),
        cmocka_unit_test(test_by_threads),
        cmocka_unit_test(test_by_a_handler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

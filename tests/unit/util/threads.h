/* What tests with threads need: checks that may fail in any thread, waiting with a bound, random numbers that a seed
 * repeats. */
#ifndef FERMATA_TESTS_THREADS_H
#define FERMATA_TESTS_THREADS_H

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fermata/util/clock.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TESTS_TSAN 1
#elif __has_feature(address_sanitizer)
#define TESTS_ASAN 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define TESTS_TSAN 1
#elif defined(__SANITIZE_ADDRESS__)
#define TESTS_ASAN 1
#endif

/* How often, given how often without a sanitizer. */
#if defined(TESTS_TSAN)
#define ROUNDS(n) ((n) / 10)
#elif defined(TESTS_ASAN)
#define ROUNDS(n) ((n) / 4)
#else
#define ROUNDS(n) (n)
#endif

/* cmocka's asserts jump, which only the main thread may; this one ends the program from anywhere. */
#define CHECK(x) ((x) ? (void)0 : check_failed(__FILE__, __LINE__, #x))

static inline void check_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: not true: %s\n", file, line, what);
    abort();
}

/* Waits for what another thread does; half a minute is for ever. */
#define WAIT_FOR(x)                                                                                                    \
    do {                                                                                                               \
        uint64_t end_ = fm_now() + 30 * FM_SEC;                                                                        \
        for (unsigned looks_ = 0; !(x); looks_++) {                                                                    \
            CHECK(fm_now() < end_ && #x);                                                                              \
            if (looks_ < 100)                                                                                          \
                sched_yield();                                                                                         \
            else                                                                                                       \
                usleep(100);                                                                                           \
        }                                                                                                              \
    } while (0)

/* Ends a program that hangs. */
static inline void no_longer_than(unsigned seconds) { alarm(seconds); }

static inline pthread_t spawn(void *(*run)(void *), void *arg)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, arg) == 0);
    return thread;
}

static inline void join(pthread_t thread) { CHECK(pthread_join(thread, NULL) == 0); }

/* xorshift64*: one state per thread. */
static inline uint64_t rnd(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717ull;
}

static inline uint64_t new_seed(void)
{
    const char *given = getenv("FERMATA_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : fm_now();
    printf("FERMATA_TEST_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    return seed | 1;
}

/* Runs in a process of its own, silently: the wait status.  A CHECK or an invariant that breaks there is SIGABRT. */
static inline int status_of(void (*run)(void *), void *arg)
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        int fd = open("/dev/null", O_WRONLY);
        dup2(fd, 1);
        dup2(fd, 2);
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        alarm(60);
        run(arg);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static inline int dies(void (*run)(void *), void *arg)
{
    int status = status_of(run, arg);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

#endif

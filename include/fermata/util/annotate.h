/* Thread roles and locks as clang capabilities.
 *
 * Every declaration in a header says in which role it may be called.  Under gcc the words are empty; `make tsa` has
 * clang check them.  Function pointers lose the annotation, so a callback opens with the assert of its role, which
 * also checks at run time in debug builds.
 *
 *   FM_ON_LOOP     the caller holds the leader role: it alone touches the libevent base and connections
 *   FM_NEEDS_GIL   the caller holds the GIL
 *   FM_NO_GIL      the caller does not hold the GIL (the function may block)
 *   FM_TAKES_GIL   the caller does not hold the GIL and does afterwards
 *   FM_DROPS_GIL   the reverse
 *   FM_ANY_THREAD  any thread, with or without the GIL; never blocks for long
 */
#ifndef FERMATA_UTIL_ANNOTATE_H
#define FERMATA_UTIL_ANNOTATE_H

#include <pthread.h>

#if defined(__clang__)
#define FM_ATTR(x) __attribute__((x))
#else
#define FM_ATTR(x)
#endif

struct FM_ATTR(capability("role")) fm_role {
    char unused;
};
extern struct fm_role fm_role_loop;
extern struct fm_role fm_role_gil;

#define FM_ON_LOOP FM_ATTR(requires_capability(fm_role_loop))
#define FM_TAKES_LOOP FM_ATTR(acquire_capability(fm_role_loop))
#define FM_DROPS_LOOP FM_ATTR(release_capability(fm_role_loop))
#define FM_NEEDS_GIL FM_ATTR(requires_capability(fm_role_gil))
#define FM_NO_GIL FM_ATTR(locks_excluded(fm_role_gil))
#define FM_TAKES_GIL FM_ATTR(acquire_capability(fm_role_gil))
#define FM_DROPS_GIL FM_ATTR(release_capability(fm_role_gil))
#define FM_ANY_THREAD

/* What a usual request does not do: it stays out of the functions that call it, which so need neither its stack nor the
 * guard of its arrays (-fstack-protector-strong). */
#define FM_COLD __attribute__((cold, noinline))

/* A mutex that clang can follow.  Leaf locks: nothing blocks, and no thread waits for the GIL, while it holds one. */
struct FM_ATTR(capability("mutex")) fm_mutex {
    pthread_mutex_t m;
};

#define FM_MUTEX_INIT                                                                                                  \
    {                                                                                                                  \
        PTHREAD_MUTEX_INITIALIZER                                                                                      \
    }
#define FM_GUARDED_BY(mutex) /* for the reader: clang cannot name a sibling member in C */
#define FM_REQUIRES(mutex) FM_ATTR(requires_capability(mutex))
#define FM_EXCLUDES(mutex) FM_ATTR(locks_excluded(mutex))
#define FM_UNCHECKED FM_ATTR(no_thread_safety_analysis)

static inline void fm_mutex_init(struct fm_mutex *mu) { pthread_mutex_init(&mu->m, NULL); }
static inline void fm_mutex_fini(struct fm_mutex *mu) { pthread_mutex_destroy(&mu->m); }
static inline void fm_mutex_lock(struct fm_mutex *mu) FM_ATTR(acquire_capability(*mu)) FM_UNCHECKED
{
    pthread_mutex_lock(&mu->m);
}
static inline void fm_mutex_unlock(struct fm_mutex *mu) FM_ATTR(release_capability(*mu)) FM_UNCHECKED
{
    pthread_mutex_unlock(&mu->m);
}

/* Role bookkeeping per thread: which of the two roles the calling thread holds.  Set where the role passes from thread
 * to thread. */
extern __thread int fm_thread_on_loop;
void fm_role_take_loop(void) FM_TAKES_LOOP;
void fm_role_drop_loop(void) FM_DROPS_LOOP;

/* First line of a callback that runs on the loop: tells clang, and checks in debug builds. */
void fm_assert_on_loop(void) FM_ATTR(assert_capability(fm_role_loop));

#endif

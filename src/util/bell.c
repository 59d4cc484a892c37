/* A word that the kernel waits on; see util/bell.h. */
#include "fermata/util/bell.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fermata/util/clock.h"

/* until: seconds and nanoseconds as the kernel has them, which is not the C library's timespec where that has wider
 * times than the processor. */
static long futex(struct fm_bell *b, int what, unsigned value, const long *until)
{
    return syscall(SYS_futex, &b->rung, what | FUTEX_PRIVATE_FLAG, value, until, NULL, FUTEX_BITSET_MATCH_ANY);
}

void fm_bell_ring(struct fm_bell *b)
{
    if (atomic_exchange(&b->rung, 1) == 0)
        futex(b, FUTEX_WAKE_BITSET, 1, NULL);
}

/* One wait, until the word is not 0, or as long as it may take.  0 if it is worth looking again. */
static int await(struct fm_bell *b, uint64_t until)
{
#ifdef FM_TSAN
    /* ThreadSanitizer's runtime keeps signals back until the thread is in a call that it knows, and futex is none. */
    (void)b;
    return fm_now() >= until ? -1 : usleep(5000);
#else
    long at[2] = {(long)(until / FM_SEC), (long)(until % FM_SEC)};
    /* A ring since the word was looked at has changed it, and then it is EAGAIN. */
    long err = futex(b, FUTEX_WAIT_BITSET, 0, until == UINT64_MAX ? NULL : at);
    return err == 0 || errno == EAGAIN ? 0 : -1;
#endif
}

void fm_bell_wait(struct fm_bell *b, uint64_t until)
{
    while (atomic_exchange(&b->rung, 0) == 0)
        if (await(b, until) != 0)
            break;
    atomic_exchange(&b->rung,
                    0); /* not a store, which would pass over what was written before a ring that it takes away */
}

/* A bit for each descriptor that is the server's. */
#include "fermata/util/fds.h"

#include <stdint.h>
#include <unistd.h>

#define MAX_FD (1 << 20) /* the kernel's own default of fs.nr_open */
#define BITS 64

atomic_bool fm_forked;
static _Atomic uint64_t own[MAX_FD / BITS]; /* pages that no descriptor has reached take no memory */
static atomic_int highest;                  /* index of the last word that was ever used */

static uint64_t bit(int fd) { return UINT64_C(1) << (fd % BITS); }

void fm_fds_own(int fd)
{
    if (fd < 0 || fd >= MAX_FD)
        return;
    atomic_fetch_or_explicit(&own[fd / BITS], bit(fd), memory_order_relaxed);
    int last = atomic_load_explicit(&highest, memory_order_relaxed);
    while (fd / BITS > last && !atomic_compare_exchange_weak(&highest, &last, fd / BITS))
        ;
}

bool fm_fds_is_own(int fd)
{
    return fd >= 0 && fd < MAX_FD && (atomic_load_explicit(&own[fd / BITS], memory_order_relaxed) & bit(fd));
}

static void disown(int fd)
{
    if (fd >= 0 && fd < MAX_FD)
        atomic_fetch_and_explicit(&own[fd / BITS], ~bit(fd), memory_order_relaxed);
}

void fm_fds_close(int fd)
{
    disown(fd); /* first: once it is closed, the number may become another file's */
    close(fd);
}

/* Nothing here but what is safe after a fork of a process that has threads. */
void fm_fds_in_child(void)
{
    atomic_store(&fm_forked, true);
    for (int i = 0; i <= atomic_load(&highest); i++)
        for (uint64_t left = atomic_exchange_explicit(&own[i], 0, memory_order_relaxed); left; left &= left - 1)
            close(i * BITS + __builtin_ctzll(left));
}

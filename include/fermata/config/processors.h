/* How many processors there are for this process, as a container's limits have it, and how many workers there is room
 * for: what `--workers auto` is. */
#ifndef FERMATA_CONFIG_PROCESSORS_H
#define FERMATA_CONFIG_PROCESSORS_H

#include <stdint.h>

#define FM_MEMORY_OF_A_WORKER (128ull << 20) /* bytes that each is to have at least, where memory is limited */

/* One for each processor that this process may run on, or that its cgroup may use the time of (cpu.max, rounded up),
 * but no more than its memory.max has room for, nor than `most`; one at least. */
unsigned fm_processors(unsigned most);

/* The same of what stands in files: `cgroup` is as /proc/self/cgroup, `root` the directory where cgroups are mounted.
 */
unsigned fm_processors_of(const char *cgroup, const char *root, unsigned processors, unsigned most);

/* How many threads can compute at the same time: the same without a look at memory. */
unsigned fm_processors_usable(void);
unsigned fm_processors_usable_of(const char *cgroup, const char *root, unsigned processors);

#endif

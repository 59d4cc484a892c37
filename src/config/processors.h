/* How many workers there is room for, as a container's limits have it: what `--workers auto` is. */
#ifndef FERMATA_SRC_CONFIG_PROCESSORS_H
#define FERMATA_SRC_CONFIG_PROCESSORS_H

#include <stdint.h>

#define FM_MEMORY_OF_A_WORKER (128ull << 20) /* bytes that each is to have at least, where memory is limited */

/* One for each processor that this process may run on, or that its cgroup may use the time of (cpu.max, rounded up),
 * but no more than its memory.max has room for, nor than `most`; one at least. */
unsigned fm_processors(unsigned most);

/* The same of what stands in files: `cgroup` is as /proc/self/cgroup, `root` the directory where cgroups are mounted.
 */
unsigned fm_processors_of(const char *cgroup, const char *root, unsigned processors, unsigned most);

#endif

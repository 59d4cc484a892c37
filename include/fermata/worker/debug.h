/* A debugger of another process has the main thread, which is the monitor. */
#ifndef FERMATA_WORKER_DEBUG_H
#define FERMATA_WORKER_DEBUG_H

#include "fermata/sched/monitor.h"
#include "fermata/util/annotate.h"

/* Runs what the debugger has written (py/debug.h), for as long as that takes; meanwhile another thread is the monitor.
 * Main thread. */
void fm_debug_run(struct fm_monitor *monitor) FM_NO_GIL;

#endif

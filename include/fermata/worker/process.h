/* What a process needs before anything else. */
#ifndef FERMATA_WORKER_PROCESS_H
#define FERMATA_WORKER_PROCESS_H

/* Set where this program is executed in the place of another (arbiter/upgrade.h). */
#define FM_UPGRADE_VARIABLE "FERMATA_UPGRADE"

/* First in main, in this order; both before any thread. */

/* Standard streams that are closed become /dev/null: their numbers would be given to sockets, and what is printed would
 * go there. */
void fm_process_streams(void);

/* Where orphans come to this process, because it is process 1 or a subreaper (prctl(2)), it becomes a small init that
 * reaps them and hands signals on, and the server is its child: only there this returns, after `begin` was called with
 * all signals blocked.  The init exits as the server does, with 128 and the number of a signal that killed it.
 * Elsewhere it just calls begin.  spec/internals/adr/0009 has the reasons. */
void fm_process_orphans(void (*begin)(void));

#endif

/* Where the threads are that run a step, for who asks: also while a call in C holds the GIL.
 *
 * Python is asked first, as that disturbs nobody.  Where it has not answered within a second, because its GIL is not to
 * be had, or where there is no GIL that would keep the threads from going on meanwhile, each thread is asked by itself:
 * by a signal, whose handler has faulthandler write down the stack of the thread that it runs in.  That interrupts
 * system calls; those that the kernel does not start again (epoll_wait, poll, nanosleep: signal(7)) are started again
 * by Python, but not by each library in C, so nothing of this is done unless somebody asks. */
#ifndef FERMATA_WSGI_STEPS_H
#define FERMATA_WSGI_STEPS_H

#include "fermata/sched/sched.h"
#include "fermata/util/annotate.h"
#include "fermata/util/stacks.h"

/* Once, before the application is loaded.  Takes a real-time signal for it, unless that is used or ignored already:
 * then, or where the application takes it later, only Python is asked.  0, or -1 with an exception set. */
int fm_steps_prepare(void) FM_NEEDS_GIL;

/* Has a thread of its own find out, within four seconds, and call done(ctx, stacks) there: whose the stacks are then;
 * NULL: no memory.  0, FM_EBUSY while another one is under way, or a negated errno. */
int fm_steps_ask(struct fm_sched *sched, void (*done)(void *ctx, struct fm_stacks *stacks), void *ctx) FM_ANY_THREAD;

/* None is found from now on, and none is under way any more when it returns: `done` has been called. */
void fm_steps_stop(void) FM_NO_GIL;

/* After fm_steps_stop, before Python ends. */
void fm_steps_fini(void) FM_NEEDS_GIL;

#endif

/* Signals: a handler notes them, the guard (worker/guard.h) takes what was noted.  None of them kills by default. */
#ifndef FERMATA_WORKER_SIGNALS_H
#define FERMATA_WORKER_SIGNALS_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A set of signals, by number. */
#define FM_SIGNAL(number) (1u << (number))

/* An arbiter asks a worker with it where its threads are; in a set it is FM_SIGNAL_STACKS, as its number is too large.
 * The one before the last, which no library is known to use; the last one is faulthandler's (wsgi/stacks.h). */
#define FM_STACKS_NUMBER (SIGRTMAX - 1)
#define FM_SIGNAL_STACKS 0

/* Catches all of them; the first thing in main.  Until fm_signals_hold those that end the process end it at once, with
 * exit code 0: nothing has begun. */
void fm_signals_first(void);

/* In a worker that a zygote has forked, with all signals blocked: it is the server now, and nothing has come yet.  The
 * handlers stay as they are. */
void fm_signals_forked(void);

/* The process goes on without a server: what was set before fm_signals_first is set again, but where the application
 * has set something else. */
void fm_signals_last(void);

/* From now on the guard takes what is noted. */
void fm_signals_hold(void);

/* Catches SIGTERM and SIGINT again, whatever Python, or the application at its import, has done to them, and has
 * SIGPIPE ignored where it was put back to its default.  Handlers of the application for others stay. */
void fm_signals_again(bool loaded);

/* The same for SIGTERM and SIGINT alone, while the application is being imported: its import may have set handlers, and
 * go on for long.  Any thread. */
void fm_signals_take_back(void);

/* Catches FM_STACKS_NUMBER as well: for who answers it. */
void fm_signals_stacks(void);

/* While it is on, a signal that ends the process also interrupts the main thread (py/interp.h). */
void fm_signals_interrupt(bool on);

/* Has one of those that end the process come? */
bool fm_signals_end_noted(void);

/* What was noted, and is not any more.  Any thread. */
unsigned fm_signals_taken(void);

/* The same, but it waits until a signal is noted, fm_signals_poke is called, or `until` (fm_now).  One thread calls it.
 * It waits for a bell (util/bell.h): a descriptor could be closed by the application. */
unsigned fm_signals_wait(uint64_t until);
void fm_signals_poke(void);

/* Blocks all other signals in the calling thread, and lets it take these even where all other threads have blocked
 * them. */
void fm_signals_take_here(void);

#endif

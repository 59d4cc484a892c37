/* A thread that sends to a daemon what other threads put before it: util/syslog.c and util/statsd.c each have one.  It
 * sleeps while there is nothing; those who put something there never wait for more than the lock, a leaf. */
#ifndef FERMATA_UTIL_SENDER_H
#define FERMATA_UTIL_SENDER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/annotate.h"

struct fm_sender {
    pthread_mutex_t lock;      /* guards the owner's things, and what follows */
    pthread_cond_t work, idle; /* there is something; there is nothing */
    bool waiting;              /* the thread, for work */
    bool started;              /* set once, before other threads put anything */
    bool in_trouble;           /* the thread's */
};

void fm_sender_init(struct fm_sender *s);

/* Starts the thread.  0 or a negated errno. */
int fm_sender_start(struct fm_sender *s, void *(*body)(void *), void *arg);

/* Locks.  False, and nothing is locked, in a child that the application has forked: the lock may be held by a thread
 * that is not there. */
bool fm_sender_enter(struct fm_sender *s) FM_ANY_THREAD;

/* Something was put there: wakes the thread, and unlocks. */
void fm_sender_leave(struct fm_sender *s) FM_ANY_THREAD;

/* The thread's, locked, when there is nothing: tells those who wait for that, and waits until something was put there,
 * or for another reason: the caller looks again. */
void fm_sender_rest(struct fm_sender *s);

/* Waits, not locked, until the thread rests and is_empty(owner), which is called locked.  True where there is no
 * thread; false if that is not so by `until` (fm_now). */
bool fm_sender_flush(struct fm_sender *s, uint64_t until, bool (*is_empty)(const void *owner), const void *owner);

/* The thread's: what became of an attempt to send.  Calls trouble(err, 0) when it begins to fail, trouble(0, lost) when
 * it works and `lost` things have been lost before. */
void fm_sender_tell(struct fm_sender *s, void (*trouble)(int err, unsigned long long lost), int err, uint64_t lost);

#endif

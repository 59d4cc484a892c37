/* A thread that helps: it waits for a disk or a network, so that no other has to. */
#ifndef FERMATA_UTIL_HELPER_H
#define FERMATA_UTIL_HELPER_H

#include <stddef.h>

/* Starts a detached thread with so much stack (0: 256 KiB), which takes no signals: they are the main thread's, or the
 * application's.  It names itself, for only a thread that runs has a name: "fermata-" and what it does.  0 or a negated
 * errno. */
int fm_helper_start(void *(*body)(void *), void *arg, size_t stack);

#endif

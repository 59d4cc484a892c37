/* What an arbiter hands to a worker that it starts: listening sockets, a control socket on which the two talk, and
 * memory for its counters.  The worker is this same command with the same arguments, executed with these
 * descriptors open and their numbers in one environment variable, which it takes away before the application sees it.
 *
 * A zygote (worker/zygote.h) is executed with one end of a socket only, on which it gets the same for each worker that
 * it is to fork: between two of them it has no listening socket open, so that it is never the last process that has. */
#ifndef FERMATA_WORKER_HANDED_H
#define FERMATA_WORKER_HANDED_H

#include <stdbool.h>
#include <sys/types.h>

#include "fermata/server/conns.h"

#define FM_HANDED_VARIABLE "FERMATA_HANDED"
#define FM_HANDED_NAME "fermata" /* of the process: it was executed as /proc/self/exe, and would be called so */
#define FM_SLOT_VARIABLE "FERMATA_WORKER" /* the application's: 0 to N - 1 */

struct fm_handed {
    bool any;       /* it is a process of an arbiter's; else it is a server by itself, and nothing else is set */
    int zygote_fd;  /* it is a zygote, and this its end of the socket; -1: a worker.  With device and inode, of that */
    bool loaded;    /* a worker that a zygote has forked: Python runs, and the application is loaded */
    unsigned slot;  /* which of the workers */
    int control_fd; /* the worker's end of a pair of sockets that keep messages apart, of a byte each; or -1 */
    dev_t device;   /* of that socket, with the next: the application may close the number and open something else */
    ino_t inode;
    pid_t arbiter;
    int counters_fd;
    int report_fd; /* with --reload: a file for fm_wsgi_report, else -1 */
    int listeners[FM_MAX_LISTENERS];
    unsigned nlisteners;
};

/* Reads the variable and removes it; what the arbiter has blocked is not any more, so signals have handlers by now.
 * False, after a message on stderr: it is there, and is not what an arbiter writes.
 */
bool fm_handed_take(struct fm_handed *h);

/* X(ID, 'byte'): what a worker says on it. */
#define FM_TELLS(X)                                                                                                    \
    X(SHOWS, 'A')     /* it shows its status to clients that it is given; once, before READY */                        \
    X(READY, 'R')     /* it serves; once, and before the others */                                                     \
    X(CLIENT, 'C')    /* it has a client, and had none; not again within FM_HANDED_PAUSE of --timeout */               \
    X(REQUESTS, 'N')  /* it has served its number of requests */                                                       \
    X(EXHAUSTED, 'X') /* all its threads are in one step each for --timeout, and requests wait */                      \
    X(GIL, 'G')       /* the GIL was not to be had for --gil-timeout */

enum fm_tell {
#define X(id, byte) FM_TELL_##id = byte,
    FM_TELLS(X)
#undef X
};

/* How long a client is not told of after another one was, and between two looks of an arbiter: a part of --timeout. */
#define FM_HANDED_PAUSE(timeout) ((timeout) / 4)

/* What the arbiter says: the loop is to turn, which its counter shows (FM_C_TURNS).  And to a worker that has said
 * SHOWS: a client of the admin port, as a descriptor with the head of its request. */
#define FM_HANDED_PING "?"

#define FM_HANDED_TEXT (64 + 8 * FM_MAX_LISTENERS)

/* The two variables, as they stand in an environment, and that environment: this process's with them.  It is freed; its
 * other texts are this process's. */
struct fm_handed_environment {
    char handed[FM_HANDED_TEXT], slot[32];
    char **all;
};
void fm_handed_write(const struct fm_handed *h, struct fm_handed_environment *to);

/* In a child that is about to execute the command: has the descriptors stay open.  Async-signal-safe. */
void fm_handed_give(const struct fm_handed *h);

/* Makes the memory behind the descriptor the counters of this process, before any thread counts.  0 or a negated errno.
 */
int fm_handed_use_counters(const struct fm_handed *h);

/* From arbiter to zygote: slot, control socket, counters and listening sockets of the next worker.  The descriptors
 * stay the sender's, too.  0 or a negated errno; it never waits. */
int fm_handed_send(int fd, const struct fm_handed *h);

/* In the zygote: waits for them.  1 with *h filled for that worker; 0: the arbiter has closed the socket; a negated
 * errno.  zygote_fd is looked at first: has the application closed it, the process ends. */
int fm_handed_receive(const struct fm_handed *zygote, struct fm_handed *h);

/* In the zygote: closes them. */
void fm_handed_close(struct fm_handed *h);

/* Has the descriptor become another file, because the application has closed its number?  Ends the process. */
void fm_handed_check(const struct fm_handed *h, int fd, const char *what);

/* Tells the arbiter; once.  Ends the process if the application has closed the socket.  From now on the process is told
 * to end when the arbiter is gone, also where the application has changed the user. */
void fm_handed_say_ready(struct fm_handed *h);

/* Tells the arbiter, if there is one and the socket is still that.  Never waits.  On the loop. */
void fm_handed_tell(const struct fm_handed *h, enum fm_tell what);

/* Gives a worker a client, whose descriptor stays the sender's, too.  control_fd is the arbiter's end.  0 or a negated
 * errno: -EAGAIN, as much waits for it already as may; it never waits. */
int fm_handed_give_client(int control_fd, int fd, const char *head, size_t len);

/* Reads one thing that the arbiter has said.  Its length, in text[size], with *fd the client that is given, or -1; 0:
 * there is no more; FM_ECLOSED: the arbiter is gone. */
int fm_handed_hear(const struct fm_handed *h, char *text, size_t size, int *fd);

#endif

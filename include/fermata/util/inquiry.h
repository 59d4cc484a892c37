/* What is asked of Python, now and then, by who must not wait for it: a thread of its own finds the answer, which is
 * a text, and it is kept until there is a newer one.
 *
 * One thread at a time is at it.  Who asks is told when there is an answer, and goes by the last one where that takes
 * too long: only reading it takes the lock. */
#ifndef FERMATA_UTIL_INQUIRY_H
#define FERMATA_UTIL_INQUIRY_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/util/annotate.h"
#include "fermata/util/buf.h"

enum fm_answered {
    FM_ANSWER_NONE,   /* never so far */
    FM_ANSWER_TEXT,   /* there is a text */
    FM_ANSWER_ABSENT, /* there is nothing to be told */
    FM_ANSWER_FAILED, /* the log says why */
};

struct fm_inquiry {
    int (*start)(struct fm_inquiry *q); /* the thread, which ends with fm_inquiry_answer: 0, or a negated errno */
    struct fm_mutex lock;               /* a leaf, but for what `tell` takes; guards what follows */
    bool under_way FM_GUARDED_BY(lock);
    uint64_t asked FM_GUARDED_BY(lock); /* fm_now, when what is under way was begun */
    uint64_t at FM_GUARDED_BY(lock);    /* the same, of the last answer */
    enum fm_answered how FM_GUARDED_BY(lock);
    struct fm_buf text FM_GUARDED_BY(lock);
    void (*tell)(void *ctx) FM_GUARDED_BY(lock);
    void *ctx FM_GUARDED_BY(lock);
};

#define FM_INQUIRY_INIT(start_)                                                                                        \
    {                                                                                                                  \
        .start = (start_), .lock = FM_MUTEX_INIT, .text = FM_BUF_INIT                                                  \
    }

struct fm_inquiry_seen {
    enum fm_answered how; /* the last answer */
    uint64_t at;          /* fm_now, when it was asked for */
    bool under_way;
    uint64_t asked; /* when what is under way was begun */
};

/* Has `tell` be called with each answer, by the thread that has found it, with the inquiry's lock: it may do no more
 * than post an event.  NULL: it is not called any more once this returns.  Any thread. */
void fm_inquiry_listen(struct fm_inquiry *q, void (*tell)(void *ctx), void *ctx);

/* Begins, unless a thread is at it already.  now: fm_now.  0, or a negated errno.  Any thread; never blocks. */
int fm_inquiry_ask(struct fm_inquiry *q, uint64_t now);

/* Once for each start.  Moves the text, which is kept for FM_ANSWER_TEXT only.  Any thread. */
void fm_inquiry_answer(struct fm_inquiry *q, enum fm_answered how, struct fm_buf *text);

/* What there is; the last text is appended to `to`, which may be NULL.  Any thread. */
void fm_inquiry_read(struct fm_inquiry *q, struct fm_inquiry_seen *seen, struct fm_buf *to);

#endif

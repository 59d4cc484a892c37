/* What has become of bytes that were given away to be sent: the answer of a stream, of a response's writer, and of the
 * sink between them. */
#ifndef FERMATA_UTIL_SENT_H
#define FERMATA_UTIL_SENT_H

enum fm_sent {
    FM_SENT_ALL,      /* nothing is kept: all is with the kernel, or corked by the writer */
    FM_SENT_KEPT,     /* the connection keeps some of it, in memory of its own; how much, is asked for */
    FM_SENT_BORROWED, /* the same, but it uses the caller's memory or file: the caller waits until it does no more */
    FM_SENT_GONE,     /* nothing is sent any more: the client is gone, or the server has answered itself */
};

#endif

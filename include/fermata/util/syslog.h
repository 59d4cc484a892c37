/* Lines to a syslog daemon, as RFC 5424 has them: over UDP, a line is a datagram (RFC 5426), or a unix socket.
 *
 * A thread that has a line puts it into a bounded ring and goes on; a thread of this file sends it, which may have to
 * wait for a name to be resolved or for a daemon that does not read.  While there is no daemon lines wait; what does
 * not fit is dropped and counted. */
#ifndef FERMATA_UTIL_SYSLOG_H
#define FERMATA_UTIL_SYSLOG_H

#include <stdint.h>

#include "fermata/util/annotate.h"
#include "fermata/util/dial.h"

struct fm_syslog_config {
    struct fm_dial_to to;
    unsigned facility; /* 0 to 23 */
    const char *name;  /* APP-NAME, or NULL for "fermata" */
    /* Says, once until it works again, that there is no way to the daemon; and, with lines > 0, that there is again,
     * after so many lines were dropped.  On the thread of this file. */
    void (*trouble)(int err, unsigned long long lines);
};

/* udp://HOST:PORT, tcp://HOST:PORT, unix://PATH, unix://PATH#dgram or unix://PATH#stream.  NULL, or what it takes. */
const char *fm_syslog_parse_to(struct fm_dial_to *to, const char *text);

/* A name, such as user or local0, in gunicorn's spellings too, or a number from 0 to 23. */
const char *fm_syslog_parse_facility(unsigned *facility, const char *text);

/* What stands in the first field of a message: up to 48 visible characters of ASCII. */
const char *fm_syslog_parse_name(const char **name, const char *text);

struct fm_syslog;

/* Lines wait until it is started.  config is kept. */
struct fm_syslog *fm_syslog_new(const struct fm_syslog_config *config, size_t ring);

/* Starts the thread.  0 or a negated errno. */
int fm_syslog_start(struct fm_syslog *s);

/* A message, which may be of several lines; a line feed at its end is left out.  severity: 0 to 7.  msgid: what kind of
 * message it is, a static word.  Never waits; in a child that the application has forked it does nothing. */
void fm_syslog_put(struct fm_syslog *s, unsigned severity, const char *msgid, const char *text, size_t n) FM_ANY_THREAD;

/* Waits until all is sent; false if it is not by `until` (fm_now). */
bool fm_syslog_flush(struct fm_syslog *s, uint64_t until);

#endif

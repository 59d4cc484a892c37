/* How slowly a client may send and take; see server/pace.h. */
#include "fermata/server/pace.h"

#include "fermata/util/clock.h"

/* Bytes a second.  A receive buffer that is full opens in steps, when some eighth of it has been read, so a client that
 * has taken megabytes shows its reading only now and then. */
#define SLOWEST 4096

/* ---- bodies ---- */

void fm_pace_body(struct fm_pace *p, uint64_t now, uint64_t size)
{
    p->body_since = now;
    p->body_seen = size;
}

bool fm_pace_body_is_too_slow(struct fm_pace *p, const struct fm_options *o, uint64_t now, uint64_t size)
{
    uint64_t window = now - p->body_since, came = size - p->body_seen;
    if (o->limit_body_rate == 0 || o->body_timeout == 0 || window < o->body_timeout)
        return false;
    fm_pace_body(p, now, size);
    return (double)came < (double)o->limit_body_rate * (double)window / FM_SEC;
}

/* ---- responses ---- */

/* How long a client may take nothing: --send-timeout, and at most three times that in addition, for the step that its
 * window may be waiting for. */
static uint64_t patience(const struct fm_pace *p, const struct fm_options *o)
{
    double step = (double)(p->taken - p->taken_stall) / 8, more = step / SLOWEST * FM_SEC;
    uint64_t most = 3 * o->send_timeout;
    return o->send_timeout + (more < (double)most ? (uint64_t)more : most);
}

/* TCP has a timeout of its own for a window that stays closed, which is not to come before ours. */
static void allow_for_steps(struct fm_pace *p, struct fm_stream *s, const struct fm_options *o) FM_ON_LOOP
{
    uint64_t allowed = patience(p, o);
    if (allowed <= o->send_timeout + p->tcp_patience)
        return;
    p->tcp_patience = allowed;                              /* so that it is changed a few times at most */
    fm_stream_be_patient(s, allowed + 2 * o->send_timeout); /* ours looks now and then */
}

/* Has the client taken anything since it was last looked at? */
static bool has_progressed(struct fm_pace *p, struct fm_stream *s, uint64_t now) FM_ON_LOOP
{
    uint64_t taken = fm_stream_acknowledged(s);
    bool progress = taken != p->taken;
    if (progress)
        p->taken_at = now;
    p->taken = taken;
    return progress;
}

void fm_pace_response(struct fm_pace *p, const struct fm_stream *s, uint64_t now)
{
    p->taken_stall = s->sent;
    p->taken_at = now;
    p->stalled = false;
}

/* The client may take bytes for long before the socket becomes writable again, so it is what it has acknowledged that
 * counts. */
void fm_pace_look(struct fm_pace *p, struct fm_stream *s, const struct fm_options *o, uint64_t now)
{
    has_progressed(p, s, now);
    allow_for_steps(p, s, o);
}

bool fm_pace_is_over(struct fm_pace *p, struct fm_stream *s, const struct fm_options *o, uint64_t now)
{
    uint64_t before = p->taken;
    if (has_progressed(p, s, now)) {
        p->taken_stall = p->stalled ? before : p->taken_stall;
        p->stalled = false;
        return false;
    }
    p->stalled = true;
    return now - p->taken_at >= patience(p, o);
}

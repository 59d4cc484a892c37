/* The slowest requests lately; see server/slow.h. */
#include "fermata/server/slow.h"

#include <string.h>

#include "fermata/http/request.h"
#include "fermata/util/clock.h"

#define LATELY (600 * FM_SEC)

bool fm_slow_is_recent(const struct fm_slow_request *r, uint64_t now) { return r->over != 0 && now - r->over < LATELY; }

static void copy(char *to, size_t size, const struct fm_request *r, struct fm_span span)
{
    size_t len = span.len < size - 1 ? span.len : size - 1;
    memcpy(to, fm_request_text(r, span), len);
    to[len] = '\0';
}

/* The one to give way: one that does not count any more, or the fastest. */
static struct fm_slow_request *least_of(struct fm_slow *s, uint64_t now)
{
    struct fm_slow_request *least = &s->all[0];
    for (unsigned i = 0; i < FM_SLOWEST; i++) {
        if (!fm_slow_is_recent(&s->all[i], now))
            return &s->all[i];
        if (s->all[i].took < least->took)
            least = &s->all[i];
    }
    return least;
}

void fm_slow_note(struct fm_slow *s, const struct fm_request *r, unsigned status, uint64_t took, uint64_t now)
{
    struct fm_slow_request *to = least_of(s, now);
    if (!fm_slow_is_recent(to, now) || took > to->took) {
        to->took = took;
        to->over = now ? now : 1;
        to->status = status;
        copy(to->method, sizeof to->method, r, r->method);
        copy(to->path, sizeof to->path, r, r->path);
        copy(to->trace, sizeof to->trace, r, (struct fm_span){r->trace_off, r->trace_off ? FM_TRACE_ID : 0});
    }
    s->least = UINT64_MAX;
    s->until = UINT64_MAX;
    for (unsigned i = 0; i < FM_SLOWEST; i++) {
        bool recent = fm_slow_is_recent(&s->all[i], now);
        if (!recent || s->all[i].took < s->least)
            s->least = recent ? s->all[i].took : 0;
        if (recent && s->all[i].over + LATELY < s->until)
            s->until = s->all[i].over + LATELY;
    }
}

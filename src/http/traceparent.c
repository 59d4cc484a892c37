/* traceparent, as W3C Trace Context has it; see http/traceparent.h. */
#include "fermata/http/traceparent.h"

#include <string.h>

#include "fermata/http/headers.h"
#include "fermata/util/text.h"

/* 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01: version, trace, parent, flags */
#define TRACE 3
#define PARENT 36
#define PARENT_ID 16
#define FLAGS 53
#define LENGTH 55 /* of version 00, and the least of each later one */

/* HEXDIGLC of the recommendation. */
static bool is_hex(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!fm_is_digit(p[i]) && !(p[i] >= 'a' && p[i] <= 'f'))
            return false;
    return true;
}

static bool is_id(const char *p, size_t n)
{
    bool any = false;
    for (size_t i = 0; i < n; i++)
        any |= p[i] != '0';
    return any && is_hex(p, n);
}

bool fm_traceparent_is_good(const char *p, size_t n)
{
    if (n < LENGTH || !is_hex(p, 2) || memcmp(p, "ff", 2) == 0)
        return false;
    if (n > LENGTH && (memcmp(p, "00", 2) == 0 || p[LENGTH] != '-'))
        return false;
    return p[TRACE - 1] == '-' && is_id(p + TRACE, FM_TRACE_ID) && p[PARENT - 1] == '-' &&
           is_id(p + PARENT, PARENT_ID) && p[FLAGS - 1] == '-' && is_hex(p + FLAGS, 2);
}

/* Several fields are none: a tracer begins a trace of its own then. */
void fm_traceparent_take(struct fm_request *r)
{
    const struct fm_field *found = NULL;
    for (unsigned i = 0; i < r->nfields; i++) {
        if (r->fields[i].id != FM_H_TRACEPARENT)
            continue;
        if (found)
            return;
        found = &r->fields[i];
    }
    if (found && fm_traceparent_is_good(r->head + found->value_off, found->value_len))
        r->trace_off = found->value_off + TRACE;
}

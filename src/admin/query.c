/* What stands behind the question mark; see admin/query.h. */
#include "fermata/admin/query.h"

#include <string.h>

#include "fermata/admin/status.h"
#include "fermata/http/request.h"
#include "fermata/util/places.h"

#define WORKER "worker="

/* Does a part of a query begin with name and equals sign? */
static bool is_parameter(const char *text, size_t len, const char *name)
{
    return len >= strlen(name) && memcmp(text, name, strlen(name)) == 0;
}

/* The next part of the query, *at on, up to an ampersand; false: there is none. */
static bool next_parameter(const struct fm_request *r, const char **at, const char **text, size_t *len)
{
    const char *end = fm_request_text(r, r->query) + r->query.len;
    *text = *at ? *at : fm_request_text(r, r->query);
    if (r->query.len == 0 || *text > end)
        return false;
    const char *stop = *text < end ? memchr(*text, '&', (size_t)(end - *text)) : NULL;
    *len = (size_t)((stop ? stop : end) - *text);
    *at = *text + *len + 1;
    return true;
}

static bool read_number(const char *text, size_t len, uint64_t most, uint64_t *to)
{
    *to = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || *to > most / 10)
            return false;
        *to = *to * 10 + (uint64_t)(text[i] - '0');
    }
    return len > 0 && *to <= most;
}

bool fm_query_worker(const struct fm_request *r, unsigned *slot, bool *wrong)
{
    const char *at = NULL, *text;
    size_t len;
    uint64_t n;
    while (next_parameter(r, &at, &text, &len)) {
        if (!is_parameter(text, len, WORKER))
            continue;
        *wrong = !read_number(text + sizeof WORKER - 1, len - (sizeof WORKER - 1), UINT16_MAX, &n);
        *slot = (unsigned)n;
        return true;
    }
    return false;
}

/* ---- requests ---- */

static bool read_state(const char *text, size_t len, int *to)
{
    for (unsigned i = 0; i < FM_STATUS_STATE_COUNT; i++) {
        const char *name = fm_status_state_name((enum fm_status_state)i);
        if (strlen(name) != len || memcmp(name, text, len) != 0)
            continue;
        *to = (int)i;
        return true;
    }
    return false;
}

/* One of the parameters; an empty one is none, and which worker this is has been read before. */
static bool read_parameter(struct fm_status_query *q, const char *text, size_t len)
{
    const char *equals = len > 0 ? memchr(text, '=', len) : NULL;
    size_t name = equals ? (size_t)(equals - text) : len;
    uint64_t n;
    if (!equals || is_parameter(text, len, WORKER))
        return equals || len == 0;
    text += name + 1;
    len -= name + 1;
    if (name == 5 && memcmp(equals - 5, "state", 5) == 0)
        return read_state(text, len, &q->state);
    if (name == 5 && memcmp(equals - 5, "place", 5) == 0) {
        bool good = read_number(text, len, FM_PLACES - 1, &n);
        q->place = (int)n;
        return good;
    }
    if (name == 5 && memcmp(equals - 5, "after", 5) == 0)
        return read_number(text, len, UINT64_MAX / 10, &q->after);
    if (name != 5 || memcmp(equals - 5, "limit", 5) != 0)
        return false;
    bool good = read_number(text, len, FM_STATUS_MOST, &n);
    q->limit = (unsigned)n;
    return good;
}

bool fm_query_requests(const struct fm_request *r, struct fm_status_query *q)
{
    const char *at = NULL, *text;
    size_t len;
    while (next_parameter(r, &at, &text, &len))
        if (!read_parameter(q, text, len))
            return false;
    return true;
}

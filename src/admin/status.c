/* Gathering what the status pages show; see admin/status.h. */
#include "fermata/admin/status.h"

#include <stdlib.h>
#include <string.h>

#define FINE 8            /* parts of each power of two, for medians */
#define POWERS 36         /* from a UNIT on: 52 days */
#define UNIT (1ull << 16) /* ns */
#define AGES (FINE * POWERS)

struct ages { /* how many of a group are about how old */
    uint32_t n[AGES];
};

struct fm_status_work {
    struct fm_status_query query;
    uint16_t group_of[FM_PLACES + 1]; /* by place, the last for clients; 0: none yet, else one more than its index */
    struct ages *ages;                /* of each group */
    unsigned room;
    uint16_t *heap; /* indexes of requests, that with the greatest number first */
};

const char *fm_status_state_name(enum fm_status_state state)
{
    static const char *const names[] = {
#define X(id, name) name,
        FM_STATUS_STATES(X)
#undef X
    };
    return names[state];
}

struct fm_status *fm_status_new(const struct fm_status_query *query)
{
    struct fm_status *s = calloc(1, sizeof *s);
    struct fm_status_work *w = s ? calloc(1, sizeof *w) : NULL;
    if (!w) {
        free(s);
        return NULL;
    }
    s->work = w;
    w->query = *query;
    if (w->query.limit > FM_STATUS_MOST)
        w->query.limit = FM_STATUS_MOST;
    s->requests = calloc(w->query.limit + 1, sizeof *s->requests);
    w->heap = calloc(w->query.limit + 1, sizeof *w->heap);
    if (s->requests && w->heap)
        return s;
    fm_status_free(s);
    return NULL;
}

void fm_status_free(struct fm_status *s)
{
    if (!s)
        return;
    if (s->work) {
        free(s->work->ages);
        free(s->work->heap);
    }
    fm_status_free_kinds(s);
    free(s->work);
    free(s->groups);
    free(s->requests);
    free(s);
}

/* ---- ages of a group ---- */

/* Which of its parts: 0 is below two units. */
static unsigned part_of(uint64_t age)
{
    uint64_t units = age / UNIT;
    if (units == 0)
        return 0;
    unsigned power = 63 - (unsigned)__builtin_clzll(units);
    unsigned fine = (unsigned)((units << 3 >> power) & (FINE - 1)); /* 8 parts: the three bits below the first */
    return power < POWERS ? power * FINE + fine : AGES - 1;
}

static uint64_t middle_of(unsigned part)
{
    uint64_t power = part / FINE, fine = part % FINE;
    return part == 0 ? UNIT / 2 : (((FINE + fine) * 2 + 1) * UNIT << power) / (2 * FINE);
}

static uint64_t median(const struct ages *a, unsigned n)
{
    unsigned below = 0;
    for (unsigned part = 0; part < AGES; part++)
        if ((below += a->n[part]) * 2 >= n)
            return middle_of(part);
    return 0;
}

/* ---- groups ---- */

static bool make_room(struct fm_status *s)
{
    struct fm_status_work *w = s->work;
    unsigned room = w->room ? 2 * w->room : 16;
    struct fm_status_group *groups = realloc(s->groups, room * sizeof *groups);
    if (groups)
        s->groups = groups;
    struct ages *ages = realloc(w->ages, room * sizeof *ages);
    if (ages)
        w->ages = ages;
    if (!groups || !ages)
        return false;
    w->room = room;
    return true;
}

static void count_in_group(struct fm_status *s, const struct fm_status_seen *seen)
{
    struct fm_status_work *w = s->work;
    bool client = seen->state == FM_STATUS_PARKED_CLIENT;
    uint16_t *group = &w->group_of[client || seen->place >= FM_PLACES ? FM_PLACES : seen->place];
    if (*group == 0) {
        if (s->ngroups == w->room && !make_room(s)) {
            s->failed = true;
            return;
        }
        s->groups[s->ngroups] = (struct fm_status_group){.place = client ? 0 : seen->place,
                                                         .ages = (uint16_t)s->ngroups,
                                                         .state = (uint8_t)seen->state};
        memset(&w->ages[s->ngroups], 0, sizeof *w->ages);
        *group = (uint16_t)++s->ngroups;
    }
    struct fm_status_group *g = &s->groups[*group - 1];
    g->n++;
    w->ages[*group - 1].n[part_of(seen->in_state)]++;
    if (seen->in_state >= g->oldest) {
        g->oldest = seen->in_state;
        g->example = seen->number;
    }
}

/* ---- the oldest requests ---- */

static void copy(char *to, size_t size, const char *from, size_t len)
{
    if (len > size - 1)
        len = size - 1;
    if (len > 0)
        memcpy(to, from, len);
    to[len] = '\0';
}

void fm_status_take(struct fm_status_request *to, const struct fm_status_seen *seen)
{
    to->number = seen->number;
    to->age = seen->age;
    to->in_state = seen->in_state;
    to->state = (uint8_t)seen->state;
    to->place = seen->state == FM_STATUS_PARKED_FUTURE ? seen->place : 0;
    to->thread = seen->state == FM_STATUS_RUNNING ? seen->thread : 0;
    to->status = 0;
    copy(to->method, sizeof to->method, seen->method, seen->method_len);
    copy(to->path, sizeof to->path, seen->path, seen->path_len);
    copy(to->client, sizeof to->client, seen->client, strlen(seen->client));
    copy(to->trace, sizeof to->trace, seen->trace, seen->trace ? FM_STATUS_TRACE : 0);
}

static uint64_t number_at(const struct fm_status *s, unsigned i) { return s->requests[s->work->heap[i]].number; }

static void sink(struct fm_status *s, unsigned i, unsigned n)
{
    uint16_t *heap = s->work->heap, moved = heap[i];
    uint64_t number = s->requests[moved].number;
    for (unsigned child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && number_at(s, child + 1) > number_at(s, child))
            child++;
        if (number_at(s, child) <= number)
            break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

static void rise(struct fm_status *s, unsigned i)
{
    uint16_t *heap = s->work->heap, moved = heap[i];
    for (unsigned parent; i > 0 && number_at(s, parent = (i - 1) / 2) < s->requests[moved].number; i = parent)
        heap[i] = heap[parent];
    heap[i] = moved;
}

static bool is_wanted(const struct fm_status_query *q, const struct fm_status_seen *seen)
{
    bool here = q->place < 0 || (seen->state == FM_STATUS_PARKED_FUTURE && seen->place == q->place);
    return here && (q->state < 0 || (int)seen->state == q->state) && seen->number > q->after;
}

/* Keeps those with the smallest numbers. */
static void keep(struct fm_status *s, const struct fm_status_seen *seen)
{
    struct fm_status_work *w = s->work;
    if (!is_wanted(&w->query, seen))
        return;
    if (s->nrequests < w->query.limit) {
        fm_status_take(&s->requests[s->nrequests], seen);
        w->heap[s->nrequests] = (uint16_t)s->nrequests;
        rise(s, s->nrequests++);
        return;
    }
    s->more++;
    if (w->query.limit == 0 || seen->number >= number_at(s, 0))
        return;
    fm_status_take(&s->requests[w->heap[0]], seen);
    sink(s, 0, s->nrequests);
}

void fm_status_see(struct fm_status *s, const struct fm_status_seen *seen)
{
    s->in[seen->state].n++;
    if (seen->in_state > s->in[seen->state].oldest)
        s->in[seen->state].oldest = seen->in_state;
    if (seen->state == FM_STATUS_PARKED_FUTURE || seen->state == FM_STATUS_PARKED_CLIENT)
        count_in_group(s, seen);
    if (seen->state == FM_STATUS_RUNNING && s->nrunning < FM_STATUS_MOST_RUNNING)
        fm_status_take(&s->running[s->nrunning++], seen);
    keep(s, seen);
}

/* ---- the end ---- */

static int larger_first(const void *a, const void *b)
{
    const struct fm_status_group *x = a, *y = b;
    return x->n != y->n ? (x->n < y->n) - (x->n > y->n) : (x->oldest < y->oldest) - (x->oldest > y->oldest);
}

static int older_first(const void *a, const void *b)
{
    const struct fm_status_request *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

static int longest_first(const void *a, const void *b)
{
    const struct fm_status_request *x = a, *y = b;
    return (x->in_state < y->in_state) - (x->in_state > y->in_state);
}

void fm_status_finish(struct fm_status *s)
{
    if (s->ngroups > 0)
        qsort(s->groups, s->ngroups, sizeof *s->groups, larger_first);
    while (s->ngroups > FM_STATUS_MOST_GROUPS) {
        s->in_more += s->groups[--s->ngroups].n;
        s->more_groups++;
    }
    for (unsigned i = 0; i < s->ngroups; i++) {
        struct fm_status_group *g = &s->groups[i];
        g->median = median(&s->work->ages[g->ages], g->n);
        g->median = g->median < g->oldest ? g->median : g->oldest;
    }
    qsort(s->requests, s->nrequests, sizeof *s->requests, older_first);
    qsort(s->running, s->nrunning, sizeof *s->running, longest_first);
}

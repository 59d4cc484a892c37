/* Timeouts of fixed durations. */
#include "fermata/net/timer.h"

#include <stdbool.h>

void fm_timers_init(struct fm_timers *ts)
{
    ts->kinds = 0;
    for (unsigned k = 0; k < FM_TIMER_KINDS; k++) {
        fm_list_init(&ts->kind[k].list);
        ts->kind[k].duration = 0;
        ts->kind[k].expired = NULL;
    }
}

void fm_timers_define(struct fm_timers *ts, unsigned kind, uint64_t duration, fm_timer_fn *expired)
{
    ts->kind[kind].duration = duration;
    ts->kind[kind].expired = expired;
    if (kind >= ts->kinds)
        ts->kinds = kind + 1;
}

void fm_timer_start(struct fm_timers *ts, struct fm_timer *t, unsigned kind, uint64_t now)
{
    fm_list_remove(&t->node);
    if (ts->kind[kind].duration == 0)
        return;
    t->due = now + ts->kind[kind].duration;
    struct fm_list *after = ts->kind[kind].list.prev; /* the last one, but for what started in the past */
    while (after != &ts->kind[kind].list && FM_LIST_ENTRY(after, struct fm_timer, node)->due > t->due)
        after = after->prev;
    fm_list_push(after->next, &t->node);
}

uint64_t fm_timers_next(const struct fm_timers *ts)
{
    uint64_t next = FM_NEVER;
    for (unsigned k = 0; k < ts->kinds; k++) {
        const struct fm_list *head = &ts->kind[k].list;
        if (fm_list_empty(head))
            continue;
        const struct fm_timer *t = FM_LIST_ENTRY(head->next, const struct fm_timer, node);
        if (t->due < next)
            next = t->due;
    }
    return next;
}

uint64_t fm_timers_run(struct fm_timers *ts, uint64_t now)
{
    uint64_t next = FM_NEVER;
    unsigned kinds = ts->kinds; /* what is called defines none */
    bool any = false;
    for (unsigned k = 0; k < kinds; k++) {
        const struct fm_list *head = &ts->kind[k].list;
        while (!fm_list_empty(head)) {
            struct fm_timer *t = FM_LIST_ENTRY(head->next, struct fm_timer, node);
            if (t->due > now) {
                next = t->due < next ? t->due : next;
                break;
            }
            any = true;
            fm_list_remove(&t->node);
            ts->kind[k].expired(t);
        }
    }
    return any ? fm_timers_next(ts) : next; /* what was called may have started some */
}

/* Two lines that take turns; see sched/runq.h. */
#include "fermata/sched/runq.h"

void fm_runq_init(struct fm_runq *q)
{
    *q = (struct fm_runq){.last = FM_STARTED};
    fm_list_init(&q->line[FM_UNSTARTED]);
    fm_list_init(&q->line[FM_STARTED]);
}

void fm_runq_push(struct fm_runq *q, struct fm_task *t, uint64_t now)
{
    unsigned line = t->begun;
    t->queued_at = now;
    atomic_store_explicit(&t->since, now, memory_order_relaxed);
    fm_list_push(&q->line[line], &t->node);
    q->length[line]++;
}

struct fm_task *fm_runq_pop(struct fm_runq *q)
{
    unsigned line = !q->last;
    if (q->length[line] == 0)
        line = q->last;
    struct fm_list *node = fm_list_pop(&q->line[line]);
    if (!node)
        return NULL;
    q->last = line;
    q->length[line]--;
    return FM_LIST_ENTRY(node, struct fm_task, node);
}

void fm_runq_remove(struct fm_runq *q, struct fm_task *t)
{
    fm_list_remove(&t->node);
    q->length[FM_UNSTARTED]--;
}

void fm_runq_append(struct fm_runq *q, struct fm_runq *from, uint64_t now)
{
    for (unsigned line = FM_UNSTARTED; line <= FM_STARTED; line++) {
        struct fm_list *head = &from->line[line];
        if (fm_list_empty(head))
            continue;
        for (struct fm_list *node = head->next; node != head; node = node->next) {
            struct fm_task *t = FM_LIST_ENTRY(node, struct fm_task, node);
            t->queued_at = now;
            atomic_store_explicit(&t->since, now, memory_order_relaxed);
        }
        fm_list_append(&q->line[line], head);
        q->length[line] += from->length[line];
        from->length[line] = 0;
    }
}

/* Intrusive doubly linked list.  A node that is in no list points to itself, so removal needs no list and is safe to
 * repeat.  Not thread-safe: the owner of the head's lock or role owns the nodes' links. */
#ifndef FERMATA_UTIL_LIST_H
#define FERMATA_UTIL_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct fm_list {
    struct fm_list *next, *prev;
};

#define FM_LIST_ENTRY(node, type, field) ((type *)((char *)(node)-offsetof(type, field)))

static inline void fm_list_init(struct fm_list *l) { l->next = l->prev = l; }
static inline bool fm_list_empty(const struct fm_list *l) { return l->next == l; }
static inline void fm_list_push(struct fm_list *head, struct fm_list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}
static inline void fm_list_remove(struct fm_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    fm_list_init(node);
}
/* Takes the oldest node off, or NULL. */
static inline struct fm_list *fm_list_pop(struct fm_list *head)
{
    struct fm_list *node = head->next;
    if (node == head)
        return NULL;
    fm_list_remove(node);
    return node;
}
/* Moves all nodes of from behind those of to. */
static inline void fm_list_append(struct fm_list *to, struct fm_list *from)
{
    if (fm_list_empty(from))
        return;
    from->next->prev = to->prev;
    from->prev->next = to;
    to->prev->next = from->next;
    to->prev = from->prev;
    fm_list_init(from);
}

#endif

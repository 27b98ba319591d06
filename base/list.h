/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An intrusive doubly linked list. An object is in at most one list per link,
 * and that list is its state. A link is "out" when it points at itself.
 */
#ifndef MR_BASE_LIST_H
#define MR_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

struct mr_list {
    struct mr_list *next;
    struct mr_list *prev;
};

/* Make an empty list, or a link that is in none. */
static inline void mr_list_init(struct mr_list *l)
{
    l->next = l;
    l->prev = l;
}

/* Whether the list holds nothing (or the link is in no list). */
static inline bool mr_list_empty(const struct mr_list *l)
{
    return l->next == l;
}

/* Put @link at the end of @l. It must be in no list. */
static inline void mr_list_push(struct mr_list *l, struct mr_list *link)
{
    link->prev = l->prev;
    link->next = l;
    l->prev->next = link;
    l->prev = link;
}

/* Take @link out of its list; a link that is in none is left alone. */
static inline void mr_list_remove(struct mr_list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    mr_list_init(link);
}

/* Take the first link out and return it; NULL when the list is empty. */
static inline struct mr_list *mr_list_pop(struct mr_list *l)
{
    struct mr_list *first = l->next;

    if (first == l) {
        return NULL;
    }
    mr_list_remove(first);
    return first;
}

/* Move everything in @from behind what @to holds. */
static inline void mr_list_move(struct mr_list *to, struct mr_list *from)
{
    if (mr_list_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    mr_list_init(from);
}

#define MR_LIST_FOREACH(at, list)                                              \
    for ((at) = (list)->next; (at) != (list); (at) = (at)->next)

#endif /* MR_BASE_LIST_H */

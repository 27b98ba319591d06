/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An intrusive pairing of deadlines and objects: a binary heap of pointers to
 * nodes that the objects embed, ordered by (key, insertion). O(log n).
 */
#ifndef MR_BASE_HEAP_H
#define MR_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct mr_heap_node {
    uint64_t key; /* Deadline in ms; read only while in the heap. */
    uint64_t seq; /* Breaks ties: first in, first out. */
    size_t at;    /* Position plus one; 0 when in no heap. */
};

struct mr_heap {
    struct mr_heap_node **nodes;
    size_t n;
    size_t cap;
    uint64_t next_seq;
};

/* Make an empty heap. */
void mr_heap_init(struct mr_heap *h);

/* Release the heap's own memory; the nodes are the callers'. */
void mr_heap_deinit(struct mr_heap *h);

/* Insert @node, which must be in no heap, under @key. MR_E_NOMEM. */
MR_MUST_CHECK enum mr_err mr_heap_push(struct mr_heap *h,
                                       struct mr_heap_node *node, uint64_t key);

/* Change the key of @node, which must be in @h. */
void mr_heap_move(struct mr_heap *h, struct mr_heap_node *node, uint64_t key);

/* Take @node out; a node that is in no heap is left alone. */
void mr_heap_remove(struct mr_heap *h, struct mr_heap_node *node);

/* The node with the smallest key, borrowed; NULL when empty. */
struct mr_heap_node *mr_heap_first(const struct mr_heap *h);

#endif /* MR_BASE_HEAP_H */

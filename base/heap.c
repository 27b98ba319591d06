/* SPDX-License-Identifier: Apache-2.0 */
/* Binary heap of embedded nodes. */
#include "base/heap.h"

#include "base/mem.h"

void mr_heap_init(struct mr_heap *h)
{
    *h = (struct mr_heap){0};
}

void mr_heap_deinit(struct mr_heap *h)
{
    mr_free(h->nodes);
    mr_heap_init(h);
}

static bool before(const struct mr_heap_node *a, const struct mr_heap_node *b)
{
    return a->key < b->key || (a->key == b->key && a->seq < b->seq);
}

static void set(struct mr_heap *h, size_t i, struct mr_heap_node *node)
{
    h->nodes[i] = node;
    node->at = i + 1;
}

static void sift_up(struct mr_heap *h, size_t i)
{
    struct mr_heap_node *node = h->nodes[i];

    while (i > 0 && before(node, h->nodes[(i - 1) / 2])) {
        set(h, i, h->nodes[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    set(h, i, node);
}

static void sift_down(struct mr_heap *h, size_t i)
{
    struct mr_heap_node *node = h->nodes[i];

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= h->n) {
            break;
        }
        if (child + 1 < h->n && before(h->nodes[child + 1], h->nodes[child])) {
            child++;
        }
        if (!before(h->nodes[child], node)) {
            break;
        }
        set(h, i, h->nodes[child]);
        i = child;
    }
    set(h, i, node);
}

enum mr_err mr_heap_push(struct mr_heap *h, struct mr_heap_node *node,
                         uint64_t key)
{
    mr_assert(node->at == 0);
    if (h->n == h->cap) {
        size_t cap = h->cap == 0 ? 16 : h->cap * 2;
        void *nodes = mr_realloc(h->nodes, cap * sizeof *h->nodes);

        if (nodes == NULL) {
            return MR_E_NOMEM;
        }
        h->nodes = nodes;
        h->cap = cap;
    }
    node->key = key;
    node->seq = h->next_seq++;
    set(h, h->n, node);
    h->n++;
    sift_up(h, h->n - 1);
    return MR_OK;
}

void mr_heap_move(struct mr_heap *h, struct mr_heap_node *node, uint64_t key)
{
    mr_assert(node->at > 0);
    node->key = key;
    node->seq = h->next_seq++;
    sift_up(h, node->at - 1);
    sift_down(h, node->at - 1);
}

void mr_heap_remove(struct mr_heap *h, struct mr_heap_node *node)
{
    size_t i = node->at;

    if (i == 0) {
        return;
    }
    i--;
    node->at = 0;
    h->n--;
    if (i == h->n) {
        return;
    }
    set(h, i, h->nodes[h->n]);
    sift_up(h, i);
    sift_down(h, h->nodes[i]->at - 1);
}

struct mr_heap_node *mr_heap_first(const struct mr_heap *h)
{
    return h->n == 0 ? NULL : h->nodes[0];
}

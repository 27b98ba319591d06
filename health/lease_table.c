/* SPDX-License-Identifier: Apache-2.0 */
/* Leases in slabs, an index by ID, a heap of keys. */
#include "health/lease_table.h"

#include <string.h>

#include "base/mem.h"

#define SLAB 4096u
#define INDEX_MIN 64u

void lease_table_init(struct lease_table *t)
{
    *t = (struct lease_table){0};
}

void lease_table_deinit(struct lease_table *t)
{
    for (uint32_t i = 0; i < t->n_slabs; i++) {
        mr_free(t->slabs[i]);
    }
    mr_free(t->slabs);
    mr_free(t->index);
    mr_free(t->heap);
    lease_table_init(t);
}

static struct lease *at(const struct lease_table *t, uint32_t slot)
{
    return &t->slabs[slot / SLAB][slot % SLAB];
}

struct lease *lease_table_at(const struct lease_table *t, uint32_t slot)
{
    struct lease *lease = at(t, slot);

    return lease->id == 0 ? NULL : lease;
}

/* ---- index ---- */

/* IDs are a counter's: multiplied, so that no stride of them collides. */
static uint32_t home(const struct lease_table *t, uint64_t id)
{
    return (uint32_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & t->mask;
}

/* The place of @id in the index, or the empty one where it belongs. */
static uint32_t probe(const struct lease_table *t, uint64_t id)
{
    uint32_t i = home(t, id);

    while (t->index[i] != 0 && at(t, t->index[i] - 1)->id != id) {
        i = (i + 1) & t->mask;
    }
    return i;
}

struct lease *lease_table_find(const struct lease_table *t, uint64_t id)
{
    uint32_t i;

    if (t->n == 0) {
        return NULL;
    }
    i = probe(t, id);
    return t->index[i] == 0 ? NULL : at(t, t->index[i] - 1);
}

/* At most two thirds full. */
static enum mr_err reserve_index(struct lease_table *t)
{
    uint32_t size = t->index == NULL ? 0 : t->mask + 1;
    uint32_t *index;

    if ((uint64_t)(t->n + 1) * 3 <= (uint64_t)size * 2) {
        return MR_OK;
    }
    size = size == 0 ? INDEX_MIN : size * 2;
    index = mr_calloc(size, sizeof *index);
    if (index == NULL) {
        return MR_E_NOMEM;
    }
    mr_free(t->index);
    t->index = index;
    t->mask = size - 1;
    for (uint32_t slot = 0; slot < t->n_slots; slot++) {
        if (at(t, slot)->id != 0) {
            t->index[probe(t, at(t, slot)->id)] = slot + 1;
        }
    }
    return MR_OK;
}

/* Empty the place @hole, moving up what was pushed past it. */
static void index_remove(struct lease_table *t, uint32_t hole)
{
    uint32_t i = hole;

    for (;;) {
        uint32_t want;

        t->index[hole] = 0;
        do {
            i = (i + 1) & t->mask;
            if (t->index[i] == 0) {
                return;
            }
            want = home(t, at(t, t->index[i] - 1)->id);
            /* Stays while its home lies cyclically in (hole, i]. */
        } while (((i - want) & t->mask) < ((i - hole) & t->mask));
        t->index[hole] = t->index[i];
        hole = i;
    }
}

/* ---- slots ---- */

static enum mr_err reserve_slot(struct lease_table *t)
{
    struct lease **slabs;

    if (t->free != 0 || t->n_slots < t->n_slabs * SLAB) {
        return MR_OK;
    }
    slabs = mr_realloc(t->slabs, (t->n_slabs + 1) * sizeof *slabs);
    if (slabs == NULL) {
        return MR_E_NOMEM;
    }
    t->slabs = slabs;
    slabs[t->n_slabs] = mr_calloc(SLAB, sizeof **slabs);
    if (slabs[t->n_slabs] == NULL) {
        return MR_E_NOMEM;
    }
    t->n_slabs++;
    return MR_OK;
}

static enum mr_err reserve_heap(struct lease_table *t)
{
    uint32_t cap = t->cap_heap + t->cap_heap / 2 + INDEX_MIN;
    void *heap;

    if (t->n < t->cap_heap) {
        return MR_OK;
    }
    heap = mr_realloc(t->heap, cap * sizeof *t->heap);
    if (heap == NULL) {
        return MR_E_NOMEM;
    }
    t->heap = heap;
    t->cap_heap = cap;
    return MR_OK;
}

struct lease *lease_table_add(struct lease_table *t, uint64_t id)
{
    struct lease *lease;
    uint32_t slot;

    mr_assert(id != 0);
    if (reserve_slot(t) != MR_OK || reserve_heap(t) != MR_OK ||
        reserve_index(t) != MR_OK) {
        return NULL;
    }
    if (t->free != 0) {
        slot = t->free - 1;
        t->free = at(t, slot)->heap_at;
    } else {
        slot = t->n_slots++;
    }
    lease = at(t, slot);
    *lease = (struct lease){.id = id};
    t->index[probe(t, id)] = slot + 1;
    t->n++;
    return lease;
}

void lease_table_remove(struct lease_table *t, struct lease *lease)
{
    uint32_t place = probe(t, lease->id);
    uint32_t slot = t->index[place] - 1;

    lease_table_drop(t, lease);
    index_remove(t, place);
    *lease = (struct lease){.heap_at = t->free};
    t->free = slot + 1;
    t->n--;
}

/* ---- heap ---- */

static void heap_set(struct lease_table *t, uint32_t i, struct lease_due due)
{
    t->heap[i] = due;
    at(t, due.slot)->heap_at = i + 1;
}

static void sift_up(struct lease_table *t, uint32_t i, struct lease_due due)
{
    while (i > 0 && due.key_ms < t->heap[(i - 1) / 2].key_ms) {
        heap_set(t, i, t->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_set(t, i, due);
}

static void sift_down(struct lease_table *t, uint32_t i, struct lease_due due)
{
    for (;;) {
        uint32_t child = 2 * i + 1;

        if (child >= t->n_heap) {
            break;
        }
        if (child + 1 < t->n_heap &&
            t->heap[child + 1].key_ms < t->heap[child].key_ms) {
            child++;
        }
        if (t->heap[child].key_ms >= due.key_ms) {
            break;
        }
        heap_set(t, i, t->heap[child]);
        i = child;
    }
    heap_set(t, i, due);
}

/* Put @due where it belongs when the place @i is open. */
static void settle(struct lease_table *t, uint32_t i, struct lease_due due)
{
    if (i > 0 && due.key_ms < t->heap[(i - 1) / 2].key_ms) {
        sift_up(t, i, due);
    } else {
        sift_down(t, i, due);
    }
}

void lease_table_set_due(struct lease_table *t, struct lease *lease,
                         int64_t key_ms)
{
    struct lease_due due = {.key_ms = key_ms};

    if (lease->heap_at != 0) {
        due.slot = t->heap[lease->heap_at - 1].slot;
        settle(t, lease->heap_at - 1, due);
        return;
    }
    due.slot = t->index[probe(t, lease->id)] - 1;
    t->n_heap++;
    sift_up(t, t->n_heap - 1, due);
}

struct lease *lease_table_first(const struct lease_table *t,
                                int64_t *out_key_ms)
{
    if (t->n_heap == 0) {
        return NULL;
    }
    *out_key_ms = t->heap[0].key_ms;
    return at(t, t->heap[0].slot);
}

int64_t lease_table_key(const struct lease_table *t, const struct lease *lease)
{
    mr_assert(lease->heap_at != 0);
    return t->heap[lease->heap_at - 1].key_ms;
}

void lease_table_drop(struct lease_table *t, struct lease *lease)
{
    uint32_t i = lease->heap_at;

    if (i == 0) {
        return;
    }
    i--;
    lease->heap_at = 0;
    t->n_heap--;
    if (i < t->n_heap) {
        settle(t, i, t->heap[t->n_heap]);
    }
}

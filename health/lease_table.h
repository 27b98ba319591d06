/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leases one server knows, by ID and by the time they may be due. Part of
 * health/mr_lease.h.
 *
 * A lease takes 56 bytes, 16 in the heap and 4 to 8 in the index. It never
 * moves, so the number of its slot is a cursor that stays good while leases come
 * and go.
 *
 * The heap's key is a time at or before the true deadline: a renewal does not
 * touch the heap, the lease is put back when its key has passed. So a renewal
 * costs one look-up, and the heap one move a TTL.
 */
#ifndef MR_HEALTH_LEASE_TABLE_H
#define MR_HEALTH_LEASE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define LEASE_GAPS 4

/* Times are the own monotonic clock's, and may lie before its start. */
struct lease {
    uint64_t id; /* 0: the slot is free. */
    int64_t ttl_ms;
    int64_t renewed_ms;
    uint64_t place;               /* mr_kv_lease_change.place. */
    uint32_t gaps_ms[LEASE_GAPS]; /* Newest first; 0: none. */
    uint32_t heap_at;             /* Place in the heap plus one, or 0. */
    uint16_t epoch;               /* Of the state that has it; 0: none yet. */
    uint8_t ending; /* The time as leader that proposed its end, or 0. */
    bool is_real;   /* renewed_ms is a renewal's, not that of its creation. */
};

struct lease_due {
    int64_t key_ms;
    uint32_t slot;
};

struct lease_table {
    struct lease **slabs;
    uint32_t n_slabs;
    uint32_t n_slots; /* Ever used. */
    uint32_t n;       /* Leases. */
    uint32_t free;    /* First free slot plus one; linked by heap_at. */
    uint32_t *index;  /* Open addressing: slot plus one, or 0. */
    uint32_t mask;
    struct lease_due *heap;
    uint32_t n_heap;
    uint32_t cap_heap;
};

/* Make an empty table. No allocation. */
void lease_table_init(struct lease_table *t);

/* Release everything. */
void lease_table_deinit(struct lease_table *t);

/* The lease @id, valid until it is removed; NULL when there is none. */
struct lease *lease_table_find(const struct lease_table *t, uint64_t id);

/* Add the lease @id (not 0), which must not be there, zeroed; NULL when there
 * is no memory. Room for it in the heap is made as well. */
struct lease *lease_table_add(struct lease_table *t, uint64_t id);

/* Remove @lease. */
void lease_table_remove(struct lease_table *t, struct lease *lease);

/* The lease in @slot, which is below t->n_slots; NULL when it is free. */
struct lease *lease_table_at(const struct lease_table *t, uint32_t slot);

/* Put @lease into the heap under @key_ms, or move it there. */
void lease_table_set_due(struct lease_table *t, struct lease *lease,
                         int64_t key_ms);

/* The lease with the smallest key, which is *@out_key_ms; NULL: none. */
struct lease *lease_table_first(const struct lease_table *t,
                                int64_t *out_key_ms);

/* The key of @lease, which is in the heap. */
int64_t lease_table_key(const struct lease_table *t, const struct lease *lease);

/* Take @lease out of the heap, if it is there. */
void lease_table_drop(struct lease_table *t, struct lease *lease);

#endif /* MR_HEALTH_LEASE_TABLE_H */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lease rows, and what makes and removes them. A row that has a deadline names
 * its lease (lease_id), and the lease names the row, so that each is found from
 * the other without an index of its own.
 */
#ifndef MR_KV_LEASES_H
#define MR_KV_LEASES_H

#include "kv/kv.h"

/* The key of the lease @id. */
void kv_lease_key(struct kv_row_key *k, uint64_t id);

/* Make a lease like @lease, whose ID is not looked at, and return its ID. */
uint64_t kv_lease_make(struct kv_batch *b, const Mr__Lease *lease);

/* Remove the lease @id. One that is ending, or 0, is no lease any more. */
void kv_lease_drop(struct kv_batch *b, uint64_t id);

/* The lease @id, decoded into @arena, or NULL: there is none, or @tx failed. */
Mr__Lease *kv_lease_find(struct kv_tx *tx, struct kv_arena *arena, uint64_t id);

/* Whether the lease @id exists and is of @kind. Decodes nothing. */
bool kv_lease_is(struct kv_tx *tx, uint64_t id, Mr__LeaseKind kind);

#endif /* MR_KV_LEASES_H */

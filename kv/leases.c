/* SPDX-License-Identifier: Apache-2.0 */
/* Lease rows: making, removing, finding them. */
#include "kv/leases.h"

void kv_lease_key(struct kv_row_key *k, uint64_t id)
{
    kv_key_init(k, KV_LEASE);
    kv_key_u64(k, id);
}

uint64_t mr_kv_lease_place(const Mr__Lease *lease)
{
    struct kv_row_key k = {.len = 0};

    kv_key_lower(&k, lease->node);
    return mr_hash64(kv_key_slice(&k), 0);
}

/* Remember what the hook has to be told once the batch is committed. */
static void note_change(struct kv_batch *b,
                        const struct mr_kv_lease_change *change)
{
    if (b->hooks->leases == NULL) {
        return;
    }
    mr_buf_add(&b->leases, change, sizeof *change);
    if (mr_buf_failed(&b->leases)) {
        kv_tx_fail(&b->tx, MR_E_NOMEM);
    }
}

uint64_t kv_lease_make(struct kv_batch *b, const Mr__Lease *lease)
{
    Mr__Lease row = *lease;
    struct kv_row_key k;
    uint64_t id;
    uint8_t *at;

    (void)kv_batch_revision(b); /* A lease is a change. */
    id = ++b->meta.last_lease;
    row.id = 0;
    kv_lease_key(&k, id);
    mr_buf_reset(&b->row);
    at = mr_buf_grow(&b->row, mr__lease__get_packed_size(&row));
    if (at == NULL) {
        kv_tx_fail(&b->tx, MR_E_NOMEM);
        return id;
    }
    (void)mr__lease__pack(&row, at); /* Returns the length asked for. */
    kv_tx_swap(&b->tx, kv_key_slice(&k), NULL, mr_buf_slice(&b->row));
    b->meta.leases++;
    note_change(b, &(struct mr_kv_lease_change){id, lease->ttl_ms, true,
                                                mr_kv_lease_place(lease)});
    return id;
}

void kv_lease_drop(struct kv_batch *b, uint64_t id)
{
    struct kv_row_key k;

    if (id == 0 || (b->ending != NULL && b->ending->lease->id == id)) {
        return;
    }
    (void)kv_batch_revision(b); /* A lease is a change. */
    kv_lease_key(&k, id);
    if (kv_tx_del(&b->tx, kv_key_slice(&k))) {
        b->meta.leases--;
        note_change(b, &(struct mr_kv_lease_change){.id = id});
    }
}

Mr__Lease *kv_lease_find(struct kv_tx *tx, struct kv_arena *arena, uint64_t id)
{
    struct kv_row_key k;
    struct kv_row row;
    Mr__Lease *lease;
    enum mr_err err;

    kv_lease_key(&k, id);
    row.key = kv_key_slice(&k);
    if (!kv_tx_get(tx, row.key, &row.value)) {
        return NULL;
    }
    err = kv_unpack_lease(arena, &row, &lease);
    if (err != MR_OK) {
        kv_tx_fail(tx, err);
        return NULL;
    }
    return lease;
}

bool kv_lease_is(struct kv_tx *tx, uint64_t id, Mr__LeaseKind kind)
{
    struct kv_row_key k;
    struct mr_slice value;

    kv_lease_key(&k, id);
    return id != 0 && kv_tx_get(tx, kv_key_slice(&k), &value) &&
           kv_body_u64(value, KV_LEASE_KIND) == (uint64_t)kind;
}

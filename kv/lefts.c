/* SPDX-License-Identifier: Apache-2.0 */
/* Members that left. */
#include "kv/lefts.h"

#include "kv/leases.h"

static void left_key(struct kv_row_key *k, const char *node)
{
    kv_key_init(k, KV_LEFT);
    kv_key_lower(k, node);
}

static uint64_t make_lease(struct kv_batch *b, const Mr__Node *node,
                           uint64_t left_ms)
{
    Mr__Lease lease = MR__LEASE__INIT;

    lease.kind = MR__LEASE_KIND__LEASE_LEFT;
    lease.ttl_ms = left_ms;
    lease.node = node->name;
    return left_ms == 0 ? 0 : kv_lease_make(b, &lease);
}

void kv_left_add(struct kv_batch *b, const Mr__Node *node, bool is_server,
                 uint64_t left_ms)
{
    Mr__Node member = *node;
    Mr__Left left = MR__LEFT__INIT;
    struct kv_row_key k;
    uint8_t *at;

    kv_left_drop(b, node->name);
    member.lease_id = 0;
    left.node = &member;
    left.is_server = is_server;
    left.lease_id = make_lease(b, node, left_ms);
    mr_buf_reset(&b->row);
    at = mr_buf_grow(&b->row, mr__left__get_packed_size(&left));
    if (at == NULL) {
        kv_tx_fail(&b->tx, MR_E_NOMEM);
        return;
    }
    (void)mr__left__pack(&left, at); /* Returns the length asked for. */
    left_key(&k, node->name);
    kv_tx_swap(&b->tx, kv_key_slice(&k), NULL, mr_buf_slice(&b->row));
    b->meta.lefts++;
}

void kv_left_drop(struct kv_batch *b, const char *node)
{
    struct kv_row_key k;
    struct kv_row row;
    Mr__Left *left;
    enum mr_err err;

    left_key(&k, node);
    row.key = kv_key_slice(&k);
    if (b->meta.lefts == 0 || !kv_tx_get(&b->tx, row.key, &row.value)) {
        return;
    }
    err = kv_unpack_left(&b->arena, &row, &left);
    if (err != MR_OK) {
        kv_tx_fail(&b->tx, err);
        return;
    }
    (void)kv_batch_revision(b);       /* The row is in the digest. */
    (void)kv_tx_del(&b->tx, row.key); /* It was found. */
    b->meta.lefts--;
    kv_lease_drop(b, left->lease_id);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands on keys. A write that changes nothing takes no revision; a write
 * without a lock keeps the holder and resets the lock index (parity 8, 9.2).
 */
#include "kv/keys.h"

#include "kv/kv.h"

/* Keys of a recursive delete are collected and deleted this many at a time. */
#define DELETE_CHUNK 512

static struct mr_slice to_slice(ProtobufCBinaryData data)
{
    return mr_slice(data.data, data.len);
}

static bool key_allowed(struct kv_batch *b, struct mr_slice key, bool is_prefix)
{
    if (key.len == 0 && !is_prefix) {
        kv_batch_refuse(b, "Missing key name");
        return false;
    }
    if (key.len > KV_KEY_MAX) {
        kv_batch_refuse(b, "Key is too long (limit: %d bytes)", KV_KEY_MAX);
        return false;
    }
    return true;
}

/* ------------------------------------------------------------ put */

static void store_key(struct kv_batch *b, struct mr_slice key_bytes,
                      const struct mr_slice *old, struct kv_key_row *r)
{
    r->revs.modify = kv_batch_revision(b);
    if (old == NULL) {
        r->revs.create = r->revs.modify;
        b->meta.keys++;
    }
    mr_buf_reset(&b->body);
    kv_key_pack(&b->body, r);
    if (mr_buf_failed(&b->body)) {
        kv_tx_fail(&b->tx, MR_E_NOMEM);
        return;
    }
    kv_tx_swap(&b->tx, key_bytes, old, mr_buf_slice(&b->body));
    b->meta.keys_rev = b->meta.revision;
    kv_batch_touch(b, MR_KV_TOPIC_KEY, r->key);
}

void kv_keys_put(struct kv_batch *b, const Mr__KeyPut *cmd)
{
    struct kv_key_row new_row = {.key = to_slice(cmd->key),
                                 .value = to_slice(cmd->value),
                                 .flags = cmd->flags};
    struct kv_key_row old_row = {.revs = {0, 0}};
    struct kv_row_key k;
    struct mr_slice at;
    struct mr_slice old;
    bool is_old;

    if (!key_allowed(b, new_row.key, false)) {
        return;
    }
    kv_key_locate(&k, new_row.key);
    at = kv_key_slice(&k);
    is_old = kv_tx_get(&b->tx, at, &old);
    if (is_old) {
        struct kv_row row = {at, old};

        if (!kv_key_unpack(&row, &old_row)) {
            kv_tx_fail(&b->tx, MR_E_CORRUPT);
            return;
        }
        if (!mr_slice_eq(old_row.key, new_row.key)) {
            kv_batch_refuse(b, "Another key has the same hash");
            return;
        }
    }
    if (cmd->has_cas && cmd->cas != old_row.revs.modify) {
        b->result->verdict = MR_KV_MISMATCH; /* 0: only if absent. */
        return;
    }
    if (is_old && old_row.flags == new_row.flags && old_row.lock_index == 0 &&
        mr_slice_eq(old_row.value, new_row.value)) {
        return;
    }
    new_row.revs.create = old_row.revs.create;
    new_row.session = old_row.session;
    store_key(b, at, is_old ? &old : NULL, &new_row);
}

/* ------------------------------------------------------------ graves */

static void grave_key(struct kv_row_key *k, struct mr_slice key)
{
    if (key.len > KV_GRAVE_CUT) {
        key.len = KV_GRAVE_CUT;
    }
    kv_key_init(k, KV_GRAVE);
    kv_key_add(k, key);
}

static void grave_rev_key(struct kv_row_key *k, uint64_t rev)
{
    kv_key_init(k, KV_GRAVE_REV);
    kv_key_u64(k, rev);
}

/* Forget the oldest half. Every prefix has at least the index of the newest
 * that is forgotten from now on, so no index goes backwards. */
static void forget_graves(struct kv_batch *b)
{
    static const uint8_t table = KV_GRAVE_REV;
    struct mr_slice keys[2 * 64];
    size_t left = KV_GRAVES_MAX / 2;

    while (left > 0 && b->tx.err == MR_OK) {
        struct kv_scan scan;
        struct kv_row row;
        size_t n = 0;
        size_t i;

        kv_scan_open(&scan, &b->tx, mr_slice(&table, 1));
        while (n < 2 * 64 && n < 2 * left && kv_scan_next(&scan, &row)) {
            keys[n++] = kv_arena_copy(&b->arena, row.key);
            keys[n++] = kv_arena_copy(&b->arena, row.value);
        }
        kv_scan_close(&scan);
        if (n == 0 || b->arena.failed) {
            return;
        }
        b->meta.graves_rev = kv_key_number(keys[n - 2]);
        for (i = 0; i < n; i++) {
            (void)kv_tx_del(&b->tx, keys[i]); /* Both were there. */
        }
        left -= n / 2;
        b->meta.graves -= n / 2;
    }
}

/* Remember that @key (or what began with it) is gone as of now. */
static void bury(struct kv_batch *b, struct mr_slice key)
{
    uint64_t rev = kv_batch_revision(b);
    struct kv_row_key grave;
    struct kv_row_key by_rev;
    struct mr_slice old;

    grave_key(&grave, key);
    if (kv_tx_get(&b->tx, kv_key_slice(&grave), &old)) {
        uint64_t old_rev = 0;

        if (!kv_get_varint(&old, &old_rev)) {
            kv_tx_fail(&b->tx, MR_E_CORRUPT);
        }
        grave_rev_key(&by_rev, old_rev);
        (void)kv_tx_del(&b->tx, kv_key_slice(&by_rev)); /* It was there. */
        b->meta.graves--;
    }
    mr_buf_reset(&b->body);
    kv_put_varint(&b->body, rev);
    kv_tx_put(&b->tx, kv_key_slice(&grave), mr_buf_slice(&b->body));
    grave_rev_key(&by_rev, rev);
    kv_tx_put(&b->tx, kv_key_slice(&by_rev), kv_key_slice(&grave));
    b->meta.graves++;
    if (b->meta.graves > KV_GRAVES_MAX) {
        forget_graves(b);
    }
}

/* ------------------------------------------------------------ delete */

static void delete_row(struct kv_batch *b, struct mr_slice row_key,
                       struct mr_slice key)
{
    uint64_t rev = kv_batch_revision(b);

    if (kv_tx_del(&b->tx, row_key)) {
        b->meta.keys--;
    }
    b->meta.keys_rev = rev;
    kv_batch_touch(b, MR_KV_TOPIC_KEY, key);
}

static void delete_one(struct kv_batch *b, const Mr__KeyDelete *cmd)
{
    struct mr_slice key = to_slice(cmd->key);
    struct kv_key_row row;
    struct kv_row_key k;

    if (!kv_key_find(&b->tx, key, &row)) {
        return;
    }
    if (cmd->has_cas && cmd->cas != row.revs.modify) {
        b->result->verdict = MR_KV_MISMATCH;
        return;
    }
    kv_key_locate(&k, key);
    delete_row(b, kv_key_slice(&k), key);
    bury(b, key);
}

/* Delete up to DELETE_CHUNK keys under @prefix; false when none was left. */
static bool delete_chunk(struct kv_batch *b, struct mr_slice prefix)
{
    struct kv_key_scan scan;
    struct kv_key_row row;
    struct mr_slice keys[DELETE_CHUNK];
    size_t n = 0;
    size_t i;

    kv_arena_reset(&b->scratch);
    kv_key_scan_open(&scan, &b->tx, &b->scratch, prefix);
    while (n < DELETE_CHUNK && kv_key_scan_next(&scan, &row)) {
        keys[n++] = kv_arena_copy(&b->scratch, row.key);
    }
    kv_key_scan_close(&scan);
    if (b->scratch.failed) {
        kv_tx_fail(&b->tx, MR_E_NOMEM);
    }
    for (i = 0; i < n && b->tx.err == MR_OK; i++) {
        struct kv_row_key k;

        kv_key_locate(&k, keys[i]);
        delete_row(b, kv_key_slice(&k), keys[i]);
    }
    return n > 0 && b->tx.err == MR_OK;
}

static void delete_tree(struct kv_batch *b, struct mr_slice prefix)
{
    while (delete_chunk(b, prefix)) {
    }
    if (b->result->changed) {
        bury(b, prefix);
    }
}

void kv_keys_delete(struct kv_batch *b, const Mr__KeyDelete *cmd)
{
    if (!key_allowed(b, to_slice(cmd->key), cmd->recurse)) {
        return;
    }
    if (cmd->recurse) {
        delete_tree(b, to_slice(cmd->key));
    } else {
        delete_one(b, cmd);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands on keys. A write that changes nothing takes no revision; a write
 * without a lock keeps the holder and resets the lock index (parity 8, 9.2).
 */
#include "kv/keys.h"

#include "kv/kv.h"
#include "kv/locks.h"

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

/* Write @r in place of @old, whose session was @old_session, as it lies in the
 * arena. */
static void store_key(struct kv_batch *b, struct mr_slice at,
                      const struct mr_slice *old, struct mr_slice old_session,
                      struct kv_key_row *r)
{
    bool is_same_holder = mr_slice_eq(old_session, r->session);

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
    kv_tx_swap(&b->tx, at, old, mr_buf_slice(&b->body));
    if (old_session.len > 0 && !is_same_holder) {
        kv_index_lock(&b->tx, old_session, r->key, false);
    }
    if (r->session.len > 0 && !is_same_holder) {
        kv_index_lock(&b->tx, r->session, r->key, true);
    }
    b->meta.keys_rev = b->meta.revision;
    kv_batch_touch(b, MR_KV_TOPIC_KEY, r->key);
}

/* Find the row at @at: *@out_old is its value, or untouched when there is none.
 * False: it cannot be written. */
static bool find_row(struct kv_batch *b, struct mr_slice at,
                     struct mr_slice key, struct mr_slice *out_old,
                     struct kv_key_row *out_row)
{
    struct kv_row row = {at, {NULL, 0}};

    if (!kv_tx_get(&b->tx, at, &row.value)) {
        return b->tx.err == MR_OK;
    }
    if (!kv_key_unpack(&row, out_row)) {
        kv_tx_fail(&b->tx, MR_E_CORRUPT);
        return false;
    }
    if (!mr_slice_eq(out_row->key, key)) {
        kv_batch_refuse(b, "Another key has the same hash");
        return false;
    }
    *out_old = row.value;
    return true;
}

/* Whether @cmd may be done to the key, which is now as @old says. Sets who
 * holds it then: without acquire and release it stays with whom it is, and the
 * lock index falls to 0. */
static bool put_allowed(struct kv_batch *b, const Mr__KeyPut *cmd,
                        const struct kv_key_row *old, struct kv_key_row *wanted)
{
    if (cmd->acquire[0] != '\0' && cmd->release[0] != '\0') {
        kv_batch_refuse(b, "Conflicting flags: acquire and release");
        return false;
    }
    if (!kv_fence_holds(b, to_slice(cmd->fence_key), cmd->fence)) {
        return false;
    }
    if (cmd->has_cas && cmd->cas != old->revs.modify) {
        b->result->verdict = MR_KV_MISMATCH; /* 0: only if absent. */
        return false;
    }
    if (cmd->acquire[0] != '\0') {
        return kv_lock_take(b, cmd->acquire, old, wanted);
    }
    if (cmd->release[0] != '\0') {
        return kv_lock_give(b, cmd->release, old, wanted);
    }
    wanted->session = old->session;
    wanted->fence = old->fence;
    return true;
}

void kv_keys_put(struct kv_batch *b, const Mr__KeyPut *cmd)
{
    struct kv_key_row wanted = {.key = to_slice(cmd->key),
                                .value = to_slice(cmd->value),
                                .flags = cmd->flags};
    struct kv_key_row row = {.revs = {0, 0}};
    struct mr_slice old = {NULL, 0};
    struct kv_row_key k;
    struct mr_slice at;

    if (!key_allowed(b, wanted.key, false)) {
        return;
    }
    kv_key_locate(&k, wanted.key);
    at = kv_key_slice(&k);
    if (!find_row(b, at, wanted.key, &old, &row) ||
        !put_allowed(b, cmd, &row, &wanted)) {
        return;
    }
    if (old.data != NULL && row.flags == wanted.flags &&
        row.lock_index == wanted.lock_index &&
        mr_slice_eq(row.session, wanted.session) &&
        mr_slice_eq(row.value, wanted.value)) {
        return;
    }
    wanted.revs.create = row.revs.create;
    store_key(b, at, old.data == NULL ? NULL : &old,
              kv_arena_copy(&b->arena, row.session), &wanted);
}

void kv_key_release(struct kv_batch *b, struct mr_slice key)
{
    struct kv_key_row row = {.revs = {0, 0}};
    struct mr_slice old = {NULL, 0};
    struct mr_slice session;
    struct kv_row_key k;

    kv_key_locate(&k, key);
    if (find_row(b, kv_key_slice(&k), key, &old, &row) && old.data != NULL) {
        session = kv_arena_copy(&b->arena, row.session);
        row.key = key;
        row.session = mr_slice(NULL, 0);
        row.fence = 0;
        store_key(b, kv_key_slice(&k), &old, session, &row);
    }
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

/* Delete @key, which @session holds, or nobody. */
static void delete_row(struct kv_batch *b, struct mr_slice key,
                       struct mr_slice session)
{
    uint64_t rev = kv_batch_revision(b);
    struct kv_row_key k;

    kv_key_locate(&k, key);
    if (kv_tx_del(&b->tx, kv_key_slice(&k))) {
        b->meta.keys--;
    }
    if (session.len > 0) {
        kv_index_lock(&b->tx, session, key, false);
    }
    b->meta.keys_rev = rev;
    kv_batch_touch(b, MR_KV_TOPIC_KEY, key);
}

void kv_key_remove(struct kv_batch *b, struct mr_slice key)
{
    struct kv_key_row row;

    if (kv_key_find(&b->tx, key, &row)) {
        delete_row(b, key, kv_arena_copy(&b->arena, row.session));
        bury(b, key);
    }
}

static void delete_one(struct kv_batch *b, const Mr__KeyDelete *cmd)
{
    struct mr_slice key = to_slice(cmd->key);
    struct kv_key_row row;

    if (kv_key_find(&b->tx, key, &row) && cmd->has_cas &&
        cmd->cas != row.revs.modify) {
        b->result->verdict = MR_KV_MISMATCH;
        return;
    }
    kv_key_remove(b, key);
}

/* Delete up to DELETE_CHUNK keys under @prefix; false when none was left. */
static bool delete_chunk(struct kv_batch *b, struct mr_slice prefix)
{
    struct kv_key_scan scan;
    struct kv_key_row row;
    struct mr_slice keys[DELETE_CHUNK];
    struct mr_slice sessions[DELETE_CHUNK];
    size_t n = 0;
    size_t i;

    kv_arena_reset(&b->scratch);
    kv_key_scan_open(&scan, &b->tx, &b->scratch, prefix);
    while (n < DELETE_CHUNK && kv_key_scan_next(&scan, &row)) {
        keys[n] = kv_arena_copy(&b->scratch, row.key);
        sessions[n++] = kv_arena_copy(&b->scratch, row.session);
    }
    kv_key_scan_close(&scan);
    if (b->scratch.failed) {
        kv_tx_fail(&b->tx, MR_E_NOMEM);
    }
    for (i = 0; i < n && b->tx.err == MR_OK; i++) {
        delete_row(b, keys[i], sessions[i]);
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
    if (!key_allowed(b, to_slice(cmd->key), cmd->recurse) ||
        !kv_fence_holds(b, to_slice(cmd->fence_key), cmd->fence)) {
        return;
    }
    if (cmd->recurse) {
        delete_tree(b, to_slice(cmd->key));
    } else {
        delete_one(b, cmd);
    }
}

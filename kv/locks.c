/* SPDX-License-Identifier: Apache-2.0 */
/* Acquiring and releasing keys, fencing numbers, lock-delays (parity 9.2). */
#include "kv/locks.h"

#include "kv/leases.h"
#include "kv/sessions.h"

/* ------------------------------------------------------------ indexes */

/* Append what stands for @key, which may be longer than a row's key. */
static void add_key_hash(struct kv_row_key *k, struct mr_slice key)
{
    struct mr_hash128 h = mr_hash128(key, 0);

    kv_key_u64(k, h.high);
    kv_key_u64(k, h.low);
}

static void session_keys(struct kv_row_key *k, struct mr_slice session)
{
    kv_key_init(k, KV_SESSION_KEY);
    kv_key_lower_slice(k, session);
    kv_key_byte(k, 0);
}

void kv_index_lock(struct kv_tx *tx, struct mr_slice session,
                   struct mr_slice key, bool is_added)
{
    struct kv_row_key k;

    session_keys(&k, session);
    add_key_hash(&k, key);
    if (is_added) {
        kv_tx_put(tx, kv_key_slice(&k), key);
    } else {
        (void)kv_tx_del(tx, kv_key_slice(&k)); /* Its row says it was there. */
    }
}

static void delay_key(struct kv_row_key *k, struct mr_slice key)
{
    kv_key_init(k, KV_LOCK_DELAY);
    add_key_hash(k, key);
}

void kv_index_lock_delay(struct kv_tx *tx, struct mr_slice key, uint64_t lease,
                         bool is_added)
{
    struct kv_row_key k;
    uint8_t bytes[10];
    struct mr_buf value = {bytes, 0, sizeof bytes, 0, false};

    delay_key(&k, key);
    if (is_added) {
        kv_put_varint(&value, lease); /* It fits: nothing is allocated. */
        kv_tx_put(tx, kv_key_slice(&k), mr_buf_slice(&value));
    } else {
        (void)kv_tx_del(tx, kv_key_slice(&k)); /* Its lease says it is there. */
    }
}

/* The lease that keeps @key from being locked, or 0. */
static uint64_t delay_of(struct kv_tx *tx, struct mr_slice key)
{
    struct kv_row_key k;
    struct mr_slice value;
    uint64_t lease = 0;

    delay_key(&k, key);
    if (kv_tx_get(tx, kv_key_slice(&k), &value) &&
        !kv_get_varint(&value, &lease)) {
        kv_tx_fail(tx, MR_E_CORRUPT);
    }
    return lease;
}

/* ------------------------------------------------------------ commands */

bool kv_fence_holds(struct kv_batch *b, struct mr_slice key, uint64_t fence)
{
    struct kv_key_row row;

    if (fence == 0 || (kv_key_find(&b->tx, key, &row) && row.fence == fence)) {
        return true;
    }
    b->result->verdict = MR_KV_MISMATCH;
    return false;
}

static bool is_holder(struct mr_slice session, const char *id)
{
    return mr_slice_eq(session, mr_slice_str(id));
}

bool kv_lock_take(struct kv_batch *b, const char *session,
                  const struct kv_key_row *old, struct kv_key_row *wanted)
{
    const Mr__Session *holder;

    if (delay_of(&b->tx, wanted->key) != 0) {
        b->result->verdict = MR_KV_MISMATCH;
        return false;
    }
    holder = kv_session_find(&b->tx, &b->arena, session);
    if (holder == NULL) {
        kv_batch_refuse(b, "invalid session \"%s\"", session);
        return false;
    }
    if (old->session.len > 0 && !is_holder(old->session, holder->id)) {
        b->result->verdict = MR_KV_MISMATCH;
        return false;
    }
    wanted->session = mr_slice_str(holder->id);
    wanted->lock_index = old->lock_index;
    wanted->fence = old->fence;
    if (old->session.len == 0) {
        wanted->lock_index++;
        wanted->fence = kv_batch_revision(b); /* It changes for certain. */
    }
    b->result->fence = wanted->fence;
    return true;
}

bool kv_lock_give(struct kv_batch *b, const char *session,
                  const struct kv_key_row *old, struct kv_key_row *wanted)
{
    const Mr__Session *holder = kv_session_find(&b->tx, &b->arena, session);

    if (holder == NULL || !is_holder(old->session, holder->id)) {
        b->result->verdict = MR_KV_MISMATCH;
        return false;
    }
    wanted->session = mr_slice(NULL, 0);
    wanted->fence = 0;
    wanted->lock_index = old->lock_index;
    return true;
}

/* ------------------------------------------------------------ ends */

static void begin_delay(struct kv_batch *b, const Mr__Session *session,
                        struct mr_slice key)
{
    Mr__Lease lease = MR__LEASE__INIT;

    if (session->lock_delay_ms == 0) {
        return;
    }
    lease.kind = MR__LEASE_KIND__LEASE_LOCK_DELAY;
    lease.ttl_ms = session->lock_delay_ms;
    if (lease.ttl_ms > KV_LOCK_DELAY_MAX_MS) {
        lease.ttl_ms = KV_LOCK_DELAY_MAX_MS;
    }
    lease.key = (ProtobufCBinaryData){key.len, (uint8_t *)(uintptr_t)key.data};
    kv_lease_drop(b, delay_of(&b->tx, key)); /* There is none, see above. */
    kv_index_lock_delay(&b->tx, key, kv_lease_make(b, &lease), true);
}

/* The keys that @session holds, in an order that is the same everywhere. */
static size_t list_keys(struct kv_batch *b, const Mr__Session *session,
                        struct mr_slice **out_keys)
{
    struct kv_row_key k;
    struct kv_scan scan;
    struct kv_row row;
    struct mr_slice *keys = NULL;
    size_t n = 0;
    size_t cap = 0;

    session_keys(&k, mr_slice_str(session->id));
    kv_scan_open(&scan, &b->tx, kv_key_slice(&k));
    while (kv_scan_next(&scan, &row) &&
           kv_arena_push(&b->arena, &keys, &n, &cap,
                         kv_arena_copy(&b->arena, row.value))) {
    }
    kv_scan_close(&scan);
    *out_keys = keys;
    return b->arena.failed ? 0 : n;
}

void kv_locks_end(struct kv_batch *b, const Mr__Session *session)
{
    struct mr_slice *keys;
    size_t n = list_keys(b, session, &keys);
    size_t i;

    for (i = 0; i < n && b->tx.err == MR_OK; i++) {
        if (session->behavior == MR__SESSION_BEHAVIOR__DELETE) {
            kv_key_remove(b, keys[i]);
        } else {
            kv_key_release(b, keys[i]);
        }
        begin_delay(b, session, keys[i]);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of the key-value store.
 *
 * A key of up to KV_KEY_CUT bytes is the row's key. A longer one is stored under
 * its first KV_KEY_CUT bytes and a hash of the whole; the rows that share such a
 * beginning (a bucket) lie together and are sorted when they are read. The row
 * then holds the key as well.
 *
 * Row: revs, flags, lock index, length of the session and the session, [fence, if
 * there is a session,] [length of the key and the key,] and the value to the
 * end. Read without copying.
 */
#ifndef MR_KV_KEYS_H
#define MR_KV_KEYS_H

#include "kv/row.h"
#include "kv/store.h"

#define KV_KEY_MAX 8192
#define KV_KEY_CUT (KV_ROW_KEY_MAX - 1 - 16)

/* Deletions are remembered for the indexes of prefixes; the oldest half is
 * forgotten when there are more. */
#define KV_GRAVES_MAX 2048
#define KV_GRAVE_CUT 500

struct kv_key_row {
    struct mr_slice key;
    struct mr_slice session;
    struct mr_slice value;
    struct kv_revs revs;
    uint64_t flags;
    uint64_t lock_index;
    uint64_t fence; /* 0 without a session. */
};

/* The row's key for @key. */
void kv_key_locate(struct kv_row_key *k, struct mr_slice key);

/* Append the row of @r. */
void kv_key_pack(struct mr_buf *b, const struct kv_key_row *r);

/* Decode a stored row; the slices point into it. False: damaged. */
bool kv_key_unpack(const struct kv_row *row, struct kv_key_row *out);

/* Find the row of @key. The slices are valid until the next write. */
bool kv_key_find(struct kv_tx *tx, struct mr_slice key, struct kv_key_row *out);

/* A walk over the keys with a prefix, in byte order. */
struct kv_key_scan {
    struct kv_scan scan;
    struct kv_arena *arena;
    struct mr_slice prefix;
    struct kv_row_key from;    /* The prefix of scan. */
    struct kv_row_key skip_to; /* Where scan goes next after a skip. */
    struct kv_key_row *bucket; /* Long keys, sorted, bucket_at to bucket_n. */
    size_t bucket_at;
    size_t bucket_n;
    struct kv_row ahead; /* The row behind the bucket. */
    bool has_ahead;
};

/* Begin a walk; @prefix is borrowed until its end. */
void kv_key_scan_open(struct kv_key_scan *s, struct kv_tx *tx,
                      struct kv_arena *arena, struct mr_slice prefix);

/* The next key; false at the end or when the transaction failed. */
bool kv_key_scan_next(struct kv_key_scan *s, struct kv_key_row *out);

/* Jump over the keys that begin with @subtree, which the last one did. */
void kv_key_scan_skip(struct kv_key_scan *s, struct mr_slice subtree);

/* End the walk. */
void kv_key_scan_close(struct kv_key_scan *s);

/* The highest revision of a deletion under @prefix; 0: none is remembered. */
uint64_t kv_grave_max(struct kv_tx *tx, struct mr_slice prefix);

/* The highest revision of a deletion of a tree that @prefix was part of (or of
 * a key that is a beginning of @prefix); 0: none is remembered. */
uint64_t kv_grave_above(struct kv_tx *tx, struct mr_slice prefix);

#endif /* MR_KV_KEYS_H */

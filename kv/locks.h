/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks: keys that a session holds.
 *
 *   free --acquire--> held --release--> free
 *                      |                 ^
 *                      +--session ends---+-- lock-delay: nobody may acquire
 */
#ifndef MR_KV_LOCKS_H
#define MR_KV_LOCKS_H

#include "kv/keys.h"
#include "kv/kv.h"

/* Longer lock-delays are cut, as Consul does. */
#define KV_LOCK_DELAY_MAX_MS 60000

/* Add (@is_added) or remove the derived row that says that @session holds
 * @key. */
void kv_index_lock(struct kv_tx *tx, struct mr_slice session,
                   struct mr_slice key, bool is_added);

/* Add (@is_added) or remove the derived row that says that @lease keeps @key
 * from being locked. */
void kv_index_lock_delay(struct kv_tx *tx, struct mr_slice key, uint64_t lease,
                         bool is_added);

/* Whether the condition holds that @key is locked with the fencing number
 * @fence; 0 is no condition. If not, the command's verdict says so. */
bool kv_fence_holds(struct kv_batch *b, struct mr_slice key, uint64_t fence);

/* Set in @wanted, whose key is free or held as @old says, that the session of
 * the command holds it. False: it may not; the command's verdict says so. */
bool kv_lock_take(struct kv_batch *b, const char *session,
                  const struct kv_key_row *old, struct kv_key_row *wanted);

/* As kv_lock_take(), that it holds it no more. */
bool kv_lock_give(struct kv_batch *b, const char *session,
                  const struct kv_key_row *old, struct kv_key_row *wanted);

/* Release or delete the keys of @session, which is ending, and begin their
 * lock-delays. */
void kv_locks_end(struct kv_batch *b, const Mr__Session *session);

#endif /* MR_KV_LOCKS_H */
